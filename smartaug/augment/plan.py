"""`Plan`: everything that will be done to a batch, as a value.

Sampling an augmentation gives a plan, and a backend executes it. A plan consists of segments, which are executed one
after the other and say for each sample what to do, and of a trace, which names the operations for people and for
learned policies. Its tensors are small, lie on the CPU and have one row per sample; so plans can be logged, replayed,
learned from and integrated over, and making one never waits for a device.

Coordinates are pixel indices: x is the column, y the row, and (0, 0) is the centre of the first pixel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from .trace import Trace as Trace

S = TypeVar("S", bound="Segment")
_NESTED = ("branches", "arguments", "host")  # fields that hold tuples of tensors or segments


@dataclass(frozen=True)
class Segment:
    """One step of a plan, for all samples at once; tensors have one row per sample.

    A new kind of segment needs a row in `backends.torch.run.RUNS`; other backends leave it to torch until it has one
    there. Inside combinators it also needs a function `ops.combinators.only`, which leaves rows out.
    """

    moves_pixels: ClassVar[bool] = False  # whether it changes where things are, so that a mask would have to follow
    from_others: ClassVar[bool] = False  # whether samples get pixels of others of the batch
    draws_noise: ClassVar[bool] = False  # whether executing it draws noise, so that `moments` cannot integrate plans
    for_all: ClassVar[bool] = False  # whether samples that are not augmented get it too: units and types of a batch

    def to(self: S, device: torch.device | str, non_blocking: bool = True) -> S:
        """The same segment with its tensors on ``device``."""
        moved = {
            f.name: value.to(device, non_blocking=non_blocking)
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return dataclasses.replace(self, **moved)

    def rows(self: S, index: Tensor) -> S:
        """The segment of the samples ``index`` (R,) int64, which may repeat."""
        taken = {
            f.name: _rows(value, index)
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), Tensor) or f.name in _NESTED
        }
        return dataclasses.replace(self, **taken)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what this segment makes of an image of that size."""
        return height, width

    def typed(self, given: torch.dtype) -> torch.dtype:
        """The type of what this segment makes of images of the type ``given``."""
        return given

    def resolved(self, given: torch.dtype) -> Segment:
        """The same segment with what depends on the type of its images filled in."""
        return self


def _rows(value: Any, index: Tensor) -> Any:
    """Rows of a tensor, or of the segments in nested tuples."""
    if isinstance(value, Tensor):
        return value.index_select(0, index)
    return value.rows(index) if isinstance(value, Segment) else tuple(_rows(part, index) for part in value)


@dataclass(frozen=True)
class Warp(Segment):
    """Affine resampling: output pixel (x, y) reads the input at ``matrix @ (x, y, 1)``.

    matrix: (B, 2, 3) float64, pixels to pixels. size: output height and width in pixels. fill: one value, or one per
    channel, in the image's own units (0–255 for uint8). interpolation: "nearest", "bilinear" or "bicubic" (PIL's cubic,
    which has a = −1). padding: what lies outside, "constant" (fill), "edge",
    "reflect" (edge not repeated) or "symmetric" (edge repeated). grid: every output pixel falls on one input pixel
    (flips, integer shifts; no shear), so nothing is interpolated. inside: no output pixel falls outside the input,
    so nothing is filled.
    active: (B,) bool, the rows that move (the others hold the identity and keep their size), None: all. bounds: (B, 4)
    float64 lowest x, highest x, lowest y, highest y that may be read, in pixels; None: the whole image. mask_fill: what
    a mask that moves with the image has outside.

    Coordinates are integers in units of 2**-32 pixels (the matrix rounded to them), so that backends agree to the bit;
    the nearest pixel is floor(x + ½), and uint8 is interpolated with weights in units of 1/2048.
    """

    moves_pixels: ClassVar[bool] = True

    matrix: Tensor
    size: tuple[int, int]
    interpolation: str = "nearest"
    fill: tuple[float, ...] = (0.0,)
    padding: str = "constant"
    grid: bool = False
    inside: bool = False
    active: Tensor | None = None
    bounds: Tensor | None = None
    mask_fill: float = 0.0

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The size it samples at."""
        return self.size


@dataclass(frozen=True)
class Tone(Segment):
    """Each pixel gets another value or colour where it is; uint8, or floats in [0, 1].

    op: (B,) int64 codes of `backends.tables.tones`, which also has the unit and range of each operation's amount;
    0 leaves a sample as it is. amount: (B,) float32.
    """

    op: Tensor
    amount: Tensor


@dataclass(frozen=True)
class Lookup(Segment):
    """Each value replaced by what a table has for its grey level.

    table: (B, 256) float32 grey levels 0–255, for all channels alike, or (B, C, 256). active: (B,) bool, the rows that
    change, None: all. uint8, or floats in [0, 1], which go by the nearest grey level.
    """

    table: Tensor
    active: Tensor | None = None


@dataclass(frozen=True)
class Clahe(Segment):
    """Contrast-limited adaptive histogram equalisation of the lightness, or of the values of one channel.

    limit: (B,) float64, the highest bin of a tile's histogram as a multiple of the mean one. grid: tiles across and
    down. active: (B,) bool, the rows that change, None: all. uint8, or floats in [0, 1], which go by the nearest grey
    level.
    """

    limit: Tensor
    grid: tuple[int, int] = (8, 8)
    active: Tensor | None = None


@dataclass(frozen=True)
class Noise(Segment):
    """Normal noise added to every value: ``gauss.field`` of the row's key.

    key: (B,) int64 stream keys. spread, centre: (B,) float32 standard deviation and mean in grey levels. shared: all
    channels of a sample have the same noise. active: (B,) bool, the rows that change, None: all. uint8, to which whole
    levels are added (the noise with its fractions cut off), or floats in [0, 1].
    """

    draws_noise: ClassVar[bool] = True

    key: Tensor
    spread: Tensor
    centre: Tensor
    shared: bool = False
    active: Tensor | None = None


@dataclass(frozen=True)
class Filter(Segment):
    """Each pixel computed from its neighbours.

    op: (B,) int64 codes of `backends.tables.filters`; 0 leaves a sample as it is. amount: (B,) float32. Sharpness:
    factor ≥ 0, 1 changes nothing; the outermost pixels stay. GaussianBlur: standard deviation in pixels, with a window
    of kernel_size (height, width) pixels, reflected at the border.
    """

    op: Tensor
    amount: Tensor
    kernel_size: tuple[int, int] = (3, 3)


@dataclass(frozen=True)
class Erase(Segment):
    """Rectangles set to a value. boxes: (B, n, 4) int64 top, left, height, width in pixels; height 0: none.

    fill: one number or one per channel, in the image's own units.
    """

    boxes: Tensor
    fill: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class EraseNoise(Segment):
    """Rectangles filled with standard normal noise; floats only.

    boxes: (B, n, 4) int64 top, left, height, width in pixels; height 0: none. key: (B,) int64 stream keys; box n of a
    row holds ``gauss.field(fold(key, n), (C, height, width))``, cut where it lies outside. flat: one value a channel
    for a whole box, ``gauss.field(fold(key, n), (C,))``.
    """

    draws_noise: ClassVar[bool] = True

    boxes: Tensor
    key: Tensor
    flat: bool = False


class Mixing(Segment):
    """A segment that makes each sample of several of the batch, in shares that its label follows."""

    moves_pixels: ClassVar[bool] = True
    from_others: ClassVar[bool] = True

    def parts(self) -> tuple[Tensor, Tensor]:
        """What each row is made of: rows (B, C) int64, its own first, and shares (B, C) float32, which sum to 1."""
        raise NotImplementedError(f"{type(self).__name__} must say what its rows are made of")


@dataclass(frozen=True)
class Mix(Mixing):
    """Each sample blended with, or pasted into by, another of the batch.

    partner: (B,) int64 row of the other sample. share: (B,) float32 in [0, 1], the part that stays the sample's own
    (exactly the uncovered area where boxes are given). boxes: (B, 4) int64 top, left, height, width of the pasted
    rectangle (CutMix), or None for a blend (MixUp).
    """

    partner: Tensor
    share: Tensor
    boxes: Tensor | None = None

    def parts(self) -> tuple[Tensor, Tensor]:
        """Each row itself and its partner; all its own where it is its own partner."""
        own = torch.arange(len(self.partner), device=self.partner.device)
        share = torch.where(self.partner == own, 1.0, self.share)
        return torch.stack([own, self.partner], 1), torch.stack([share, 1 - share], 1)


@dataclass(frozen=True)
class Branches(Segment):
    """The sample and K processed copies of it, added up: w_0 · x + Σ_k w_k · branch_k(x); uint8 is cut off.

    branches: K sequences of segments that keep the size; weights: (B, K + 1) float32.
    """

    moves_pixels: ClassVar[bool] = True

    branches: tuple[tuple[Segment, ...], ...]
    weights: Tensor


@dataclass(frozen=True)
class Call(Segment):
    """Any other operation: ``function(images, *arguments, *host)`` on the n samples that are active.

    The function returns images (n, C, H, W) of the type it gets, depends on its arguments alone and moves no pixels.
    arguments: tensors of B rows, of which it gets the n rows of its images, on the images' device. host: the same on
    the CPU, for values that it branches on in Python. active: (B,) bool, None: all. name: what tables call it.
    at_once: whether the function returns new images, and shares rows among threads on the CPU, so that it gets all.
    """

    function: Callable[..., Tensor]
    arguments: tuple[Tensor, ...]
    name: str
    active: Tensor | None = None
    host: tuple[Tensor, ...] = ()
    at_once: bool = False

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Call:
        """The same with its tensors, the arguments too, on ``device``."""
        moved = tuple(argument.to(device, non_blocking=non_blocking) for argument in self.arguments)
        return dataclasses.replace(super().to(device, non_blocking), arguments=moved)


@dataclass(frozen=True)
class Store(Segment):
    """Normalisation and cast: (x − mean) / std in ``dtype``, uint8 scaled to [0, 1] first.

    mean, std: one value a channel, or one for all.

    dtype: None keeps the type of floats, and makes uint8 torch's default type.
    """

    for_all: ClassVar[bool] = True

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    dtype: torch.dtype | None = torch.float32

    def typed(self, given: torch.dtype) -> torch.dtype:
        """``dtype``, or what it stands for."""
        if self.dtype is not None:
            return self.dtype
        return given if given.is_floating_point else torch.get_default_dtype()

    def resolved(self, given: torch.dtype) -> Store:
        """The same with a type."""
        return dataclasses.replace(self, dtype=self.typed(given))


@dataclass(frozen=True)
class Plan:
    """What happens to one batch. shape: the (B, C, H, W) it was made for; segments in order; trace per sample.

    separate: the segments before neighbours were joined, for what must know where an operation ends (boxes take the
    hull of their corners after each); None: none were joined.
    """

    shape: tuple[int, ...]
    segments: tuple[Segment, ...] = ()
    trace: Trace = field(default_factory=lambda: Trace.empty(0))
    separate: tuple[Segment, ...] | None = None

    @property
    def operations(self) -> tuple[Segment, ...]:
        """The segments as each operation made them, before neighbours were joined."""
        return self.segments if self.separate is None else self.separate

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(B, C, H, W) of the result; rows (B, F) and sequences (B, T, F) keep their shape."""
        if len(self.shape) != 4:
            return self.shape
        batch, channels, height, width = self.shape
        for segment in self.segments:
            height, width = segment.output_size(height, width)
        return batch, channels, height, width

    @property
    def mixes(self) -> tuple[Mixing, ...]:
        """The segments that mix samples, in order: what labels must follow."""
        return tuple(segment for segment in self.segments if isinstance(segment, Mixing))

    @property
    def moves_pixels(self) -> bool:
        """Whether a segment changes where things are, so that a mask would have to follow."""
        return any(segment.moves_pixels for segment in self.segments)

    @property
    def from_others(self) -> bool:
        """Whether samples get pixels of others of the batch, so that a sample by itself has no result."""
        return any(segment.from_others for segment in self.segments)

    def rows(self, index: Tensor) -> Plan:
        """The plan of the samples ``index`` (R,) int64, which may repeat."""
        trace = self.trace.rows(index) if len(self.trace.ops) else self.trace  # a plan may be made without one
        segments = tuple(segment.rows(index) for segment in self.segments)
        separate = None if self.separate is None else tuple(segment.rows(index) for segment in self.separate)
        return Plan((len(index), *self.shape[1:]), segments, trace, separate)

    def then(self, *later: Plan) -> Plan:
        """All plans in order, neighbours joined where the result stays exactly the same."""
        segments = list(self.segments)
        for segment in (segment for plan in later for segment in plan.segments):
            joined = join(segments[-1], segment) if segments else None
            if joined is None:
                segments.append(segment)
            else:
                segments[-1] = joined
        operations = tuple(segment for plan in (self, *later) for segment in plan.operations)
        trace = self.trace.then(*(plan.trace for plan in later))
        separate = operations if len(operations) > len(segments) else None
        return dataclasses.replace(self, segments=tuple(segments), trace=trace, separate=separate)


def join(first: Segment, second: Segment) -> Segment | None:
    """One segment that does the work of two neighbours with the same pixels, or None.

    Two warps join when the second only rearranges pixels and looks nowhere outside the first's image.
    """
    if not (type(first) is Warp and isinstance(second, Warp) and second.grid and second.inside):
        return None
    active = None if first.active is None or second.active is None else first.active | second.active
    return dataclasses.replace(first, matrix=chain(first.matrix, second.matrix), size=second.size, active=active)


def chain(first: Tensor, second: Tensor) -> Tensor:
    """The matrix (B, 2, 3) of warping by ``first`` (B, 2, 3), then by ``second``."""
    former, latter = first.numpy(), second.numpy()
    product = np.matmul(former[..., :2], latter)
    product[..., 2] += former[..., 2]
    return torch.from_numpy(product)


def per_channel(value: object, name: str) -> tuple[float, ...]:
    """A number or a sequence of numbers as a tuple; ``name`` is the argument that an error speaks of."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not values or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise TypeError(f"{name} must be a number or one number per channel, got {value!r}; write {name}=0")
    return tuple(float(v) for v in values)
