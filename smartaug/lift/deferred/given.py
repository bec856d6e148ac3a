"""What a dataset's transform was given for each sample, so that it is known what its whole pipeline moved.

What: each call of a `DeferredTransform` is noted as a `Given`, under the sample that is being read. Where the lifted
transforms cannot run on the batch, the whole pipeline ran on the image where it was loaded, and moved what it was
given, nothing else; a sample whose dataset did not call the transform moved not at all. When: while a torch loader
reads samples. Cost: under a microsecond a call, and a walk through each sample that has targets.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from ..._base import leaves
from ..._base.torch_fetch import token
from ..roles import OBJECTS, Role, Rules, kind_of

_KINDS = {
    "boxes": "boxes",
    "keypoints": "keypoints",
    "mask": "maps",
    "image": "maps",
}  # of a `Role` -> field of `Given`
_TYPES = {"BoundingBoxes": "boxes", "KeyPoints": "keypoints", "Mask": "maps", "Video": "maps"}  # of torchvision
_MOST = 4096  # calls that are kept where no batch is collated
_T = TypeVar("_T")


class Given(NamedTuple):
    """How many leaves of each kind the transform was given for one sample, beside its image.

    boxes, keypoints: leaves with a row for each object. maps: masks, and images but the first. unknown: it was also
    given something else that it may move. arrived: for each leaf that nothing read before it was collated, its kind and
    the paths in the batch where its values are.
    """

    boxes: int = 0
    keypoints: int = 0
    maps: int = 0
    unknown: bool = False
    arrived: tuple[tuple[str, tuple[leaves.Path, ...]], ...] = ()

    @classmethod
    def of_roles(cls, found: Sequence[Role]) -> Given:
        """That of a call whose arguments have these roles."""
        return cls._of([_KINDS[role.kind] for role in found[1:] if role.kind in _KINDS])

    @classmethod
    def of_arguments(cls, rules: Rules, given: tuple[Any, ...], named: Mapping[str, Any]) -> Given:
        """That of a call which cannot be lifted, by the types of its arguments, or by their names (albumentations)."""
        if rules.by_name:
            known = {name: OBJECTS.get(name, "mask") for name in (*OBJECTS, "mask", "masks")}
            kinds = [_KINDS[known[name]] for name in named if name in known]
            others = (value for name, value in named.items() if name not in (*known, "image"))
            return cls._of(kinds)._replace(unknown=bool(given) or any(getattr(one, "ndim", 0) >= 2 for one in others))
        whole = [*given, *named.values()]
        if len(whole) == 1 and not isinstance(whole[0], (dict, tuple, list)):
            return IMAGE_ALONE
        if not rules.structured:
            return cls(unknown=True)
        found = [leaf for _, leaf in leaves.walk(whole)]
        kinds = [_TYPES[type(leaf).__name__] for leaf in found if type(leaf).__name__ in _TYPES]
        pictures = sum(kind_of(leaf) in ("pil", "image") for leaf in found)
        return cls._of([*kinds, *["maps"] * max(0, pictures - 1)])

    @classmethod
    def _of(cls, kinds: Sequence[str]) -> Given:
        return cls(kinds.count("boxes"), kinds.count("keypoints"), kinds.count("maps"))


IMAGE_ALONE = Given()


class Whole(NamedTuple):
    """A sample whose whole pipeline ran. number: its position in the list of samples, None where it is not known."""

    given: Given
    number: int | None = None


class _Notes(threading.local):
    """The calls for the batch that a thread is reading; samples: of each sample, None where none are told apart."""

    def __init__(self) -> None:
        self.samples: list[list[Given]] | None = None
        self.calls: deque[Given] = deque(maxlen=_MOST)


_notes = _Notes()


def note(given: Given) -> None:
    """Keep what the transform is given in a call; outside a torch loader nothing is kept."""
    if _notes.samples:
        _notes.samples[-1].append(given)
    elif token() is not None:
        _notes.calls.append(given)


def one_by_one(indices: Iterable[_T]) -> Iterator[_T]:
    """The ``indices`` of a batch; a call that comes before the next is asked for belongs to the sample of the last."""
    _notes.samples = []
    _notes.calls.clear()
    for index in indices:
        _notes.samples.append([])
        yield index


def take(count: int) -> list[list[Given]] | list[Given]:
    """What was noted for a batch of ``count`` samples, once: the calls of each sample; of a stream, all calls."""
    samples, calls = _notes.samples, list(_notes.calls)
    _notes.samples = None
    _notes.calls.clear()
    if samples is not None and len(samples) == count:
        return samples
    return [*calls, *(call for own in samples or [] for call in own)]


def together(calls: Sequence[Given]) -> Given:
    """What one sample's calls were given."""
    boxes, keypoints = sum(one.boxes for one in calls), sum(one.keypoints for one in calls)
    return Given(boxes, keypoints, sum(one.maps for one in calls), any(one.unknown for one in calls))


def unread(sample: Any, is_deferred: Callable[[Any], bool]) -> list[tuple[str, leaves.Path]]:
    """Kind and path of the targets in a sample that nothing has read; is_deferred: tells them from what was."""
    return [
        (_KINDS[leaf._kind], path)
        for path, leaf in leaves.walk(sample)
        if is_deferred(leaf) and leaf._kind != "image" and leaf._kind in _KINDS
    ]


def places_of(target: Any, number: int, batch: Any) -> tuple[leaves.Path, ...]:
    """The paths of the leaves of a batch that are the ``target`` of sample ``number``, or have its values there."""
    if not isinstance(target, Tensor):
        return ()
    own = target.as_subclass(Tensor)
    return tuple(path for path, leaf in leaves.walk(batch) if isinstance(leaf, Tensor) and _holds(leaf, own, number))


def _holds(leaf: Tensor, own: Tensor, number: int) -> bool:
    plain = leaf.as_subclass(Tensor)
    if plain.ndim == own.ndim + 1 and number < len(plain):
        plain = plain[number]
    return plain.shape == own.shape and bool((plain == own).all())
