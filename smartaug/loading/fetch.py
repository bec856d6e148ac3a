"""How the samples of a batch are asked for in a loader with ``lift=True``: whole, or one by one.

What: torch's fetcher calls a dataset's ``__getitems__`` where there is one. A `BatchFetch` is stored under that name on
the loader's own shallow copy of the dataset, so it survives copies, pickling, and frameworks that rebuild the loader
with the same dataset and collate function (Accelerate, Lightning, Fabric). Samples in arrays are fetched by one
indexing operation (`whole_batches`): it returns a `Fetched`, only to a fetcher whose collate function accepts one. All
other callers get a list of samples, as torch specifies; while these are read, their JPEG files are decoded as
`lift.decode` says. When: ``lift=True``. Cost: about 3 µs a batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._base.original import SOURCE
from .._base.torch_fetch import asker
from ..lift.decode.decoders import decoder_named
from ..lift.decode.opening import Opening
from ..lift.deferred.collecting import Unfinished
from ..lift.deferred.given import one_by_one
from ..lift.deferred.images import EMPTY
from ..lift.holders.copies import copied_whole
from ..lift.source import Source
from ..lift.steps import UserDataset
from .whole_batches import Fetched, defers, is_plain_subset, whole_batch

_AT = "__getitems__"


class BatchFetch:
    """The ``__getitems__`` of the loader's copy of a dataset.

    The dataset is inspected at each call, so that changes to it (another transform, other arrays) take effect. decoder:
    one of `decoders.NAMES`, which decodes the JPEG files of samples that are read one by one; None: the dataset does.
    partly: how it may decode them for a crop, see `Encoded`.
    """

    decoder: str | None = None  # of pickles of earlier versions, as is the next
    partly = ""

    def __init__(self, dataset: UserDataset, decoder: str | None = None, partly: str = "") -> None:
        self.dataset, self.decoder, self.partly = dataset, decoder, partly

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "scales" in state:  # as pickles of earlier versions have it
            state = {**state, "partly": "scaled" if state["scales"] else ""}
        self.__dict__.update(state)

    def is_of(self, dataset: UserDataset, decoder: str | None, partly: str) -> bool:
        """Whether it was made of these."""
        return self.dataset is dataset and (self.decoder, self.partly) == (decoder, partly)

    def __call__(self, indices: Iterable[object]) -> Any:
        """A `Fetched` if the fetcher accepts one and all indices are in range, else the list of samples."""
        asking = asker()
        dataset: Any = getattr(asking, "dataset", None)
        if getattr(dataset, _AT, None) is not self:  # called by other code than a fetcher, or through a wrapper
            dataset = self.dataset
        if getattr(getattr(asking, "collate_fn", None), "takes_fetched", False):
            batch = whole_batch(dataset, indices)
            if batch is not None:
                return Fetched(batch, Unfinished(((0,),)) if defers(dataset) else None)
        if self.decoder is None:
            return _one_by_one(dataset, indices)
        with Opening(decoder_named(self.decoder), self.partly) as opening:
            samples = _one_by_one(dataset, indices)
        opening.note(len(samples))
        return samples


def _one_by_one(dataset: UserDataset, indices: Iterable[object]) -> Any:
    try:
        return _read(dataset, indices)
    except RuntimeError as error:
        if str(EMPTY.numel()) not in str(error):
            raise
        raise RuntimeError(
            "the dataset copies the memory of what its transform gave, as torch.tensor(image) does, and with lift=True "
            "there is none yet; write image.clone(), or torch.as_tensor(image), or lift=False"
        ) from error


def _read(dataset: UserDataset, indices: Iterable[object]) -> Any:
    own = getattr(type(dataset), _AT, None)
    if own is not None and is_plain_subset(dataset):
        return _read(dataset.dataset, [dataset.indices[index] for index in indices])
    return [dataset[index] for index in one_by_one(indices)] if own is None else own(dataset, indices)


def batched(dataset: UserDataset, decoder: str | None = None, partly: str = "") -> UserDataset:
    """A shallow copy of ``dataset`` with such a `BatchFetch`; ``dataset`` itself if it has that."""
    present = vars(dataset).get(_AT)
    if isinstance(present, BatchFetch) and present.is_of(dataset, decoder, partly):
        return dataset
    copied = copied_whole(dataset)
    copied.__dict__[_AT] = BatchFetch(copied, decoder, partly)
    if SOURCE not in vars(dataset):
        copied.__dict__[SOURCE] = Source(dataset, (SOURCE, _AT))
    return copied
