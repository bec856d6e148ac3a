"""What a user's tools see of the package: version, types, optional packages."""

import importlib.metadata
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import smartaug
from smartaug.cli import main as cli

ROOT = Path(smartaug.__file__).parents[1]


def test_the_script_that_type_checkers_accept_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(Path(__file__).with_name("user_script.py")))
    assert (tmp_path / "smartaug-batch.png").stat().st_size > 1000


def test_one_version(capsys):
    assert smartaug.__version__ == importlib.metadata.version("smartaug")
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"smartaug {smartaug.__version__}\n"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (smartaug.__version__, "Apache-2.0")


def test_nothing_optional_is_needed_to_import_it_or_its_commands():
    hidden = "kornia", "torchvision", "albumentations", "timm", "cv2", "numba", "matplotlib", "sklearn", "PIL", "yaml"
    code = f"""
import sys
for name in {hidden!r}:
    sys.modules[name] = None  # importing it fails
import smartaug
assert "smartaug.cli" not in sys.modules
import torch
smartaug.RandAugment()(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
smartaug.plots, smartaug.bench, smartaug.logs, smartaug.from_dict("Flip")
try:
    smartaug.plots.image_grid(torch.zeros(1, 3, 4, 4), ["a"], "a.png")
except ImportError as error:
    assert 'pip install "smartaug[demo]"' in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_extras_name_what_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    used = {"torchvision", "albumentations", "timm", "kornia", "fast", "demo", "lightning", "transformers"}
    assert used <= set(project["optional-dependencies"])
    assert sorted(line.partition(">")[0] for line in project["dependencies"]) == ["numpy", "torch", "tqdm"]


def test_addresses_are_those_of_the_papers():
    """No repository is named, since none is known; the papers stand in both files."""
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    assert sorted(given.values()) == sorted(paper["url"] for paper in cited)
    assert all(paper["url"].rpartition("/")[2] == paper["identifiers"][0]["value"][6:] for paper in cited)
