// The fields of the run. A text field holds what is asked; its slider shows
// where that lies, and writes into it when it is moved.

const SLIDER_STEPS = 1000;
const NAMES = [
  "noise_multiplier", "num_examples", "batch_size", "num_steps", "epochs",
  "delta", "examples_per_user", "sampling", "neighboring", "accountant",
  "batches", "unit",
];
const byId = (id) => document.getElementById(id);
let own = [];

// Builds the choices, and the fields that only some samplers have.
export function build(schema) {
  choices("sampling", schema.samplers.map((each) => each.name));
  choices("neighboring", schema.relations);
  choices("accountant", schema.accountants);
  choices("batches", ["", ...schema.batches]);
  byId("batches").options[0].text = "not said";
  own = [...new Set(schema.samplers.flatMap((each) => each.fields))];
  own.forEach((name) => byId("own").append(ownField(name, schema)));
  byId("sampling").addEventListener("change", () => showOwn(schema));
  document.querySelectorAll("input[type=range]").forEach((slider) => {
    slider.max = SLIDER_STEPS;
    slider.addEventListener("input", () => slid(slider));
  });
  NAMES.forEach((name) => put(name, schema.start[name] ?? ""));
  document.querySelectorAll("input[name=length]").forEach((radio) => {
    radio.addEventListener("change", showLength);
  });
  byId("run").addEventListener("input", (event) => {
    if (event.target.type !== "range") follow();
  });
  showOwn(schema);
  showLength();
}

// Returns the fields that count, as they are typed.
export function values() {
  const found = {};
  const isShown = (name) => !byId(`${name}-field`)?.hidden;
  [...NAMES, ...own].filter(isShown).forEach((name) => {
    if (byId(name).value.trim()) found[name] = byId(name).value.trim();
  });
  return found;
}

// All that is typed, to be put back after a reload.
export function state() {
  const names = [...NAMES, ...own];
  const typed = Object.fromEntries(names.map((n) => [n, byId(n).value]));
  return {typed, length: length()};
}

export function restore({typed, length: chosen}, schema) {
  [...NAMES, ...own].forEach((name) => {
    if (typeof typed[name] === "string") put(name, typed[name]);
  });
  if (["num_steps", "epochs"].includes(chosen)) choose(chosen);
  showOwn(schema);
}

export function put(name, value) {
  byId(name).value = value;
  follow();
}

// Shows the field of a name, if it is one of the two lengths.
export function choose(name) {
  const radio = document.querySelector(`input[name=length][value=${name}]`);
  if (radio) radio.checked = true;
  showLength();
}

// Shows an error at its field; returns whether there is one of that name.
export function complain(name, text) {
  const place = name && byId(`${name}-error`);
  if (!place || byId(`${name}-field`)?.hidden) return false;
  place.textContent = text;
  byId(name).setAttribute("aria-invalid", "true");
  const folded = byId(name).closest("details");
  if (folded) folded.open = true;
  return true;
}

export function calm() {
  document.querySelectorAll("#run .field .error").forEach((each) => {
    each.textContent = "";
  });
  document.querySelectorAll("#run [aria-invalid]").forEach((each) => {
    each.removeAttribute("aria-invalid");
  });
}

export function choices(id, names) {
  byId(id).replaceChildren(
    ...names.map((name) => new Option(name.replaceAll("_", " "), name)));
}

function ownField(name, schema) {
  const field = document.createElement("div");
  field.className = "field short";
  field.id = `${name}-field`;
  const label = document.createElement("label");
  label.htmlFor = name;
  label.textContent = name.replaceAll("_", " ");
  const input = document.createElement("input");
  input.id = name;
  input.inputMode = "decimal";
  input.setAttribute("aria-describedby", `${name}-help ${name}-error`);
  const help = document.createElement("p");
  help.className = "help";
  help.id = `${name}-help`;
  help.textContent = schema.options[name] ?? "";
  const error = document.createElement("p");
  error.className = "error";
  error.id = `${name}-error`;
  field.append(label, input, help, error);
  return field;
}

function showOwn(schema) {
  const chosen = schema.samplers.find((s) => s.name === byId("sampling").value);
  own.forEach((name) => {
    byId(`${name}-field`).hidden = !chosen?.fields.includes(name);
  });
}

const length = () =>
  document.querySelector("input[name=length]:checked").value;

function showLength() {
  ["num_steps", "epochs"].forEach((name) => {
    byId(`${name}-field`).hidden = name !== length();
  });
}

function ends(slider) {
  const high = slider.dataset.high;
  const named = byId(high) ? Number(byId(high).value) : Number(high);
  const low = Number(slider.dataset.low);
  return [low, named > low ? named : 10 * low];
}

function slid(slider) {
  const [low, high] = ends(slider);
  const share = slider.value / SLIDER_STEPS;
  let value = low * (high / low) ** share;
  // Three digits are as fine as a hand is; an end is met as it is.
  if (share > 0 && share < 1) value = Number(value.toPrecision(3));
  else value = share ? high : low;
  if ("whole" in slider.dataset) value = Math.round(value);
  byId(slider.dataset.of).value = written(value);
  slider.setAttribute("aria-valuetext", written(value));
}

// As the command writes numbers: 0.001, but 1e-05.
function written(value) {
  if (value && Math.abs(value) < 1e-4) {
    return value.toExponential().replace(/e-(\d)$/, "e-0$1");
  }
  return String(value);
}

// Moves every slider to where its field is.
function follow() {
  document.querySelectorAll("input[type=range]").forEach((slider) => {
    const typed = byId(slider.dataset.of).value;
    const value = Number(typed.replaceAll("_", ""));
    slider.setAttribute("aria-valuetext", typed || "nothing");
    const [low, high] = ends(slider);
    if (!(value > 0)) return;
    const share = Math.log(value / low) / Math.log(high / low);
    slider.value = SLIDER_STEPS * Math.min(1, Math.max(0, share));
  });
}
