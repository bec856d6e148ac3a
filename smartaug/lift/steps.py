"""What `lift` knows of a pipeline: one `Step` per transform, and the `State` of the picture between two of them.

**How to write a translator.** A library has one module here, named as the library is. It is imported only when a
transform of that library turns up, so it may import the library. It has up to three functions:

* ``translate(transform, state) -> Step | None``: what becomes of one transform that sees a picture like ``state``.
  Return `device` (it runs batched, as ``stage``), `folded` (it only converts: `State.converted`), `worker` (it stays
  per sample, and why), or None for a transform you do not know. The class of ``transform`` is the library's own: a
  user's subclass never arrives here, since it may do anything.
* ``parts(transform) -> Sequence | None``: the transforms of a container that runs all of them in order; None for
  everything else. Containers that draw (a random choice, a probability) belong in ``translate``: `registry.several`.
* ``head(given, kept, last) -> callable``, optional: what stays in the workers, with the calling convention of
  ``given``: the transforms ``kept``, in order, then ``last`` on the image (`AsTensor`: PIL or (H, W, C) to a tensor
  (C, H, W)). Without it: ``kept`` one after the other on what the dataset passes, as torchvision does.

**Units.** A user's number (a fill, a threshold) counts in the units of the picture at its place in the pipeline: grey
levels at first, [0, 1] behind ToTensor, anything behind Normalize. What travels is not converted before the end.
`State.values` gives a user's number in travelling units, or says that the conversion has to come first
(``floats=True``; lift then stores the batch as floats and goes on in the user's own units). `State.tonal` says whether
the user's picture is in grey levels or [0, 1]: only then may tone operations run.

**Sizes.** A batch needs images of one size. `State.size` is (height, width) where it is known. A transform whose result
may differ in size between samples must be `worker` unless it is known; say the size it makes, where that is fixed.

**The cut.** Whatever is `worker` stays, with everything before it, so each Step also says what the picture is behind
it if it stays (`Step.after`); `lift` does the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..augment import Augmentation, Compose
from ..augment.foreign import Foreign

Transform = Any  # a transform of a library that is not imported here, whose attributes are read
UserDataset = Any  # a dataset of any class, whose attributes are read and set
Scale = tuple[tuple[float, ...], tuple[float, ...]]
UNIT: Scale = ((0.0,), (1.0,))


@dataclass(frozen=True)
class State:
    """The picture at one place of the pipeline.

    size: (height, width) in pixels, and channels, the same for all samples; None: unknown. kind: what the user's next
    transform sees, "pil", "tensor" (C, H, W), "image" (torchvision's tv_tensors.Image), "array" (H, W, C), None:
    unknown. uint8: what travels from here is known to be uint8.
    scale: (mean, std), one value or one a channel: the user's picture is (t − mean) / std of what travels, t being
    scaled to [0, 1] if it is uint8; None: what travels is the user's picture. dtype: of the user's picture where scale
    is given; None: floats keep theirs, uint8 becomes torch's default type. normalised: the user's picture is in neither
    grey levels nor [0, 1]. masks: samples have masks, which would have to move with the picture.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    kind: str | None = None
    uint8: bool = False
    scale: Scale | None = None
    dtype: torch.dtype | None = None
    normalised: bool = False
    masks: bool = False

    @property
    def tonal(self) -> bool:
        """Whether the user's picture is in grey levels or [0, 1]."""
        return not self.normalised

    def values(self, numbers: float | tuple[float, ...] | list[float]) -> tuple[tuple[float, ...], bool]:
        """A user's number, or one a channel, in the units of what travels; and whether `stored` has to come first."""
        given = tuple(float(v) for v in numbers) if isinstance(numbers, (tuple, list)) else (float(numbers),)
        if self.scale is None:
            return given, False
        mean, std = self.scale
        length = max(len(given), len(mean))
        wide, means, stds = (part * length if len(part) == 1 else part for part in (given, mean, std))
        units = tuple(v * s + m for v, m, s in zip(wide, means, stds, strict=True))
        if all(unit == 0.0 for unit in units):  # the same in grey levels and in [0, 1]
            return units if len(set(units)) > 1 else units[:1], False
        grey = tuple(255.0 * unit for unit in units)
        if self.uint8 and all(abs(g - round(g)) < 1e-4 and 0 <= round(g) <= 255 for g in grey):
            return tuple(float(round(g)) for g in grey), False
        return given, True

    def converted(self, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype | None = None) -> State:
        """The user's picture p becomes (p − mean) / std, as ``dtype`` (None: as it is); a uint8 p counts as p / 255."""
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
        """The same picture once the conversion is done: from here on it travels in the user's own units."""
        return dataclasses.replace(self, scale=None, uint8=self.uint8 and self.scale is None)

    def stayed(self) -> State:
        """The same picture where everything so far ran in the worker."""
        return self.stored()


@dataclass(frozen=True)
class Step:
    """One transform of the user's pipeline, and what becomes of it.

    name: readable. where: "device", "worker" or "folded" (into the conversion at the end). why: one clause. after: the
    `State` behind it. stage: what runs on the device: an `Augmentation`, or a `Foreign` (a `Keyed` where it can draw
    from the rows' own keys, so that the batch makes no difference). floats: the stage needs the picture in the user's
    own units, so the conversion so far has to be done before it. original: the user's transform. before: the `State`
    that it sees. rest: what of a folded transform is left for the worker, as on masks; it cuts nothing. tensors: this
    is right for tensors only, and whether they come is not known.
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
    """``transform`` runs as ``stage``. size: (height, width) it makes, None: as before; changes: other State fields."""
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
    """``transform`` only converts (to tensor, float, normalised), which is done once, at the end; see `Step.rest`."""
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
    """``transform`` stays in the worker. size: what it makes, where that is fixed; keeps_size: else the size stays."""
    after = dataclasses.replace(state.stayed(), size=size or (state.size if keeps_size else None), **changes)
    return Step(name_of(transform), "worker", why, after, None, False, transform, state)


def unknown(transform: Transform, state: State) -> Step:
    """A transform that nobody here knows: it may change anything."""
    after = State(normalised=state.normalised, masks=state.masks)
    why = "not covered, so it keeps its place"
    return Step(name_of(transform), "worker", why, after, None, False, transform, state)


def in_order(stages: Sequence[Augmentation]) -> Augmentation:
    """One stage for several that follow each other."""
    return stages[0] if len(stages) == 1 else Compose(stages)


def name_of(transform: object) -> str:
    """What tables call a transform: its class, or the function's own name."""
    name = type(transform).__name__
    return getattr(transform, "__name__", name) if name in ("function", "builtin_function_or_method") else name
