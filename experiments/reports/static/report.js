// After figure.js, in one script: draws the plots, and sorts tables.

const byId = (id) => document.getElementById(id);
let plots = JSON.parse(byId("plots").textContent);

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

document.addEventListener("click", ({target}) => {
  const button = target.closest("table.sortable thead button");
  if (button) sorted(button.closest("th"), button);
});

// Of a page that is served while a run goes on: its newest content, as long as
// the reader has opened and selected nothing that would be lost.
async function refresh() {
  const main = byId("main");
  const isRead = main.querySelector("details[open]")
    || main.contains(document.activeElement) || !getSelection().isCollapsed;
  if (isRead) return;
  const reply = await fetch("content").then((found) => found.json());
  if (reply.error) return;
  main.innerHTML = reply.body;  // Made by the server, with all texts escaped.
  plots = reply.plots;
  draw();
}

if ("refresh" in document.body.dataset) {
  setInterval(() => refresh().catch(() => {}), 3000);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
matchMedia("print").addEventListener("change", draw);
draw();
