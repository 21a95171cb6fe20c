"""The hosted workflows name targets, scripts and configurations that exist."""

import os
import re

import pytest

from tests.support import launch

_WORKFLOWS = sorted((launch.ROOT / ".github" / "workflows").glob("*.yml"))
_TEXT = "".join(path.read_text("utf-8") for path in _WORKFLOWS)


def test_there_are_workflows():
  assert {path.stem for path in _WORKFLOWS} == {"ci", "nightly", "release"}


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"make ([\w-]+)", _TEXT)))
)
def test_target_exists(target):
  makefile = (launch.ROOT / "Makefile").read_text("utf-8")
  assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "script", sorted(set(re.findall(r"\.ci/[\w.]+", _TEXT)))
)
def test_script_can_be_run(script):
  assert os.access(launch.ROOT / script, os.X_OK)
