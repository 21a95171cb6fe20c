// Shows answers. All texts come from the command, and go into the page as
// text: nothing that was typed or read from a file is markup here.

import * as plots from "./plots.js";

const byId = (id) => document.getElementById(id);
const MEANS = {
  mu: "the data with and without one person are as hard to tell apart as"
    + " N(0, 1) and N(mu, 1) by one draw",
  its: "largest error of a rate, if mu is used for it; below 0.01, mu says all",
  Bayes: "how often a guess is right about someone who is in by the toss of a"
    + " coin",
  true: "share of those who were in it that are found, if that share of the"
    + " others may be accused falsely",
  advantage: "from 0, nothing, to 100%, everything",
  reconstruction: "rebuilds an example, with the model in hand",
};
const PLOTS = {curve: "curve-plot", profile: "profile-plot"};
const commands = new Map();
const warnings = new Map();

const places = (part) => document.querySelectorAll(`[data-part="${part}"]`);

export function busy(parts) {
  parts.forEach((part) => {
    places(part).forEach((each) => each.setAttribute("aria-busy", "true"));
  });
  byId("claim").setAttribute("aria-busy", "true");
}

// The headline. With an error there is none, and no other number either.
export function showEpsilon(reply) {
  byId("claim").setAttribute("aria-busy", "false");
  byId("epsilon").textContent = reply.error ? "–" : reply.epsilon;
  byId("sentence").textContent = reply.error ? "There is no number." : reply.text.split("\n").at(-1);
  list("notes", reply.notes ?? []);
  forget("epsilon");
  remember("epsilon", reply);
}

export function showPart(part, reply) {
  places(part).forEach((each) => {
    each.setAttribute("aria-busy", "false");
    each.querySelector(":scope > .error").textContent = reply.error ?? "";
  });
  if (reply.error) clear(part);
  else SHOW[part](reply);
  remember(part, reply);
}

// Says what each number is of, where there is more than the run.
export function showWhose(hasEntries, hasLedger) {
  const run = hasEntries || hasLedger ? "of the run alone" : "";
  const all = hasEntries ? "of the run and the other releases" : run;
  document.querySelectorAll(".whose").forEach((each) => {
    each.textContent = each.dataset.whose === "run" ? run : all;
  });
}

// Takes a part's numbers away, which are of another run by now.
export function clear(part) {
  if (part in PLOTS) plots.erase(PLOTS[part]);
  (HOLDS[part] ?? []).forEach((id) => byId(id).replaceChildren());
  if (part === "compose") byId("toml-details").hidden = true;
  forget(part);
}

export function clearAll(parts) {
  parts.forEach((part) => {
    clear(part);
    places(part).forEach((each) => {
      each.setAttribute("aria-busy", "false");
      each.querySelector(":scope > .error").textContent = "";
    });
  });
}

const HOLDS = {
  users: ["users"],
  explain: ["explained"],
  profile: ["attack", "profile-text"],
  curve: ["curve-table"],
  compose: ["composed", "toml", "together"],
  ledger: ["ledger-planned", "left"],
  statement: ["statement"],
};

const SHOW = {
  users({epsilon, count}) {
    const text = `people with ${count} examples: `;
    byId("users").replaceChildren(text, strong(epsilon));
  },
  explain({paragraphs}) {
    byId("explained").replaceChildren(
      ...paragraphs.map((text) => element("p", text)));
  },
  profile({rows, x, y, points, text}) {
    const body = rows.map(([name, value]) => {
      const head = element("th", name);
      head.scope = "row";
      const means = element("p", MEANS[name.match(/^\w+/)?.[0]] ?? "");
      means.className = "help";
      head.append(means);
      return row([head, number(value)]);
    });
    byId("attack").replaceChildren(...body);
    byId("profile-text").textContent = text.split("\n\n").at(-1);
    // On a logarithmic axis there is no zero.
    const last = y.findIndex((delta) => delta < 1e-12);
    const kept = last < 0 ? y.length : last;
    plots.draw(PLOTS.profile, {
      x: x.slice(0, kept),
      y: y.slice(0, kept),
      points: points.slice(0, kept),
      names: ["epsilon", "delta"],
      isLog: true,
    });
  },
  curve({rows, x, y}) {
    table("curve-table", ["steps", "epsilon"], rows);
    const names = ["steps", "epsilon"];
    plots.draw(PLOTS.curve, {x, y, points: rows, names});
  },
  compose({rows, header, lines, toml, epsilon}) {
    const text = "with the other releases: ";
    byId("together").replaceChildren(text, strong(epsilon));
    const made = element("table");
    made.append(head(header, rows), bodyOf(rows));
    byId("composed").replaceChildren(
      wide(made), ...lines.map((line) => strong(line, "p")));
    byId("toml").textContent = toml;
    byId("toml-details").hidden = false;
  },
  ledger({what, state, rows, header, planned, refused, ...shares}) {
    byId("ledger-what").textContent = what;
    byId("ledger-state").textContent = state;
    const place = byId("ledger-planned");
    place.className = refused ? "error" : "";
    place.textContent = refused
      ?? `With the run, and the list: ${planned.join(" ")}`;
    byId("left").textContent = refused
      ? "it exceeds the ledger's budget" : `by the ledger, ${planned.at(-1)}`;
    table("ledger-table", header, rows);
    meter(shares.share, refused ? null : shares.share_after, state);
  },
  statement({text}) {
    byId("statement").textContent = text;
  },
};

function meter(share, after, state) {
  const [with_, spent] = byId("meter").children;
  const width = (part) => `${100 * Math.min(1, Math.max(0, part))}%`;
  byId("meter").classList.toggle("over", after === null);
  spent.style.width = width(share);
  with_.style.width = width(after ?? 1);
  byId("meter").setAttribute("aria-label", state);
}

// Keeps what is said with a part's numbers: its command, and its warnings.
function remember(part, reply) {
  if (reply.command) commands.set(part, reply.command);
  warnings.set(part, reply.warnings ?? []);
  showCommands();
}

function forget(part) {
  commands.delete(part);
  warnings.delete(part);
  showCommands();
}

function showCommands() {
  const said = [...new Set([...warnings.values()].flat())];
  // One that another begins with, and says more, is said by that.
  const isLess = (text) => said.some(
    (other) => other !== text && other.startsWith(text));
  list("warnings", said.filter((text) => !isLess(text)));
  const order = ["epsilon", ...Object.keys(SHOW)];
  byId("command").textContent = order
    .filter((part) => commands.has(part))
    .map((part) => commands.get(part))
    .join("\n");
}

function list(id, texts) {
  byId(id).replaceChildren(...texts.map((text) => element("li", text)));
}

function table(id, header, rows) {
  byId(id).replaceChildren(head(header, rows), bodyOf(rows));
}

function bodyOf(rows) {
  const body = element("tbody");
  body.append(...rows.map((cells) => row(cells.map((text) => (
    isNumber(text) ? number(text) : element("td", text))))));
  return body;
}

const isNumber = (text) => /^[\d.]+(e[+-]\d+)?$|^infinite$/.test(text);

function head(names, rows) {
  const made = element("thead");
  made.append(row(names.map((name, column) => {
    const cell = element("th", name);
    cell.scope = "col";
    if (rows.length && isNumber(rows[0][column])) cell.className = "number";
    return cell;
  })));
  return made;
}

function row(cells) {
  const made = element("tr");
  made.append(...cells);
  return made;
}

function number(text) {
  const made = element("td", text);
  made.className = "number";
  return made;
}

function strong(text, name = "strong") {
  const made = element(name);
  made.append(name === "strong" ? text : element("strong", text));
  return made;
}

function wide(content) {
  const made = element("div");
  made.className = "wide";
  made.append(content);
  return made;
}

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
