"""``smartaug inspect``: the effect of a pipeline on images, as a picture; with ``--moments`` also as numbers."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader as TorchDataLoader
from tqdm import tqdm

from ... import augment as augmentations
from ... import moments
from ..._base.names import did_you_mean
from ..._base.text_tables import figures_table
from ...augment import Augmentation, Compose, Normalize
from ...loading.dataloader import DataLoader
from ...loading.pictures.grid import image_grid
from ...loss import Loss
from ...pipeline.stages import checked_device, flattened
from ..demo.command import train
from ..demo.task import MEAN, STD, Task, digits_task, folder_task
from .own import inspect_own

Indexed = Any  # a dataset with indices and a length
_DEFAULT = "PadCrop(1), RandAugment(2, 9), Erase(0.25)"
_TRAINED_ON = 2000  # images of a folder that the small network sees


def pipeline(text: str) -> dict[str, Augmentation]:
    """Text -> augmentation, of ``"PadCrop(4), Flip(0.5)"`` or the like: classes of `smartaug.augment` with literals.

    The text is parsed, not evaluated. Raises ValueError for anything else.
    """
    try:
        body = ast.parse(text.strip() or "()", mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"--augment {text!r} cannot be read: {error.msg}; write 'PadCrop(4), Flip()'") from error
    nodes = body.elts if isinstance(body, (ast.Tuple, ast.List)) else [body]
    if not nodes:
        raise ValueError("--augment names no augmentation; write --augment 'PadCrop(4), Flip()'")
    stages: dict[str, Augmentation] = {}
    for node in nodes:
        title = ast.unparse(node)
        stages[title if title not in stages else f"{title}, again"] = _stage(node)
    if len(stages) < len(nodes):
        raise ValueError(f"--augment {text!r} names a stage three times; leave one out")
    return stages


def _stage(node: ast.expr) -> Augmentation:
    shown = ast.unparse(node)
    names = sorted(name for name in augmentations.__all__ if name != "Augmentation")
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in names:
        called = node.func if isinstance(node, ast.Call) else node
        meant = did_you_mean(called.id, names) if isinstance(called, ast.Name) else ""
        raise ValueError(f"--augment: {shown!r} is not one of {', '.join(names)}, called with its arguments{meant}")
    if node.func.id == "Compose":
        if len(node.args) != 1 or node.keywords or not isinstance(node.args[0], (ast.List, ast.Tuple)):
            raise ValueError(f"--augment: {shown!r} must be Compose([...])")
        return Compose([_stage(part) for part in node.args[0].elts])
    try:
        arguments = [ast.literal_eval(part) for part in node.args]
        named = {part.arg: ast.literal_eval(part.value) for part in node.keywords if part.arg is not None}
    except ValueError as error:
        raise ValueError(f"--augment: the arguments of {shown!r} must be plain values") from error
    if len(named) < len(node.keywords):
        raise ValueError(f"--augment: the arguments of {shown!r} must be plain values")
    try:
        made: Augmentation = getattr(augmentations, node.func.id)(*arguments, **named)
    except TypeError as error:
        raise ValueError(f"--augment: {shown}: {error}") from error
    return made


def run(
    target: str | None = None,
    *,
    data: str | None = None,
    augment: str | None = None,
    moments: bool = False,
    images: int = 4,
    nodes: int = 1024,
    epochs: int | None = None,
    device: str | None = None,
    seed: int = 0,
    out: str = "smartaug-inspect.png",
) -> Path:
    """Write the picture and print what it shows; the command ``smartaug inspect``. Returns the picture's path."""
    if target is not None:
        if augment is not None or moments:
            raise ValueError("--augment and --moments go with --data; what you named has its own operations")
        _check_out(out)
        return inspect_own(target, data, images, seed, out)
    stages = pipeline(_DEFAULT if augment is None else augment)
    parts = flattened(stages.values())
    if any(isinstance(stage, Normalize) for stage in parts):
        raise ValueError("--augment: leave Normalize out, pictures are shown before it")
    if moments and any(getattr(stage, "mixes", False) for stage in parts):
        raise ValueError("--moments: MixUp, CutMix and Mosaic mix images with others, so none has moments of its own")
    _check_out(out)
    try:
        where = checked_device(device or "cpu")
    except ValueError as error:
        raise ValueError(f"--device: {error}") from error
    task = digits_task() if data is None else folder_task(data, _TRAINED_ON, seed, flat=not moments)
    shown, labels = _examples(task, images)
    print(f"{task.name}; {', '.join(stages)}")
    if not moments:
        return _drawn(task, shown, labels, Compose(list(stages.values())), seed, out)
    model = _trained(task, list(stages.values()), epochs or (15 if data is None else 3), where, seed)
    return _moments(task, shown, labels, stages, model, nodes, out)


def _check_out(out: str) -> None:
    if not Path(out).resolve().parent.is_dir():
        raise FileNotFoundError(f"--out {out}: there is no folder {Path(out).resolve().parent} to write the picture to")


def _examples(task: Task, count: int) -> tuple[Tensor, Tensor]:
    """``count`` test images (count, C, H, W) uint8, spread over the data, and their labels (count,)."""
    from torchvision.transforms import v2

    dataset: Indexed = task.test(v2.PILToTensor())
    rows = torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().tolist()
    pairs = [dataset[row] for row in rows]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def _drawn(task: Task, images: Tensor, target: Tensor, stages: Compose, seed: int, out: str, columns: int = 8) -> Path:
    """A row for each image: as stored, then draws with the operations it received."""
    count, draws = len(images), columns - 1
    rows = images.repeat_interleave(draws, 0)
    plan = stages.plan(rows.shape, index=torch.arange(len(rows)), seed=seed)
    made = _sized(stages.apply(rows, plan), images)
    tiles, captions = [], []
    for row in range(count):
        tiles += [images[row : row + 1], made[row * draws : (row + 1) * draws]]
        captions.append(task.classes[int(target[row])])
        captions += [_folded(plan.trace.describe(row * draws + n)) for n in range(draws)]
    path = image_grid(torch.cat(tiles), captions, out, columns=columns, title="first column: as stored; then draws")
    print(f"picture: {path}")
    return path


def _folded(text: str, width: int = 24) -> str:
    """A caption in lines of about ``width`` characters, broken at commas."""
    lines = [""]
    for part in text.split(", "):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + part
    return "\n".join(lines)


def _sized(images: Tensor, like: Tensor) -> Tensor:
    """Images at the size of ``like``, for a common grid."""
    if images.shape[2:] == like.shape[2:]:
        return images
    return F.interpolate(images.float(), like.shape[2:], mode="nearest").to(images.dtype)


def _trained(task: Task, stages: list[Augmentation], epochs: int, device: torch.device, seed: int) -> nn.Module:
    """The demo's small network, trained with the pipeline."""
    from torchvision.transforms import v2

    normalize = v2.Normalize([MEAN] * task.channels, [STD] * task.channels)
    plain = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), normalize])
    loader: DataLoader = DataLoader(
        task.train(v2.PILToTensor()),
        batch_size=64,
        shuffle=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
        augment=[*stages, Normalize(MEAN, STD)],
        device=device,
        seed=seed,
    )
    if len(loader) == 0:
        raise ValueError(f"{task.name}: fewer than one batch of 64 to train a network on")
    test = TorchDataLoader(task.test(plain), batch_size=256)
    result = train("network", loader, Loss(nn.CrossEntropyLoss()), test, task, epochs, device, seed)
    print(
        f"a small network trained with it for {epochs} epochs: {100 * result.accuracy:.1f} % of the test images right"
    )
    return result.model


def _moments(
    task: Task, images: Tensor, target: Tensor, stages: dict[str, Augmentation], model: nn.Module, nodes: int, out: str
) -> Path:
    """For each stage and for all of them: mean, deviation and eigen-images; loss and draws needed."""
    tiles, captions, rows = [], [], [("", "loss", "deviation", "draws for 1 %", "transforms", "error of the mean")]
    named = [(name, [stage]) for name, stage in stages.items()]
    named += [("all", list(stages.values()))] if len(stages) > 1 else []
    where = next(model.parameters()).device
    for name, part in tqdm(named, desc="moments", leave=False, disable=None):
        found = moments.of(part, images.to(where), nodes=nodes)
        whole = [*part, Normalize(MEAN, STD)]
        mean, var = moments.loss_moments(
            model, nn.CrossEntropyLoss(), images.to(where), target.to(where), whole, nodes=nodes
        )
        needed = moments.samples_needed(mean, var)
        made = "" if found.exact else " (quadrature)"
        rows.append(
            (
                name,
                f"{mean.median():.3g}",
                f"{var.sqrt().median():.3g}",
                f"{int(needed.median()):,}",
                f"{found.size:,}{made}",
                f"{float(found.error.mean.max()):.1g}",
            )
        )
        for row in range(len(images)):
            losses = f"loss {mean[row]:.3g} ± {var[row].sqrt():.2g}\n{int(needed[row]):,} draws for 1 %"
            shown, said = _portrait(found, row)
            tiles += [images[row : row + 1].float() / 255, *(_sized(tile.cpu(), images) for tile in shown)]
            captions += [f"{name}: {task.classes[int(target[row])]}\n{losses}", *said]
    print(figures_table(rows))
    print("medians over the images shown; deviation: of one image's loss under the augmentation")
    title = "as stored, mean, standard deviation, and the directions in which the pipeline moves the image most"
    path = image_grid(torch.cat(tiles), captions, out, columns=6, title=title)
    print(f"picture: {path}")
    return path


def _portrait(found: moments.Moments, row: int) -> tuple[list[Tensor], list[str]]:
    """Mean, deviation and three eigen-images (1, C, H, W) in [0, 1] of one image, with captions."""
    mean, deviation = found.mean[row : row + 1], found.variance()[row : row + 1].sqrt()
    trace, count = float(found.trace()[row]), min(3, found.size, mean.numel())
    tiles = [mean / 255, deviation / deviation.max().clamp_min(1e-12)]
    captions = ["mean", f"deviation, at most {float(deviation.max()):.0f}"]
    values, vectors = found.top(count)
    for number in range(3):
        value = float(values[row, number]) if number < count else 0.0
        vector = vectors[row : row + 1, number] if number < count else torch.zeros_like(mean)
        tiles.append(0.5 + 0.5 * vector / vector.abs().max().clamp_min(1e-12))
        captions.append(f"{100 * value / trace if trace > 0 else 0.0:.0f} % of the variance")
    return tiles, captions
