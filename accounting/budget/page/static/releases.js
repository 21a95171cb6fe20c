// The list of other releases of the same data. Each keeps the unit and the
// relation that it was added under: what its sensitivity means depends on them.

import {ask} from "./asking.js";
import * as fields from "./fields.js";

const RUN = "run";
const MAX_ENTRIES = 100;
const byId = (id) => document.getElementById(id);
let held = [];
let kinds = [];
let changed = () => {};

export function build(schema, whenChanged) {
  kinds = schema.kinds;
  changed = whenChanged;
  fields.choices("kind", [RUN, ...kinds.map((each) => each.kind)]);
  byId("kind").options[0].text = "the run, as it is now";
  byId("kind").addEventListener("change", showKind);
  byId("add").addEventListener("submit", (event) => {
    event.preventDefault();
    add();
  });
  showKind();
}

// The list as the server takes it.
export const entries = () => held.map(({words, ...entry}) => entry);
export const state = () => held;

export function restore(kept) {
  const isEntry = (each) => each && typeof each === "object";
  held = Array.isArray(kept) ? kept.filter(isEntry) : [];
  show();
}

function showKind() {
  const chosen = kinds.find((each) => each.kind === byId("kind").value);
  const parts = (chosen?.fields ?? []).flatMap((field) => {
    const label = document.createElement("label");
    label.htmlFor = `kind-${field.name}`;
    label.textContent = field.name.replaceAll("_", " ");
    const input = document.createElement("input");
    input.id = `kind-${field.name}`;
    input.name = field.name;
    input.value = field.default;
    return [label, input];
  });
  byId("kind-fields").replaceChildren(...parts);
  byId("add-error").textContent = "";
}

async function add() {
  const form = fields.values();
  const entry = {
    kind: byId("kind").value,
    name: byId("name").value.trim() || "a release",
    count: byId("count").value.trim(),
    unit: form.unit ?? "",
  };
  if (entry.kind === RUN) {
    entry.run = form;
  } else {
    entry.neighboring_relation = form.neighboring;
    byId("kind-fields").querySelectorAll("input").forEach((input) => {
      entry[input.name] = input.value.trim();
    });
  }
  const reply = await ask("entry", {form, entries: [entry]});
  if (reply === null) return;
  complain(reply);
  if (reply.error) return;
  if (held.length >= MAX_ENTRIES) {
    complain({error: `The list must have at most ${MAX_ENTRIES} releases.`});
    return;
  }
  held.push({...entry, words: reply.words.join("; ")});
  byId("name").value = "";
  byId("added").textContent = `Added ${entry.name}.`;
  show();
  changed();
}

function complain({error, field}) {
  byId("add-error").textContent = error ?? "";
  byId("add").querySelectorAll("[aria-invalid]").forEach((each) => {
    each.removeAttribute("aria-invalid");
  });
  const bad = error && field && (byId(`kind-${field}`) ?? byId(field));
  if (bad && byId("add").contains(bad)) {
    bad.setAttribute("aria-invalid", "true");
    bad.focus();
  }
}

function show() {
  byId("entries").replaceChildren(...held.map((entry, index) => {
    const item = document.createElement("li");
    const text = document.createElement("span");
    const times = Number(entry.count) === 1 ? "" : `${entry.count} times `;
    text.textContent = entry.name;
    const words = document.createElement("small");
    words.textContent = `${times}${entry.words ?? entry.kind}`;
    text.append(words);
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "plain";
    remove.textContent = "Remove";
    remove.setAttribute("aria-label", `Remove ${entry.name}`);
    remove.addEventListener("click", () => {
      held.splice(index, 1);
      show();
      byId("kind").focus();
      changed();
    });
    item.append(text, remove);
    return item;
  }));
}
