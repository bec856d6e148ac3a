"""The demo's picture: what augmentation does to images, and what SAFLEX says about labels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Subset

from ..augment import Compose, Erase, Flip, Normalize, RandAugment, RandomResizedCrop
from ..loading.dataloader import DataLoader
from ..reweight import SAFLEX
from .plots import image_grid, shown_as_picture
from .show import denormalised
from .task import Task, batched_stages, plain, unscaled
from .words import makers, received

_SIDE = 224
_BATCH = 64  # images that SAFLEX compares with each other


def picture(
    task: Task, model: nn.Module, seed: int, path: str | Path, *, photographs: bool = False, shown: int = 8
) -> Path:
    """Write a grid: ``shown`` images as stored, three epochs of augmentation, and what SAFLEX says about labels.

    photographs: the first rows are parts of scikit-learn's two photographs at 224 pixels, through the usual operations
    for photographs, else training images through the task's. The last row has training images for ``model``, every
    second one with a wrong label on purpose; SAFLEX, which is told of none, gives them weights and soft labels by
    validation images that it has not seen.
    """
    if photographs:
        originals = photos(shown)
        stages = Compose([RandomResizedCrop(_SIDE, scale=(0.35, 1.0)), Flip(), RandAugment(2, 9), Erase(0.25)])
        names = ["photograph, 224 pixels"] * shown
    else:
        dataset = task.train(unscaled())
        rows = torch.linspace(0, len(dataset) - 1, min(shown, len(dataset))).long()  # type: ignore[arg-type]
        pairs = [dataset[int(row)] for row in rows]
        originals = torch.stack([image for image, _ in pairs])
        stages = Compose([stage for stage in batched_stages(task) if not isinstance(stage, Normalize)])
        names = [task.classes[label] for _, label in pairs]
    tiles, captions = [shown_as_picture(originals)], names
    index = torch.arange(len(originals))
    columns = makers(stages, tuple(originals.shape))
    for epoch in range(3):
        plan = stages.plan(originals.shape, index=index, epoch=epoch, seed=seed)
        tiles.append(shown_as_picture(stages.apply(originals, plan)))
        told = [received(plan, row, columns, index.tolist()) for row in range(len(index))]
        captions = [*captions, *("\n".join(words or ["as it is"]) for words in told)]
    judged, said = verdicts(task, model, seed, len(originals))
    size, channels = originals.shape[2:], originals.shape[1]
    tiles.append(functional.interpolate(judged, size, mode="nearest").expand(-1, channels, -1, -1))
    title = (
        "first row: as stored; then three epochs, each image with its own operations; "
        "last: SAFLEX's weights and labels, every second label is wrong on purpose"
    )
    return image_grid(torch.cat(tiles), [*captions, *said], path, columns=len(originals), title=title)


def photos(count: int) -> Tensor:
    """Parts of scikit-learn's two photographs, (count, 3, 224, 224) uint8, spread over them."""
    from sklearn.datasets import load_sample_images

    found = []
    for number in range(count):
        photo = torch.tensor(load_sample_images().images[number % 2]).permute(2, 0, 1)
        height, width = photo.shape[1] - _SIDE, photo.shape[2] - _SIDE
        place = (number // 2) / max(1, (count - 1) // 2)
        top, left = int(height * (0.5 if number % 4 < 2 else 0.9)), int(width * place)
        found.append(photo[:, top : top + _SIDE, left : left + _SIDE])
    return torch.stack(found)


def verdicts(task: Task, model: nn.Module, seed: int, shown: int) -> tuple[Tensor, list[str]]:
    """Images (shown, C, H, W) in [0, 1] of which every second has a wrong label, and what SAFLEX makes of them."""
    dataset = task.train(unscaled())
    size, classes = len(dataset), len(task.classes)  # type: ignore[arg-type]
    rows = torch.linspace(0, size - 1, min(max(_BATCH, shown), max(shown, size // 2))).long().unique().tolist()
    pairs = [dataset[row] for row in rows]
    right = [label for _, label in pairs]
    stored = [
        (label + 1 + place % (classes - 1)) % classes if place % 2 else label for place, label in enumerate(right)
    ]
    others = sorted(set(range(size)) - set(rows))
    validation = Subset(task.train(plain(task)), others[:: max(1, len(others) // 256)])
    stages = batched_stages(task)
    loader: DataLoader = DataLoader(
        [(image, label) for (image, _), label in zip(pairs, stored, strict=True)],  # type: ignore[arg-type]
        batch_size=len(pairs),
        augment=stages,
        reweight=SAFLEX(model, validation, validation_batch=min(128, len(validation))),
        seed=seed,
        device=next(model.parameters()).device,
    )
    images, target = next(iter(loader))
    captions = []
    for row in range(shown):
        soft = target.soft[row].cpu()
        likely = [f"{task.classes[int(k)]} {float(soft[k]):.2f}" for k in soft.argsort(descending=True)[:2]]
        wrong = f" (wrong: {task.classes[right[row]]})" if stored[row] != right[row] else " (right)"
        said = f"label {task.classes[stored[row]]}{wrong}", f"weight {float(target.weight[row]):.2f}", ", ".join(likely)
        captions.append("\n".join(said))
    return denormalised(images[:shown], [stages[-1].plan(images.shape, seed=0)]), captions
