"""Augmenting only some samples of a batch, while the others still fit into it.

What: the selected samples are augmented as a batch of their own. The others are not augmented but must still fit into
the same batch, so they are resized where a step changes the size, normalised and cast; transforms that `lift` took out
of the dataset run on all samples, since the dataset always applied them. When: ``Coreset(apply="augment")`` and
``apply="append"``. Cost: the augmentation of the selected samples, resizing and casting the others, one copy of the
batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .augmentation import Augmentation
from .foreign import Foreign
from .mixing import Parts
from .ops.compose import Compose
from .plan import Plan, Segment, Trace, Warp

_FOR_ALL = ("Normalize", "Denormalize", "Resize", "CenterCrop", "ToDtype", "ConvertImageDtype", "ToPureTensor")


def plain(plan: Plan, rows: int) -> Plan:
    """A plan for ``rows`` samples that are not augmented, which gives them the size and dtype that ``plan`` makes.

    Each change of size in ``plan`` becomes a resize of the whole image; segments for all samples (`Store`) are kept.
    """
    if len(plan.shape) != 4:  # rows of features, which no step resizes
        return Plan((rows, *plan.shape[1:]), (), Trace.empty(rows))
    height, width = plan.shape[2:]
    segments: list[Segment] = []
    for segment in plan.segments:
        size = segment.output_size(height, width)
        if size != (height, width):
            segments.append(_resized(rows, height, width, size))
        if segment.for_all:
            segments.append(segment)
        height, width = size
    return Plan((rows, *plan.shape[1:]), tuple(segments), Trace.empty(rows))


class Plain(Augmentation):
    """The counterpart of ``step`` for samples that are not augmented: its sizes and types, none of its operations."""

    def __init__(self, step: Augmentation) -> None:
        self.step, self.backend, self.takes_rows = step, step.backend, step.takes_rows

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """A plan that resizes, normalises and casts as the step's own plan, and nothing else."""
        if self.step.reads_labels:  # which rows alone have, and keeps their size
            return Plan(tuple(shape), (), Trace.empty(shape[0]))
        return plain(self.step.sample(shape, key), shape[0])


def beside(step: Augmentation | Foreign, lifted: Sequence[object]) -> Augmentation | Foreign | None:
    """The stage for the samples of a batch that ``step`` does not augment, or None.

    Parts of ``step`` that are in ``lifted`` stay, with the same draws; every other part is replaced by its `Plain`
    counterpart. None for a foreign stage that was not lifted, which has no counterpart.
    """
    if isinstance(step, Foreign):
        return step if any(step is one for one in lifted) else None
    if isinstance(step, Compose):
        parts = [part if any(part is one for one in lifted) else Plain(part) for part in step]
        return Compose(parts, backend=step.backend)
    return step if any(step is one for one in lifted) else Plain(step)


def _resized(rows: int, height: int, width: int, size: tuple[int, int]) -> Warp:
    """The whole image resampled to ``size``, bilinearly."""
    across, down = width / size[1], height / size[0]
    matrix = torch.tensor(
        [[across, 0.0, across / 2 - 0.5], [0.0, down, down / 2 - 0.5]], dtype=torch.float64, device="cpu"
    )
    return Warp(matrix.expand(rows, -1, -1).contiguous(), size, "bilinear", padding="edge")


def plain_foreign(stage: Foreign, images: Tensor, key: Tensor) -> Tensor:
    """Images (B, C, H, W) that a foreign stage does not augment, prepared to join those that it does.

    A stage that only prepares images (by its name, such as ``Resize`` or ``Normalize``) runs on them, too. Of a Kornia
    stage only the conversion of uint8 to floats in [0, 1] is repeated; other stages leave them unchanged.
    """
    if stage.name in _FOR_ALL:
        return stage(images, key) if len(images) else images
    unit = stage.wants_unit_floats and images.dtype == torch.uint8
    return images.to(torch.float32) / 255.0 if unit else images


def check_fit(name: str, images: Tensor, others: Tensor) -> None:
    """Raise a ValueError unless augmented images and the others have the same shape and dtype, as a batch needs."""
    if len(images) and len(others) and (images.shape[1:] != others.shape[1:] or images.dtype != others.dtype):
        raise ValueError(
            f"{name} makes {images.dtype} {tuple(images.shape[1:])} and samples that are not selected stay "
            f"{others.dtype} {tuple(others.shape[1:])}; change size and type in the dataset, or with "
            "smartaug.RandomResizedCrop and smartaug.Normalize"
        )


def together(images: Tensor, others: Tensor, rows: Tensor, other_rows: Tensor) -> Tensor:
    """One batch: ``images`` at its rows (s,), ``others`` at the other rows, both int64 on the CPU."""
    whole = images if len(images) else others  # an empty part does not have the final size and dtype
    batch = whole.new_empty(len(images) + len(others), *whole.shape[1:])
    for part, where in ((images, rows), (others, other_rows)):
        if len(part):
            batch.index_copy_(0, where.to(batch.device, non_blocking=True), part)
    return batch


def widened(plan: Plan, rows: Tensor, batch: int) -> Plan:
    """A plan for all ``batch`` rows with the mixes and the trace of ``plan``, which labels and policies read.

    ``plan`` was made for the samples at ``rows`` (s,) int64. The others are not mixed, and their trace is Identity,
    even where lifted transforms changed them.
    """
    mixes = []
    for mix in plan.mixes:
        taken, of = mix.parts()
        row = torch.arange(batch, device="cpu")[:, None].repeat(1, taken.shape[1])
        share = torch.zeros(batch, taken.shape[1], dtype=of.dtype, device="cpu")
        share[:, 0] = 1.0
        row[rows], share[rows] = rows[taken], of
        mixes.append(Parts(row, share))
    names = plan.trace.names if "Identity" in plan.trace.names else (*plan.trace.names, "Identity")
    ops = torch.full((batch, plan.trace.ops.shape[1]), names.index("Identity"), device="cpu")
    magnitudes = torch.zeros(batch, plan.trace.ops.shape[1], device="cpu")
    ops[rows], magnitudes[rows] = plan.trace.ops, plan.trace.magnitudes
    return Plan((batch, *plan.shape[1:]), tuple(mixes), Trace(ops, magnitudes, names))
