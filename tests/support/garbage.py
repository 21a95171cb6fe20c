"""Has Python look for garbage less often, and not in what was imported.

JAX makes millions of small objects when it traces, and there are as many in the
modules: a sixth of the time was spent on going through them.
"""

import gc


def look_less() -> None:
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 10, 10)
