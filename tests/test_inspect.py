"""``smartaug inspect`` as a user runs it."""

import numpy as np
import pytest
from PIL import Image

from smartaug import augment
from smartaug.cli import main as cli
from smartaug.cli.inspect.command import pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of images."""
    root, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label, colour in (("dark", 60), ("light", 190)):
        (root / label).mkdir()
        for number in range(45):
            pixels = random.integers(colour - 50, colour + 50, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number:03}.png")
    return root


def test_draws_of_the_default_pipeline(tmp_path, capsys):
    picture = tmp_path / "a.png"
    assert cli.main(["inspect", "--images", "2", "--out", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "PadCrop(1), RandAugment(2, 9), Erase(0.25)" in out
    with Image.open(picture) as image:
        assert image.size[0] > 500


def test_draws_of_images_without_class_folders(folder, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(sorted(folder.rglob("*.png"))[:10]):
        (flat / f"{number}{file.suffix}").write_bytes(file.read_bytes())
    assert cli.main(["inspect", "--data", str(flat), "--augment", "Flip()", "--out", str(tmp_path / "i.png")]) == 0
    assert "flat, 8 + 2 images" in capsys.readouterr().out
    assert cli.main(["inspect", "--data", str(flat), "--moments", "--augment", "Flip()"]) != 0


def test_moments_of_a_folder(folder, tmp_path, capsys):
    picture = tmp_path / "a.png"
    arguments = ["--data", str(folder), "--augment", "PadCrop(1), RandomResizedCrop(6)", "--moments", "--nodes", "64"]
    assert cli.main(["inspect", *arguments, "--images", "2", "--epochs", "1", "--out", str(picture)]) == 0
    table = capsys.readouterr().out.split("---\n")[1].splitlines()
    crop, resized, both = (line.split() for line in table[:3])
    assert [crop[0], *crop[-2:]] == ["PadCrop(1)", "9", "0"]  # nine places, no error
    assert [resized[0], resized[-2]] == ["RandomResizedCrop(6)", "(quadrature)"]
    assert [both[0], both[-2]] == ["all", "(quadrature)"]
    assert picture.stat().st_size > 10_000


def test_pipelines_are_read_and_never_run():
    read = pipeline("[PadCrop(4, mode='edge'), Flip(p=0.25), Compose([RandAugment(2, 9), Invert()])]")
    assert list(read)[:2] == ["PadCrop(4, mode='edge')", "Flip(p=0.25)"]
    crop, flip, nested = read.values()
    assert (crop.padding, crop.mode, flip.p) == (4, "edge", 0.25)
    assert isinstance(nested.augmentations[0], augment.RandAugment)
    assert list(pipeline("Flip(), Flip()")) == ["Flip()", "Flip(), again"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Flip(", "cannot be read"),
        ("", "names no augmentation"),
        ("Flip", "'Flip' is not one of"),
        ("RandAugmnt(2, 9)", "did you mean RandAugment?"),
        ("open('a')", "is not one of"),
        ("__import__('os').system('true')", "is not one of"),
        ("Flip(print(1))", "must be plain values"),
        ("Flip(**{'p': 1})", "must be plain values"),
        ("Flip(q=1)", "unexpected keyword"),
        ("Flip(2)", "probability"),
        ("Compose(Flip())", "must be Compose"),
        ("Flip(), Flip(), Flip()", "three times"),
        ("Normalize(0.5, 0.5)", "leave Normalize out"),
    ],
)
def test_mistakes_are_told_in_one_line(text, words, tmp_path, capsys):
    assert cli.main(["inspect", "--augment", text, "--out", str(tmp_path / "a.png")]) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_other_mistakes(tmp_path, capsys):
    assert cli.main(["inspect", "--data", str(tmp_path / "nowhere")]) == 1
    assert cli.main(["inspect", "--out", str(tmp_path / "nowhere" / "a.png")]) == 1
    assert (
        cli.main(["inspect", "--moments", "--epochs", "1", "--augment", "MixUp()", "--out", str(tmp_path / "a")]) == 1
    )
    assert "mix images with others" in capsys.readouterr().err


def test_a_device_that_is_none(tmp_path, capsys):
    assert cli.main(["inspect", "--device", "nonsense", "--out", str(tmp_path / "a.png")]) == 1
    assert "--device" in capsys.readouterr().err


OWN = """
import torch
from torchvision.transforms import v2
import smartaug

transform = v2.Compose([v2.Resize((24, 24)), v2.RandomHorizontalFlip(1.0), v2.ToImage()])
stages = [smartaug.RandomResizedCrop(16), smartaug.CutMix()]
flat = torch.utils.data.TensorDataset(torch.rand(4, 3), torch.arange(4))


def loader():
    pictures = torch.utils.data.TensorDataset(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9))
    return smartaug.DataLoader(pictures, 3, augment=smartaug.Flip(), device="cpu")
"""


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("transform", [], "RandomHorizontalFlip"),
        ("transform", ["--data", "flat"], "RandomHorizontalFlip"),
        ("stages", ["--data", "classes"], "picture"),
        ("loader", [], "augment: Flip"),
    ],
)
def test_a_users_own(name, more, words, folder, tmp_path, capsys):
    script = tmp_path / "own_pipeline.py"
    script.write_text(OWN)
    places = {"flat": str(folder / "dark"), "classes": str(folder)}
    out = tmp_path / "a.png"
    arguments = [f"{script}:{name}", *(places.get(part, part) for part in more), "--images", "2", "--out", str(out)]
    assert cli.main(["inspect", *arguments]) == 0
    assert words in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.size[0] > 500


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("nothing", [], "has no nothing"),
        ("flat", [], "nothing can be drawn"),
        ("transform", ["--moments"], "go with --data"),
        ("stages", ["--data", "/nowhere"], "there is no such folder"),
    ],
)
def test_mistakes_with_a_users_own(name, more, words, tmp_path, capsys):
    script = tmp_path / "own_mistakes.py"
    script.write_text(OWN)
    assert cli.main(["inspect", f"{script}:{name}", *more, "--out", str(tmp_path / "a.png")]) == 1
    assert words in capsys.readouterr().err
