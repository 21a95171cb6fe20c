"""The page's files, as they are: style sheets, scripts, and plotly.js.

Another page of this project, such as a run's report, reads what it shares here.
Invariant: a file is looked up in the list below, never by a path that was sent.

>>> text("base.css").splitlines()[0][:27]
'/* What this page and a run'
"""

import importlib.resources

from accounting import _validate

_SCRIPT = "text/javascript; charset=utf-8"
TYPES = {
    "index.html": "text/html; charset=utf-8",
    "base.css": "text/css; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    **dict.fromkeys(
        ("page.js", "asking.js", "fields.js", "figure.js", "plots.js"), _SCRIPT
    ),
    "releases.js": _SCRIPT,
    "results.js": _SCRIPT,
}
"""Type of each file, by its name."""


def text(name: str) -> str:
  """Returns a file of the page.

  Args:
    name: Name of the file.

  Raises:
    ValueError: If there is none of that name.
  """
  _validate.choice("file", name, options=tuple(TYPES))
  folder = importlib.resources.files("accounting.budget.page") / "static"
  return (folder / name).read_text("utf-8")


def missing(error: ImportError) -> ImportError:
  """Returns the error that says what to install.

  Args:
    error: Error of an import of what the extra `page` has.
  """
  return ImportError(
      f'{error}: pip install "jax-privacy-toolkit[page]", or "dp-budget[page]"'
      " where JAX is not wanted."
  )


def plotly() -> str:
  """Returns plotly.js, as its package has it.

  Raises:
    ImportError: If the package is missing; the text names the extra.
  """
  try:
    from plotly import offline
  except ImportError as error:
    raise missing(error) from error
  return offline.get_plotlyjs()
