"""`Generated`: real and generated samples in one dataset, of which only the generated ones are weighed.

What: a `ConcatDataset` of the real samples, ``repeat`` times, and of the generated ones. A reweighter (``reweight=``)
leaves real samples at weight 1 with their own labels, and scales the weights of the generated samples of a batch to
mean 1: the objective L(D_train ∪ D_aug) of SAFLEX's paper, with a weight for each sample of D_aug.

When: images of a generator (diffusion models), labels of a crowd or of another model, anything made from a small clean
set. The clean set is best used twice, to judge and to train: ``Generated(clean, generated, repeat=5)`` with
``reweight=SAFLEX(model, clean)`` (benchmarks/results/generated.json).

Cost: none of its own. An epoch has ``repeat × len(real) + len(generated)`` samples.

Reference: Ding et al., "SAFLEX: Self-Adaptive Augmentation via Feature Label Extrapolation", ICLR 2024, §3.1 and §5
(generated images); training on the clean set too is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from .._base.dataset_labels import labels_of
from .._base.names import suggest_keywords
from .samplers.share import ShareSampler


class Generated(ConcatDataset):
    """``dataset = smartaug.Generated(real, generated)``: only generated samples are weighed.

    * `real`: a map-style dataset, whose samples keep weight 1.
    * `generated`: a map-style dataset of samples of the same structure; with ``source``, of inputs alone.
    * `source`: for each generated sample the index of the real sample that it was made from, whose label it takes; None
      where generated samples have labels of their own.
    * `repeat`: how often an epoch holds each real sample.

    ``is_real`` (n,) bool says which samples are real; ``targets`` (n,) int64 are the labels, where both datasets keep
    theirs. `sampler` draws a given share of generated samples into every batch. Raises TypeError for datasets without
    a length, ValueError for a ``source`` or ``repeat`` that does not fit.
    """

    @suggest_keywords
    def __init__(
        self, real: Dataset, generated: Dataset, *, source: Sequence[int] | Tensor | None = None, repeat: int = 1
    ) -> None:
        for name, given in (("real", real), ("generated", generated)):
            is_path = isinstance(given, (str, bytes, PathLike))
            if is_path or not (hasattr(given, "__len__") and hasattr(given, "__getitem__")):
                raise TypeError(
                    f"{name} must be a map-style dataset, got {type(given).__name__}; for a folder with a folder for "
                    f"each class write {name}=torchvision.datasets.ImageFolder(path, transform)"
                )
        if not isinstance(repeat, int) or isinstance(repeat, bool) or repeat < 1:
            raise ValueError(
                f"repeat must be how often an epoch holds each real sample, got {repeat!r}; write repeat=1"
            )
        given = generated if source is None else _LabelledBySource(generated, _checked(source, generated, real), real)
        super().__init__([*[real] * repeat, given])
        count = repeat * len(real)  # type: ignore[arg-type]
        self.repeat, self.is_real = repeat, torch.arange(len(self), device="cpu") < count

    @property
    def targets(self) -> Tensor:
        """(n,) int64 labels in order; AttributeError where a dataset does not keep its own."""
        known = [labels_of(part) for part in (self.datasets[0], self.datasets[-1])]
        if known[0] is None or known[1] is None:
            raise AttributeError("targets: a dataset inside keeps no labels that are known to reach the loss")
        return torch.cat([*[known[0]] * self.repeat, known[1]])

    def sampler(self, share: float, *, generator: torch.Generator | None = None) -> ShareSampler:
        """A sampler that draws ``share`` of every batch from the generated samples; see `ShareSampler`."""
        return ShareSampler(~self.is_real, share, generator=generator)


class _LabelledBySource(Dataset):
    """Samples (input, label) of generated inputs; the label is that of the real sample each was made from."""

    def __init__(self, inputs: Dataset, source: Tensor, real: Dataset) -> None:
        self.inputs = inputs
        known = labels_of(real)
        labels = [real[row][1] for row in source.tolist()] if known is None else None
        self.targets = known[source] if known is not None else labels

    def __len__(self) -> int:
        return len(self.inputs)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        label = self.targets[index]  # type: ignore[index]
        return self.inputs[index], int(label) if isinstance(self.targets, Tensor) else label


def _checked(source: Sequence[int] | Tensor, generated: Dataset, real: Dataset) -> Tensor:
    rows = torch.as_tensor(source, device="cpu")
    if rows.ndim != 1 or rows.is_floating_point() or len(rows) != len(generated):  # type: ignore[arg-type]
        raise ValueError(
            f"source must be one index of real for each of the {len(generated)} generated samples, "  # type: ignore[arg-type]
            f"got {rows.dtype} {tuple(rows.shape)}"
        )
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(real):  # type: ignore[arg-type]
        raise ValueError(f"source must hold indices of real, 0..{len(real) - 1}, got {int(rows.max())}")  # type: ignore[arg-type]
    return rows.long()
