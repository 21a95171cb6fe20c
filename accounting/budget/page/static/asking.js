// Questions to the server of this page. A newer question of a part takes the
// place of an older one: the answer to the older one is null.

const tab = crypto.randomUUID();
const latest = new Map();
const GONE = "The page is not served any more. Run `dp-budget serve` again.";

export async function ask(part, question) {
  const number = (latest.get(part) ?? 0) + 1;
  latest.set(part, number);
  const reply = await answered(JSON.stringify({tab, part, ...question}));
  return latest.get(part) === number ? reply : null;
}

async function answered(body) {
  try {
    const response = await fetch("answer", {
      method: "POST",
      headers: {"content-type": "application/json"},
      body,
    });
    const reply = await response.json();
    return reply.stale ? {error: GONE, field: null} : reply;
  } catch {
    return {error: GONE, field: null};
  }
}
