"""Rebuilding a user's loader as torch's or smartaug's, with another number of workers, over a fixed list of batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset, IterableDataset, RandomSampler, SequentialSampler

from ...loading.dataloader import DataLoader

_BATCH = 64  # of a dataset that comes without a loader
_KEPT = ("collate_fn", "pin_memory", "timeout", "worker_init_fn")
_OF_WORKERS = ("prefetch_factor", "multiprocessing_context")


class Batches:
    """A batch sampler over given lists of dataset indices. A pass takes the first ``count`` of them."""

    def __init__(self, lists: list[list[int]]) -> None:
        self.lists, self.count = lists, len(lists)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.lists[: self.count])

    def __len__(self) -> int:
        return min(self.count, len(self.lists))

    @property
    def images(self) -> int:
        """Number of samples in a pass."""
        return sum(len(batch) for batch in self)


def _refuse_several(given: object) -> None:
    """Raises TypeError for several loaders, or a dict of datasets, of which one has to be named."""
    several = isinstance(given, (list, tuple)) and any(isinstance(each, TorchDataLoader) for each in given)
    if several or (isinstance(given, Mapping) and 0 not in given):
        part = "[0]" if several else f"[{next(iter(given), 'train')!r}]"  # type: ignore[call-overload]
        raise TypeError(
            f"bench measures one loader or dataset, got a {type(given).__name__} of several; name a function "
            f"that returns one of them, such as def make_loader(): return get_loaders(){part}"
        )


def as_loader(given: TorchDataLoader | Dataset, batch_size: int = _BATCH) -> TorchDataLoader:
    """``given`` if it is torch's loader; for a dataset a loader with shuffle=True and no workers.

    Raises TypeError for other objects, for a `smartaug.DataLoader` with stages and for an IterableDataset, ValueError
    for a loader with batch_size=None.
    """
    if isinstance(given, DataLoader) and given._pipeline is not None:
        raise TypeError(
            "bench compares your torch.utils.data.DataLoader with smartaug's; give it the loader without lift=, "
            "augment=, reweight= and coreset="
        )
    if not isinstance(given, TorchDataLoader):
        _refuse_several(given)
        if not hasattr(given, "__getitem__") or not hasattr(given, "__len__"):
            raise TypeError(
                f"bench needs a torch.utils.data.DataLoader or a dataset with a length, got {type(given).__name__}; "
                "name a function that returns the loader, such as def make_loader(): module = MyDataModule(); "
                "module.setup('fit'); return module.train_dataloader()"
            )
        given = TorchDataLoader(given, batch_size=batch_size, shuffle=True)
    if isinstance(given.dataset, IterableDataset):
        raise TypeError(
            "bench needs a dataset with a length and indices, got an IterableDataset; it has no fixed batches"
        )
    if given.batch_sampler is None:
        raise ValueError("bench needs batches, the loader has batch_size=None; give it batch_size=64")
    return given


def index_lists(loader: TorchDataLoader, most: int) -> list[list[int]]:
    """The first ``most`` batches of the loader's own sampler, which is repeated where it has fewer.

    The states of its generators are restored. Raises ValueError for a loader without a batch.
    """
    sources: list[object] = [loader, loader.sampler, loader.batch_sampler]
    generators = {id(g): g for s in sources if (g := getattr(s, "generator", None)) is not None}
    before = [(generator, generator.get_state()) for generator in generators.values()]
    lists: list[list[int]] = []
    while len(lists) < most:
        more = [list(batch) for batch in islice(iter(loader.batch_sampler), most - len(lists))]  # type: ignore[arg-type]
        if not more:
            raise ValueError("the loader has no batch; is the dataset smaller than a batch, and drop_last=True?")
        lists += more
    for generator, state in before:
        generator.set_state(state)
    return lists


def rebuilt(loader: TorchDataLoader, batches: Batches, workers: int, **ours: Any) -> TorchDataLoader:
    """``loader`` built again over ``batches`` with so many persistent workers.

    ours: keywords of `smartaug.DataLoader`, which is then used in place of torch's.
    """
    settings = {name: getattr(loader, name) for name in _KEPT}
    if workers:
        settings |= {name: getattr(loader, name) for name in _OF_WORKERS if getattr(loader, name) is not None}
        settings["persistent_workers"] = True
    kind: Any = DataLoader if ours else TorchDataLoader
    with warnings.catch_warnings():
        if ours:
            warnings.filterwarnings("ignore", message=".*lifted nothing.*")  # the report says so
        warnings.filterwarnings(
            "ignore", message="This DataLoader will create"
        )  # more workers than cores, which the user chose
        made: TorchDataLoader = kind(loader.dataset, batch_sampler=batches, num_workers=workers, **settings, **ours)
    return made


def line(loader: TorchDataLoader, workers: int, lift: bool) -> str:
    """The line of code that builds such a loader, as far as its arguments can be read from ``loader``."""
    name = "smartaug.DataLoader" if lift else "torch.utils.data.DataLoader"
    parts = ["dataset"]
    own: object = loader.batch_sampler
    if loader.batch_size is None:
        parts.append("batch_sampler=batch_sampler")
    else:
        parts.append(f"batch_size={loader.batch_size}")
        if isinstance(loader.sampler, RandomSampler):
            parts.append("shuffle=True")
        elif not isinstance(loader.sampler, SequentialSampler):
            parts.append("sampler=sampler")
        parts += ["drop_last=True"] if getattr(own, "drop_last", False) else []
    parts.append(f"num_workers={workers}")
    parts += ["persistent_workers=True"] if workers else []
    parts += ["pin_memory=True"] if loader.pin_memory else []
    if getattr(loader.collate_fn, "__name__", "") != "default_collate":
        parts.append("collate_fn=collate_fn")
    parts += ["lift=True"] if lift else []
    return f"loader = {name}({', '.join(parts)})"
