"""The scripts of `examples/` run on generated data, and differ from their plain twins by smartaug alone."""

import difflib
import math
import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if (EXAMPLES / f"{path.stem}_plain.py").exists())


def lines(name):
    return (EXAMPLES / f"{name}.py").read_text().splitlines()


def test_every_script_has_a_twin_and_there_are_eight():
    scripts = {path.stem.removesuffix("_plain") for path in EXAMPLES.glob("*.py")} - {"tiny"}
    assert set(NAMES) == scripts
    assert len(NAMES) == 8


@pytest.mark.parametrize("name", [f"{name}{ending}" for name in NAMES for ending in ("", "_plain")])
@pytest.mark.filterwarnings("default::UserWarning:(?!smartaug).*", "ignore::ResourceWarning")
def test_example_runs_and_has_a_finite_loss(name, monkeypatch, capfd):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--tiny"])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    found = re.findall(r"loss\D{1,4}(-?[\d.]+|nan|inf)", capfd.readouterr().out)
    assert found
    assert all(math.isfinite(float(value)) for value in found)


@pytest.mark.parametrize("name", NAMES)
def test_the_diff_is_small_and_only_one_side_names_smartaug(name):
    plain, ours = lines(f"{name}_plain"), lines(name)
    assert not any("smartaug" in line for line in plain)
    assert any("smartaug." in line for line in ours)
    assert any("smartaug.DataLoader(" in line for line in ours)
    code = [line for line in difflib.unified_diff(plain, ours, n=0) if line.startswith("+") and line[1:].strip()]
    assert len(code) <= 32
