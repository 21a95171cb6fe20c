"""The noise "independent": each step has noise of its own.

>>> Independent().name
'independent'
"""

from typing import TYPE_CHECKING

from accounting.noises.noise import Noise

if TYPE_CHECKING:
  from accounting.mechanism import Mechanism


class Independent(Noise):
  """See `Noise`."""

  name = "independent"
  sentence = "the noise of each step is drawn afresh"

  def bands(self, run: "Mechanism") -> int:
    """See `Noise`; fits every run."""
    del run
    return 1
