"""Reading, replacing and moving the leaves of a batch, whatever its structure.

Mappings, tuples, namedtuples, lists and dataclass objects are containers; tensors and everything else are leaves. A
path is the tuple of keys, positions and field names that leads to a part of the batch; () is the batch itself. No
function changes the user's objects: changed containers are copies.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Structure = Any  # the user's own batch or sample, or a part of it
Path = tuple[Any, ...]  # keys (the user's own), positions and field names
Spec = str | int | Callable[[Any], Any] | None
Specs = Spec | Sequence[Spec]  # inputs=, still=: one part, or several
Targets = Spec | list[Any]  # target=: one part, or several

INPUT_NAMES = ("image", "images", "img", "pixel_values", "x", "input", "inputs")
TARGET_NAMES = ("label", "labels", "target", "targets", "mask", "y")


def walk(batch: Structure, path: Path = ()) -> Iterator[tuple[Path, Structure]]:
    """``(path, leaf)`` for every leaf of ``batch``, in order; a list of strings is one leaf."""
    entries = None if isinstance(batch, Tensor) or is_strings(batch) else parts_of(batch)
    if entries is None:
        yield path, batch
    else:
        for step, part in entries:
            if isinstance(part, Tensor):  # most leaves; a batch of lists has hundreds
                yield (*path, step), part
            else:
                yield from walk(part, (*path, step))


def parts_of(part: Structure) -> list[tuple[Any, Structure]] | None:
    """``(step, part)`` for every part of a container, by key, position or field name; None for a leaf."""
    if type(part) is dict:  # before Mapping, which takes ten times as long to ask
        return list(part.items())
    if isinstance(part, (tuple, list)):
        return list(enumerate(part))
    if isinstance(part, Mapping):
        return [(name, part[name]) for name in part]
    if is_record(part):
        return [(field.name, getattr(part, field.name)) for field in dataclasses.fields(part)]
    return None


def is_record(part: object) -> bool:
    """Whether a part is a dataclass object (not a mapping or tensor), whose fields are its parts."""
    return dataclasses.is_dataclass(part) and not isinstance(part, (type, Mapping, Tensor))


def step_into(part: Structure, step: Any) -> Structure:
    """The part of a container at one step of a path."""
    if isinstance(part, (dict, list, tuple)):  # the common ones first
        return part[step]
    return getattr(part, step) if is_record(part) else part[step]


def name_of_step(part: Structure, step: Any) -> str | None:
    """The key or field name of a step into ``part``; None for a position, or a key that is no string."""
    fields = getattr(part, "_fields", None)
    name = fields[step] if fields and isinstance(step, int) else step
    return name if isinstance(name, str) else None


def get(batch: Structure, path: Path) -> Structure:
    """The part of ``batch`` at ``path``."""
    for step in path:
        batch = step_into(batch, step)
    return batch


def put(batch: Structure, path: Path, value: Structure) -> Structure:
    """A copy of ``batch`` with ``value`` at ``path``; containers along the path are copied, other parts are shared."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    inner = put(step_into(batch, step), rest, value)
    if isinstance(batch, Mapping):
        return _refilled(batch, {step: inner})
    if is_record(batch):
        return _record(batch, {step: inner})
    return _rebuilt(batch, [inner if position == step else part for position, part in enumerate(batch)])


def move(batch: Structure, device: torch.device | str, non_blocking: bool = False) -> Structure:
    """``batch`` with every tensor, and every other leaf that has ``.to``, on ``device``; other leaves unchanged."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=non_blocking)
    if isinstance(batch, Mapping):  # before .to: that of transformers' BatchEncoding changes the user's object
        return _refilled(batch, {name: move(batch[name], device, non_blocking) for name in batch})
    if hasattr(batch, "to"):  # before tuples: a PackedSequence keeps a part on the CPU
        return batch.to(device)
    if isinstance(batch, (tuple, list)):
        return _rebuilt(batch, [move(part, device, non_blocking) for part in batch])
    if is_record(batch):
        return _record(batch, {name: move(part, device, non_blocking) for name, part in parts_of(batch) or ()})
    return batch


def _refilled(batch: Mapping, values: dict[Any, Structure]) -> Structure:
    copied: Any = copy.copy(batch)
    for name, value in values.items():
        copied[name] = value
    return copied


def _rebuilt(batch: Structure, parts: list[Structure]) -> Structure:
    """A tuple, list or namedtuple like ``batch`` of ``parts``."""
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)


def _record(batch: Structure, values: dict[str, Structure]) -> Structure:
    """A copy of a dataclass object, frozen or not, with new ``values`` of fields; ``__init__`` is not called again."""
    copied = copy.copy(batch)
    for name, value in values.items():
        object.__setattr__(copied, name, value)
    return copied


def each(inputs: Structure, function: Callable[[Tensor], Tensor]) -> Structure:
    """``inputs`` with ``function`` applied to every tensor in it."""
    for path, leaf in walk(inputs):
        inputs = put(inputs, path, function(leaf)) if isinstance(leaf, Tensor) else inputs
    return inputs


def rows_of(inputs: Structure) -> int:
    """The number of samples in a model's inputs: the length of their first tensor. Raises TypeError without one."""
    first = next((leaf for _, leaf in walk(inputs) if isinstance(leaf, Tensor) and leaf.ndim), None)
    if first is None:
        raise TypeError(f"the inputs hold no tensor with a row a sample; they are {describe(inputs)}")
    return len(first)


# --- kinds of parts --------------------------------------------------------------------------------------------------


def is_plain(leaf: object) -> bool:
    """Whether a leaf is a tensor that is not nested (nested tensors have no plain shape)."""
    return isinstance(leaf, Tensor) and not leaf.is_nested


def is_numeric(leaf: Tensor) -> bool:
    """Whether a tensor has a dtype that stages take for images: uint8 or floating point."""
    return leaf.dtype == torch.uint8 or leaf.is_floating_point()


def is_views(value: object) -> bool:
    """Whether a part is a tuple or list of tensors, such as several views of each sample."""
    return isinstance(value, (tuple, list)) and len(value) > 0 and all(is_plain(part) for part in value)


def is_strings(part: object) -> bool:
    """Whether a part is a tuple or list of strings, which counts as one leaf."""
    return isinstance(part, (tuple, list)) and len(part) > 0 and all(isinstance(one, str) for one in part)


def is_samples(part: object) -> bool:
    """Whether a part is a list or tuple of one dict or dataclass object per sample, as for detection."""
    return (
        isinstance(part, (tuple, list))
        and len(part) > 0
        and all(isinstance(one, Mapping) or is_record(one) for one in part)
    )


def in_samples(batch: Structure, path: Path) -> bool:
    """Whether a leaf lies in such a list of one dict per sample, and so has no batch dimension."""
    return any(is_samples(get(batch, path[:depth])) for depth in range(len(path)))


# --- naming parts ----------------------------------------------------------------------------------------------------


def describe(batch: Structure) -> str:
    """The first 12 leaves of a batch as text for errors: ``[0]: float32 (8, 3, 32, 32), [1]: int64 (8,)``."""
    shown = []
    for path, leaf in walk(batch):
        what = f"{str(leaf.dtype)[6:]} {tuple(leaf.shape)}" if is_plain(leaf) else type(leaf).__name__
        shown.append(f"{''.join(f'[{step!r}]' for step in path) or 'the batch itself'}: {what}")
    return ", ".join(shown[:12]) or "none"


def spec_for(batch: Structure, path: Path) -> str:
    """The code that names a part in a keyword: ``1``, ``'key'``, or ``lambda batch: batch['ann']['label']``."""
    if len(path) == 1:
        return repr(path[0])
    steps, part = "batch", batch
    for step in path:
        steps += f".{step}" if is_record(part) else f"[{step!r}]"
        part = step_into(part, step)
    return f"lambda batch: {steps}"


def named(batch: Structure, names: tuple[str, ...], fits: Callable[[Any], bool]) -> Path | None:
    """Path of the first part that ``fits`` and whose key or field is one of ``names``, outermost first; or None."""
    level: list[tuple[Path, Structure]] = [((), batch)]
    while level:
        below: list[tuple[Path, Structure]] = []
        for path, part in level:
            if isinstance(part, Tensor) or (not isinstance(part, Mapping) and is_samples(part)):
                continue
            entries = [(name_of_step(part, step), (*path, step), inner) for step, inner in parts_of(part) or ()]
            for wanted in names:
                for name, where, value in entries:
                    if name == wanted and fits(value):
                        return where
            below.extend((where, value) for _, where, value in entries)
        level = below
    return None


def find_part(batch: Structure, spec: Spec, argument: str) -> Path:
    """The path of the part that a key, position or callable names.

    Raises ValueError, in the name of the keyword ``argument``, when the batch has no such part.
    """
    if callable(spec):
        wanted = spec(batch)
        paths = [path for path, leaf in walk(batch) if leaf is wanted]
        paths += [path[:-1] for path, _ in walk(batch) if path and get(batch, path[:-1]) is wanted]
        if paths:
            return paths[0]
        raise ValueError(
            f"{argument}= returned {type(wanted).__name__}, which is no part of the batch; "
            f"return one of its leaves as it is: {describe(batch)}"
        )
    fields = getattr(batch, "_fields", ())
    if isinstance(spec, str) and spec in fields:
        return (fields.index(spec),)
    if isinstance(spec, int) and isinstance(batch, (tuple, list)) and -len(batch) <= spec < len(batch):
        return (spec % len(batch),)
    if (isinstance(batch, Mapping) and spec in batch) or (is_record(batch) and spec in dict(parts_of(batch) or ())):
        return (spec,)
    deeper = named(batch, (spec,), lambda value: True) if isinstance(spec, str) else None
    remedy = "" if deeper is None else f"; write {argument}={spec_for(batch, deeper)}"
    raise ValueError(f"{argument}={spec!r} is not in the batch; its leaves are {describe(batch)}{remedy}")


def find_parts(batch: Structure, specs: Specs, argument: str) -> tuple[Path, ...]:
    """The paths of the parts that one spec or a list of specs names; () for None. Errors as in `find_part`."""
    listed: Any = specs if isinstance(specs, (list, tuple)) else [] if specs is None else [specs]
    return tuple(find_part(batch, spec, argument) for spec in listed)


def starts_with(path: Path, parts: Sequence[Path]) -> bool:
    """Whether ``path`` is one of the paths ``parts``, or lies inside one of them."""
    return any(path[: len(part)] == part for part in parts)
