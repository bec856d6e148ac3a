"""Makes the gallery when the site is built: every augmentation as pictures, drawn by the package itself.

Nothing generated is committed: pictures and page exist in the site alone, so they cannot be out of date.
"""

from __future__ import annotations

import inspect
import io

import numpy as np
import torch
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from PIL import Image
from sklearn.datasets import load_sample_images

from smartaug import augment

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
HIDDEN = {"Augmentation", "Normalize"}  # the base class; values that no screen can show


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


def written(name: str) -> str:
    """How the augmentation of that name is written in the gallery."""
    return SPECIAL.get(name, f"{name}()")


def summary(name: str) -> str:
    """The first sentence of its docstring."""
    return (inspect.getdoc(getattr(augment, name)) or "").split("\n\n")[0].replace("\n", " ")


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
        files.append(File.generated(config, f"gallery/{name}.jpg", content=strip(step.apply(images, plan))))
        told = "; ".join(plan.trace.describe(row) or "as it is" for row in range(3))
        page += ["", f"## {name}", "", f"`smartaug.augment.{written(name)}`: {summary(name)}", ""]
        page += [f"![{name} on six photographs](gallery/{name}.jpg)", "", f"{told}."]
    files.append(File.generated(config, "gallery.md", content="\n".join(page) + "\n"))
    return files
