"""Makes the gallery when the site is built: every augmentation as pictures, drawn by the package itself.

Nothing generated is committed: pictures and page exist in the site alone, so they cannot be out of date.
"""

from __future__ import annotations

import inspect
import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from PIL import Image
from sklearn.datasets import load_sample_images

import smartaug
from smartaug import augment
from smartaug.augment.targets import settled

SIDE = 160  # pixels
DRAWS = 6  # pictures of each augmentation
SPECIAL = {  # what needs arguments, or shows more with others than its defaults
    "Affine": "Affine(degrees=25, translate=(0.1, 0.1), scale=(0.8, 1.2), shear=10, interpolation='bilinear')",
    "AutoContrast": "AutoContrast(1.0)",
    "ColorJitter": "ColorJitter(0.5, 0.5, 0.5, 0.2)",
    "Compose": "Compose([PadCrop(20), Flip(), ColorJitter(0.4, 0.4, 0.4)])",
    "Crop": "Crop((120, 120))",
    "CutMix": "CutMix()",
    "Equalize": "Equalize(1.0)",
    "Erase": "Erase(1.0)",
    "GaussianBlur": "GaussianBlur((15, 15), (0.5, 5.0))",
    "Grayscale": "Grayscale(0.5)",
    "Invert": "Invert(1.0)",
    "MixUp": "MixUp(1.0)",
    "OneOf": "OneOf([Flip(1.0), Invert(1.0), Grayscale(1.0)])",
    "Pad": "Pad((20, 20, 20, 20), mode='reflect')",
    "PadCrop": "PadCrop(40)",
    "Posterize": "Posterize(2, p=1.0)",
    "RandomApply": "RandomApply([Invert(1.0)], p=0.5)",
    "RandomOrder": "RandomOrder([Flip(0.5), Solarize(128), Grayscale(0.5)])",
    "RandomResizedCrop": "RandomResizedCrop(160)",
    "Resize": "Resize((160, 160))",
    "Sharpness": "Sharpness(8.0, p=1.0)",
    "Solarize": "Solarize(128, p=1.0)",
    "SomeOf": "SomeOf([Flip(1.0), Invert(1.0), Posterize(2), Grayscale(1.0)], 2)",
}
KORNIA = {  # the long tail: what smartaug has no operation for runs as a stage of its own
    "ColorJiggle": "ColorJiggle(0.3, 0.3, 0.3, 0.1, p=1.0)",
    "RandomBoxBlur": "RandomBoxBlur((9, 9), p=1.0)",
    "RandomChannelShuffle": "RandomChannelShuffle(p=1.0)",
    "RandomClahe": "RandomClahe(p=1.0)",
    "RandomElasticTransform": "RandomElasticTransform((31, 31), (12.0, 12.0), alpha=(2.0, 2.0), p=1.0)",
    "RandomFisheye": "RandomFisheye(*[torch.tensor([-0.3, 0.3])] * 2, torch.tensor([0.9, 1.1]), p=1.0)",
    "RandomGaussianNoise": "RandomGaussianNoise(std=0.1, p=1.0)",
    "RandomJPEG": "RandomJPEG((3.0, 12.0), p=1.0)",
    "RandomMedianBlur": "RandomMedianBlur((7, 7), p=1.0)",
    "RandomMotionBlur": "RandomMotionBlur(15, 35.0, 0.5, p=1.0)",
    "RandomPlanckianJitter": "RandomPlanckianJitter('blackbody', p=1.0)",
    "RandomPlasmaShadow": "RandomPlasmaShadow(p=1.0)",
    "RandomSaltAndPepperNoise": "RandomSaltAndPepperNoise(p=1.0)",
    "RandomThinPlateSpline": "RandomThinPlateSpline(0.15, p=1.0)",
}
HIDDEN = {"Augmentation", "Normalize", "SMOTE", "SwapFeatures"}  # the base class; what no screen can show; rows alone


def photographs() -> torch.Tensor:
    """scikit-learn's two photographs in turn, (DRAWS, 3, SIDE, SIDE) uint8."""
    squares = []
    for photo in load_sample_images().images:
        image = Image.fromarray(photo)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        squares.append(np.asarray(image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))))
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).repeat(DRAWS // 2, 1, 1, 1).contiguous()


def strip(images: torch.Tensor) -> bytes:
    """The pictures side by side, as a JPEG file."""
    frame = torch.full((images.shape[0], 3, SIDE, SIDE), 255, dtype=torch.uint8)
    height, width = min(SIDE, images.shape[2]), min(SIDE, images.shape[3])
    frame[:, :, :height, :width] = images[:, :, :height, :width]
    file = io.BytesIO()
    Image.fromarray(torch.cat(list(frame), 2).permute(1, 2, 0).numpy()).save(file, "JPEG", quality=85)
    return file.getvalue()


def discs() -> tuple[torch.Tensor, torch.Tensor]:
    """Instance masks for `CopyPaste`, two discs a photograph, and the photographs that they lie in."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    middles = ((0.35, 0.3, 0.25), (0.65, 0.72, 0.2))
    discs = [(y - SIDE * top) ** 2 + (x - SIDE * left) ** 2 < (SIDE * radius) ** 2 for top, left, radius in middles]
    return torch.stack(discs).repeat(DRAWS, 1, 1), torch.arange(DRAWS).repeat_interleave(2)


def written(name: str) -> str:
    """How the augmentation of that name is written in the gallery."""
    return SPECIAL.get(name, f"{name}()")


def summary(name: str) -> str:
    """The first sentence of its docstring."""
    return (inspect.getdoc(getattr(augment, name)) or "").split("\n\n")[0].replace("\n", " ")


def of_kornia(images: torch.Tensor, files: Files, config: MkDocsConfig) -> list[str]:
    """The section on Kornia's modules as stages of a loader."""
    import kornia.augmentation

    modules = {name: getattr(kornia.augmentation, name) for name in KORNIA}
    page = [
        "",
        "## Kornia's modules",
        "",
        "Any module of `kornia.augmentation` is a stage, too: `smartaug.DataLoader(..., augment=[smartaug.Flip(), "
        "K.RandomJPEG((3.0, 12.0), p=1.0)])`. It gets the batch as floats in [0, 1] and a seed from (seed, epoch, "
        "indices). Some of what smartaug has no operation for (`pip install kornia`):",
    ]
    samples = [(image, 0) for image in images]
    for name, text in KORNIA.items():
        stage = eval(text, {"__builtins__": {}, "torch": torch}, modules)  # text of this file
        loader = smartaug.DataLoader(samples, batch_size=DRAWS, augment=stage, seed=3, device="cpu")
        made = next(iter(loader))[0]
        made = (made.clamp(0, 1) * 255).round().to(torch.uint8) if made.is_floating_point() else made
        files.append(File.generated(config, f"gallery/kornia-{name}.jpg", content=strip(made)))
        page += ["", f"### {name}", "", f"`kornia.augmentation.{text}`", ""]
        page += [f"![{name} on six photographs](gallery/kornia-{name}.jpg)"]
    return page


def loader_batch(images: torch.Tensor) -> bytes:
    """What `smartaug.plots.batch` draws, as a PNG file."""
    stages = [smartaug.RandomResizedCrop(SIDE), smartaug.Flip(), smartaug.RandAugment(), smartaug.CutMix()]
    samples = [(image, number % 2) for number, image in enumerate(images)]
    loader = smartaug.DataLoader(samples, batch_size=DRAWS, augment=stages, seed=1, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        return smartaug.plots.batch(
            loader, Path(folder) / "batch.png", images=4
        ).read_bytes()  # more would be too small to read


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the gallery's page and pictures to the site."""
    images = photographs()
    names = {name: getattr(augment, name) for name in augment.__all__}
    page = [
        "# Gallery",
        "",
        "Every augmentation on scikit-learn's two photographs: six rows of one batch, each drawn by itself. The "
        "pictures are made by the package when this site is built.",
        "",
        "Under each the draws of the first three pictures, as `plan.trace.describe(row)` tells them.",
        "",
        "![the photographs as they are](gallery/plain.jpg)",
    ]
    files.append(File.generated(config, "gallery/plain.jpg", content=strip(images)))
    for name in augment.__all__:
        if name in HIDDEN:
            continue
        step = eval(written(name), {"__builtins__": {}}, names)  # text of this file
        plan = step.plan(images.shape, index=torch.arange(DRAWS), epoch=1, seed=3)
        plan = settled(plan, *discs())
        files.append(File.generated(config, f"gallery/{name}.jpg", content=strip(step.apply(images, plan))))
        told = "; ".join(plan.trace.describe(row) or "as it is" for row in range(3))
        page += ["", f"## {name}", "", f"`smartaug.augment.{written(name)}`: {summary(name)}", ""]
        page += [f"![{name} on six photographs](gallery/{name}.jpg)", "", f"{told}."]
    page += of_kornia(images, files, config)
    files.append(File.generated(config, "gallery/batch.png", content=loader_batch(images)))
    files.append(File.generated(config, "gallery.md", content="\n".join(page) + "\n"))
    return files
