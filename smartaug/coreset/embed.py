"""The embedding of a whole dataset, by one pass of the model in evaluation mode.

What: residual p − y, loss and, with features=True, feature of every sample, in the dataset's order. When: a selection
must see every sample under the present model; ``Coreset(embed="observed")`` gets most of that from training itself.
Cost: a forward pass of all samples, about a third of an epoch of training. Reference: Liu & Mirzasoleiman, "Data-
Efficient Augmentation for Training Neural Networks", NeurIPS 2022, §4, where it caps the speed-up of the method.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from .. import grads
from .._base import input_leaves, leaves, target_leaves
from ..batch import Embedding
from ..grads.logits import distributions
from ..grads.model_call import ModelInputs
from ..grads.positions import map_residuals
from ..grads.untouched import generator_state, set_generator_state, unwrapped
from .schedule import checked_count

_NO_CLASSES = (
    "targets must be classes or rows that sum to 1, and these are neither (regression, several labels a "
    "sample?); select without gradients: select=smartaug.coreset.RandomSubset()"
)
_DTYPES = (None, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Passing:
    """How a pass runs; see `embed_pass`. Raises ValueError for a batch size below 1 and other dtypes."""

    batch_size: int = 256
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    transform: Callable[[Tensor], Tensor] | None = None
    features: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        checked_count("batch_size", self.batch_size, 1, "samples")
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype must be torch.float32, bfloat16, float16 or None, got {self.dtype!r}")


def embed_pass(
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
    features: bool = False,
    progress: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list], object] | None = None,
    inputs: leaves.Specs = None,
    target: leaves.Spec = None,
) -> tuple[Embedding, Tensor]:
    """``(embedding, labels)``: residual (n, K), feature (n, d) or None, loss (n,), float32 or wider; labels (n,) int64.

    All lie on ``device``, in the dataset's order.

    * `dataset`: map-style, with samples that are not augmented.
    * `batch_size`: samples in a batch.
    * `device`: where the pass runs; None is the model's own. On another one a copy of the model runs.
    * `dtype`: of the model's arithmetic: float32, bfloat16 or float16, by autocast; None is whatever is in force.
    * `transform`: a callable on a batch of inputs on the device, such as `smartaug.Normalize`; without it the model
      gets what the dataset gives, without any of a loader's stages.
    * `features`: whether to return the inputs of the last linear layer too.
    * `progress`: whether to show a progress bar.
    * `num_workers`, `collate_fn`: as for torch's DataLoader.
    * `inputs`, `target`: as for `smartaug.DataLoader`; a dict without a leaf named like an image goes to the model as a
      whole, without its target.

    The model's parameters, buffers and mode and the global generators stay as they were. Raises TypeError for datasets
    without a length and where the model fails on uint8 images; ValueError for empty datasets, for other dtypes, where
    no labels are found, and for targets that are not classes.
    """
    passing = Passing(batch_size, device, dtype, transform, features, progress)
    return passed(model, dataset, passing, num_workers=num_workers, collate_fn=collate_fn, inputs=inputs, target=target)


def passed(
    model: nn.Module,
    dataset: Dataset,
    passing: Passing,
    *,
    num_workers: int = 0,
    collate_fn: Callable[[list], object] | None = None,
    inputs: leaves.Specs = None,
    target: leaves.Spec = None,
) -> tuple[Embedding, Tensor]:
    """What `embed_pass` gives; its options in one piece."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise TypeError(f"dataset must be map-style, with a length, got {type(dataset).__name__}; embed a Subset of it")
    size = len(dataset)
    if size == 0:
        raise ValueError("dataset is empty, so there is nothing to embed")
    module, place = _placed(unwrapped(model), passing.device)
    loader = DataLoader(
        dataset,
        passing.batch_size,
        num_workers=num_workers,
        collate_fn=collate_fn,
        generator=torch.Generator().manual_seed(0),
    )
    made: list[Tensor] = []  # residual, loss, labels, feature: of all samples
    first = 0
    with _generators_untouched(place), _arithmetic(place, passing.dtype), torch.no_grad():
        for batch in tqdm(loader, desc="embedding", unit="batch", disable=not passing.progress, leave=False):
            given, labels = _split(leaves.move(batch, place), inputs, target)
            given = input_leaves.transformed(given, passing.transform)
            rows = _embed(module, given, labels, passing.features)
            if not made:
                made = [row.new_empty(size, *row.shape[1:]) for row in rows]
            for whole, row in zip(made, rows, strict=True):
                whole[first : first + len(row)] = row
            first += len(labels)
    if first != size:
        raise ValueError(f"collate_fn made {first} rows of {size} samples; pass one that keeps a row a sample")
    residual, loss, label, *feature = made
    return Embedding(residual, feature[0] if feature else None, loss), label


def _embed(module: nn.Module, given: ModelInputs, labels: Tensor, features: bool) -> list[Tensor]:
    """Residual, loss, class labels and feature of a batch."""
    try:
        done = grads.ForwardPass(module, given, training=False, features=features, graph=False)
    except (RuntimeError, TypeError) as error:
        full = isinstance(error, torch.OutOfMemoryError)
        if full or not isinstance(given, Tensor) or given.dtype != torch.uint8:
            raise
        first = str(error).partition("\n")[0]
        raise TypeError(
            f"the model failed on the uint8 inputs {tuple(given.shape)} of the dataset ({first}); if it "
            "takes floats, convert them as your training does: transform=smartaug.Normalize(mean, std), or "
            "transform=lambda images: images.float() / 255"
        ) from error
    if done.raw.ndim > 2:
        if features:
            raise ValueError(
                "features=True compares gradients p − y ⊗ φ of one label a sample, and of maps the mean over positions "
                "has no such factors; leave features out"
            )
        return _embed_map(done.raw, labels)
    log_p = done.log_p
    wanted = distributions(labels, log_p.shape[1]).to(log_p.dtype)
    if bool(((wanted < 0).any(1) | ((wanted.sum(1) - 1).abs() > 1e-3)).any()):
        raise ValueError(_NO_CLASSES)
    loss = -torch.where(wanted > 0, wanted * log_p, 0.0).sum(1)  # a masked class has log p = −∞
    parts = [log_p.exp() - wanted, loss, wanted.argmax(1)]
    return parts if done.feature is None else [*parts, done.feature]


def _embed_map(raw: Tensor, labels: Tensor) -> list[Tensor]:
    """Residual, loss and class labels (0: maps are of one class) of a batch of maps; see `map_residuals`."""
    residual, loss, usable = map_residuals(raw, labels)
    if labels.is_floating_point() and not bool(usable.all()):
        raise ValueError(_NO_CLASSES)
    return [residual, loss, torch.zeros(len(loss), dtype=torch.int64, device=loss.device)]


def _split(batch: Any, inputs: leaves.Specs, target: leaves.Spec) -> tuple[ModelInputs, Tensor]:
    """What the model is called with, and the labels."""
    whole = isinstance(batch, Mapping) and inputs is None and not any(name in batch for name in leaves.INPUT_NAMES)
    paths = (
        (input_leaves.find_rows(batch, None),) if whole else input_leaves.find_all_inputs(batch, inputs, images=False)
    )
    given = input_leaves.model_inputs(batch, inputs, paths)
    path = target_leaves.find_target_beside(batch, paths, leaves.rows_of(given), target)
    labels = None if path is None else leaves.get(batch, path)
    if not isinstance(labels, Tensor):
        raise ValueError(
            f"no labels found in the batch, whose leaves are {leaves.describe(batch)}; name them: target=1"
        )
    if whole and path is not None and len(path) == 1:
        given = {name: part for name, part in batch.items() if name != path[0]}
    return given, labels


def _placed(module: nn.Module, device: torch.device | str | None) -> tuple[nn.Module, torch.device]:
    """The module where it is, or a copy of it on ``device``."""
    own = next((part.device for part in module.parameters()), torch.device("cpu"))
    wanted = own if device is None else torch.empty(0, device=device).device
    return (module if wanted == own else copy.deepcopy(module).to(wanted)), wanted


def _arithmetic(device: torch.device, dtype: torch.dtype | None) -> nullcontext[None] | torch.autocast:
    """The context in which the model computes in ``dtype``; None changes nothing, float32 turns autocast off."""
    if dtype is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=None if dtype == torch.float32 else dtype, enabled=dtype != torch.float32)


@contextmanager
def _generators_untouched(device: torch.device) -> Iterator[None]:
    """Datasets may draw from the global generators."""
    python, arrays, state = random.getstate(), np.random.get_state(), generator_state(device)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        set_generator_state(device, state)
