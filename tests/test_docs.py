"""The code in README and docs runs, their tables are those of the committed results, and their links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import smartaug

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs" / "pages").glob("*.md"))]
SOURCES = (smartaug.EntAugment, smartaug.SRA)  # of magnitudes
GENERATED = {"gallery.md", "batch.png"}  # made when the site is built


def code_blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def names_of_a_script():
    """What a training script has before it comes to the lines of a page."""
    images = torch.randint(0, 256, (48, 3, 32, 32), dtype=torch.uint8)
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    model(torch.zeros(1, 3, 32, 32))
    return {
        "torch": torch,
        "nn": nn,
        "train_set": [(image, label % 10) for label, image in enumerate(images)],
        "device": torch.device("cpu"),
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01),
    }


@pytest.mark.filterwarnings("ignore:.*gives epochs of different lengths")
@pytest.mark.parametrize("path", [path for path in PAGES if code_blocks(path)], ids=lambda path: path.name)
def test_the_code_blocks_of_a_page_run_in_order(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = names_of_a_script()
    for number, block in enumerate(code_blocks(path)):
        exec(compile(block, f"{path.name}, block {number}", "exec"), names)


# base classes and protocols, of which CONTRIBUTING has examples, and a second name
NO_METHODS = {"Gradients", "Learner", "MetaLearner", "Reweighting", "Rule", "UniformWeights"}


def test_every_method_is_used_in_some_block():
    code = "\n".join(block for path in PAGES for block in code_blocks(path))
    names = {*smartaug.reweight.__all__, *smartaug.coreset.__all__, *(kind.__name__ for kind in SOURCES)} - NO_METHODS
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\(", code)] == []


def test_there_is_code_to_run():
    assert sum(len(code_blocks(path)) for path in PAGES) >= 12


def test_the_tables_are_generated_from_the_results():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tables", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("path", "link"),
    [(path, link) for path in PAGES for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_links_lead_somewhere(path, link):
    assert Path(link).name in GENERATED or (path.parent / link).exists()


def test_readme_is_read_in_a_minute():
    assert len((ROOT / "README.md").read_bytes()) <= 8192
