"""What a user's tools see of the package: version, types, optional packages."""

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import smartaug
from smartaug.cli import main as cli

ROOT = Path(smartaug.__file__).parents[1]
SCRIPT = """
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import smartaug


class Images(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(3, 8, 8, dtype=torch.uint8), index % 2


model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
loader: smartaug.DataLoader[tuple[Tensor, int]] = smartaug.DataLoader(
    Images(),
    batch_size=4,
    shuffle=True,
    augment=[smartaug.Flip(), smartaug.RandAugment(2, 9), smartaug.Normalize(0.5, 0.25)],
    reweight=smartaug.Uniform(),
    coreset=smartaug.Coreset(0.5, select=smartaug.coreset.Uniform()),
    seed=0,
)
criterion = smartaug.Loss(nn.CrossEntropyLoss())
for images, target in loader:
    loss: Tensor = criterion(model(images), target)
    loss.backward()
augmented: Tensor = smartaug.Compose([smartaug.Flip()])(torch.zeros(2, 3, 8, 8))
plain = smartaug.to_dict(smartaug.Flip())
back: smartaug.augment.Augmentation = smartaug.from_dict({"Flip": {}})
version: str = smartaug.__version__
epochs: int = loader.steps(3)
lifted: smartaug.Lifted = smartaug.lift(nn.Identity())
told: str = lifted.explain()
figures = smartaug.logs.figures(loader)
report = smartaug.bench(Images(), seconds=1.0)
print(report.text(), smartaug.plots.batch(loader), figures["smartaug/batches"] + 1.0, epochs, version, told)
"""
MISTAKE = "smartaug.RandAugmnt()\n"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "right.py").write_text(SCRIPT)
    (folder / "wrong.py").write_text("import smartaug\n" + MISTAKE)
    return folder


@pytest.mark.parametrize(
    "checker", [["mypy", "--strict"], ["basedpyright", "--level", "error"]], ids=["mypy", "pyright"]
)
def test_user_code_passes_strict_type_checkers(checker, scripts):
    (scripts / "pyrightconfig.json").write_text(f'{{"typeCheckingMode": "strict", "extraPaths": ["{ROOT}"]}}')
    settings = {"cwd": scripts, "capture_output": True, "text": True}
    environment = {"PATH": str(Path(sys.executable).parent), "MYPYPATH": str(ROOT), "HOME": str(scripts)}
    command = [sys.executable, "-m", *checker]
    right = subprocess.run([*command, "right.py"], env=environment, **settings)
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = subprocess.run([*command, "wrong.py"], env=environment, **settings)
    assert wrong.returncode == 1
    assert "RandAugmnt" in wrong.stdout


def test_the_script_that_they_check_runs(scripts, monkeypatch, capsys):
    monkeypatch.chdir(scripts)
    exec(compile(SCRIPT.replace("lifted: smartaug", "torch.manual_seed(0)\nlifted: smartaug"), "right.py", "exec"), {})
    assert (scripts / "smartaug-batch.png").stat().st_size > 1000


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
