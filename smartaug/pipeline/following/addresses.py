"""Addresses: where a leaf lies in a batch, also in lists that have one entry for each sample (detection).

``Address((1,), ("boxes",))`` is ``batch[1][i]["boxes"]`` of every sample i, ``Address((1,), ())`` is ``batch[1][i]``,
and ``Address((1,))`` is ``batch[1]``, a tensor with one row for each sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._base import leaves


@dataclass(frozen=True)
class Address:
    """A leaf at ``path`` of the batch or, where ``each`` is not None, at ``each`` in every entry of the list there."""

    path: leaves.Path
    each: leaves.Path | None = None

    def read(self, data: leaves.Structure) -> Any:
        """The leaf, or a list of the samples' leaves. Raises ValueError where a sample has none."""
        part = leaves.get(data, self.path)
        if not self.each:
            return part if self.each is None else list(part)
        try:
            return [leaves.get(entry, self.each) for entry in part]
        except (KeyError, IndexError, AttributeError, TypeError):
            number = next(number for number, entry in enumerate(part) if not _has(entry, self.each))
            raise ValueError(
                f"{self.shown} is missing in row {number} of the batch; let every sample have it, with no rows where "
                "there are no objects: torch.zeros(0, 4)"
            ) from None

    def write(self, data: leaves.Structure, value: Any) -> leaves.Structure:
        """A copy of the batch with ``value`` there, as `read` gives it; containers on the way are copied."""
        if self.each is None:
            return leaves.put(data, self.path, value)
        part = leaves.get(data, self.path)
        entries = [leaves.put(entry, self.each, one) for entry, one in zip(part, value, strict=True)]
        return leaves.put(data, self.path, type(part)(entries))

    @property
    def container(self) -> Address:
        """Where the parts beside the leaf are: in the same dict of each sample, or in the same part of the batch."""
        return Address(self.path, self.each[:-1]) if self.each else Address(self.path[:-1])

    def beside(self, step: Any) -> Address:
        """The leaf under another key or position of `container`."""
        if self.each:
            return Address(self.path, (*self.each[:-1], step))
        return Address((*self.path[:-1], step), self.each)

    @property
    def step(self) -> Any:
        """The key or position of the leaf in `container`; None for the batch itself."""
        whole = (*self.path, *(self.each or ()))
        return whole[-1] if whole else None

    def paths(self, rows: int) -> Iterator[leaves.Path]:
        """The paths of the leaf in a batch of ``rows`` samples; for a list of tensors also that of the list."""
        if not self.each:
            yield self.path
        if self.each is not None:
            for number in range(rows):
                yield (*self.path, number, *self.each)

    @property
    def spec(self) -> str:
        """The code that names it in ``follow=`` and its kin: ``'boxes'`` or ``(1, 'boxes')``."""
        whole = (*self.path, *(self.each or ()))
        return repr(whole[0]) if len(whole) == 1 else repr(whole)

    @property
    def shown(self) -> str:
        """Text for errors: ``batch[1][i]['boxes']``."""
        steps = "".join(f"[{step!r}]" for step in self.path)
        if self.each is not None:
            steps += "[i]" + "".join(f"[{step!r}]" for step in self.each)
        return f"batch{steps}"


def with_tensors(data: leaves.Structure, addresses: Iterable[Address]) -> leaves.Structure:
    """The batch with tensors in place of arrays of numbers, where samples of a list have them at the addresses."""
    for address in addresses:
        parts = address.read(data) if address.each is not None else []
        if any(isinstance(part, np.ndarray) and part.dtype.kind in "if" for part in parts):
            data = address.write(data, [torch.tensor(one) if isinstance(one, np.ndarray) else one for one in parts])
    return data


def _has(entry: leaves.Structure, path: leaves.Path) -> bool:
    try:
        leaves.get(entry, path)
    except (KeyError, IndexError, AttributeError, TypeError):
        return False
    return True


def is_per_sample(part: object, rows: int) -> bool:
    """Whether a part is a list or tuple with a dict, or a tensor or array, for each of ``rows`` samples."""
    if not isinstance(part, (list, tuple)) or hasattr(part, "_fields") or len(part) != rows or not rows:
        return False
    return leaves.is_samples(part) or all(isinstance(one, (Tensor, np.ndarray)) for one in part)


def are_objects(part: object, rows: int) -> bool:
    """Whether a part is a list or tuple with something for each of ``rows`` samples that is neither a tensor nor a
    container: texts, names, numbers.
    """
    if not isinstance(part, (list, tuple)) or hasattr(part, "_fields") or len(part) != rows or not rows:
        return False
    return not any(isinstance(one, Tensor) or leaves.parts_of(one) is not None for one in part)


def every(data: leaves.Structure, rows: int, path: leaves.Path = ()) -> Iterator[Address]:
    """The address of every leaf of a batch of ``rows`` samples, in order; what each sample has counts once.

    The batch itself is never a list of one entry a sample.
    """
    part = leaves.get(data, path)
    if path and is_per_sample(part, rows):
        if isinstance(part[0], Tensor):
            yield Address(path, ())
        else:
            for inner, _ in leaves.walk(part[0]):
                if all(_has(entry, inner) for entry in part):
                    yield Address(path, inner)
        return
    inside = None if isinstance(part, Tensor) or leaves.is_strings(part) else leaves.parts_of(part)
    if inside is None:
        yield Address(path)
        return
    for step, _ in inside:
        yield from every(data, rows, (*path, step))


def find(data: leaves.Structure, spec: Any, rows: int, argument: str) -> Address:
    """The address that a key, a position, a path (tuple of these) or a callable names in ``argument``.

    A key that is not in the batch itself is looked for further down, also in lists of one dict a sample. Raises
    ValueError where it is nowhere, or in several places.
    """
    if callable(spec):
        return address_of(data, leaves.find_part(data, spec, argument), rows)
    if isinstance(spec, tuple):
        return address_of(data, _walked(data, spec, argument), rows)
    if isinstance(spec, str) and not _is_own(data, spec):
        return _deeper(data, spec, rows, argument)
    return address_of(data, leaves.find_part(data, spec, argument), rows)


def _is_own(data: leaves.Structure, name: str) -> bool:
    """Whether ``name`` is a key or field of the batch itself."""
    if isinstance(data, Mapping):
        return name in data
    return name in (dict(leaves.parts_of(data) or ()) if leaves.is_record(data) else getattr(data, "_fields", ()))


def _deeper(data: leaves.Structure, name: str, rows: int, argument: str) -> Address:
    found = []
    for address in every(data, rows):
        inner = address.each or ()
        named = [leaves.name_of_step(leaves.get(data, address.path[:-1]), step) for step in address.path[-1:]]
        if (inner or named or [None])[-1] == name:
            found.append(address)
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{argument}= names {name!r}, which the batch has in several places; name one by its path: "
            f"{' or '.join(address.spec for address in found[:4])}"
        )
    raise ValueError(f"{argument}= names {name!r}, which is not in the batch; its leaves are {_leaves(data, rows)}")


def _leaves(data: leaves.Structure, rows: int) -> str:
    """The leaves of a batch and their shapes, for errors."""
    shown = []
    for address in every(data, rows):
        value = address.read(data)
        first = value[0] if address.each is not None else value
        what = f"{str(first.dtype)[6:]} {tuple(first.shape)}" if leaves.is_plain(first) else type(first).__name__
        shown.append(f"{address.spec}: {what}{' in row 0' if address.each is not None else ''}")
    return ", ".join(shown[:12]) or "none"


def _walked(data: leaves.Structure, path: leaves.Path, argument: str) -> leaves.Path:
    """``path`` with positions for field names and negative positions; a list of dicts is passed in its first entry."""
    taken: leaves.Path = ()
    part = data
    for step in path:
        if leaves.is_samples(part) and not isinstance(step, int):
            taken, part = (*taken, 0), part[0]
        try:
            (own,) = leaves.find_part(part, step, argument)
        except ValueError:
            raise ValueError(
                f"{argument}= names {path!r}, which is not in the batch: there is no {step!r} in "
                f"batch{''.join(f'[{one!r}]' for one in taken)}; its leaves are {leaves.describe(data)}"
            ) from None
        taken, part = (*taken, own), leaves.step_into(part, own)
    return taken


def address_of(data: leaves.Structure, path: leaves.Path, rows: int) -> Address:
    """The address of the part at ``path``, which may lie in the entry of a sample, or be a list of all entries."""
    for depth in range(1, len(path)):
        if leaves.is_samples(part := leaves.get(data, path[:depth])) and is_per_sample(part, rows):
            return Address(path[:depth], path[depth + 1 :])
    return Address(path, () if path and is_per_sample(leaves.get(data, path), rows) else None)


def of_every_row(data: leaves.Structure, path: leaves.Path, rows: int) -> Address:
    """The address of the leaf in all samples, of which ``path`` leads to that of one, or to a stack of them."""
    own = address_of(data, path, rows)
    listed = len(path) > 1 and isinstance(path[-1], int) and is_per_sample(leaves.get(data, path[:-1]), rows)
    return address_of(data, path[:-1], rows) if own.each is None and listed else own
