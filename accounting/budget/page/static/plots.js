// Plots, by plotly.js from this machine. It is large, so it comes after all
// else, and the page does without it until then.

let loading = null;
const drawn = new Map();

function load() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = reject;
    document.head.append(script);
  });
  return loading;
}

// Draws a line; `names` has the titles of both axes, and `points` the texts of
// both numbers, as the command writes them.
export async function draw(id, plot) {
  drawn.set(id, plot);
  const Plotly = await load();
  // A newer line may be here by now.
  if (drawn.has(id)) paint(Plotly, id, drawn.get(id));
}

export function erase(id) {
  drawn.delete(id);
  window.Plotly?.purge(document.getElementById(id));
}

function paint(Plotly, id, {x, y, points, names, isLog}) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = {
    gridcolor: color("--line"),
    linecolor: color("--faint"),
    zeroline: false,
    automargin: true,
    nticks: 6,
    fixedrange: true,
  };
  const line = {
    x,
    y,
    text: points.map(([a, b]) => `${names[0]} ${a}<br>${names[1]} ${b}`),
    mode: "lines",
    line: {color: color("--main"), width: 2.5},
    hovertemplate: "%{text}<extra></extra>",
  };
  const layout = {
    margin: {l: 8, r: 12, t: 8, b: 8},
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: {color: color("--text"), family: "system-ui, sans-serif", size: 13},
    xaxis: {...axis, title: {text: names[0]}, rangemode: "tozero"},
    yaxis: {
      ...axis,
      title: {text: names[1]},
      ...(isLog
        ? {type: "log", exponentformat: "power", nticks: 8}
        : {rangemode: "tozero"}),
    },
    hoverlabel: {bgcolor: color("--card"), font: {color: color("--text")}},
  };
  const config = {displayModeBar: false, responsive: true};
  Plotly.react(document.getElementById(id), [line], layout, config);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawn.forEach((plot, id) => draw(id, plot));
});
