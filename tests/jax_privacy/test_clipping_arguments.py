"""What `clipped_grad` refuses, and how it says so."""

import jax.numpy as jnp
import pytest

import jax_privacy
from jax_privacy import clipping
from tests.support.toy import batch as _batch
from tests.support.toy import loss as _loss
from tests.support.toy import params as _params


@pytest.mark.parametrize(
    "options",
    [
        {"l2_clip_norm": value}
        for value in (0.0, -1.0, jnp.nan, jnp.inf, True, "1", None, {})
    ]
    + [{"l2_clip_norm": {"w": 1.0, "inner": -1.0}}]
    + [{"normalize_by": value} for value in (0.0, -2.0, float("nan"), jnp.inf)]
    + [{"microbatch_size": value} for value in (0, -1, 2.5, True)]
    + [{"dtype": value} for value in (jnp.bfloat16, jnp.float16, jnp.int32)]
    + [{"method": "fast"}],
)
def test_bad_options_are_named(options):
  ((name, value),) = options.items()
  with pytest.raises(ValueError, match=f"^{name} must be .*, got .*\\.$"):
    jax_privacy.clipped_grad(_loss, **({"l2_clip_norm": 1.0} | options))


def test_bad_argument_positions_and_batches_are_named():
  make = lambda **options: jax_privacy.clipped_grad(
      _loss, l2_clip_norm=1.0, **options
  )
  with pytest.raises(ValueError, match="must be disjoint"):
    make(argnums=1)
  with pytest.raises(ValueError, match="must be disjoint"):
    make(prng_argnum=0)
  with pytest.raises(ValueError, match="argnums must be an integer"):
    make(argnums=-1)
  with pytest.raises(ValueError, match="batch_argnums must be one or several"):
    make(batch_argnums=())
  params, batch = _params(), _batch()
  with pytest.raises(ValueError, match="batch_argnums must be positions"):
    make()(params)
  with pytest.raises(ValueError, match="prng_argnum must be a position"):
    make(prng_argnum=2)(params, batch)
  batch["y"] = batch["y"][:7]
  with pytest.raises(ValueError, match="arrays of one leading size.*10.*7"):
    make()(params, batch)
  for mask in (jnp.zeros(9, bool), jnp.zeros(10)):
    with pytest.raises(ValueError, match="is_padding_example must be bool"):
      make()(params, _batch(), is_padding_example=mask)


def test_ghost_refuses_what_needs_each_gradient():
  with pytest.raises(ValueError, match='must be "vmap" or "auto" with a pre_'):
    jax_privacy.clipped_grad(
        _loss,
        l2_clip_norm=1.0,
        method="ghost",
        pre_clipping_transform=lambda g: g,
    )


def test_auto_says_once_that_it_falls_back(caplog):
  clipping._say_that_auto_is_vmap.cache_clear()
  with caplog.at_level("INFO", logger="absl"):
    for _ in range(2):
      jax_privacy.clipped_grad(
          _loss, l2_clip_norm=1.0, pre_clipping_transform=lambda g: g
      )
  said = [r for r in caplog.records if "pre_clipping_transform" in r.message]
  assert len(said) == 1
