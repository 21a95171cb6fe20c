// Plots, by plotly.js from this machine. It is large, so it comes after all
// else, and the page does without it until then.

import {figure} from "./figure.js";

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
  const texts = points.map(
    ([a, b]) => `${names[0]} ${a}, ${names[1]} ${b}`);
  const made = figure({lines: [{x, y, texts}], names, isLog});
  Plotly.react(document.getElementById(id), ...made);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawn.forEach((plot, id) => draw(id, plot));
});
