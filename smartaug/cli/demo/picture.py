"""The demo's picture: augmented images, and images with the weights that SAFLEX gives them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Subset
from tqdm import tqdm

from ...augment import Compose, Erase, Flip, Normalize, RandAugment, RandomResizedCrop
from ...loading.dataloader import DataLoader
from ...loading.pictures.grid import image_grid, shown_as_picture
from ...loading.pictures.words import makers, received
from ...loss import Loss
from ...reweight import SAFLEX
from ..recorder import Recorder
from .task import MEAN, STD, Task, batched_stages, plain, small_cnn, unscaled

_SIDE = 224
_JUDGED = 1500  # images, at most, that SAFLEX is shown
_EPOCHS = 6


def picture(
    task: Task, device: torch.device, seed: int, path: str | Path, *, photographs: bool = False, shown: int = 8
) -> Path:
    """Write a grid: ``shown`` images as stored, three epochs of augmentation, and images with weights by SAFLEX.

    photographs: the first rows are parts of scikit-learn's two photographs at 224 pixels, through the usual operations
    for photographs, else training images through the task's. The last row is `trusted`'s.
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
        operations = [received(plan, row, columns, index.tolist()) for row in range(len(index))]
        captions = [*captions, *("\n".join(words or ["as it is"]) for words in operations)]
    judged, said = trusted(task, device, seed, len(originals))
    size, channels = originals.shape[2:], originals.shape[1]
    judged = functional.interpolate(shown_as_picture(judged), size, mode="nearest")
    tiles.append(judged.expand(-1, channels, -1, -1))
    title = (
        "first row: as stored; then three epochs, each image with its own operations\n"
        f"last: mean weights by SAFLEX in {_EPOCHS} epochs, a quarter of the labels being wrong, which it is not told"
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


def trusted(task: Task, device: torch.device, seed: int, shown: int) -> tuple[Tensor, list[str]]:
    """Images (shown, C, H, W) uint8 and the mean weights that SAFLEX gave them, while a network learned from them.

    A quarter of the labels is wrong, of the images shown every second one. Every sixth image has its right label and
    is for validation.
    """
    dataset = task.train(unscaled())
    size, classes = len(dataset), len(task.classes)  # type: ignore[arg-type]
    chosen = torch.linspace(0, size - 1, min(size, _JUDGED)).long().tolist()
    pairs = [dataset[row] for place, row in enumerate(chosen) if place % 6]
    right = [label for _, label in pairs]
    stored = [(label + 1 + place // 4 % (classes - 1)) % classes if place % 4 == 3 else label
              for place, label in enumerate(right)]  # fmt: skip
    torch.manual_seed(seed)
    model = small_cnn(task.channels, classes).to(device)
    loader: DataLoader = DataLoader(
        [(image, label) for (image, _), label in zip(pairs, stored, strict=True)],  # type: ignore[arg-type]
        batch_size=min(64, len(pairs)),
        shuffle=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
        augment=[Normalize(MEAN, STD)],
        reweight=SAFLEX(
            model, Subset(task.train(plain(task)), chosen[::6]), validation_batch=min(64, len(chosen[::6]))
        ),
        seed=seed,
        device=device,
    )
    recorder = Recorder(loader)
    criterion = Loss(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(_EPOCHS):
        for images, target in tqdm(loader, desc=f"SAFLEX, epoch {epoch + 1}/{_EPOCHS}", leave=False):
            loss = criterion(model(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    recorder.stop()
    mean = recorder.weight_sum / recorder.weight_count.clamp_min(1)
    places = [place for place in range(len(pairs)) if place % 4 in (0, 3)][:shown]
    captions = []
    for place in places:
        wrong = stored[place] != right[place]
        said = f" (wrong: {task.classes[right[place]]})" if wrong else " (right)"
        captions.append(f"label {task.classes[stored[place]]}{said}\nmean weight {float(mean[place]):.2f}")
    return torch.stack([pairs[place][0] for place in places]), captions
