"""Finds the labels in a batch: the leaves that ``target=`` names, or the only leaf that can be the label."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from . import leaves

# inputs of text models, as Hugging Face's tokenizers name them, which are never labels
_TEXT = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_LABEL_WORDS = ("label", "target", "class", "logit")  # in the name of a leaf that may be a label as well


def find_targets(
    batch: leaves.Structure,
    inputs: Sequence[leaves.Path],
    length: int,
    spec: leaves.Targets = None,
    index: Sequence[int] | None = None,
    needed: str = "",
) -> list[leaves.Path]:
    """Paths of the targets: those that a list names, else the one that `find_target` finds; [] when there is none.

    inputs: paths of all inputs, whose leaves are never the target. length: number of samples B. index, needed: as for
    `find_target`. With ``needed``, a spec of a tuple, list or dict of tensors (B, ...) stands for all tensors in it.
    Raises ValueError when a leaf is named twice, and as `find_target`.
    """
    if not isinstance(spec, list):
        found = find_target_beside(batch, inputs, length, spec, index, needed)
        paths = [] if found is None else [found]
    else:
        paths = [leaves.find_part(batch, one, "target") for one in spec]
    if needed and spec is not None:
        paths = [inner for path in paths for inner in _spread(batch, path, length)]
    if len(set(paths)) < len(paths):
        raise ValueError(f"target={spec!r} names a leaf twice; name each once")
    return paths


def find_target_beside(
    batch: leaves.Structure,
    inputs: Sequence[leaves.Path],
    length: int,
    spec: leaves.Spec = None,
    index: Sequence[int] | None = None,
    needed: str = "",
) -> leaves.Path | None:
    """`find_target` for one or more inputs; the leaves of all of them are left out of the search."""
    if spec is None:
        for path in inputs[1:]:
            batch = leaves.put(batch, path, None)  # no leaf of theirs is taken for the target
    return find_target(batch, inputs[0], length, spec, index, needed)


def find_target(
    batch: leaves.Structure,
    inputs: leaves.Path,
    length: int,
    spec: leaves.Spec = None,
    index: Sequence[int] | None = None,
    needed: str = "",
) -> leaves.Path | None:
    """Path of the target; None when nothing in the batch, or more than one leaf, can be it and ``spec`` is None.

    spec: key, position or callable; None: a tensor of ``length`` rows named like a label, else the only tensor leaf of
    ``length`` rows that is not the inputs, nor a tokenizer's. What lies in lists of dicts, one a sample (detection),
    belongs to its sample and is never taken for the batch's target; nor is a leaf that repeats the sampler's ``index``.
    needed: the keyword or stage that uses the label, for the error; "" for none. Raises ValueError when ``spec`` names
    nothing, and, with ``needed``, when several leaves can be the label.
    """
    if spec is not None:
        return leaves.find_part(batch, spec, "target")

    def fits(value: leaves.Structure) -> bool:
        return leaves.is_plain(value) and value.ndim >= 1 and len(value) == length

    named = leaves.named(batch, leaves.TARGET_NAMES, fits)
    paths = [
        path
        for path, leaf in leaves.walk(batch)
        if fits(leaf)
        and path[: len(inputs)] != inputs
        and path[-1:] not in [(name,) for name in _TEXT]
        and not leaves.in_samples(batch, path)
    ]
    if needed:
        _refuse_several(batch, paths, named, needed)
    if named is not None:
        return named
    classes = [
        path for path in paths if leaves.get(batch, path).ndim == 1 and not leaves.get(batch, path).is_floating_point()
    ]
    if index is not None and len(classes) > 1:  # one of them may be the index, kept beside the label
        repeating = [path for path in classes if leaves.get(batch, path).tolist() == list(index)]
        paths = [path for path in paths if path not in repeating]
    paths = _without_pictures(batch, paths)
    return paths[0] if len(paths) == 1 else None


def _without_pictures(batch: leaves.Structure, paths: list[leaves.Path]) -> list[leaves.Path]:
    """``paths`` without pictures, which are other views; they are labels only where nothing else is."""
    return [path for path in paths if leaves.get(batch, path).ndim < 4] or paths


def _spread(batch: leaves.Structure, path: leaves.Path, length: int) -> list[leaves.Path]:
    """The paths of the tensors in a container of labels; the path itself for anything else."""
    part = leaves.get(batch, path)
    inside = [] if isinstance(part, Tensor) or leaves.is_samples(part) else list(leaves.walk(part))
    labels = all(leaves.is_plain(leaf) and leaf.ndim >= 1 and len(leaf) == length for _, leaf in inside)
    return [(*path, *inner) for inner, _ in inside] if inside and labels else [path]


def _refuse_several(batch: leaves.Structure, paths: list[leaves.Path], named: leaves.Path | None, needed: str) -> None:
    """Raise a ValueError where more than one of ``paths`` can be the label, and not one alone is named like one."""
    paths = _without_pictures(batch, paths)
    if named is not None:
        paths = [named, *(path for path in paths if path != named and _is_called_label(batch, path))]
    if len(paths) < 2:
        return
    shown = {"".join(f"[{step!r}]" for step in path): leaves.get(batch, path) for path in paths}
    what = ", ".join(f"{name}: {str(leaf.dtype)[6:]} {tuple(leaf.shape)}" for name, leaf in shown.items())
    specs = [leaves.spec_for(batch, path) for path in paths]
    raise ValueError(
        f"{needed} needs the label, and {len(paths)} leaves of the batch can be it ({what}); write which one is: "
        f"{' or '.join(f'target={spec}' for spec in specs)}; if several are, each of which follows by its kind: "
        f"target=[{specs[0]}, {specs[-1]}]; what the model takes besides its first input is named in inputs=[...]"
    )


def _is_called_label(batch: leaves.Structure, path: leaves.Path) -> bool:
    """Whether a key or a field on the way to a leaf is named like a label."""
    for depth, step in enumerate(path):
        name = leaves.name_of_step(leaves.get(batch, path[:depth]), step) or ""
        if name in leaves.TARGET_NAMES or any(word in name.lower() for word in _LABEL_WORDS):
            return True
    return False
