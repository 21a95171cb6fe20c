"""docs/architecture.md names files that exist, and leaves no folder out."""

import pathlib
import re

_ROOT = pathlib.Path(__file__).parents[1]
_PAGE = (_ROOT / "docs" / "architecture.md").read_text("utf-8")
_NAMED = set(re.findall(r"`([\w./-]+(?:\.py|/))`", _PAGE))
_FLOW = (
    *("sampler", "source", "task's views", "clipped_grad", "noise"),
    *("optimiser", "average", "checkpoint", "evaluate", "report"),
)


def _missing(names):
  return sorted(name for name in names if not (_ROOT / name).exists())


def test_each_file_and_folder_exists():
  assert len(_NAMED) > 40
  assert not _missing(_NAMED)
  assert _missing({"accounting/epsilon.py"})


def test_no_folder_is_left_out():
  for top in ("accounting", "jax_privacy", "experiments", "configs"):
    folders = {path.parent for path in (_ROOT / top).rglob("__init__.py")}
    for folder in folders:
      parts = folder.relative_to(_ROOT).parts
      # A folder within these is a part of its parent.
      name = "/".join(parts[:2]) + "/"
      assert name in _NAMED, f"docs/architecture.md must have {name}"


def test_data_flow_from_the_sampler_to_the_report():
  rows = re.findall(r"^\| ([\w' ]+) \| .* \| (.*`.*) \|$", _PAGE, flags=re.M)
  found = [what for what, files in rows if ".py`" in files]
  assert tuple(found) == _FLOW


def test_every_page_is_in_the_menu_and_on_the_first_page():
  menu = (_ROOT / "mkdocs.yml").read_text("utf-8")
  first = (_ROOT / "docs" / "index.md").read_text("utf-8")
  for page in (_ROOT / "docs").glob("*.md"):
    assert re.search(rf"[-:] {page.name}\n", menu), page.name
    assert page.name == "index.md" or f"({page.name})" in first, page.name
