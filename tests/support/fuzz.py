"""What the fuzz tests share: damage, hostile JSON, what is a clear error."""

import contextlib
import threading
import tracemalloc

import hypothesis
from hypothesis import strategies as st

# Chosen anew at each run, and many: for tests marked slow.
LONG = hypothesis.settings(
    derandomize=False,
    max_examples=2000,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
# Temporary folders are shared by the examples of a test: each overwrites.
SHORT = hypothesis.settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)

_NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2**31, 2**53, 2**63, 10**400, -(10**400)]),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 1e-16, 5e-324, 1e-300, 1e300]),
    st.integers(),
    st.floats(),
)
_LEAVES = st.one_of(
    st.none(), st.booleans(), _NUMBERS, st.text(max_size=20), st.just("x" * 999)
)
# Anything that JSON, or Python's reading of it, can hold.
JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw, content: bytes) -> bytes:
  """Draws the content with bytes changed, cut out, put in, or cut off."""
  broken = bytearray(content)
  for _ in range(draw(st.integers(1, 4))):
    place = draw(st.integers(0, len(broken)))
    kind = draw(st.sampled_from(["change", "remove", "insert", "truncate"]))
    if kind == "change":
      broken[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
    elif kind == "remove":
      del broken[place : place + draw(st.integers(1, 9))]
    elif kind == "insert":
      broken[place:place] = draw(st.binary(min_size=1, max_size=9))
    else:
      del broken[place:]
  return bytes(broken)


def assert_clear(error, *names) -> None:
  """Asserts that an error's text is one short line that holds the names."""
  text = str(error)
  assert text and "\n" not in text, text
  assert len(text) < 1000, text
  for name in names:
    assert name in text, text


@contextlib.contextmanager
def memory_below(num_bytes):
  """Asserts that Python and NumPy hold less than this at any time inside."""
  tracemalloc.start()
  try:
    yield
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < num_bytes, f"{peak} bytes"


def returns(function, *args, **options):
  """Calls a function that must not hang; returns its result or its error."""
  found = []

  def call():
    try:
      found.append(function(*args, **options))
    except Exception as error:
      found.append(error)

  thread = threading.Thread(target=call, daemon=True)
  thread.start()
  thread.join(timeout=60)
  assert found, "It waits for ever."
  return found[0]
