"""Builds how a config clips gradients, from its section `dp`.

The invariant: what is built here changes no number of the mechanism: whatever
the choice, an example's share of what is released has norm 1 at most, in units
that the noise multiplier is in.

>>> from configs import common
>>> config = common.base()
>>> build(config.dp)
'standard'
>>> config.dp.clipping = "quantile"
>>> build(config.dp).target_quantile
0.5
"""

import dataclasses
from typing import Any

import ml_collections

from experiments.tasks import sections
from jax_privacy import clipping_functions, quantile_clipping

_QUANTILE = "quantile"
_Quantile = quantile_clipping.QuantileClipping
# Fields of the section, which a summary states where one is not as usual.
_FIELDS = ("clipping", "clipping_options")


def build(
    dp_config: ml_collections.ConfigDict,
) -> str | clipping_functions.ClippingFunction | _Quantile:
  """Returns the argument `clipping` of `make_private`.

  Args:
    dp_config: A config's section.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  names = (*clipping_functions.names(), _QUANTILE)
  sections.check_choice("dp.clipping", dp_config.clipping, names)
  with sections.named("dp.clipping_options"):
    options = dp_config.clipping_options.to_dict()
    if dp_config.clipping == _QUANTILE:
      return _quantile(options)
    made = clipping_functions.get(dp_config.clipping, **options)
  return "standard" if made is None else made


def _quantile(options):
  known = [f.name for f in dataclasses.fields(_Quantile)]
  for name in options:
    if name not in known:
      rule = f"names among {', '.join(known)} for {_QUANTILE!r}"
      raise ValueError(f"clipping_options must be {rule}, got {name!r}.")
  return _Quantile(**options)


def facts(dp_config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns what a summary states of clipping, if it is not standard.

  Args:
    dp_config: A config's section.
  """
  if dp_config.clipping == "standard":
    return {}
  found = {name: dp_config[name] for name in _FIELDS}
  return {
      name: value.to_dict() if hasattr(value, "to_dict") else value
      for name, value in found.items()
  }
