"""How a worker talks: one JSON object a line in, one a line out.

  {"do": "prepare", "network": N, "method": M, "batch_size": B}
      makes a step and runs it twice; answers num_parameters, leaf_norms (of
      the gradient, by parameter), first_seconds and warm_seconds
  {"do": "round", "method": M, "steps": K}
      runs K steps; answers {"seconds": S}, of all together
  {"do": "release"}
      forgets all that was prepared

Invariant: every request has one answer, {"error": TEXT} if it failed, and
nothing else is written to standard output: what a library prints goes to
standard error.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
  """A prepared step.

  Attributes:
    step: starts one step and returns its result.
    wait: blocks until a result is there.
    leaf_norms: result to the L2 norm of each parameter's gradient, by name.
    num_parameters: numbers in the parameters, as the library counts them.
  """

  step: Callable[[], Any]
  wait: Callable[[Any], Any]
  leaf_norms: Callable[[Any], Mapping[str, float]]
  num_parameters: int


def serve(
    facts: Mapping[str, Any], make: Callable[[str, str, int], Contestant]
) -> None:
  """Says `facts`, then answers requests until standard input ends.

  Args:
    facts: the first line out: versions and threads.
    make: `(network, method, batch_size) -> Contestant`.
  """
  with os.fdopen(os.dup(1), "w") as out:
    os.dup2(2, 1)
    _say(out, facts)
    contestants: dict[str, Contestant] = {}
    for line in sys.stdin:
      try:
        _say(out, _answer(json.loads(line), make, contestants))
      except Exception as error:  # To be told, whatever a library raises.
        first = (str(error).strip() or "no message").splitlines()[0]
        _say(out, {"error": f"{type(error).__name__}: {first}"})


def _say(out: TextIO, answer: Mapping[str, Any]) -> None:
  out.write(json.dumps(answer) + "\n")
  out.flush()


def _answer(request, make, contestants):
  if request["do"] == "release":
    contestants.clear()
    return {}
  method = request["method"]
  if request["do"] == "prepare":
    contestants.pop(method, None)
    made = make(request["network"], method, request["batch_size"])
    answer = _prepare(made)
    contestants[method] = made
    return answer
  if request["do"] == "round":
    return {"seconds": _timed(contestants[method], request["steps"])}
  raise ValueError(f"do must be prepare, round or release, got {request}.")


def _prepare(contestant):
  start = time.perf_counter()
  norms = contestant.leaf_norms(contestant.wait(contestant.step()))
  first = time.perf_counter() - start
  return {
      "num_parameters": contestant.num_parameters,
      "leaf_norms": dict(norms),
      "first_seconds": first,
      "warm_seconds": _timed(contestant, 1),
  }


def _timed(contestant, steps):
  start = time.perf_counter()
  for _ in range(steps):
    result = contestant.step()
  contestant.wait(result)
  return time.perf_counter() - start
