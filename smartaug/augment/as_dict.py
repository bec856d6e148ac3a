"""Pipelines as plain values, for YAML and JSON files: ``{"Flip": {"p": 0.5}}``.

What: an augmentation is a dict of one entry, its name and its arguments; several in order are a list of these. When: a
pipeline is kept in a file beside an experiment, or comes from one. Nothing in such a file is run: names are looked up
among the augmentations of `smartaug.augment`, and arguments are numbers, strings, booleans, None and lists of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .._base.names import did_you_mean
from . import ops
from .augmentation import Augmentation

_DTYPES = {str(dtype)[6:]: dtype for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}
Plain = Any  # a plain value, as YAML and JSON have them
Written = dict[str, dict[str, Plain]]


def to_dict(augment: Augmentation | Sequence[Augmentation]) -> Written | list[Written]:
    """``augment`` as plain values, from which `from_dict` makes an equal one; a list of augmentations as a list.

    Raises TypeError for stages that are not in `smartaug.augment` (Kornia modules, callables, lifted transforms of
    another library), ValueError for one whose attributes were learned (`RandAugment.probabilities`) or set later.
    """
    if isinstance(augment, (list, tuple)):
        return [_written(single) for single in augment]
    return _written(augment)


def _written(augment: Any) -> Written:
    name = type(augment).__name__
    if type(augment) is not getattr(ops, name, None):
        raise TypeError(f"to_dict writes the augmentations of smartaug.augment, got {augment!r}; leave it out")
    arguments = {}
    for argument in inspect.signature(type(augment)).parameters:
        if not hasattr(augment, argument):  # an alias of another argument; a lost value raises below
            continue
        value = getattr(augment, argument)
        if argument == "augmentations":
            arguments[argument] = [_written(single) for single in value]
        else:
            arguments[argument] = _plain(value)
    if name == "Affine":  # kept apart: shear along x and along y
        arguments["shear"] = _plain((*augment.shear, *augment.shear_y))
    written = {name: arguments}
    for own, made in zip(_settings(augment), _settings(from_dict(written)), strict=True):
        if own != made:
            raise ValueError(f"{name}.{own[0]} was set or learned after it was made, which to_dict does not keep")
    return written


def _settings(augment: object) -> list[tuple[str, str]]:
    """The public attributes of an augmentation, with their `repr`."""
    return [(name, repr(value)) for name, value in vars(augment).items() if not name.startswith("_")]


def _plain(value: Plain) -> Plain:
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return str(value)[6:] if isinstance(value, torch.dtype) else value


def from_dict(written: Mapping[str, Plain] | Sequence[Mapping[str, Plain]]) -> Any:
    """The augmentation that ``written`` names, or a list of them; no code is run.

    >>> smartaug.from_dict({"RandAugment": {"num_ops": 2, "magnitude": 9}})
    >>> smartaug.from_dict(yaml.safe_load(open("augment.yaml")))

    Raises TypeError or ValueError that says where ``written`` is wrong, for unknown names with the nearest one.
    """
    if isinstance(written, (list, tuple)):
        return [_made(single, f"[{place}]") for place, single in enumerate(written)]
    return _made(written, "")


def _made(written: Plain, where: str) -> Augmentation:
    at = f"from_dict{f', at {where}' if where else ''}"
    if isinstance(written, str):
        written = {written: {}}
    if not isinstance(written, Mapping) or len(written) != 1:
        raise TypeError(
            f'{at}: an augmentation is one name and its arguments, {{"Flip": {{"p": 0.5}}}}, got {written!r}'
        )
    name, arguments = next(iter(written.items()))
    if name not in ops.__all__:
        raise ValueError(f"{at}: there is no augmentation {name!r}{did_you_mean(str(name), ops.__all__)}")
    arguments = {} if arguments is None else arguments  # "Flip:" in YAML
    if not isinstance(arguments, Mapping):
        raise TypeError(f'{at}: the arguments of {name} are a dict by name, {{"p": 0.5}}, got {arguments!r}')
    kind = getattr(ops, name)
    known = inspect.signature(kind).parameters
    given = {}
    for argument, value in arguments.items():
        if argument not in known:
            raise ValueError(
                f"{at}: {name} has no argument {argument!r}, its own are {', '.join(known)}"
                f"{did_you_mean(str(argument), known)}"
            )
        inner = f"{where}.{name}.{argument}".lstrip(".")
        given[argument] = _several(value, inner) if argument == "augmentations" else _argument(argument, value, inner)
    try:
        made: Augmentation = kind(**given)
    except (TypeError, ValueError, ImportError) as error:
        raise type(error)(f"{at}: {name}: {error}") from error
    return made


def _several(value: Plain, where: str) -> list[Augmentation]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"from_dict, at {where}: a list of augmentations is wanted, got {value!r}")
    return [_made(single, f"{where}[{place}]") for place, single in enumerate(value)]


def _argument(name: str, value: Plain, where: str) -> Any:
    """A plain value as a constructor takes it: lists as tuples, names of dtypes as dtypes."""
    if isinstance(value, (list, tuple)):
        return tuple(_argument(name, part, where) for part in value)
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise TypeError(f"from_dict, at {where}: plain values are wanted, got {type(value).__name__}: {value!r}")
    if name != "dtype" or value is None:
        return value
    if value not in _DTYPES:
        raise ValueError(f"from_dict, at {where}: dtype is one of {', '.join(_DTYPES)}, got {value!r}")
    return _DTYPES[value]
