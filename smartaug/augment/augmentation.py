"""`Augmentation`, the base class: a subclass draws a plan in `sample`, and everything else is done here.

`Batched` holds the part that needs no plan, which is drawing for each sample from a stream of its own and the call on a
batch; `lift.lifted.Stages` uses it for a chain of steps whose plans cannot be one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast, overload

import numpy as np
import torch
from torch import Tensor

from .. import draws
from .._base.names import SuggestsKeywords
from . import backends, one_size, rows
from .labels import mix_labels
from .plan import Plan
from .samples import drawing_for, on_cpu
from .unequal import UnequalPlan

Cuts = dict[draws.Slot, Sequence[float]]


def equal_cuts(outcomes: int) -> list[float]:
    """The points between ``outcomes`` equally likely outcomes."""
    return [n / outcomes for n in range(1, outcomes)]


class Batched(ABC):
    """A callable on a batch of images that draws for each sample from a random stream of its own (see `draws`)."""

    _calls = 0  # rows seen without an index

    @abstractmethod
    def _keyed(
        self, images: Any, target: Tensor | None, key: Tensor, index: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The augmented images and labels (None where none are given), drawn from the stream keys (B,)."""

    def _keys(self, rows: int, index: Tensor | None, epoch: int, seed: int | None, view: int) -> Tensor:
        """The stream keys (rows,); raises ValueError when index does not have as many entries."""
        if index is None:
            index = torch.from_numpy(np.arange(self._calls, self._calls + rows))
            self._calls += rows
        if index.shape != (rows,):
            raise ValueError(
                f"plan: index has shape {tuple(index.shape)} for a batch of {rows}; pass one dataset index a sample"
            )
        seed = torch.initial_seed() if seed is None else seed
        with on_cpu():
            return draws.key(seed, epoch, index.cpu(), view)

    def _takes(self, given: object) -> bool:
        """Whether a batch that is no images can be augmented: rows (B, F), by what mixes."""
        return False

    @overload
    def __call__(
        self,
        images: Tensor | Sequence[Tensor],
        target: None = None,
        *,
        index: Tensor | None = None,
        epoch: int = 0,
        seed: int | None = None,
        view: int = 0,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        images: Tensor | Sequence[Tensor],
        target: Tensor,
        *,
        index: Tensor | None = None,
        epoch: int = 0,
        seed: int | None = None,
        view: int = 0,
    ) -> tuple[Tensor, Tensor]: ...

    def __call__(
        self,
        images: Tensor | Sequence[Tensor],
        target: Tensor | None = None,
        *,
        index: Tensor | None = None,
        epoch: int = 0,
        seed: int | None = None,
        view: int = 0,
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """Augment images; with ``target`` given return (images, target), mixed labels carried in `Target.soft`.

        images: (B, C, H, W), or a list of (C, H, W) of unequal size where a crop or resize makes them equal.
        """
        if not self._takes(images):
            check_images(images)
        images, mixed = self._keyed(images, target, self._keys(len(images), index, epoch, seed, view), index)
        return images if target is None else (images, mixed)


class Augmentation(Batched, SuggestsKeywords):
    """A random operation on a batch of images, drawn per sample: ``sample`` a plan, then execute it.

    >>> aug = smartaug.Flip()
    >>> aug(images)                                         # images, a running counter as index
    >>> aug(images, target, index=index, epoch=3, seed=0)   # (images, target), a pure function of its arguments
    >>> plan = aug.plan(images.shape, index=index, epoch=3, seed=0)
    >>> aug.apply(images, plan)                             # the same again
    """

    num_classes: int | None = None  # the width of soft labels where the augmentation mixes samples; 0: a regression
    backend: str | None = None
    mixes: bool = False  # whether it makes a sample of several, so that labels must follow
    takes_rows: bool = False  # whether it also augments rows (B, F) and sequences (B, T, F), see `rows`
    averages: bool = False  # whether it averages values of samples, which numbers of categories do not take
    takes_images: bool = True  # False: rows and sequences alone
    takes_unequal: bool = False  # whether it makes images of any sizes equal, and plans unequal ones, see `unequal`
    reads_labels: bool = False  # whether its plan depends on the labels, and so is drawn for each batch, see `plan_of`

    def __init__(self, *, backend: str | None = None) -> None:
        """backend: "torch", "numba" or "triton" to execute plans with, or None for the fastest there is.

        One backend executes a plan, so inside `Compose` and the combinators that of the outermost counts.
        Raises ValueError on another name, ImportError for what is not installed.
        """
        if backend is not None:
            self.backend = backends.check_backend(backend)

    @abstractmethod
    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw a plan for images of ``shape`` (B, C, H, W) from the stream keys (B,) of their rows (see `draws`)."""

    def plan_of(self, rows: Sequence[Tensor], labels: Tensor | None, key: Tensor) -> Plan:
        """The plan of one batch of ``rows``, several where a sample consists of several tables (see `rows`).

        It is a function of shape and keys alone, but where `reads_labels`: then also of the rows and their labels (B,).
        """
        return self.sample(rows_shape(rows), key)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """The uniform draws of `sample` that choose among finitely many outcomes, for `moments`.

        For images of ``shape`` (B, C, H, W): slot -> the points in (0, 1) that separate the outcomes. Between two
        neighbouring points the plan must not change while all other draws stay the same. `moments` enumerates the
        outcomes of these draws and integrates over all others. Draws by `draws.integers` are known and need not be
        listed.
        """
        return {}

    def plan(
        self,
        shape: Sequence[int],
        *,
        index: Tensor | None = None,
        epoch: int = 0,
        seed: int | None = None,
        view: int = 0,
    ) -> Plan:
        """The plan for images of ``shape`` (B, C, H, W): a pure function of seed, epoch, view and index (B,) int64.

        index=None: a running counter of this object, so that calls differ. seed=None: `torch.initial_seed()`.
        Raises ValueError when shape is not four numbers or index does not have B entries.
        """
        shape = tuple(int(length) for length in shape)
        if not self._plans(len(shape)):
            raise ValueError(f"plan: shape must be (B, C, H, W), got {shape}; add a batch dimension: images[None]")
        key = self._keys(shape[0], index, epoch, seed, view)
        with on_cpu(), drawing_for(None if index is None else index.cpu()):
            return self.sample(shape, key)

    def _plans(self, dimensions: int) -> bool:
        """Whether it augments batches of so many dimensions: a picture without a batch dimension has three, too."""
        if not self.takes_images:
            return dimensions in (2, 3)
        return dimensions == 4 or (self.takes_rows and dimensions == 2)

    def _takes(self, given: object) -> bool:
        if not self.takes_images and not (isinstance(given, Tensor) and self._plans(given.ndim)):
            what = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
            raise TypeError(f"{type(self).__name__} needs rows (B, F) or sequences (B, T, F), got {what}")
        if isinstance(given, (list, tuple)) and given and all(isinstance(g, Tensor) and g.ndim == 3 for g in given):
            check_list(given, self)
            return True
        return isinstance(given, Tensor) and given.ndim != 4 and self._plans(given.ndim)

    def apply(self, images: Tensor, plan: Plan) -> Tensor:
        """Images (B, C, H, W) after ``plan``; same device, memory format and, but for `Normalize`, dtype."""
        of_rows = self.takes_rows and len(plan.shape) != 4
        if not of_rows:
            check_images(images)
        if tuple(images.shape) != plan.shape:
            raise ValueError(f"apply: the plan was made for images {plan.shape}, got {tuple(images.shape)}")
        return rows.execute(plan, images) if of_rows else backends.execute(plan, images, self.backend)

    def explain(self, plan: Plan, images: Tensor | Sequence[Tensor]) -> tuple[backends.Choice, ...]:
        """Which backend runs each segment of ``plan`` on images like these, and why; nothing is executed."""
        if isinstance(plan, UnequalPlan):
            return backends.explain_unequal(plan, cast(Sequence[Tensor], images), self.backend)
        return backends.explain(plan, cast(Tensor, images), self.backend)

    @property
    def makes_equal(self) -> bool:
        """Whether a list of images of unequal size becomes one batch."""
        return self.takes_unequal

    def unequal_parts(self, key: Tensor) -> one_size.Keyed:
        """What runs before images are of one size, and what from there on, with the keys (B,) of their draws."""
        return one_size.Keyed([], [(self, key)])

    def _keyed(
        self, images: Any, target: Tensor | None, key: Tensor, index: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if isinstance(images, (list, tuple)):
            images, made, _ = one_size.run(self, images, key, index)
            plan: Plan = made
        else:
            with on_cpu(), drawing_for(None if index is None else index.cpu()):
                plan = self.plan_of([images], target, key)
            images = self.apply(images, plan)
        return images, None if target is None else mix_labels(target, plan, num_classes=self.num_classes, index=index)

    def __repr__(self) -> str:
        settings = (f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(settings)})"


def rows_shape(rows: Sequence[Tensor]) -> tuple[int, ...]:
    """The shape that a plan is drawn for: of one tensor its own; of several tables (B, F) that of all columns."""
    first = rows[0]
    return tuple(first.shape) if len(rows) == 1 else (len(first), sum(table.shape[1] for table in rows))


def check_images(images: object) -> None:
    """Raise a TypeError or ValueError that says what is wanted unless images are (B, C, H, W) uint8 or float."""
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a torch.Tensor (B, C, H, W), got {type(images).__name__}")
    if images.ndim != 4:
        raise ValueError(
            f"images must have shape (B, C, H, W), got {tuple(images.shape)}; "
            + ("add the batch dimension: images[None]" if images.ndim == 3 else "reshape them to four dimensions")
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(
            f"images must be uint8 (0–255) or floating point, got {images.dtype}; convert them: "
            + (
                "images.float() / 65535"
                if images.dtype == torch.uint16
                else "to floats in [0, 1] by the range that they have, such as images.float() / 4095; only values that "
                "all lie in 0..255 survive images.to(torch.uint8)"
            )
        )


def check_list(images: Sequence[Tensor], step: Augmentation) -> None:
    """Raise a TypeError or ValueError unless images (C, H, W) are of one kind, and ``step`` makes them equal."""
    for image in images:
        check_images(image[None])
    kinds = {(str(image.dtype)[6:], image.shape[0]) for image in images}
    if len(kinds) > 1:
        shown = " and ".join(f"{dtype} with {channels} channels" for dtype, channels in sorted(kinds))
        raise ValueError(
            f"a list of images must have one type and number of channels, got {shown}; convert them before"
        )
    if not step.makes_equal:
        raise ValueError(
            f"{type(step).__name__} does not make images of unequal size equal; write smartaug.Compose(["
            f"smartaug.RandomResizedCrop(224), ...]), or give it a batch of each size: torch.stack(images)"
        )


def check_probability(p: float, name: str = "p") -> float:
    """``p`` as a float, or a ValueError naming the argument unless 0 ≤ p ≤ 1."""
    if not isinstance(p, (int, float)) or not 0.0 <= p <= 1.0:
        raise ValueError(f"{name} must be a probability in [0, 1], got {p!r}")
    return float(p)
