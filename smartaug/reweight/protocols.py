"""Protocols of methods of reweighting: a `Rule` is a function of benefits, a `Learner` computes what it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ..batch import Batch
from ..grads import Direction, ForwardPass

WeightsAndLabels = tuple[Tensor | None, Tensor | None]  # weight (B,), soft labels (B, K); None leaves them as they are


class OperationTrace(Protocol):
    """Which operations a batch went through, as the plan of its augmentations says."""

    @property
    def names(self) -> tuple[str, ...]:
        """The operations' names."""
        ...

    @property
    def ops(self) -> Tensor:
        """(B, N) int64 positions in ``names``: the N operations of each sample, in their order."""
        ...

    @property
    def magnitudes(self) -> Tensor:
        """(B, N) the magnitude of each operation, in its own unit; 0 for operations without one."""
        ...


class MapStyle(Protocol):
    """A dataset that is read by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...  # a sample, in the user's own structure


# a dataset of (input, label) samples, or both as tensors; several inputs of a model as its arguments or its keywords
ValidationSet = MapStyle | tuple[Tensor | tuple[Tensor, ...] | Mapping[str, Tensor], Tensor]


class PolicyLike(Protocol):
    """An augmentation whose operations are drawn with probabilities that can be set from outside."""

    probabilities: Tensor | None
    num_ops: int

    def entries(self, height: int, width: int) -> Sequence[tuple[str, object]]:
        """(name, argument) of each operation that it draws from, on images of ``height`` × ``width`` pixels."""
        ...


@runtime_checkable
class Rule(Protocol):
    """A pure function of benefits; it never sees the model, so it can be tried with ``torch.randn``."""

    def __call__(self, B: Tensor, log_p: Tensor, batch: Batch) -> WeightsAndLabels:
        """B, log_p: (B, K), see `smartaug.grads.benefit`; ``batch.soft`` (B, K) holds the upstream labels."""
        ...


class Gradients(Protocol):
    """Gradients of the model on the current batch, for a learner."""

    @property
    def labels(self) -> Tensor:
        """(B, K) upstream labels as distributions."""
        ...

    def rows(self, features: bool = False, graph: bool = True) -> ForwardPass:
        """One forward pass of the batch, made once. features: also features (B, d). graph: so that it can be pulled."""
        ...

    def log_p(self) -> Tensor:
        """(B, K) log-probabilities of the batch, from the loop's own pass where there was one (``when="loss"``)."""
        ...

    def pseudo_step(self, weight: Tensor, lr: float) -> Direction:
        """w − lr ∇_w Σ_i weight_i ℓ_i(w) over all ranks, from the graph of `rows`: parameter values for ``at``."""
        ...

    def direction(self, at: Mapping[str, Tensor] | None = None) -> Direction:
        """∇L_val at the model's parameters, or at ``at``; averaged over ranks."""
        ...

    def benefit(self, direction: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """``(log_p, B)`` of the batch along ``direction``, by default `direction()`."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A method that owns parameters. It may offer ``probabilities``, which a policy reads at the next epoch."""

    def weigh(self, grads: Gradients, batch: Batch, trace: OperationTrace | None) -> WeightsAndLabels:
        """Weights and soft labels of this batch; the learner's own parameters may take a step."""
        ...
