"""MetaAugment: a policy network weighs augmented samples; pairs of operations with large weights are drawn more often.

What: the network P(φ, e; θ) in (0, 1) sees a sample's last-layer features φ, and its operations and magnitudes e.
Weights are P / ΣP; θ learns by the exact gradient of the validation loss after a pseudo step (see `meta`). A table of
pairs keeps the mean P that each pair received, v: the next epochs draw it with probability (1 − ε) v / Σv + ε / (number
of pairs).

When: some operations contradict labels. Reweighting to first order sees conflicts with labels, not lost information: on
digits, an operation that pastes another image in fell to a quarter of its share for 5 of 5 seeds
(benchmarks/results/policy.json); how flips, rotations and blanks fare differs from set-up to set-up, so do not read the
table as a measure of harm. TrivialAugment costs nothing and is the baseline to compare with. Settings that worked on
digits: lr 0.1 at a task lr of 0.03, policy_lr 1e-3 to 2e-3, epsilon 0.1, a history of about 100 steps, validation
batches of 16 and more. Settings that failed: lr 1, policy_lr ≥ 1e-2, a history of most of the run.

Cost: benchmarks/results/reweight.json.

Reference: Zhou et al., "MetaAugment: Sample-Aware Data Augmentation Policy Learning", AAAI 2021, Alg. 1, eq. 4–9. How
this differs: no second-order graph; the embedding is divided by 11 (e[2j] = (m1 + 1) / 11, e[2k + 1] = (m2 + 1) / 11, 1
for operations without a magnitude); magnitudes are the policy's: ``RandAugment(2, (0, 30))`` draws them for every
operation of every sample, as the paper does, on 31 positions; tables of magnitude ranges (``bands``) are ours; θ is
trained by Adam; in segmentation φ is the input of the last convolution, averaged over its positions; of pairs
(``criterion=smartaug.ContrastiveLoss()``), which have no last layer, φ is what the loss compares, both towers' features
side by side, and ℓ_i the loss of pair i among all pairs of the batch. As in the paper the table starts uniform, and
pairs of operations that were never drawn have v = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._base import leaves, ranks
from .._base.protocols import refuse_other
from ..batch import Batch
from ..grads import ForwardPass
from ..grads.reference import Model
from .meta import MetaLearner
from .pair_table import PairTable
from .protocols import Gradients, OperationTrace, PolicyLike, ValidationSet


class PolicyNet(nn.Module):
    """Linear(features → 100) + ReLU and Linear(N·O → 100) + ReLU, concatenated, → 1 → sigmoid, as in the paper."""

    def __init__(self, features: int, operations: int) -> None:
        super().__init__()
        self.image, self.operation = nn.Linear(features, 100), nn.Linear(operations, 100)
        self.out = nn.Linear(200, 1)

    def forward(self, feature: Tensor, operation: Tensor) -> Tensor:
        """Features (B, d) and operations (B, N·O) to weights (B,) in (0, 1)."""
        hidden = torch.cat([torch.relu(self.image(feature)), torch.relu(self.operation(operation))], 1)
        return torch.sigmoid(self.out(hidden))[:, 0]


class MetaAugment(MetaLearner):
    """``reweight=smartaug.MetaAugment(model, val_set, policy=augment)`` with ``augment = RandAugment(2, (0, 30))``.

    * `model`: the network that the loop trains, a callable returning it, or None until `bind`.
    * `val_set`: clean validation samples, a map-style dataset or a pair (inputs, labels) of tensors.
    * `policy`: the augmentation of the same loader, whose ``probabilities`` are set at the start of every epoch. None
      weighs samples by their features alone, or also by the ``operations`` of the trace when these are named.
    * `operations`: the names of the O operations; None takes the policy's.
    * `num_ops`: N, the number of operations that a sample goes through; None takes the policy's, without one 2.
    * `ranges`: operation name -> (low, high), for operations with a magnitude: the absolute magnitudes, in the trace's
      unit, that the network sees as levels 0 and 10. None takes the policy's for the batch's image size, and no
      magnitudes without a policy.
    * `bands`: into how many equal ranges the table divides each operation's magnitudes, so that it learns how strongly
      an operation is drawn, too; 1 is the paper's. More need magnitudes that the policy draws, as
      ``RandAugment(2, (0, 30))`` and TrivialAugment do.
    * `epsilon`: in [0, 1], the share of the probability that is spread evenly over all sequences of operations.
    * `history`: number of epochs (not batches) over which the table averages weights.
    * The other arguments are those of `MetaLearner` and `Reweighting`. Among them `every`, `weigh_every` and `warmup`
      are numbers of batches (not epochs): an epoch has ``len(loader)`` of them.

    Raises ValueError for arguments out of range, and for ``ranges`` of operations that are not among ``operations``.
    """

    bands = 1  # of pickles of earlier versions

    def __init__(
        self,
        model: Model,
        val_set: ValidationSet,
        *,
        policy: PolicyLike | None = None,
        operations: Sequence[str] | None = None,
        num_ops: int | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        bands: int = 1,
        epsilon: float = 0.1,
        history: int = 20,
        **settings: Any,
    ) -> None:
        super().__init__(model, val_set, **settings)
        if policy is not None:
            refuse_other("policy", policy)
        if not 0.0 <= epsilon <= 1.0:
            raise ValueError(f"epsilon must be in [0, 1], got {epsilon!r}; the paper's is 0.1")
        if not isinstance(history, int) or history < 1:
            raise ValueError(f"history must be a number of epochs ≥ 1, got {history!r}")
        if operations is None and policy is not None:
            operations = tuple(dict.fromkeys(name for name, _ in policy.entries(32, 32)))
        self.policy, self.operations = policy, tuple(operations or ())
        self.num_ops = num_ops if num_ops is not None else (2 if policy is None else policy.num_ops)
        self.epoch: int | None = None
        self.ranges = self._checked_ranges(ranges)
        self.bands = self._checked_bands(bands)
        self.table: PairTable | None = None
        if self.operations:
            self.table = PairTable(
                len(self.operations), self.num_ops, history, epsilon, bands=bands, without=self._without_magnitude()
            )

    @property
    def probabilities(self) -> Tensor | None:
        """The next epoch's probability of each sequence of operations, None if there are none.

        float64 (O,) * N, or (O, R) * N with R = ``bands`` above 1, see `smartaug.reweight.pair_table`.
        """
        return None if self.table is None else self.table.probabilities()

    def begin(self, epoch: int) -> None:
        """Called by the loader at the start of epoch ``epoch``: sets the policy's probabilities to the learned ones."""
        if self.epoch is not None and epoch != self.epoch and self.table is not None:
            self.table.close()
        self.epoch = epoch
        if self.policy is not None:
            self.policy.probabilities = self.probabilities

    # --- a batch -----------------------------------------------------------------------------------------------------

    def make_net(self, widths: tuple[int, ...]) -> nn.Module:
        """The paper's network."""
        return PolicyNet(*widths)

    def network_inputs(
        self, grads: Gradients, graph: bool, batch: Batch, trace: OperationTrace | None
    ) -> tuple[ForwardPass, tuple[Tensor, ...]]:
        """Features (B, d), and the embedding of the operations (B, O·N); a zero column without operations."""
        done = grads.rows(features=True, graph=graph)
        if done.feature is None:
            raise RuntimeError("a pass with features has features")
        columns = self._columns(trace)
        feature = done.feature.flatten(2).mean(2) if done.feature.ndim > 2 else done.feature
        # zeros of the same width where nothing of this batch was augmented, so that the network stays the same
        seen = feature.new_zeros(len(feature), max(1, len(self.operations) * self.num_ops))
        if columns is not None:
            seen = self.embedding(*columns[:2], _size_of(batch.inputs)).to(feature)
        return done, (feature, seen)

    def embedding(self, operations: Tensor, magnitudes: Tensor, size: tuple[int, int]) -> Tensor:
        """e (B, O·N) for operations (B, N), −1 for none, and their magnitudes (B, N) on images of ``size`` in pixels.

        e[N·j + n] = (m + 1) / 11 where the n-th operation is j, with m its level in [0, 10]; 1 without a magnitude.
        """
        known = self.ranges if self.ranges is not None or self.policy is None else self._policy_ranges(*size)
        limits = [(known or {}).get(name, (0.0, 0.0)) for name in self.operations]
        low, high = (torch.tensor(side, dtype=torch.float32)[operations] for side in zip(*limits, strict=True))
        level = 10 * (magnitudes.float().abs() - low).abs() / torch.where(high == low, 1.0, (high - low).abs())
        entry = torch.where(high == low, 1.0, (level.clamp(0, 10) + 1) / 11)
        drawn = torch.arange(len(self.operations))[:, None] == operations[:, None, :]  # (B, O, N)
        return torch.where(drawn, entry[:, None, :], 0.0).flatten(1)

    def _policy_ranges(self, height: int, width: int) -> Mapping[str, tuple[float, float]] | None:
        ask: Callable[[int, int], Mapping[str, tuple[float, float]]] | None = getattr(self.policy, "ranges", None)
        return None if ask is None else ask(height, width)

    def _checked_ranges(
        self, ranges: Mapping[str, tuple[float, float]] | None
    ) -> Mapping[str, tuple[float, float]] | None:
        for name, pair in (ranges or {}).items():
            if name not in self.operations:
                raise ValueError(
                    f"ranges names {name!r}, which is not among the operations "
                    f"({', '.join(self.operations) or 'none'}); name it in operations= as well"
                )
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ValueError(f"ranges[{name!r}] must be two different magnitudes (low, high), got {pair!r}")
        return ranges

    def _checked_bands(self, bands: int) -> int:
        """``bands``; a ValueError unless it is a number ≥ 1 that the policy's magnitudes can be divided into."""
        if not isinstance(bands, int) or isinstance(bands, bool) or bands < 1:
            raise ValueError(f"bands must be a number of ranges ≥ 1, got {bands!r}; write bands=1")
        count = getattr(self.policy, "span", (0, bands))[1]  # of magnitudes that it draws from
        drawn = isinstance(getattr(self.policy, "magnitude", None), (int, tuple, type(None)))
        if bands > 1 and (count < bands or not drawn):
            raise ValueError(
                f"bands={bands} divides the magnitudes that a policy draws, and {self.policy!r} "
                + (f"has {count}" if drawn else "has a source of them")
                + "; write policy = smartaug.RandAugment(2, (0, 30)), or bands=1"
            )
        return bands

    def _without_magnitude(self) -> list[int]:
        """The positions of the operations that have no magnitude."""
        ranges = self.ranges if self.ranges is not None or self.policy is None else self._policy_ranges(32, 32)
        limits = [(ranges or {}).get(name, (0.0, 0.0)) for name in self.operations]
        return [place for place, (low, high) in enumerate(limits) if low == high]

    @staticmethod
    def shares(P: Tensor) -> Tensor:
        """P / ΣP over all ranks."""
        return _Shares.apply(P)

    def record_weights(self, P: Tensor, trace: OperationTrace | None) -> None:
        """Add the weights P (B,) to the table, each to its sample's sequence of operations."""
        columns = self._columns(trace)
        if self.table is not None and columns is not None:
            operations, _, levels = columns
            whole = (operations >= 0).all(1)
            self.table.note(operations[whole], P.cpu()[whole], None if levels is None else levels[whole])

    def _columns(self, trace: OperationTrace | None) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Operations (B, N) int64 into ``operations``, −1 for others, their magnitudes (B, N) in the trace's unit, and,
        with more than one band, their levels (B, N).

        The N columns of the trace that hold most of the operations.
        """
        if not self.operations or trace is None or not trace.ops.shape[1]:
            return None
        self._refuse_other_stages(trace)
        known = {name: number for number, name in enumerate(self.operations)}
        to_own = torch.tensor([known.get(name, -1) for name in trace.names], dtype=torch.int64)
        ops = to_own[trace.ops]
        # Erase and MixUp name a row that they do not change "Identity", which fills most of their columns: not counted
        idle = known.get("Identity", -2)
        score = ((ops >= 0) & (ops != idle)).sum(0) - len(ops) * (ops < 0).any(0)
        columns = score.argsort(descending=True, stable=True)[: self.num_ops].sort().values
        levels: Tensor | None = getattr(trace, "levels", None) if self.bands > 1 else None
        if self.bands > 1 and levels is None:
            raise ValueError(
                f"bands={self.bands} needs to know where in its range each magnitude lies, and the trace has no "
                "levels: its stages draw no magnitudes; write policy = smartaug.RandAugment(2, (0, 30)), or bands=1"
            )
        return ops[:, columns], trace.magnitudes[:, columns], None if levels is None else levels[:, columns]

    def _refuse_other_stages(self, trace: OperationTrace) -> None:
        """ValueError where what the stages draw is not what the operations are drawn from."""
        drawn, idle = trace.ops.shape[1], {"Identity"}
        if drawn < self.num_ops:
            raise ValueError(
                f"MetaAugment weighs sequences of {self.num_ops} operations, and the stages of this loader draw "
                f"{drawn} a sample; write num_ops={drawn}, or leave operations= out to weigh samples by their features "
                "alone"
            )
        if not set(self.operations) - idle & set(trace.names) and set(trace.names) - idle:
            raise ValueError(
                f"none of the operations {', '.join(self.operations)} is drawn by the stages of this loader, which "
                f"draw {', '.join(trace.names)}; name those: operations={list(trace.names)!r}"
            )

    # --- figures and state -------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """The statistics of `Reweighting`, with ``operations``, the names, and ``probabilities``, an array."""
        table = self.probabilities
        own = {} if table is None else {"operations": self.operations, "probabilities": table.numpy()}
        return {**super().stats(), **own}

    def state_dict(self) -> dict[str, Any]:
        """The state of `MetaLearner`, with the table of weights and the epoch."""
        table = None if self.table is None else {"past": list(self.table.past), "now": self.table.now.clone()}
        return {**super().state_dict(), "table": table, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave, in the policy as well."""
        super().load_state_dict(state)
        self.epoch = state["epoch"]
        if self.table is not None and state["table"] is not None:
            if state["table"]["now"].shape != self.table.now.shape:
                raise ValueError(
                    f"the state that was loaded has a table of shape {tuple(state['table']['now'].shape[1:])}, and "
                    f"this {type(self).__name__} one of {self.table.shape}; make it with that bands="
                )
            self.table.past, self.table.now = list(state["table"]["past"]), state["table"]["now"].clone()
        if self.policy is not None:
            self.policy.probabilities = self.probabilities


class _Shares(torch.autograd.Function):
    """P / Σ P with the sum over all ranks, and its derivative."""

    @staticmethod
    def forward(ctx: Any, P: Tensor) -> Tensor:
        whole = ranks.total(P.sum())
        ctx.save_for_backward(P / whole, whole)
        return P / whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        shares, whole = ctx.saved_tensors
        return (gradient - ranks.total((shares * gradient).sum())) / whole


def _size_of(inputs: object) -> tuple[int, int]:
    """Height and width in pixels of the first pictures among a model's inputs; rows of features have one pixel."""
    shapes = (leaf.shape for _, leaf in leaves.walk(inputs) if isinstance(leaf, Tensor) and leaf.ndim == 4)
    return next(((shape[2], shape[3]) for shape in shapes), (1, 1))
