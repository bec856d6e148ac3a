"""The picture of a batch that ``loader.show()`` and `smartaug.plots.batch` write."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import IterableDataset

from ..._base import leaves
from ..._base.input_leaves import images_of
from ...augment import Augmentation
from ...augment.plan import Plan, Store
from ...batch import Batch, Target
from ...lift.deferred.collecting import Unfinished, apart
from ...pipeline.choosing import Choosing
from ...pipeline.decoded_files import with_pixels
from ...pipeline.epochs import EpochProgress
from ...pipeline.pipeline import Pipeline
from ...pipeline.readers import Readers
from .grid import image_grid, shown_as_picture
from .words import makers, received

Loader = Any  # a `smartaug.DataLoader`, or what `smartaug.wrap` returns
_BATCH = 64  # for a loader without a batch size


class Picture(type(Path())):  # type: ignore[misc]  # of this system's kind: PosixPath or WindowsPath
    """The path of a written picture; a notebook shows the picture itself."""

    def _repr_png_(self) -> bytes | None:
        return self.read_bytes() if self.suffix.lower() == ".png" else None


class _Stored(NamedTuple):
    """A batch before the stages. rows: dataset index of each row, None for a stream; unfinished: as in `Pending`."""

    data: leaves.Structure
    rows: list[int] | None
    unfinished: Unfinished | None

    def images(self) -> Tensor:
        """(B, C, H, W). Raises ValueError where there are none."""
        lifted = self.unfinished is not None and self.unfinished.images
        found = images_of(leaves.get(self.data, lifted[0]) if lifted else self.data)
        if found is None:
            raise ValueError("the batch has no images (B, C, H, W) to show")
        return found


def show(loader: Loader, path: str | Path, count: int) -> Picture:
    """See `plots.batch`."""
    pipeline = getattr(loader, "_pipeline", None)
    if pipeline is None:
        raise ValueError("the loader has no stages to show; give it lift=, augment= or reweight=")
    caught: list[tuple[Batch, list[Plan]]] = []
    with _untouched(pipeline):
        batch = _stored_batch(loader)
        data, unfinished = with_pixels(batch.data, batch.unfinished, torch.device("cpu"))
        batch = batch._replace(data=data, unfinished=unfinished)
        stored = batch.images()
        pipeline.watchers.append(lambda made, plans, _: caught.append((made, plans)))
        progress = EpochProgress(max(pipeline.epochs.epoch, 0), 0)
        pipeline.run(batch.data, batch.rows, progress, unfinished=batch.unfinished)
    found, plans = caught[0]
    views = found.inputs if isinstance(found.inputs, list) else [found.inputs]
    ran = pipeline.augmenting if apart(batch.unfinished)[0] is not None else pipeline.augmenting_finished
    columns = _columns(ran.steps, plans, tuple(stored.shape))
    count, dataset = min(count, len(stored)), getattr(loader, "dataset", None)
    rows = list(range(len(stored))) if batch.rows is None else batch.rows
    captions = [_stored(rows, row, found.target, dataset) for row in range(count)]
    tiles = list(shown_as_picture(stored[:count]))
    for number, view in enumerate(views):
        own = plans[number * len(columns) : (number + 1) * len(columns)]
        tiles += list(denormalised(view[:count], own))
        for row in range(count):
            drawn = [words for plan, by in zip(own, columns, strict=True) for words in received(plan, row, by, rows)]
            weighed = _weighed(found, row, dataset) if number == len(views) - 1 else []
            captions.append("\n".join([*(drawn or ["as it is"]), *weighed]))
    title = "above: as the workers hand it over; below: after the stages"
    return Picture(image_grid(_one_size(tiles), captions, path, columns=count, title=title, side=2.0))


def _stored_batch(loader: Loader) -> _Stored:
    """Samples spread evenly over the dataset, collated as in the loader; of a stream the first batch of a new pass."""
    dataset: Any = getattr(loader, "dataset", None)  # the user's own
    size = getattr(loader, "batch_size", None) or _BATCH
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        batches = getattr(loader, "loader", None)  # what `wrap` was given
        if batches is None:
            batches = TorchDataLoader(loader.dataset, size, collate_fn=loader.collate_fn)
        rows = None
    elif loader.batch_sampler is None:
        raise ValueError(
            "a loader with batch_size=None gives what its sampler asks for, which is not known beforehand: show a "
            "loader of the same dataset with batch_size=64"
        )
    else:
        rows = torch.linspace(0, len(dataset) - 1, min(len(dataset), size)).long().tolist()
        batches = TorchDataLoader(dataset, batch_sampler=[rows], collate_fn=loader.collate_fn)
    first = next(iter(batches))
    if hasattr(first, "unfinished"):  # a `Pending`
        return _Stored(first.data, first.source.index, first.unfinished)
    return _Stored(first, rows, None)


@contextmanager
def _untouched(pipeline: Pipeline) -> Iterator[None]:
    """Restore counts, stages, watchers and the global random generators at exit."""
    kept = dict(pipeline.counts), pipeline.seconds, pipeline.watchers, pipeline.labelling, pipeline.readers
    choosing, pipeline.choosing = pipeline.choosing, Choosing(None)  # the picture shows what was read
    seeded = pipeline.seed.value  # None: it is still to be read, which state_dict does
    state, python, numpy = pipeline.state_dict(), random.getstate(), np.random.get_state()
    pipeline.watchers, pipeline.labelling, pipeline.readers = [], copy.deepcopy(pipeline.labelling), Readers()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            pipeline.choosing = choosing
            pipeline.load_state_dict(state)
            pipeline.seed.value = seeded
            counts, pipeline.seconds, pipeline.watchers, pipeline.labelling, pipeline.readers = kept
            pipeline.counts.update(counts)
            random.setstate(python)
            np.random.set_state(numpy)


def _columns(steps: Sequence[object], plans: list[Plan], shape: tuple[int, ...]) -> list[list[Augmentation]]:
    """For each step that has plans, the augmentation of each column in its trace."""
    planned = [step for step in steps if isinstance(step, Augmentation)]
    shapes = [plan.shape for plan in plans[: len(planned)]] or [shape]
    return [makers(step, own) for step, own in zip(planned, shapes, strict=False)]


def denormalised(images: Tensor, plans: list[Plan]) -> Tensor:
    """Images (B, C, H, W) as floats in [0, 1], the last `Normalize` of the stages inverted."""
    last = next((s for plan in reversed(plans) for s in reversed(plan.segments) if isinstance(s, Store)), None)
    if last is None or not images.is_floating_point():
        return shown_as_picture(images)
    mean, std = (torch.tensor(part).view(1, -1, 1, 1) for part in (last.mean, last.std))
    return (images.detach().cpu().float() * std + mean).clamp(0, 1)


def _one_size(tiles: list[Tensor]) -> Tensor:
    """Images (C, H, W), scaled to the largest height and width, with equal numbers of channels: (N, C, H, W)."""
    height, width = (max(tile.shape[n] for tile in tiles) for n in (1, 2))
    channels = max(tile.shape[0] for tile in tiles)
    scaled = [torch.nn.functional.interpolate(tile[None], (height, width), mode="nearest")[0] for tile in tiles]
    return torch.stack([tile.expand(channels, -1, -1) for tile in scaled])


def _name(dataset: object, number: int) -> str:
    classes = getattr(dataset, "classes", None)
    if classes is None and hasattr(dataset, "dataset"):  # a `Subset`
        return _name(dataset.dataset, number)
    if isinstance(classes, (list, tuple)) and 0 <= number < len(classes):
        return str(classes[number])
    return f"class {number}"


def _stored(rows: list[int], row: int, target: Any, dataset: object) -> str:
    plain = target.plain if isinstance(target, Target) else target
    one = isinstance(plain, Tensor) and plain.ndim == 1 and not plain.is_floating_point() and len(plain) > row
    return f"sample {rows[row]}" + (f": {_name(dataset, int(plain[row]))}" if one else "")


def _weighed(batch: Batch, row: int, dataset: object) -> list[str]:
    """Weight and soft label of a row, in words."""
    words = []
    if batch.weight is not None:
        words.append(f"weight {float(batch.weight[row]):.2f}")
    if batch.soft is not None:
        soft = batch.soft[row].float().cpu()
        likely = [int(k) for k in soft.argsort(descending=True, stable=True)[:2] if float(soft[k]) >= 0.005]
        words.append(", ".join(f"{_name(dataset, k)} {float(soft[k]):.2f}" for k in likely))
    return words
