"""A folder of images as a dataset, with or without class folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

Image = Any  # a PIL image; Pillow is optional
Sample = Any  # the result of the user's transform


def images_in(folder: str, transform: Callable[[Image], Sample] | None = None) -> Dataset:
    """The images of ``folder``, or of ``folder/train`` where that exists.

    A folder of class folders is read by torchvision's ImageFolder; images in the folder itself all have class 0.
    transform: of a PIL image; None: random resized crop to 224 pixels, random flip, normalisation. Raises
    FileNotFoundError when there is no image.
    """
    from torchvision.datasets import ImageFolder

    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"--data {root}: there is no such folder")
    root = root / "train" if (root / "train").is_dir() else root
    transform = _usual() if transform is None else transform
    files = image_files(root)
    if files:
        return Flat(files, transform)
    return ImageFolder(str(root), transform)


def image_files(folder: Path) -> list[Path]:
    """The image files in ``folder`` itself, sorted; not those in its subfolders."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMG_EXTENSIONS)


class Flat(Dataset):
    """A dataset of image files, all of class 0. transform: of a PIL image."""

    def __init__(self, files: list[Path], transform: Callable[[Image], Sample] | None = None) -> None:
        from torchvision.datasets.folder import default_loader

        self.files, self.transform, self.loader = files, transform, default_loader
        self.classes = ["image"]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Sample, int]:
        image = self.loader(str(self.files[index]))
        return image if self.transform is None else self.transform(image), 0


def _usual() -> Callable[[Image], Sample]:
    import torch
    from torchvision.transforms import v2

    return v2.Compose(
        [
            v2.RandomResizedCrop(224),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
