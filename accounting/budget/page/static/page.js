// Follows the run as it is moved: epsilon first, and all else once it is known.

import {ask} from "./asking.js";
import * as fields from "./fields.js";
import * as releases from "./releases.js";
import * as results from "./results.js";

const WAIT_MS = 200;
const KEPT = "dp-budget";
const byId = (id) => document.getElementById(id);
let schema = null;
let timer = 0;
// Counts changes: an answer to an older one is dropped.
let round = 0;

function parts() {
  const form = fields.values();
  const isUser = (form.examples_per_user ?? "1") !== "1";
  const wanted = {
    users: isUser,
    explain: true,
    profile: true,
    curve: true,
    compose: releases.entries().length > 0,
    ledger: schema.ledger,
    statement: byId("statement-details").open,
  };
  return Object.entries(wanted);
}

const named = (isWanted) =>
  parts().filter(([, each]) => each === isWanted).map(([part]) => part);

function changed() {
  round += 1;
  keep();
  results.busy(named(true));
  results.showWhose(releases.entries().length > 0, schema.ledger);
  clearTimeout(timer);
  timer = setTimeout(update, WAIT_MS);
}

async function update() {
  const [mine, form] = [round, fields.values()];
  const reply = await ask("epsilon", {form});
  if (reply === null || mine !== round) return;
  fields.calm();
  results.showEpsilon(reply);
  const hasPlace = reply.error && fields.complain(reply.field, reply.error);
  byId("epsilon-error").textContent =
    reply.error && !hasPlace ? reply.error : "";
  if (reply.error) {
    if (hasPlace) {
      const name = reply.field.replaceAll("_", " ");
      byId("sentence").textContent = `One field is not right: ${name}.`;
    }
    results.clearAll(parts().map(([part]) => part));
    return;
  }
  results.clearAll(named(false));
  named(true).forEach((part) => show(part, mine, form));
}

async function show(part, mine, form) {
  const entries = releases.entries();
  const reply = await ask(part, {form, entries});
  if (reply === null || mine !== round) return;
  results.showPart(part, reply);
  if (reply.error) fields.complain(reply.field, reply.error);
}

async function find() {
  const asked = {what: byId("sought").value, epsilon: byId("target").value};
  byId("find-error").textContent = "";
  byId("found").textContent = "…";
  const reply = await ask("find", {form: fields.values(), find: asked});
  if (reply === null) return;
  byId("find-error").textContent = reply.error ?? "";
  byId("found").textContent = reply.error ? "" : reply.text;
  if (reply.error) return;
  fields.choose(reply.name);
  fields.put(reply.name, reply.value);
  changed();
}

async function copy(button) {
  const source = byId(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
    byId("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(source);
    byId("copied").textContent = "Selected: copy it by hand.";
  }
}

// A reload keeps what was typed, in this tab alone.
function keep() {
  const state = {fields: fields.state(), releases: releases.state()};
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(state));
  } catch {
    // A browser that keeps nothing: then a reload begins anew.
  }
}

function restore() {
  try {
    const state = JSON.parse(sessionStorage.getItem(KEPT));
    if (!state) return;
    fields.restore(state.fields, schema);
    releases.restore(state.releases);
  } catch {
    sessionStorage.removeItem(KEPT);
  }
}

async function begin() {
  schema = await ask("begin", {});
  if (schema.error) {
    byId("epsilon-error").textContent = schema.error;
    return;
  }
  byId("ledger").hidden = !schema.ledger;
  fields.build(schema);
  releases.build(schema, changed);
  restore();
  byId("run").addEventListener("input", (event) => {
    if (!event.target.closest("#find")) changed();
  });
  byId("run").addEventListener("submit", (event) => {
    event.preventDefault();
    // Enter in a field of the run asks for nothing new.
    if (document.activeElement.closest("#find")) find();
  });
  byId("statement-details").addEventListener("toggle", changed);
  document.querySelectorAll(".copy").forEach((button) => {
    button.addEventListener("click", () => copy(button));
  });
  changed();
}

begin();
