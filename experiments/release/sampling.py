"""Writes text with a run's model, one token after the other.

Invariant: a text is a function of the model, the prompt and the seed. It is
post-processing of released parameters, which it costs no privacy.

>>> logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
>>> kept = jnp.isfinite(filtered(logits, temperature=1.0, top_k=3, top_p=0.7))
>>> kept.tolist()
[[True, True, False, False]]
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tasks import parts
from jax_privacy import _validate

_MAX_TOKENS = 2**20
_MAX_SAMPLES = 2**10


def filtered(
    logits: jax.Array, *, temperature: float, top_k: int | None, top_p: float
) -> jax.Array:
  """Returns logits over the temperature, -inf for tokens that are left out.

  Args:
    logits: Floats [n, vocabulary].
    temperature: Divisor of the logits, positive.
    top_k: Number of likeliest tokens that are kept; None for all.
    top_p: Probability that the kept likeliest tokens have together, at least;
      1 keeps all. The likeliest is always kept.

  Source: Holtzman et al. 2019 (arXiv 1904.09751) for `top_p`.
  """
  logits = logits / temperature
  order = jnp.argsort(-logits, axis=-1, stable=True)
  ranks = jnp.argsort(order, axis=-1)
  keep = jnp.ones(logits.shape, bool)
  if top_k is not None:
    keep &= ranks < top_k
  if top_p < 1.0:
    probs = jax.nn.softmax(jnp.take_along_axis(logits, order, axis=-1), axis=-1)
    before = jnp.cumsum(probs, axis=-1) - probs
    # A token is kept if those before it do not reach top_p.
    is_kept = jnp.take_along_axis(before < top_p, ranks, axis=-1)
    keep &= is_kept | (ranks == 0)
  return jnp.where(keep, logits, jnp.full_like(logits, -jnp.inf))


def generate(
    generator: parts.Generator,
    params: Any,
    prompt: str,
    *,
    num_tokens: int,
    num_samples: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[str]:
  """Returns texts that follow a prompt.

  Args:
    generator: Generator of the task.
    params: Parameters of the model.
    prompt: Text to go on from; "" begins a document.
    num_tokens: Number of tokens to write, at most; a document may end before.
    num_samples: Number of texts.
    temperature: Divisor of the logits; 0 takes the likeliest token each time.
    top_k: Number of likeliest tokens to choose among; None for all.
    top_p: Probability of the likeliest tokens to choose among; 1 for all.
    seed: Seed of what is drawn.

  Returns:
    Texts without the prompt, [num_samples].

  Raises:
    ValueError: If an argument breaks its rule, or prompt and text have more
      tokens than the model has positions.
  """
  _check(num_tokens, num_samples, temperature, top_k, top_p, seed)
  tokens, _ = generator.tokeniser.encode(prompt)
  first = np.concatenate([[generator.tokeniser.boundary], tokens])
  first = np.tile(first.astype(np.int32), (num_samples, 1))
  cache = generator.cache_fn(params, num_samples, first.shape[1] + num_tokens)
  draw_fn = functools.partial(
      _draw, temperature=temperature, top_k=top_k, top_p=top_p
  )

  @jax.jit
  def step_fn(params, tokens, cache, key):
    logits, cache = generator.decode_fn(params, tokens, cache)
    return draw_fn(logits[:, -1], key), cache

  key, last, written = jax.random.key(seed), jnp.asarray(first), []
  for i in range(num_tokens):
    chosen, cache = step_fn(params, last, cache, jax.random.fold_in(key, i))
    last = chosen[:, None]
    written.append(np.asarray(chosen))
  return [_text(generator.tokeniser, row) for row in np.stack(written, axis=1)]


def _draw(logits, key, *, temperature, top_k, top_p) -> jax.Array:
  logits = logits.astype(jnp.float32)
  if temperature == 0.0:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  logits = filtered(logits, temperature=temperature, top_k=top_k, top_p=top_p)
  return jax.random.categorical(key, logits, axis=-1).astype(jnp.int32)


def _text(tokeniser, tokens: np.ndarray) -> str:
  ends = np.flatnonzero(tokens == tokeniser.boundary)
  return tokeniser.decode(tokens[: ends[0]] if len(ends) else tokens)


def _check(num_tokens, num_samples, temperature, top_k, top_p, seed) -> None:
  for name, value, most in (
      ("num_tokens", num_tokens, _MAX_TOKENS),
      ("num_samples", num_samples, _MAX_SAMPLES),
  ):
    if _validate.integer(name, value, at_least=1) > most:
      _validate.fail(name, f"at most {most}", value)
  if not 0.0 <= temperature <= 1e6:
    _validate.fail("temperature", "in [0, 1e6]", temperature)
  if top_k is not None:
    _validate.integer("top_k", top_k, at_least=1)
  if not 0.0 < top_p <= 1.0:
    _validate.fail("top_p", "in (0, 1]", top_p)
  if not 0 <= seed < 2**32:
    _validate.fail("seed", "in [0, 2**32)", seed)
