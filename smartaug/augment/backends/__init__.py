"""Backends, one folder each: they execute the same plans. `torch` is the reference, which runs everywhere.

| backend | runs | needs |
|---|---|---|
| `torch` | every segment, every dtype, every device | nothing |
| `numba` | uint8 batches on the CPU; segments that it cannot run are left to torch | ``smartaug[fast]`` |
| `triton` | uint8 and float batches of 1 or 3 channels on CUDA; likewise | triton (in CUDA builds of torch) |

| folder or file | holds |
|---|---|
| `tables` | facts that several backends are made from |
| `opencv` | operations that `lift.albumentations` takes over, image by image; not a backend of plans |
| `tiles` | mosaics, whose parts are plans of their own, on any backend |
| `unequal` | the first crop or resize of images of unequal size, on any backend |
| `buffers` | memory for results, used again |

A backend declares in ``run.RUNS`` which kinds of segments it runs; `explain` says for each segment of a plan which
backend that is. The same names in two folders do the same: ``run`` executes, ``tone`` and ``warp`` hold the operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch as _torch
from torch import Tensor

from ..._base import background, compiled
from ..mixing import Tiles
from ..plan import Branches, Erase, EraseNoise, Plan, Segment, Warp
from ..projection import Projection
from ..unequal import UnequalPlan
from . import tiles, unequal
from .numba import run as numba_backend
from .torch import run as torch_backend
from .triton import run as triton_backend

NAMES = ("torch", "numba")  # those that run on the CPU; "triton" is the one beside them
_AS_PLANS_WHY = "consists of plans, which are executed by themselves"


class Choice(NamedTuple):
    """Which backend runs a segment, and why."""

    segment: Segment
    backend: str
    reason: str


def check_backend(name: Any) -> str | None:
    """``name``; ValueError unless it is None or a backend's name, ImportError when that is not installed."""
    if name is None or name == "torch":
        return name
    if name == "triton":
        if not triton_backend.installed():
            raise ImportError('backend="triton" is not installed; run: pip install triton')
        return "triton"
    if name not in NAMES:
        raise ValueError(
            f'backend must be None, "torch" or "numba", got {name!r}; or "triton" for images on CUDA; '
            "None takes the fastest there is"
        )
    if not compiled.installed():
        raise ImportError(f'backend={name!r} is not installed; run: pip install "smartaug[fast]"')
    return str(name)


def execute(plan: Plan, images: Tensor, backend: str | None = None) -> Tensor:
    """Run ``plan`` on images (B, C, H, W), by ``backend`` or by what `explain` says; the input is never written to.

    Raises ValueError for fill values outside 0–255 on uint8 images, for tone operations on floats outside [0, 1], and
    when ``backend`` cannot take such images.
    """
    given, images = images, images.detach() if images.dtype == _torch.uint8 else images
    channels_last = images.is_contiguous(memory_format=_torch.channels_last) and not images.is_contiguous()
    for (name, as_plans), choices in groupby(explain(plan, images, backend), key=_runs_with):
        segments = tuple(choice.segment for choice in choices)
        check_fills(segments, images)
        images = (as_plans or _RUN[name])(segments, images, backend)
    if not plan.segments:
        return given
    return images.contiguous(memory_format=_torch.channels_last) if channels_last else images


def execute_unequal(
    plan: UnequalPlan, images: Sequence[Tensor], backend: str | None = None, timed: str | None = None
) -> Tensor:
    """As `execute`, of images (C, H, W) that the plan's first segment makes equal: (B, C, *size).

    timed: the backend of that segment, where ``backend`` names none; None: see `unequal.choose`.
    """
    first = plan.segments[0]
    check_fills((first,), images[0])
    name, _ = unequal.choose(first, images, backend, timed)
    made = _compiled_or_torch(
        lambda: unequal.run(name, first, images),
        lambda: unequal.one_by_one(first, images),
        backend,
    )
    return execute(Plan(tuple(made.shape), plan.segments[1:]), made, backend)


def _by_numba(segments: tuple[Segment, ...], images: Tensor, backend: str | None) -> Tensor:
    return _compiled_or_torch(
        lambda: numba_backend.run(segments, images), lambda: torch_backend.run(segments, images), backend
    )


def _compiled_or_torch(run: Callable[[], Tensor], torch: Callable[[], Tensor], backend: str | None) -> Tensor:
    """``run``; ``torch`` where numba cannot compile, or does so in the background, and was not asked for by name."""
    if backend == "numba":
        with background.waiting():
            return run()
    try:
        return run()
    except background.NotYet:
        background.used_torch()
        return torch()
    except compiled.CannotCompile as error:
        compiled.give_up(error)
        return torch()


_Run = Callable[[tuple[Segment, ...], Tensor, str | None], Tensor]
_RUN: dict[str, _Run] = {
    "torch": lambda segments, images, _: torch_backend.run(segments, images),
    "numba": _by_numba,
    "triton": lambda segments, images, _: triton_backend.run(segments, images),
}


def _runs_with(choice: Choice) -> tuple[str, _Run | None]:
    """Neighbouring segments with the same key are executed by one call: of the backend, or of `_AS_PLANS`."""
    return choice.backend, _AS_PLANS.get(type(choice.segment))


def _branches(segments: Sequence[Any], images: Tensor, backend: str | None) -> Tensor:
    """Each branch is executed as a plan of its own, by whatever backend is the fastest for it."""
    for segment in segments:
        shape = tuple(images.shape)
        parts = (execute(Plan(shape, branch), images, backend) for branch in segment.branches)
        images = torch_backend.add_up(images, parts, segment.weights)
    return images


def _tiles(segments: Sequence[Any], images: Tensor, backend: str | None) -> Tensor:
    for segment in segments:
        images = tiles.run(segment, images, lambda plan, part: execute(plan, part, backend))
    return images


_AS_PLANS: dict[type[Segment], _Run] = {Branches: _branches, Tiles: _tiles}
"""What is not executed by a backend itself, since it consists of plans for which that is chosen anew."""


def explain(plan: Plan, images: Tensor, backend: str | None = None) -> tuple[Choice, ...]:
    """Which backend runs each segment of ``plan`` on images like these, and why; nothing is executed.

    Raises ValueError when ``backend`` is "numba" or "triton" and it cannot take such images.
    """
    segments = tuple(_typed(plan.segments, images.dtype))
    if backend == "triton" or (backend is None and images.device.type == "cuda"):
        refused = triton_backend.refuses(images)
        if backend == "triton" and refused is not None:
            raise ValueError(
                f'backend="triton" runs {triton_backend.TAKES}, but {refused}; {triton_backend.remedy(images)}'
            )
        return tuple(_triton_choices(segments, images, refused))
    refused = numba_backend.refuses(images)
    if backend == "numba" and refused is not None:
        raise ValueError(
            f'backend="numba" runs uint8 images on the CPU, but {refused}; leave backend=None to choose per batch'
        )
    if backend == "numba" and (against := compiled.refused()) is not None:
        raise ValueError(f'backend="numba" cannot run here: {against}; leave backend=None')
    return tuple(_choices(segments, images.dtype, backend, refused))


def explain_unequal(plan: UnequalPlan, images: Sequence[Tensor], backend: str | None = None) -> tuple[Choice, ...]:
    """As `explain`, for images that the plan's first segment makes equal, where nothing was timed."""
    first = plan.segments[0]
    made = images[0].new_empty((len(images), *plan.output_shape[1:2], *first.output_size(0, 0)))
    rest = explain(Plan(tuple(made.shape), plan.segments[1:]), made, backend)
    return Choice(first, *unequal.choose(first, images, backend)), *rest


def _typed(segments: Sequence[Segment], dtype: _torch.dtype) -> Iterator[Segment]:
    """The segments on images of ``dtype``, with what depends on the type filled in."""
    for segment in segments:
        yield segment.resolved(dtype)
        dtype = segment.typed(dtype)


def _choices(
    segments: Sequence[Segment], dtype: _torch.dtype, backend: str | None, refused: str | None
) -> Iterator[Choice]:
    stored = False  # by numba, which then holds more than it does of float images
    not_yet = backend is None and background.is_allowed() and numba_backend.BACKGROUND.running()
    for segment in segments:
        given, dtype = dtype, segment.typed(dtype)
        stored = stored and numba_backend.holds_behind_store(segment)
        if backend == "torch":
            yield Choice(segment, "torch", 'asked for by backend="torch"')
        elif stored:
            yield Choice(segment, "numba", "behind Normalize, in the same pass")
        elif refused is not None:
            yield Choice(segment, "torch", f"numba runs uint8 images on the CPU; {refused}")
        elif (against := compiled.refused()) is not None:
            yield Choice(segment, "torch", against)
        elif type(segment) in _AS_PLANS:
            yield Choice(segment, "torch", _AS_PLANS_WHY)
        elif (lacking := numba_backend.lacks(segment)) is not None:
            yield Choice(segment, "torch", lacking)
        elif not_yet:
            background.used_torch()
            yield Choice(segment, "torch", background.WHY)
        else:
            yield Choice(segment, "numba", "uint8 on the CPU")
            stored = dtype != given
        if dtype != given and refused is None:
            refused = f"images are {dtype} by then"


def _triton_choices(segments: Sequence[Segment], images: Tensor, refused: str | None) -> Iterator[Choice]:
    dtype = images.dtype
    for segment in segments:
        if not triton_backend.installed():
            yield Choice(segment, "torch", "triton is not installed: pip install triton")
        elif refused is not None:
            yield Choice(segment, "torch", f"triton runs {triton_backend.TAKES}; {refused}")
        elif type(segment) in _AS_PLANS:
            yield Choice(segment, "torch", _AS_PLANS_WHY)
        elif (lacking := triton_backend.lacks(segment)) is not None:
            yield Choice(segment, "torch", lacking)
        else:
            yield Choice(segment, "triton", f"{str(dtype).removeprefix('torch.')} on {images.device}")
        dtype = segment.typed(dtype)
        refused = refused or triton_backend.refuses_type(dtype)


def check_fills(segments: Sequence[Segment], images: Tensor) -> None:
    """Raise unless what is filled in can be a uint8 while the images are: ValueError, for noise TypeError."""
    dtype = images.dtype
    for segment in segments:
        if dtype == _torch.uint8 and (check := _FITS_UINT8.get(type(segment))) is not None:
            check(segment)
        dtype = segment.typed(dtype)


def _fill_fits(segment: Warp | Projection | Erase | Tiles) -> None:
    if not all(0 <= value <= 255 for value in segment.fill or ()):
        raise ValueError(f"fill must lie in 0..255 for uint8 images, got {segment.fill}; write fill=0")


def _noise_fits(segment: EraseNoise) -> None:
    raise TypeError("normal noise does not fit uint8 images; convert them before: ToTensor or Normalize")


_FITS_UINT8: dict[type[Segment], Callable[[Any], None]] = {
    Warp: _fill_fits,
    Projection: _fill_fits,
    Erase: _fill_fits,
    Tiles: _fill_fits,
    EraseNoise: _noise_fits,
}
