"""Finding and replacing the images and the labels inside whatever structure a user's batches have."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Path = tuple[Any, ...]
Spec = str | int | Callable[[Any], Any] | None
Specs = Spec | Sequence[Spec]  # one of these, or a list of them
Targets = Spec | list[Any]  # target=: one, or several

INPUT_NAMES = ("image", "images", "img", "pixel_values", "x", "input", "inputs")
TARGET_NAMES = ("label", "labels", "target", "targets", "mask", "y")
_LABEL_WORDS = ("label", "target", "class", "logit")  # in the name of a leaf that may be a label as well


def walk(batch: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All leaves of ``batch`` with their paths, in order; lists of strings count as one leaf."""
    if isinstance(batch, Tensor):
        yield path, batch
    elif isinstance(batch, Mapping):
        for name in batch:
            yield from walk(batch[name], (*path, name))
    elif isinstance(batch, (tuple, list)) and not _is_strings(batch):
        for position, part in enumerate(batch):
            yield from walk(part, (*path, position))
    else:
        yield path, batch


def get(batch: Any, path: Path) -> Any:
    """The part of ``batch`` at ``path``."""
    for step in path:
        batch = batch[step]
    return batch


def put(batch: Any, path: Path, value: Any) -> Any:
    """A copy of ``batch`` with ``value`` at ``path``; containers on the way are copied, the user's stay as they are."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    inner = put(batch[step], rest, value)
    if isinstance(batch, Mapping):
        return _refilled(batch, {step: inner})
    return _rebuilt(batch, [inner if position == step else part for position, part in enumerate(batch)])


def move(batch: Any, device: torch.device | str, non_blocking: bool = False) -> Any:
    """``batch`` with every tensor (and whatever else has ``.to``) on ``device``; other leaves as they are."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=non_blocking)
    if isinstance(batch, Mapping):  # before .to: that of transformers' BatchEncoding changes the user's object
        return _refilled(batch, {name: move(batch[name], device, non_blocking) for name in batch})
    if hasattr(batch, "to"):  # before tuples: a PackedSequence keeps a part on the CPU
        return batch.to(device)
    if isinstance(batch, (tuple, list)):
        return _rebuilt(batch, [move(part, device, non_blocking) for part in batch])
    return batch


def _refilled(batch: Mapping, values: dict[Any, Any]) -> Any:
    copied: Any = copy.copy(batch)
    for name, value in values.items():
        copied[name] = value
    return copied


def _rebuilt(batch: Any, parts: list[Any]) -> Any:
    """A tuple, list or namedtuple like ``batch`` of ``parts``."""
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)


def describe(batch: Any) -> str:
    """The leaves of a batch in words, for errors: ``[0]: float32 (8, 3, 32, 32), [1]: int64 (8,)``."""
    shown = []
    for path, leaf in walk(batch):
        what = f"{str(leaf.dtype)[6:]} {tuple(leaf.shape)}" if _is_plain(leaf) else type(leaf).__name__
        shown.append(f"{''.join(f'[{step!r}]' for step in path) or 'the batch itself'}: {what}")
    return ", ".join(shown[:12]) or "none"


def find_inputs(batch: Any, spec: Spec = None, *, images: bool = True) -> Path:
    """Path of the inputs: a tensor, or a list, tuple or dict of pictures.

    spec: key, position or callable; None: a part named like an image, else the first float or uint8 leaf (B, C, H, W),
    else the only float leaf (B, F), or with images=False the first float leaf. Raises ValueError naming the leaves when
    there is none.
    """
    if spec is not None:
        return _explicit(batch, spec, "inputs")
    named = _named(batch, INPUT_NAMES, lambda value: _is_plain(value) or _is_views(value))
    if named is not None:
        return named
    leaves = [(path, leaf) for path, leaf in walk(batch) if _is_plain(leaf) and _is_numeric(leaf)]
    found = next((path for path, leaf in leaves if leaf.ndim == 4), None)
    if found is None:
        found = _only_rows(batch) if images else next((path for path, leaf in leaves if leaf.ndim >= 1), None)
    if found is None:
        raise ValueError(
            "no images found in the batch: no leaf is a float or uint8 tensor (B, C, H, W) or named "
            f"{', '.join(INPUT_NAMES)}. Its leaves are {describe(batch)}. {_remedy(batch)}"
        )
    # ([view, view], label): all of them are the inputs; at the top level two pictures may be image and mask
    parent = get(batch, found[:-1]) if len(found) > 1 else None
    parts = list(parent.values()) if isinstance(parent, Mapping) else parent
    if isinstance(parts, (tuple, list)) and all(_is_plain(part) and part.ndim == 4 for part in parts):
        return found[:-1]
    return found


def find_all_inputs(batch: Any, specs: Specs = None, *, images: bool = True) -> tuple[Path, ...]:
    """The paths that a list of specs names, one each and in its order; else the one that `find_inputs` gives."""
    if not isinstance(specs, (list, tuple)):
        return (find_inputs(batch, specs, images=images),)  # type: ignore[arg-type]
    if not specs:
        raise ValueError("inputs=[] names nothing; write inputs=['key', 'other'], or leave it out")
    return tuple(_explicit(batch, spec, "inputs") for spec in specs)


def model_inputs(batch: Any, specs: Specs, paths: Sequence[Path]) -> Any:
    """What a model is called with: the one part; for a list of keys a dict, its keyword arguments; else a tuple.

    specs: as given to `find_all_inputs`, whose answer ``paths`` is.
    """
    parts = tuple(get(batch, path) for path in paths)
    if not isinstance(specs, (list, tuple)):
        return parts[0]
    if all(isinstance(spec, str) for spec in specs):
        return dict(zip(specs, parts, strict=True))
    return parts


def rows_of(inputs: Any) -> int:
    """The number of samples in what `model_inputs` gives."""
    first = next((leaf for _, leaf in walk(inputs) if isinstance(leaf, Tensor) and leaf.ndim), None)
    if first is None:
        raise TypeError(f"the inputs hold no tensor with a row a sample; they are {describe(inputs)}")
    return len(first)


def each(inputs: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A model's inputs with ``function`` done to every tensor among them."""
    for path, leaf in walk(inputs):
        inputs = put(inputs, path, function(leaf)) if isinstance(leaf, Tensor) else inputs
    return inputs


def transformed(inputs: Any, transform: Callable[[Any], Any] | None) -> Any:
    """A model's inputs after a transform of the user's; of several inputs the pictures alone, where there are any."""
    if transform is None or not isinstance(inputs, (dict, tuple)):
        return inputs if transform is None else transform(inputs)
    pictures = any(isinstance(leaf, Tensor) and leaf.ndim == 4 for _, leaf in walk(inputs))
    return each(inputs, lambda leaf: transform(leaf) if leaf.ndim == 4 or not pictures else leaf)


def find_parts(batch: Any, specs: Specs, argument: str) -> tuple[Path, ...]:
    """The paths that a spec or a list of specs names, for errors of the keyword ``argument``; none for None."""
    listed: Any = specs if isinstance(specs, (list, tuple)) else [] if specs is None else [specs]
    return tuple(_explicit(batch, spec, argument) for spec in listed)


def starts_with(path: Path, parts: Sequence[Path]) -> bool:
    """Whether ``path`` is one of the parts, or lies in one."""
    return any(path[: len(part)] == part for part in parts)


def _only_rows(batch: Any) -> Path | None:
    """The only float leaf (B, F) of a batch in which another tensor has B rows as well; None: no or several."""
    tensors = [(path, leaf) for path, leaf in walk(batch) if _is_plain(leaf) and leaf.ndim >= 1]
    rows = [(path, leaf) for path, leaf in tensors if leaf.ndim == 2 and leaf.is_floating_point()]
    if len(rows) != 1 or _is_in_samples(batch, rows[0][0]):
        return None
    path, found = rows[0]
    return path if any(len(leaf) == len(found) for _, leaf in tensors if leaf is not found) else None


_SCALING = {
    torch.uint16: "image.float() / 65535",
    torch.bool: "image.float()",
}


def scaling_of(dtype: torch.dtype) -> str:
    """What to write in a dataset whose pictures have an integer type that stages do not take."""
    if dtype in _SCALING:
        return f"write {_SCALING[dtype]} in the dataset"
    return (
        "scale them to floats in [0, 1] in the dataset by the range that your data have, such as "
        "image.float() / 65535 for 16 bits or (image.float() + 1024) / 4096 for CT; only values that all lie in 0..255 "
        "survive image.to(torch.uint8)"
    )


def _remedy(batch: Any) -> str:
    """What to write where no images were found."""
    plain = [leaf for _, leaf in walk(batch) if _is_plain(leaf)]
    pictures = next((leaf for leaf in plain if leaf.ndim == 4), None)
    if pictures is not None:
        return f"{str(pictures.dtype)[6:]} images are not augmented: {scaling_of(pictures.dtype)}"
    if any(leaf.ndim == 3 and _is_numeric(leaf) for leaf in plain):
        return (
            "Pictures without channels need them: image[None] in the dataset. Sequences (B, T, F) and rows (B, F) have "
            "to be named: inputs=0 or inputs='key'"
        )
    return "Name the one to augment: inputs=0, inputs='key' or inputs=lambda batch: ..."


def find_rows(batch: Any, rows: int | None) -> Path:
    """Path of the inputs where no stage looks at images: named like one, else a float leaf, else any.

    Leaves of ``rows`` rows come first; None takes any length. Raises ValueError when there is no tensor at all.
    """
    tensors = [(path, leaf) for path, leaf in walk(batch) if _is_plain(leaf) and leaf.ndim >= 1]
    fitting = [(path, leaf) for path, leaf in tensors if rows is None or len(leaf) == rows] or tensors
    named = _named(batch, INPUT_NAMES, lambda value: any(value is leaf for _, leaf in fitting) or _is_views(value))
    if named is not None:
        return named
    if not fitting:
        raise ValueError(f"the batch holds no tensor; its leaves are {describe(batch)}")
    return next((path for path, leaf in fitting if _is_numeric(leaf)), fitting[0][0])


def find_target(
    batch: Any, inputs: Path, length: int, spec: Spec = None, index: Sequence[int] | None = None, needed: str = ""
) -> Path | None:
    """Path of the target; None when nothing in the batch can be it and ``spec`` is None.

    spec: key, position or callable; None: a tensor of ``length`` rows named like a label, else the last tensor leaf of
    ``length`` rows that is not the inputs. What lies in lists of dicts, one a sample (detection), belongs to its sample
    and is never taken for the batch's target; nor is a leaf that repeats the sampler's ``index``. needed: what reads or
    writes the label, and so must not get another leaf. Raises ValueError when ``spec`` names nothing, and where
    something needs the label and several leaves can be it.
    """
    if spec is not None:
        return _explicit(batch, spec, "target")

    def fits(value: Any) -> bool:
        return _is_plain(value) and value.ndim >= 1 and len(value) == length

    named = _named(batch, TARGET_NAMES, fits)
    paths = [
        path
        for path, leaf in walk(batch)
        if fits(leaf) and path[: len(inputs)] != inputs and not _is_in_samples(batch, path)
    ]
    if needed:
        _refuse_several(batch, paths, named, needed)
    if named is not None:
        return named
    classes = [path for path in paths if get(batch, path).ndim == 1 and not get(batch, path).is_floating_point()]
    if index is not None and len(classes) > 1:  # one of them may be the index, kept beside the label
        repeating = [path for path in classes if get(batch, path).tolist() == list(index)]
        paths = [path for path in paths if path not in repeating]
    return paths[-1] if paths else None


def find_targets(
    batch: Any,
    inputs: Sequence[Path],
    length: int,
    spec: Targets = None,
    index: Sequence[int] | None = None,
    needed: str = "",
) -> list[Path]:
    """Paths of the targets: those that a list names, else the one that `find_target` finds; [] when there is none.

    inputs: paths of all inputs, none of whose leaves is taken for the target.

    Where something needs the label, a name of a tuple, list or dict of tensors with ``length`` rows stands for all in
    it.
    """
    if not isinstance(spec, list):
        found = find_target_beside(batch, inputs, length, spec, index, needed)
        paths = [] if found is None else [found]
    else:
        paths = [_explicit(batch, one, "target") for one in spec]
    if needed and spec is not None:
        paths = [inner for path in paths for inner in _spread(batch, path, length)]
    if len(set(paths)) < len(paths):
        raise ValueError(f"target={spec!r} names a leaf twice; name each once")
    return paths


def _spread(batch: Any, path: Path, length: int) -> list[Path]:
    """The paths of the tensors in a container of labels; the path itself for anything else."""
    part = get(batch, path)
    inside = [] if isinstance(part, Tensor) or _is_samples(part) else list(walk(part))
    labels = all(_is_plain(leaf) and leaf.ndim >= 1 and len(leaf) == length for _, leaf in inside)
    return [(*path, *inner) for inner, _ in inside] if inside and labels else [path]


def _refuse_several(batch: Any, paths: list[Path], named: Path | None, needed: str) -> None:
    """Raise a ValueError where more than one leaf can be the label: none is named, or several are."""
    pictures = [path for path in paths if get(batch, path).ndim >= 4]  # other views: a label only where nothing else is
    paths = [path for path in paths if path not in pictures] or pictures
    if named is not None:
        paths = [named, *(path for path in paths if path != named and _is_called_label(batch, path))]
    if len(paths) < 2:
        return
    shown = {"".join(f"[{step!r}]" for step in path): get(batch, path) for path in paths}
    what = ", ".join(f"{name}: {str(leaf.dtype)[6:]} {tuple(leaf.shape)}" for name, leaf in shown.items())
    first, last = paths[0][0], paths[-1][0]
    several = f"target=[{first!r}, {last!r}]" if first != last else f"target={first!r}"
    raise ValueError(
        f"{needed} needs the label, and {len(paths)} leaves of the batch can be it ({what}); name it: "
        f"target={first!r}, or several, each of which follows by its kind: {several}"
    )


def _is_called_label(batch: Any, path: Path) -> bool:
    """Whether a key or a field on the way to a leaf is named like a label."""
    for depth, step in enumerate(path):
        fields = getattr(get(batch, path[:depth]), "_fields", None)
        name = (fields[step] if fields else step) if isinstance(step, (int, str)) else ""
        if isinstance(name, str) and (name in TARGET_NAMES or any(word in name.lower() for word in _LABEL_WORDS)):
            return True
    return False


def find_target_beside(
    batch: Any,
    inputs: Sequence[Path],
    length: int,
    spec: Spec = None,
    index: Sequence[int] | None = None,
    needed: str = "",
) -> Path | None:
    """`find_target` where the inputs are several parts."""
    if spec is None:
        for path in inputs[1:]:
            batch = put(batch, path, None)  # no leaf of theirs is taken for the target
    return find_target(batch, inputs[0], length, spec, index, needed)


def in_samples(batch: Any, path: Path) -> bool:
    """Whether a leaf belongs to one sample, in a list with a dict for each, and so has no batch dimension."""
    return _is_in_samples(batch, path)


def _is_in_samples(batch: Any, path: Path) -> bool:
    return any(_is_samples(get(batch, path[:depth])) for depth in range(len(path)))


def _is_samples(part: Any) -> bool:
    return isinstance(part, (tuple, list)) and len(part) > 0 and all(isinstance(one, Mapping) for one in part)


def _is_strings(part: Any) -> bool:
    return isinstance(part, (tuple, list)) and len(part) > 0 and all(isinstance(one, str) for one in part)


def _is_plain(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and not leaf.is_nested  # nested tensors have no shape


def _is_numeric(leaf: Tensor) -> bool:
    return leaf.dtype == torch.uint8 or leaf.is_floating_point()


def _named(batch: Any, names: tuple[str, ...], fits: Callable[[Any], bool]) -> Path | None:
    """The first part that ``fits`` and whose key (or namedtuple field) is one of ``names``, outermost first."""
    level: list[tuple[Path, Any]] = [((), batch)]
    while level:
        below: list[tuple[Path, Any]] = []
        for path, part in level:
            fields = getattr(part, "_fields", None)
            if isinstance(part, Mapping):
                entries = [(name, (*path, name), part[name]) for name in part]
            elif isinstance(part, (tuple, list)) and not _is_samples(part):
                labels = fields or [None] * len(part)
                entries = [(name, (*path, i), value) for i, (name, value) in enumerate(zip(labels, part, strict=True))]
            else:
                continue
            for wanted in names:
                for name, where, value in entries:
                    if name == wanted and fits(value):
                        return where
            below.extend((where, value) for _, where, value in entries)
        level = below
    return None


def _is_views(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) > 0 and all(_is_plain(part) for part in value)


def _explicit(batch: Any, spec: Spec, argument: str) -> Path:
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
    present = spec in batch if isinstance(batch, Mapping) else False
    if isinstance(spec, int) and isinstance(batch, (tuple, list)) and -len(batch) <= spec < len(batch):
        return (spec % len(batch),)
    if present:
        return (spec,)
    raise ValueError(f"{argument}={spec!r} is not in the batch; its leaves are {describe(batch)}")
