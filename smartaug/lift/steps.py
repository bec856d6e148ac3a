"""The records `lift` makes of a pipeline: one `Step` per transform, and the `State` of the image between two of them.

**How to write a translator.** A library has one module here, with the library's name. The module is imported only when
a pipeline contains a transform of that library, so it may import the library. It has up to four functions:

* ``translate(transform, state) -> Step | None``: translates one transform whose input image is described by ``state``.
  Return `device` (it runs on the batch, as ``stage``), `folded` (it only converts: `State.converted`), `worker` (it
  stays per sample; give the reason), or None for a transform you do not know. The class of ``transform`` is always the
  library's own: a user's subclass, whose behaviour is unknown, is never passed.
* ``parts(transform) -> Sequence | None``: the transforms of a container that runs all of them in order; None for
  everything else. Random containers (a choice, a probability) belong in ``translate``, by way of `registry.several`.
* ``head(given, kept, last) -> callable``, optional: the part of the pipeline ``given`` that stays in the workers,
  called as ``given`` is: the transforms ``kept`` in order, then ``last`` on the image (`AsTensor`: PIL image or array
  (H, W, C) to tensor (C, H, W)). Without this function, ``kept`` run one after the other on the arguments that the
  dataset passes, as in torchvision.
* ``following(lifted, samples, size, device) -> Following``, optional: what moves the boxes, keypoints and masks of
  samples with their images, see `joint`. Without this function targets are not lifted.

**Units.** The user's numbers (a fill, a threshold) are in the units of the image at that place of the pipeline: grey
levels 0..255 at first, [0, 1] after ToTensor, any range after Normalize. The stored image, that is the tensor that is
really passed along, is converted only at the end. `State.values` converts a user's number to the units of the stored
image, or reports that the conversion must come first (``floats=True``: lift then converts the batch to floats there
and continues in the user's units). `State.tonal` is whether the user's image is in grey levels or [0, 1]; operations
on tones are defined only then.

**Sizes.** All images of a batch have one size. `State.size` is (height, width) where it is known. A transform whose
output size may differ between samples must be `worker` unless the input size is known; pass ``size=`` where the output
size is fixed.

**The cut.** A `worker` transform stays, together with everything before it. Each Step therefore also records the state
of the image after it (`Step.after`); `lift` does the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..augment import Augmentation, Compose
from ..augment.foreign import Foreign

Transform = Any  # a transform of a library that is not imported here, whose attributes are read
UserDataset = Any  # a dataset of any class, whose attributes are read and set
UNKNOWN_SIZE = (
    "the images before it may differ in size; where all are equal write smartaug.lift(dataset, size=(height, width))"
)
Scale = tuple[tuple[float, ...], tuple[float, ...]]
UNIT: Scale = ((0.0,), (1.0,))


@dataclass(frozen=True)
class State:
    """The image at one place of the pipeline: as the user's next transform expects it, and as it is stored.

    size: (height, width) in pixels, the same for all samples; None: unknown. channels: their number; None: unknown.
    kind: type of the user's image: "pil", "tensor" (C, H, W), "image" (torchvision's tv_tensors.Image), "array"
    (H, W, C), "float" (array of floats); None: unknown. uint8: the stored image is known to be uint8.
    scale: (mean, std), each one value or one per channel: the user's image is (t − mean) / std, where t is the stored
    image, divided by 255 if it is uint8; None: the stored image is the user's image. dtype: of the user's image where
    scale is given; None: floats keep their dtype, uint8 becomes torch's default dtype. normalised: the user's image is
    in neither grey levels nor [0, 1]. targets: the samples have masks, boxes or keypoints, which must move with the
    image.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    kind: str | None = None
    uint8: bool = False
    scale: Scale | None = None
    dtype: torch.dtype | None = None
    normalised: bool = False
    targets: bool = False

    @property
    def tonal(self) -> bool:
        """Whether the user's image is in grey levels or [0, 1]."""
        return not self.normalised

    def values(self, numbers: float | tuple[float, ...] | list[float]) -> tuple[tuple[float, ...], bool]:
        """A user's number, or one per channel, in units of the stored image; and whether `stored` has to come first."""
        given = tuple(float(v) for v in numbers) if isinstance(numbers, (tuple, list)) else (float(numbers),)
        if self.scale is None:
            return given, False
        mean, std = self.scale
        length = max(len(given), len(mean))
        wide, means, stds = (part * length if len(part) == 1 else part for part in (given, mean, std))
        units = tuple(v * s + m for v, m, s in zip(wide, means, stds, strict=True))
        if all(unit == 0.0 for unit in units):  # 0 is the same in grey levels and in [0, 1]
            return units if len(set(units)) > 1 else units[:1], False
        grey = tuple(255.0 * unit for unit in units)
        # the user's number went through (v − mean) / std in decimal notation: 1e-4 of a grey level is rounding
        if self.uint8 and all(abs(g - round(g)) < 1e-4 and 0 <= round(g) <= 255 for g in grey):
            return tuple(float(round(g)) for g in grey), False
        return given, True

    def converted(self, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype | None = None) -> State:
        """The user's image p becomes (p − mean) / std of ``dtype`` (None: unchanged); uint8 is divided by 255 first."""
        old_mean, old_std = self.scale or UNIT
        length = max(len(old_mean), len(mean))
        a, b, m, s = (tuple(v) * length if len(v) == 1 else tuple(v) for v in (old_mean, old_std, mean, std))
        new_mean = tuple(am + bs * mm for am, bs, mm in zip(a, b, m, strict=True))
        new_std = tuple(bs * ss for bs, ss in zip(b, s, strict=True))
        return dataclasses.replace(
            self,
            scale=(new_mean, new_std),
            dtype=self.dtype if dtype is None else dtype,
            normalised=self.normalised or any(mean) or any(v != 1.0 for v in std),
        )

    def stored(self) -> State:
        """The same image after the conversion: from here on the stored image is in the user's own units."""
        return dataclasses.replace(self, scale=None, uint8=self.uint8 and self.scale is None)

    def stayed(self) -> State:
        """The same image where all transforms so far ran in the worker."""
        return self.stored()


@dataclass(frozen=True)
class Step:
    """One transform of the user's pipeline, and where it runs.

    name: for tables and messages. where: "device", "worker" or "folded" (into the conversion at the end). why: the
    reason, one clause. after: the `State` after the transform. stage: what runs on the device: an `Augmentation`, or a
    `Foreign` (a `Keyed` if its random numbers come from each row's own key and so do not depend on the other rows).
    floats: the stage needs the image in the user's own units, so the conversion so far must run before it. original:
    the user's transform. before: the `State` before it. rest: the part of a folded transform that remains in the
    worker, such as the conversion of masks; it does not force earlier transforms to stay. tensors: the translation is
    correct for tensor images only, and it is not known whether the images are tensors. tail: the transform changes
    targets only (their format, which are dropped), and runs on each sample at the end, if nothing moves them after it.
    """

    name: str
    where: str
    why: str
    after: State
    stage: Augmentation | Foreign | None = None
    floats: bool = False
    original: Transform = None
    before: State = State()
    rest: Transform = None
    tensors: bool = False
    tail: bool = False


def device(
    transform: Transform,
    state: State,
    stage: Augmentation | Foreign,
    why: str = "batched, drawn per sample",
    *,
    floats: bool = False,
    size: tuple[int, int] | None = None,
    **changes: Any,
) -> Step:
    """``transform`` runs as ``stage``. size: output (height, width), None: unchanged; changes: other State fields."""
    after = dataclasses.replace(state.stored() if floats else state, size=size or state.size, **changes)
    return Step(name_of(transform), "device", why, after, stage, floats, transform, state)


def folded(
    transform: Transform,
    state: State,
    after: State,
    why: str = "in the conversion at the end",
    *,
    rest: Transform = None,
) -> Step:
    """``transform`` only converts (to tensor, to floats, normalised): done once, at the end. rest: see `Step.rest`."""
    return Step(name_of(transform), "folded", why, after, None, False, transform, state, rest)


def worker(
    transform: Transform,
    state: State,
    why: str,
    *,
    size: tuple[int, int] | None = None,
    keeps_size: bool = True,
    **changes: Any,
) -> Step:
    """``transform`` stays in the worker. size: fixed output size, if any; keeps_size: otherwise the input's size."""
    after = dataclasses.replace(state.stayed(), size=size or (state.size if keeps_size else None), **changes)
    return Step(name_of(transform), "worker", why, after, None, False, transform, state)


def unknown(transform: Transform, state: State, hint: str = "") -> Step:
    """A transform that no translator knows: it stays in the worker, and may change size, kind and channels.

    hint: what to write, behind the reason."""
    after = State(normalised=state.normalised, targets=state.targets)
    why = f"not covered, so it keeps its place{hint}"
    return Step(name_of(transform), "worker", why, after, None, False, transform, state)


def in_order(stages: Sequence[Augmentation]) -> Augmentation:
    """One stage that runs ``stages`` in order."""
    return stages[0] if len(stages) == 1 else Compose(stages)


def name_of(transform: object) -> str:
    """The name of a transform in tables: its class, or the function's own name."""
    name = type(transform).__name__
    return getattr(transform, "__name__", name) if name in ("function", "builtin_function_or_method") else name


def shown(transform: object) -> str:
    """`name_of`, and behind a choice or a probability what it is of: ``RandomApply(ColorJitter)``."""
    inside = getattr(transform, "transforms", None)
    if not isinstance(inside, (list, tuple, nn.ModuleList)) or not len(inside):
        return name_of(transform)
    return f"{name_of(transform)}({', '.join(map(shown, inside))})"
