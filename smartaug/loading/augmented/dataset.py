"""`AugmentedDataset`: transforms that run per sample in the workers, drawn by (seed, epoch, index).

What: a transform of albumentations or torchvision, or any callable, applied to the samples of a dataset, with the
random generators seeded for each sample. Draws differ between samples and epochs; with the same seed they are repeated
for any number of workers.
When: a pipeline that must stay on the CPU, or one for the samples of a coreset alone. Where a pipeline can be lifted
(``lift=True``), that is faster.
Cost: about 0.02 ms per sample for albumentations; 0.1 ms for others, where the global generators are saved and
restored.

A sample that comes several times in an epoch is drawn anew each time under `smartaug.DataLoader`. Under torch's loader
it is the same each time, since a worker cannot count the samples of the others.

albumentations 2.0.8 by itself draws the same in all forked workers and, unless they persist, in all epochs; and
``Compose(seed=...)`` gives every transform the same seed, so that two flips always agree.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import get_spawning_popen
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from ... import draws
from ..._base.names import suggest_keywords
from ..._base.torch_fetch import batch_keys
from ...lift.source import fingerprint_of
from ...pipeline.augmenting.augmenting import streams_of
from ...pipeline.stages import checked_seed
from ..nested import datasets_in
from .per_sample import bound
from .repeats import repeats_of
from .shared_epoch import SharedEpoch

Indexed = Any  # the user's dataset: one with indices and a length, which the constructor checks
Sample = Any  # the user's own sample


class AugmentedDataset(Dataset):
    """``dataset`` with ``transform`` applied to its samples, in the process that loads them.

    * `dataset`: map-style; its samples are images, tuples whose first part is the image, or dicts with a key such as
      "image".
    * `transform`: a callable on the image, or an albumentations pipeline. Such a pipeline receives ``image=`` as an
      array (H, W, C), also for PIL images; from a dict it also receives the keys that it knows (mask, masks, bboxes,
      ...), and from a tuple, as ``mask=``, the part that has the image's height and width.
    * `only`: the samples to augment; None means all. Either a coreset, or a mask (size,), uint8 or bool, on the CPU. A
      coreset's ``membership(size)`` is called once and returns a shared uint8 tensor (size,), 1 for selected samples,
      that it updates with each selection. Call ``share_memory_()`` on a mask that changes under persistent workers.
    * `plain`: the transform of the samples outside ``only``; None leaves them unchanged.
    * `joint`: whether ``transform`` and ``plain`` take the whole sample, as torchvision's v2 takes (image, mask).
    * `seed`: an integer; None reads `torch.initial_seed()` at construction.

    Each draw is a function of (seed, epoch, index). `smartaug.DataLoader` sends the epoch with the indices, however the
    dataset is wrapped. Under torch's loader the epoch is the number of passes begun, counted in shared memory, or the
    one given to ``set_epoch`` last. Inside a wrapper (Subset) with persistent workers, ``set_epoch`` must be called
    before each pass; otherwise the worker raises RuntimeError. Attributes that this class does not define are those of
    ``dataset``. Transforms are copied at first use, so the given objects keep their generators; those that are replaced
    later are copied anew at once, those that are changed in the next epoch.

    Raises TypeError for a dataset without indices, a transform that is not callable, a mask of another type, and a seed
    that is not an integer; ValueError for a mask of another length, and ``plain`` without ``only``.
    """

    @suggest_keywords
    def __init__(
        self,
        dataset: Indexed,
        transform: Callable[..., Sample],
        *,
        only: object = None,
        plain: Callable[..., Sample] | None = None,
        joint: bool = False,
        seed: int | None = None,
    ) -> None:
        if isinstance(dataset, IterableDataset) or not all(hasattr(dataset, n) for n in ("__getitem__", "__len__")):
            raise TypeError(
                "AugmentedDataset draws by index, so dataset must have __getitem__ and __len__, got "
                f"{type(dataset).__name__}; transform inside the stream, or batches: smartaug.DataLoader(augment=...)"
            )
        for name, given in (("transform", transform), ("plain", plain)):
            if isinstance(given, type) or not (callable(given) or (name == "plain" and given is None)):
                raise TypeError(f"{name} must be a callable on an image or an albumentations pipeline, got {given!r}")
        if plain is not None and only is None:
            raise ValueError("plain is the transform of samples that only= leaves out; write only=coreset, or no plain")
        own = checked_seed(seed)
        self.seed = torch.initial_seed() if own is None else own
        self.dataset, self.transform, self.only, self.plain, self.joint = dataset, transform, only, plain, joint
        self._epoch = SharedEpoch()
        self._selected = None if only is None else membership(only, len(dataset))
        self._bound: dict[str, Callable[[Sample, Tensor], Sample]] = {}
        self._seen: dict[str, tuple[object, object]] = {}  # of each in `_bound`: the user's own, and its settings then
        self._bound_for: int | None = None  # the epoch in which the settings were compared last

    @property
    def __class__(self) -> type:
        """The class. torch reads it when a pass begins, which is how passes are counted; see `SharedEpoch`."""
        shared = self.__dict__.get("_epoch")
        if shared is not None:
            shared.begins()
        return type(self)

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of an AugmentedDataset cannot be set")

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass epoch ``epoch``, also in persistent workers."""
        self._epoch.set_next(epoch)

    @property
    def epoch(self) -> int:
        """The epoch of the running pass; outside of one, the epoch set last or that of the latest pass."""
        keys, _ = batch_keys()
        return self._epoch.current() if keys is None else keys.drawn.epoch

    @property
    def why_not_lifted(self) -> str | None:
        """Why `lift` leaves the transform here, or None. Only the workers know the samples that ``only`` selects."""
        return None if self.only is None else "only= says which samples are augmented, so the transform stays with it"

    @property
    def feeds_transform(self) -> Indexed:
        """The dataset whose samples the transform receives, from which `lift` reads the type of the images."""
        return self.dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        number = self._number(index)
        return self._augmented([number], [self.dataset[number]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """The samples of a batch, fetched in one call where ``dataset`` has ``__getitems__``."""
        numbers = [self._number(index) for index in indices]
        fetch = getattr(self.dataset, "__getitems__", None)
        return self._augmented(numbers, fetch(numbers) if fetch else [self.dataset[number] for number in numbers])

    def _number(self, index: int) -> int:
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(f"AugmentedDataset is indexed by integers, got {index!r}") from None
        if not -len(self) <= number < len(self):
            raise IndexError(f"index {number} is out of range for {len(self)} samples")
        return number % len(self)

    def _augmented(self, numbers: list[int], samples: Sequence[Sample]) -> list[Sample]:
        keys, asked = batch_keys()
        drawn = None if keys is None else keys.drawn
        epoch = self._epoch.current() if drawn is None else drawn.epoch
        before = None if keys is None else repeats_of(self, numbers, keys, asked)
        self._forget_changed(epoch)
        index = torch.tensor(numbers, dtype=torch.int64, device="cpu")
        stream = draws.key(self.seed, epoch, streams_of(index, before))
        chosen = [True] * len(numbers) if self._selected is None else self._selected[index].tolist()
        if drawn is not None and drawn.plain:
            chosen = self._unaugmented(len(numbers))
        made = []
        for sample, key, selected in zip(samples, stream[:, None], chosen, strict=True):
            name = "transform" if selected else "plain"
            made.append(sample if getattr(self, name) is None else self._call(name)(sample, key))
        return made

    def _unaugmented(self, count: int) -> list[bool]:
        """``count`` times False, for a plain pass of the loader. Raises RuntimeError without ``only=``."""
        if self.only is None:
            raise RuntimeError(
                "loader.plain() cannot leave out the transform of an AugmentedDataset, since only its user knows what "
                "its samples need instead; evaluate with a loader over the dataset inside it and a transform without "
                "random parts"
            )
        return [False] * count

    def _forget_changed(self, epoch: int) -> None:
        """Drop the copy of a transform that the user has replaced since, or, in another epoch, changed."""
        same, self._bound_for = self._bound_for == epoch, epoch
        for name in list(self._bound):
            now, (copied, settings) = getattr(self, name), self._seen[name]
            if now is not copied or not (same or settings == fingerprint_of(now)):
                del self._bound[name]

    def _call(self, name: str) -> Callable[[Sample, Tensor], Sample]:
        if name not in self._bound:
            self._bound[name] = bound(getattr(self, name), self.joint)
            self._seen[name] = getattr(self, name), fingerprint_of(getattr(self, name))
        return self._bound[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "dataset":  # not set yet while unpickling
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.dataset, name)

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_bound": {}, "_seen": {}}
        if get_spawning_popen() is not None:
            state["only"] = None  # a worker reads the shared mask; the coreset stays in the main process
        elif self.only is not None:
            state["_selected"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.only is not None:
            self._selected = membership(self.only, len(self.dataset))

    def __deepcopy__(self, memo: dict[int, Any]) -> AugmentedDataset:
        twin = copy.copy(self)
        for name in ("dataset", "transform", "plain", "_epoch"):
            setattr(twin, name, copy.deepcopy(getattr(self, name), memo))
        twin._bound, twin._seen = {}, {}
        return twin  # with the same coreset, which selects for all copies

    def __repr__(self) -> str:
        only = "" if self.only is None else f", only={type(self.only).__name__}"
        return f"AugmentedDataset({self.dataset!r}, {type(self.transform).__name__}{only}, seed={self.seed})"


def membership(only: object, size: int) -> Tensor:
    """The mask (size,) of ``only``: the result of its ``membership(size)``, or ``only`` itself.

    Raises TypeError unless it is a uint8 or bool tensor on the CPU, ValueError for another shape.
    """
    ask = getattr(only, "membership", None)
    mask = ask(size) if callable(ask) else only
    if not isinstance(mask, Tensor) or mask.dtype not in (torch.uint8, torch.bool) or mask.device.type != "cpu":
        what = f"a {mask.dtype} tensor on {mask.device}" if isinstance(mask, Tensor) else f"{type(mask).__name__}"
        raise TypeError(
            "only must be a coreset, which has membership(size), or a mask of the samples to augment, uint8 or bool on "
            f"the CPU, got {what}; of indices make a mask: mask = torch.zeros({size}, dtype=torch.uint8); "
            "mask[indices] = 1"
        )
    if mask.shape != (size,):
        raise ValueError(f"only has a mask of shape {tuple(mask.shape)} for {size} samples; it must be ({size},)")
    return mask


def augmented_in(dataset: object) -> Iterator[AugmentedDataset]:
    """Every `AugmentedDataset` in ``dataset``, through Subset, ConcatDataset and the like."""
    return (inner for inner in datasets_in(dataset) if isinstance(inner, AugmentedDataset))


def set_epoch_of(dataset: object, epoch: int) -> None:
    """Set the epoch of every `AugmentedDataset` in ``dataset``."""
    for part in augmented_in(dataset):
        part.set_epoch(epoch)
