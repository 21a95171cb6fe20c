// After figure.js, in one script: draws the plots, and sorts tables.

const byId = (id) => document.getElementById(id);
const plots = JSON.parse(byId("plots").textContent);

function draw() {
  if (!window.Plotly) return;
  for (const [id, plot] of Object.entries(plots)) {
    window.Plotly.react(byId(id), ...figure(plot));
  }
}

// Sorts by the values of numbers, else by texts; what has no value comes last.
function sort(table, column, sign) {
  const body = table.tBodies[0];
  const key = (row) => {
    const cell = row.cells[column];
    if (!cell.classList.contains("number")) return cell.textContent;
    return cell.dataset.value === undefined
      ? undefined : Number(cell.dataset.value);
  };
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === undefined || y === undefined) {
      return (x === undefined) - (y === undefined);
    }
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    return sign * String(x).localeCompare(String(y));
  };
  body.append(...[...body.rows].sort(compare));
}

function sorted(head, button) {
  const table = head.closest("table");
  const wasUp = head.getAttribute("aria-sort") === "ascending";
  table.querySelectorAll("[aria-sort]").forEach((each) => {
    each.removeAttribute("aria-sort");
  });
  head.setAttribute("aria-sort", wasUp ? "descending" : "ascending");
  sort(table, head.cellIndex, wasUp ? -1 : 1);
  button.focus();
}

document.querySelectorAll("table.sortable thead th").forEach((head) => {
  const button = head.querySelector("button");
  button.addEventListener("click", () => sorted(head, button));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
matchMedia("print").addEventListener("change", draw);
draw();
