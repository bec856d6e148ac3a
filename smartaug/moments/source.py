"""Where augmented images come from: the nodes of an augmentation, or draws of it; by blocks that fit in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import draws
from ..augment import Augmentation, Compose
from ..augment.augmentation import check_images
from ..augment.foreign import Foreign
from ..augment.plan import Plan
from ..augment.steps import Step, keyed, run_step
from ..pipeline.stages import as_steps, name_of
from .nodes import Nodes, nodes

MEMORY = 1 << 30  # bytes
NODES = 1024
_CACHED = 1 << 25  # largest block in bytes: larger ones do not fit in the processor's cache, and are no faster


# what augment= takes; None leaves images as they are
AugmentLike = Augmentation | Callable[..., Tensor] | Sequence[Augmentation | Callable[..., Tensor]] | None


class Source(ABC):
    """S versions of every image, weighted: what all moments are sums over.

    weights: (S,) float64, sum to 1. check: (S,) weights of a coarser rule on the same versions, or None. exact: whether
    the versions are all possible outcomes of the augmentation. drawn: whether they are independent random draws.
    """

    weights: Tensor
    check: Tensor | None = None
    exact = False
    drawn = False

    def __init__(self, images: Tensor, memory: int) -> None:
        self.images, self.memory = images, memory

    def __len__(self) -> int:
        return len(self.weights)

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """(versions, images (b, s, C, H, W)) of the images ``first`` to ``last``, in blocks that fit in memory."""
        images = self.images[first:last]
        each = 20 * max(1, images.numel())  # bytes a version: as it comes, as float, and squares of it
        rows = max(1, min(self.memory // 4, _CACHED) // each)
        for start in range(0, len(self), rows):
            block = slice(start, min(start + rows, len(self)))
            made = self.made(images, first, block)
            yield block, made.view(len(images), block.stop - start, *made.shape[1:])

    def chunks(self, width: int) -> Iterator[tuple[int, int]]:
        """Ranges of images so small that ``width`` bytes for each of them fit in memory; one image at least."""
        count = max(1, self.memory // max(1, width))
        for first in range(0, len(self.images), count):
            yield first, min(first + count, len(self.images))

    @abstractmethod
    def made(self, images: Tensor, first: int, block: slice) -> Tensor:
        """The versions ``block`` of ``images``, the first of which is number ``first``: (b · s, C, H, W)."""

    @abstractmethod
    def describe(self, version: int) -> str:
        """What version number ``version`` is, in words."""


class PlannedSource(Source):
    """The nodes of a plan-based augmentation."""

    def __init__(self, augment: Augmentation, images: Tensor, limit: int, memory: int) -> None:
        super().__init__(images, memory)
        self.augment = augment
        self.nodes: Nodes = nodes(augment, images.shape[1:], limit)
        self.weights, self.exact = self.nodes.weights, self.nodes.exact
        self.check = None if self.exact else self.nodes.check

    def made(self, images: Tensor, first: int, block: slice) -> Tensor:
        """See `Source.made`."""
        count = block.stop - block.start
        plan = self.nodes.plan.rows(torch.arange(block.start, block.stop).repeat(len(images)))
        return self.augment.apply(repeated(images, count), plan)

    def describe(self, version: int) -> str:
        """See `Source.describe`."""
        return self.nodes.plan.trace.describe(version)


class DrawnSource(Source):
    """Independent draws of any stages."""

    drawn = True

    def __init__(self, steps: list[Step], images: Tensor, count: int, seed: int, memory: int) -> None:
        super().__init__(images, memory)
        self.steps, self.seed = steps, seed
        self.weights = torch.full((count,), 1.0 / count, dtype=torch.float64)
        self._apart = any(isinstance(step, Foreign) for step in steps)  # foreign stages may draw once for a whole batch

    def made(self, images: Tensor, first: int, block: slice) -> Tensor:
        """See `Source.made`."""
        rows = torch.arange(first, first + len(images))[:, None]
        index = rows + (torch.arange(block.start, block.stop) << 32)
        if self._apart:
            made = [self._run(images, draws.key(self.seed, 0, column)) for column in index.unbind(1)]
            return torch.stack(made, 1).flatten(0, 1)
        return self._run(repeated(images, index.shape[1]), draws.key(self.seed, 0, index.flatten()))

    def _run(self, images: Tensor, key: Tensor) -> Tensor:
        for step, own in keyed(self.steps, key):
            images, _ = run_step(step, images, own)
        return images

    def describe(self, version: int) -> str:
        """See `Source.describe`."""
        return f"draw {version}"


def source(augment: AugmentLike, images: Tensor, limit: int, memory: int, count: int | None, seed: int) -> Source:
    """The versions of ``images`` (B, C, H, W): ``count`` draws, or None for at most ``limit`` nodes.

    Raises TypeError naming the stage that has no plan (unless it is drawn from) or that mixes samples, ValueError for
    numbers that make no sense.
    """
    check_images(images)
    for name, number in (("nodes", limit), ("memory", memory), ("draws", 2 if count is None else count)):
        least = 2 if name == "draws" else 1
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {number!r}")
    steps: list[Any] = as_steps(augment)
    for step in steps:
        refuse_mixing(step, images)
    if count is not None:
        return DrawnSource(steps, images.detach(), count, seed, memory)
    for step in steps:
        if isinstance(step, Foreign) or _noisy(step, images):
            why = "has no plan" if isinstance(step, Foreign) else "draws noise for every pixel: it has no plan"
            raise TypeError(
                f"{name_of(step)} {why} that could be integrated over; take random draws and read the error bar: "
                "moments.of(augment, images, draws=1000).error, or loss_moments(..., draws=1000)"
            )
    return PlannedSource(steps[0] if steps else Compose([]), images.detach(), limit, memory)


def _noisy(step: Augmentation, images: Tensor) -> bool:
    return any(segment.draws_noise for segment in _planned(step, images, 1).segments)


def _planned(step: Augmentation, images: Tensor, rows: int) -> Plan:
    """A plan of ``step`` for that many images."""
    return step.plan((rows, *images.shape[1:]), index=torch.arange(rows), seed=0)


def refuse_mixing(step: object, images: Tensor) -> None:
    """Raise a TypeError when ``step`` needs the other samples of a batch."""
    parts: Iterable[object] = step if isinstance(step, Compose) else [step]
    for part in parts:
        if isinstance(part, Compose):
            refuse_mixing(part, images)
        elif isinstance(part, Augmentation) and _planned(part, images, 2).from_others:
            raise TypeError(
                f"{name_of(part)} mixes each image with others of its batch, so it has no moments for one image; "
                "leave it out"
            )


def repeated(images: Tensor, count: int) -> Tensor:
    """Each image ``count`` times in a row: (b · count, C, H, W)."""
    return images[:, None].expand(-1, count, *images.shape[1:]).reshape(-1, *images.shape[1:])
