"""The datasets inside a dataset: of `Subset`, `ConcatDataset` and the like."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Dataset


def datasets_in(dataset: object) -> Iterator[object]:
    """``dataset`` itself, then every dataset in its ``dataset`` and its ``datasets``, at any depth."""
    yield dataset
    if isinstance(dataset, Dataset):
        for inner in (getattr(dataset, "dataset", None), *(getattr(dataset, "datasets", None) or ())):
            yield from datasets_in(inner)
