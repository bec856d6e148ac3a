"""The code in README and docs runs, their tables are those of the committed results, and their links lead somewhere."""

import ast
import importlib
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
    unused = [name for name in sorted(names) if not re.search(rf"\b{name}\(", code)]
    assert not unused, (
        f"use {', '.join(unused)} in a code block of docs/pages/weights.md (rules) or subsets.md (criteria)"
    )


def test_every_operation_can_be_drawn_for_the_gallery():
    """`docs/hooks/gallery.py` imports MkDocs, so its tables are read and not imported."""
    tables = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "docs" / "hooks" / "gallery.py").read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id in ("SPECIAL", "HIDDEN")
    }
    for name in sorted(set(smartaug.augment.__all__) - tables["HIDDEN"]):
        written = tables["SPECIAL"].get(name, f"{name}()")
        try:
            made = eval(written, {"__builtins__": {}}, vars(smartaug.augment))
        except TypeError as error:
            pytest.fail(f"write in SPECIAL of docs/hooks/gallery.py how {name} is called for its pictures: {error}")
        assert type(made) is getattr(smartaug.augment, name)


# folded into the conversion at the end; another name of D4; by their library's create_transform alone
UNTOLD = {"PILToTensor", "ConvertImageDtype", "Identity", "NoOp", "MaybeToTensor", "MaybePILToTensor"}
UNTOLD |= {"SquareSymmetry", "AugMixAugment"}


@pytest.mark.parametrize("library", ["torchvision", "albumentations", "timm"])
def test_every_lifted_transform_is_in_the_tables(library):
    pytest.importorskip(library)
    translate = importlib.import_module(f"smartaug.lift.{library}.translate")
    tables = {"docs/pages/lift.md": (ROOT / "docs" / "pages" / "lift.md").read_text()}
    if "|---|" in translate.__doc__:
        tables[f"the docstring of smartaug/lift/{library}/translate.py"] = translate.__doc__
    for where, table in tables.items():
        lacking = [
            name for name in translate._TRANSLATORS if name not in UNTOLD and not re.search(rf"\b{name}\b", table)
        ]
        assert not lacking, f"name {', '.join(lacking)} in the table of {where}"


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
