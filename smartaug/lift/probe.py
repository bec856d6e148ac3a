"""Reads the first sample of a dataset to decide whether its transform can be lifted.

What: the transform of a copy of the dataset is replaced by a `DeferredTransform`, and sample 0 is read with the global
random generators forked. This shows the arguments of the transform, how often it is called, and whether its result is
returned unchanged. The user's code sees only the dataset's own images; an image that the dataset keeps is replaced by
its own transform's output. When: ``lift`` of a dataset. Cost: reading one sample. Later samples may differ from the
first, so each is checked again when it is collated (`deferred`).
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from .._base import input_leaves, leaves
from ..augment.foreign import forked_rng
from .deferred.calls import Call
from .deferred.collecting import found_in, put_values
from .deferred.images import DeferredImage, finish_all
from .deferred.transform import DeferredTransform, Noted
from .deferred.values import DeferredValue, looking
from .holders.copies import NotCopied
from .holders.held import Held
from .holders.state import Written
from .lifted import compiled, worker_part
from .roles import kind_of, roles
from .steps import State, Transform, UserDataset
from .watch import Watch
from .worker_transform import AsTensor

_CPU = torch.device("cpu")
_SEED = 0x6C69667465  # any number that no dataset seeds its generator with
_FRESH = 624  # the position of a Mersenne twister that was seeded and has not drawn since


@dataclass
class FirstSample:
    """What is known from the first sample.

    hinders: why the transform cannot be lifted; None: no reason was found. kind: of the transform's input image, see
    `roles.kind_of`. calls: the calls of the transform. sample: the sample, its images deferred. places: paths of the
    transform's images in the sample. has_targets: whether the transform's arguments include masks, boxes or keypoints.
    has_other_sizes: whether one of the masks has another size than the image. others: shapes of the other tensors and
    arrays of the sample with two or more dimensions.
    """

    hinders: str | None = None
    kind: str | None = None
    calls: list[Call] = field(default_factory=list)
    sample: Any = None
    places: list[leaves.Path] = field(default_factory=list)
    has_targets: bool = False
    has_other_sizes: bool = False
    others: list[tuple[int, ...]] = field(default_factory=list)

    def images_through(self, head: Callable[..., Any]) -> list[Tensor]:
        """The output images (C, H, W) of ``head`` for the arguments that the transform was called with."""
        made: list[Tensor] = []
        for call in self.calls:
            with forked():
                result = head(*call.given, **call.named)
            made += [leaf for path in _image_places(call) if isinstance(leaf := leaves.get(result, path), Tensor)]
        return made


class _NotedDraws(Noted):
    """As `Noted`, and whether a call came with global generators that the dataset had seeded, or set back, before it.

    After each call one number is drawn from each of them, as a random transform would.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seeded = False
        self._seed: int | None = None  # torch's seed before the sample is read
        self._seen: list[bytes] = []

    def begin(self) -> None:
        """Called when the generators are forked, before the sample is read."""
        torch.manual_seed(_SEED)
        self._seed = _SEED
        _draw_from_all()

    def append(self, call: Call | str) -> None:
        """Add a call, and look at the generators."""
        super().append(call)
        python, numpys = random.getstate()[1], np.random.get_state(legacy=False)["state"]
        now = [torch.get_rng_state().numpy().tobytes(), repr(python).encode(), repr(numpys["key"].tolist()).encode()]
        now[2] += str(numpys["pos"]).encode()
        fresh = python[-1] == _FRESH or numpys["pos"] == _FRESH or torch.initial_seed() != self._seed
        self.seeded = self.seeded or fresh or any(state in self._seen for state in now)
        self._seen += now
        _draw_from_all()


def _draw_from_all() -> None:
    torch.rand(1, device="cpu"), random.random(), np.random.rand()  # of the generators that are watched


def looked_into(
    dataset: UserDataset,
    held: Held,
    placed: Callable[[Callable[..., Any]], UserDataset],
    transform: Transform,
    watch: Watch,
) -> FirstSample:
    """Read the first sample of ``dataset``; placed: returns a copy of it with the given transform instead.

    held: where it holds its own.
    """
    noted, tail = _NotedDraws(), compiled(transform, State(targets=True)).tail
    as_given = worker_part(transform, [], AsTensor())
    deferred = DeferredTransform.of(as_given, transform, noted=noted, tail=tail, any_size=True)
    deferred.watch = watch
    try:
        copied = placed(deferred)
        written = Written(copied, partial(held.way, dataset))
        sample = first(copied, before=noted.begin)
    except NotCopied as error:
        return FirstSample(str(error))
    except Exception as error:  # the user's code may raise anything on an input it does not expect
        return FirstSample(f"its first sample cannot be read through the part that stays ({_told(error)})")
    whole = next((why for why in noted if isinstance(why, str)), None)
    if whole is not None:
        return FirstSample(whole)
    hidden = written.hinders()
    if hidden is not None:
        return FirstSample(hidden)
    seeds = isinstance(inspect.getattr_static(dataset, "feeds_transform", None), property)  # an `AugmentedDataset`
    if noted.seeded and not seeds:
        return FirstSample(
            "the dataset seeds a global random generator, or sets it back, before it calls it, so that draws agree "
            "with others"
        )
    calls = [call for call in noted if isinstance(call, Call)]
    return _described(held.caller(dataset), held.remedy(dataset), sample, calls)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


_AS_LIST = "return [view, view], label (without labels a 0), and write views='independent'"


def _described(name: str, remedy: str, sample: Any, calls: list[Call]) -> FirstSample:
    if not calls:
        return FirstSample(f"{name} did not call it for its first sample")
    found = found_in(sample)
    if any(kept for _, kept in found):
        finish_all(list({id(image): image for image, _ in found}.values()))
        put_values(sample)
        return FirstSample(f"{name} keeps what it gives (a cache), which lifted transforms would have to leave alone")
    images = [image for image, _ in found if image._kind == "image"]
    if any(call.finished for call in calls) or {id(call) for call in calls} != {id(image._call) for image in images}:
        if len(calls) > 1:
            return FirstSample(
                f"{name} calls it {len(calls)} times, and works on the images after it, such as torch.stack; {_AS_LIST}"
            )
        if remedy:
            return FirstSample(f"{name} works on the image after it, or does not return it{remedy}")
        return FirstSample(
            f"{name} works on the image after it, on a mask (mask.long(), which the loss line can do) or on boxes and "
            f"labels (torch.as_tensor(boxes), which the loop can do), or does not return it"
        )
    with looking():
        walked = list(leaves.walk(sample))
    places = [path for path, leaf in walked if issubclass(type(leaf), DeferredImage) and leaf._kind == "image"]
    if len(places) > 1 and (len({path[:-1] for path in places}) > 1 or not places[0][:-1]):
        return FirstSample(
            f"{name} calls it {len(calls)} times, and the results are not in a list of their own; {_AS_LIST}"
        )
    return FirstSample(
        kind=_kind(calls[0]),
        calls=calls,
        sample=sample,
        places=places,
        has_targets=any(image._kind != "image" for image, _ in found),
        has_other_sizes=any(map(_has_other_size, calls)),
        others=[tuple(leaf.shape) for _, leaf in walked if _is_array(leaf)],
    )


def _is_array(leaf: object) -> bool:
    deferred = issubclass(type(leaf), (DeferredImage, DeferredValue))
    return not deferred and len(getattr(leaf, "shape", ())) >= 2


def _image_places(call: Call) -> list[leaves.Path]:
    found = roles(call.by.rules, call.given, call.named)
    return [] if isinstance(found, str) else [role.path for role in found if role.kind == "image"]


def _has_other_size(call: Call) -> bool:
    masks = [role for role in call.places if role.kind == "mask"]
    return any(role.leaf.shape[-2:] != call.places[0].leaf.shape[-2:] for role in masks)


def _kind(call: Call) -> str | None:
    found = roles(call.by.rules, call.given, call.named)
    return None if isinstance(found, str) else kind_of(found[0].leaf)


def second_image(
    name: str, sample: FirstSample, images: Sequence[Tensor], moves: Callable[[Sequence[int]], bool]
) -> str | None:
    """Why a mask or second image that is not passed to the transform prevents lifting; None: nothing does.

    name: of the dataset's class. images: (C, H, W), the worker's output. moves: whether the lifted part may move pixels
    in images of a given shape (C, H, W).
    """
    sizes = {tuple(image.shape[-2:]) for image in images}
    if not any(shape[-2:] in sizes for shape in sample.others) or sample.has_targets:
        return None
    if moves(images[0].shape):
        return f"the samples of {name} have a mask or a second image, which it is not given"
    plain = sample.sample
    for place in sample.places:
        plain = leaves.put(plain, place, images[0].as_subclass(Tensor))
    if len(sample.places) > 1 or not _is_found(plain, sample.places[0]):
        return f"the samples of {name} have a mask or a second image that could be taken for its image"
    return None


def _is_found(sample: Any, place: leaves.Path) -> bool:
    """Whether the images of a batch of such samples are found at ``place`` when ``inputs=`` is not given."""
    try:
        return input_leaves.find_inputs(default_collate([sample])) == place
    except (TypeError, ValueError, RuntimeError):  # samples that only the user's own collate function can take
        return False


def can_be_read(dataset: UserDataset) -> bool:
    """Whether there is a first sample to read; an iterable dataset would have to be started for it."""
    return not isinstance(dataset, IterableDataset) and len(dataset) > 0


def first(dataset: UserDataset, number: int = 0, before: Callable[[], None] | None = None) -> Any:
    """Sample ``number``; the global random generators are restored afterwards. before: called with them forked."""
    with forked():
        if before is not None:
            before()
        return dataset[number]


def forked() -> AbstractContextManager[None]:
    """A context with its own global random generators; the earlier ones are restored at its end."""
    return forked_rng(torch.zeros(1, dtype=torch.int64, device="cpu"), _CPU)
