// A plot of lines, in the colours of the page. What is drawn comes as numbers
// and texts; texts are shown as they are, never read as markup.

const COLORS = ["main", "second", "third", "fourth", "fifth", "sixth"];
const DASHES = ["solid", "dash", "dot", "dashdot"];

// Returns what plotly.js takes. `lines` have `x`, `y`, and a `name` where there
// are several; `names` has the titles of both axes. A line may have the `texts`
// of its points, their `errors`, and a `mode` of its own.
export function figure({lines, names, isLog, range, height}) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = {
    gridcolor: color("line"),
    linecolor: color("faint"),
    zeroline: false,
    automargin: true,
    nticks: 6,
    fixedrange: true,
  };
  const font = {
    color: color("text"), family: "system-ui, sans-serif", size: 13,
  };
  const layout = {
    margin: {l: 8, r: 12, t: 8, b: 8},
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font,
    showlegend: lines.length > 1 && lines.length <= 12,
    legend: {orientation: "h", y: -0.25, x: 0},
    xaxis: {...axis, title: {text: plain(names[0])}, rangemode: "tozero"},
    yaxis: {
      ...axis,
      title: {text: plain(names[1])},
      ...(isLog
        ? {type: "log", exponentformat: "power", nticks: 8}
        : {rangemode: "tozero"}),
      ...(range ? {range} : {}),
    },
    hoverlabel: {bgcolor: color("card"), font: {color: color("text")}},
  };
  if (height) layout.height = height;
  const data = lines.map((line, at) => trace(line, at, names, color));
  return [data, layout, {displayModeBar: false, responsive: true}];
}

function trace(line, at, names, color) {
  const {x, y, name, texts, errors, mode, share} = line;
  const main = share === undefined
    ? color(COLORS[at % COLORS.length])
    : mixed(color("line"), color("main"), share);
  const dash = DASHES[Math.floor(at / COLORS.length) % DASHES.length];
  const shown = texts?.map(plain) ?? x.map((each, i) => (
    `${plain(names[0])} ${plain(each)}<br>${plain(names[1])} ${plain(y[i])}`));
  const head = name === undefined ? "" : `${plain(name)}<br>`;
  return {
    x: x.map((each) => (typeof each === "string" ? plain(each) : each)),
    y,
    name: plain(name ?? ""),
    text: shown.map((text) => head + text),
    mode: mode ?? (x.length === 1 ? "markers" : "lines"),
    line: {color: main, width: 2.5, dash},
    marker: {color: main, size: 8},
    ...(errors
      ? {error_y: {array: errors, color: main, thickness: 1.5, width: 4}}
      : {}),
    hovertemplate: "%{text}<extra></extra>",
  };
}

// Two colours of the page, "#rrggbb" each, mixed by a share of the second.
function mixed(first, second, share) {
  const parts = [1, 3, 5].map((at) => {
    const [a, b] = [first, second].map((c) => parseInt(c.slice(at, at + 2), 16));
    return Math.round(a + (b - a) * (0.25 + 0.75 * share));
  });
  return `rgb(${parts.join(",")})`;
}

// plotly.js reads some markup in texts: this leaves it none.
export function plain(text) {
  return String(text)
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;");
}
