"""Facility location: medoids whose gradients represent those of all samples.

What: greedily picks the samples S that maximise Σ_i max_{j∈S} sim(g_i, g_j) over last-layer gradients g = r ⊗ (φ, 1),
which are never formed; a sample's weight is proportional to the number of samples that it represents.

When: a class is to be covered evenly by few samples. Compare with `coreset.RandomSubset` before paying for it: on a
small CIFAR-10 a random subset was as good within the noise, at 10 and 30 %, for training and for choosing what is
augmented, and better at equal cost where the selection needs an evaluation pass
(benchmarks/results/coreset_training.json). It does not find wrong labels: those have unusual gradients, and with 18.7 %
wrong labels its selections had 20 to 22 %.

Cost: see `greedy.numba` and `greedy.torch`; benchmarks/results/coreset.json.

Reference: Liu & Mirzasoleiman, "Data-Efficient Augmentation for Training Neural Networks", NeurIPS 2022, §4; greedy
keeps 1 − 1/e of the optimum (Nemhauser et al., 1978), lazily by Minoux (1978); sampled, Mirzasoleiman et al., "Lazier
Than Lazy Greedy", AAAI 2015; in parts, Mirzasoleiman et al., GreeDi, 2013. How this differs from the released code: the
budget is met exactly, and no n × n matrix is made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .._base import compiled
from .._base.names import SuggestsKeywords
from ..batch import Embedding
from .checks import check_budget, check_embedding
from .greedy import torch as greedy_torch
from .greedy.costs import Points, lexicographic, paired_costs, points_by_class, points_of

Similarity = Literal["distance", "exp"]
Method = Literal["exact", "stochastic"]

_PER_POINT = 4096  # bytes: a list of at most 448 members, or one of 256 and a working set of 64 rows
_FEW = 64  # samples of a class that is not worth a call of its own
_PROPOSED = 2  # in parts, each part proposes this many times its share of the budget,
_LEAST = 128  # and at least so many of a smaller budget
_WORTH = 0.75  # a second round needs the proposals to be at most this part of the points


class FacilityLocation(SuggestsKeywords):
    """``(embedding, budget, generator) -> (indices, weights)``: medoids in the order in which greedy picks them.

    * `similarity`: "distance" is C − ‖g_i − g_j‖, the paper's objective, with C the largest distance; "exp" is
      exp(−‖g_i − g_j‖ / dim), the objective of the released code, with dim the number of entries of g.
    * `method`: "exact" is greedy, lazily evaluated; "stochastic" takes for each pick the best of
      (n / budget) ln(1 / epsilon) random candidates, which keeps 1 − 1/e − epsilon of the optimum in expectation.
    * `memory`: bytes for the work on one embedding (about 4 KiB a sample). A larger embedding is split at random into
      parts of half that size, and each part proposes medoids. The proposals, at least twice the budget, each weighted
      by the number of samples that it represents, are then selected from in a second round. There is no second round
      where the budget is above 3/8 of the samples.
    * `epsilon`: in (0, 1), the accuracy of method="stochastic"; smaller is more accurate and slower.
    * `backend`: "numba" (embeddings on the CPU without features), "torch", or None for the fastest one that can run.

    Costs are float32, gains float64. Of equal gains the lexicographically smaller point is picked, of equal points the
    one with the lower index: permuting the samples permutes the picks. Raises ValueError for arguments out of range,
    and ImportError for backend="numba" where numba is not installed.
    """

    def __init__(
        self,
        similarity: Similarity = "distance",
        method: Method = "exact",
        *,
        memory: int = 128 << 20,
        epsilon: float = 0.01,
        backend: Literal["numba", "torch"] | None = None,
    ) -> None:
        for name, value, wanted in (
            ("similarity", similarity, ("distance", "exp")),
            ("method", method, ("exact", "stochastic")),
            ("backend", backend, (None, "numba", "torch")),
        ):
            if value not in wanted:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, wanted))}, got {value!r}")
        if not isinstance(memory, int) or memory < 1 << 20:
            raise ValueError(f"memory must be a number of bytes ≥ 1 MiB, got {memory!r}; write memory=128 << 20")
        if not 0.0 < epsilon < 1.0:
            raise ValueError(f"epsilon must lie in (0, 1), got {epsilon!r}; write epsilon=0.01")
        if backend == "numba" and not compiled.installed():
            raise ImportError('backend="numba" is not installed; run: pip install "smartaug[fast]"')
        self.similarity, self.method, self.memory = similarity, method, memory
        self.epsilon, self.backend = epsilon, backend

    def __call__(
        self, embedding: Embedding, budget: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Indices (budget,) int64 and weights (budget,) float32 with mean 1, on the CPU; (none, None) for budget 0.

        A weight is proportional to the number of samples that are nearest to this medoid, itself included; of equally
        near medoids the one picked first counts.
        generator: a CPU generator for samples and parts; None is one seeded with 0. Raises ValueError unless
        0 ≤ budget ≤ n, and for rows that are not finite.
        """
        size = check_embedding(embedding)
        check_budget(budget, size)
        if budget == 0:
            return torch.empty(0, dtype=torch.int64), None
        points, _ = points_of(embedding, self.similarity)
        order = lexicographic(points)  # what is picked depends on the points, not on where they stand
        points = points.take(order)
        work = _Work(self, self._backend_for(points), generator or torch.Generator().manual_seed(0))
        picks, owner = work.select(points, torch.ones(size, device=points.residual.device), budget)
        if owner is None:
            owner = work.backend.assigned(points, picks)
        counts = torch.bincount(owner.cpu(), minlength=budget).double()
        return order[picks.cpu()], (counts * (budget / size)).float()

    def by_class(
        self, embedding: Embedding, sizes: np.ndarray, budgets: np.ndarray, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Indices (Σ budgets,) and weights of the medoids of C classes, each selected as by a call of its own.

        embedding: the rows of one class after the other; sizes, budgets: (C,) int64; seeds: of each class's generator.
        Classes of a few samples are selected by one compiled loop over them, where the backend is numba.
        """
        check_embedding(embedding)
        width = embedding.residual.shape[1] + (0 if embedding.feature is None else embedding.feature.shape[1])
        small = (sizes > 0) & (budgets > 0) & (sizes <= min(_FEW, self._room(width)))
        if self.method != "exact" or not small.any() or not self._compiles(embedding):
            small = np.zeros_like(small)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        indices, weights = self._of_few(embedding, sizes, budgets, small)
        for c in np.flatnonzero((budgets > 0) & ~small).tolist():
            rows = slice(int(starts[c]), int(starts[c + 1]))
            part = Embedding(*(None if field is None else field[rows] for field in embedding))  # type: ignore[arg-type]
            index, weight = self(part, int(budgets[c]), torch.Generator().manual_seed(seeds[c]))
            assert weight is not None
            indices.append(index + int(starts[c]))
            weights.append(weight)
        return torch.cat([torch.empty(0, dtype=torch.int64), *indices]), torch.cat([torch.empty(0), *weights])

    def _of_few(
        self, embedding: Embedding, sizes: np.ndarray, budgets: np.ndarray, small: np.ndarray
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The part of `by_class` for the classes ``small`` (C,) bool: [indices], [weights], or empty lists."""
        if not small.any():
            return [], []
        code = np.repeat(np.arange(len(sizes)), sizes)
        rows = torch.from_numpy(np.flatnonzero(small[code]))
        sizes, budgets = sizes[small], budgets[small]
        points, exponents = points_by_class(embedding.residual.detach()[rows], sizes, self.similarity)
        code = np.repeat(np.arange(len(sizes)), sizes)
        whole = lexicographic(Points(points, None, 0.0)).numpy()
        order = torch.from_numpy(whole[np.argsort(code[whole], kind="stable")])  # within each class
        picks, owner = _compiled().exact_by_class(points[order], exponents, sizes, budgets)
        cut = np.repeat(np.cumsum(budgets) - budgets, sizes)
        counts = torch.bincount(owner + torch.from_numpy(cut), minlength=len(picks)).double()
        place = np.repeat(np.cumsum(sizes) - sizes, budgets)
        share = torch.from_numpy(np.repeat(budgets / sizes, budgets))
        return [rows[order[picks + torch.from_numpy(place)]]], [(counts * share).float()]

    def cost(self, embedding: Embedding, indices: Tensor) -> float:
        """Σ_i min_{j ∈ indices} (sim(i, i) − sim(i, j)): what selection lowers; the objective is a constant minus this.

        Raises ValueError for an empty selection.
        """
        check_embedding(embedding)
        if len(indices) == 0:
            raise ValueError("indices is empty, and nothing stands for the samples; select at least one")
        points, scale = points_of(embedding, self.similarity)
        picks = indices.to(points.residual.device)
        owner = self._backend_for(points).assigned(points, picks)
        return scale * float(paired_costs(points, picks[owner]).double().sum())

    def _compiles(self, embedding: Embedding) -> bool:
        """Whether the compiled backend takes embeddings like this one, and many classes of them at once."""
        feature = None if embedding.feature is None else embedding.feature[:1]
        if self._backend_for(Points(embedding.residual[:1], feature, 0.0)) is greedy_torch:
            return False
        try:
            _compiled_by_class()
        except compiled.CannotCompile as error:
            compiled.give_up(error)
            return False
        return True

    def _room(self, width: int) -> int:
        """How many points of ``width`` columns are selected from at a time."""
        return max(2, self.memory // (_PER_POINT + 8 * width))

    def _backend_for(self, points: Points) -> ModuleType:
        device, fits = points.residual.device, points.residual.device.type == "cpu" and points.feature is None
        if self.backend == "numba" and not fits:
            what = "features" if points.feature is not None else f"embeddings on {device}"
            raise ValueError(f'backend="numba" does not take {what}; leave backend=None')
        against = compiled.refused()
        if self.backend == "numba" and against is not None:
            raise ValueError(f'backend="numba" cannot run here: {against}; leave backend=None')
        if fits and self.backend != "torch" and against is None:
            try:
                return _compiled()
            except compiled.CannotCompile as error:
                if self.backend == "numba":
                    raise
                compiled.give_up(error)
        return greedy_torch

    def __repr__(self) -> str:
        return f"FacilityLocation({self.similarity!r}, {self.method!r}, memory={self.memory}, epsilon={self.epsilon})"


class _Work:
    """One selection: the settings, the backend and the generator."""

    def __init__(self, settings: FacilityLocation, backend: ModuleType, generator: torch.Generator) -> None:
        self.settings, self.backend, self.generator = settings, backend, generator

    def select(self, points: Points, mass: Tensor, budget: int) -> tuple[Tensor, Tensor | None]:
        """(picks (budget,), owner (n,): the pick that represents each point; None where parts were selected from)."""
        width = points.residual.shape[1] + (0 if points.feature is None else points.feature.shape[1])
        room = self.settings._room(width)
        if points.size <= room:
            return self._greedy(points, mass, budget, self.generator)
        parts = -(-points.size // (room // 2))  # two at a time
        proposed = max(_PROPOSED * budget, parts * min(budget, _LEAST))
        again = proposed <= _WORTH * points.size
        picks, counts = self._proposals(points, mass, proposed if again else budget, parts)
        if again:
            second, _ = self.select(points.take(picks), counts, budget)
            picks = picks[second]
        return picks, None

    def _greedy(self, points: Points, mass: Tensor, budget: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.settings.method == "exact":
            return self.backend.exact(points, mass, budget)
        samples = min(points.size, math.ceil(points.size / budget * math.log(1 / self.settings.epsilon)))
        places = torch.rand(budget, samples, dtype=torch.float64, generator=generator)
        return self.backend.stochastic(points, mass, places)

    def _proposals(self, points: Points, mass: Tensor, budget: int, parts: int) -> tuple[Tensor, Tensor]:
        """(picks (budget,), mass (budget,) that each represents); each of ``parts`` random parts proposes its share."""
        shuffled = torch.randperm(points.size, generator=self.generator).to(points.residual.device)
        pieces = [piece.sort().values for piece in shuffled.tensor_split(parts)]
        ends = [budget * sum(map(len, pieces[:number])) // points.size for number in range(parts + 1)]
        shares = [after - before for before, after in itertools.pairwise(ends)]
        seeds = torch.randint(1 << 62, (parts,), generator=self.generator).tolist()

        def propose(rows: Tensor, share: int, seed: int) -> tuple[Tensor, Tensor]:
            own = torch.Generator().manual_seed(seed)
            chosen, owner = self._greedy(points.take(rows), mass[rows], share, own)
            return rows[chosen], torch.zeros(share, device=mass.device).index_add_(0, owner, mass[rows])

        # compiled code releases the interpreter's lock, so that threads run at once
        at_once = 2 if self.backend is not greedy_torch and torch.get_num_threads() > 1 else 1
        jobs = [part for part in zip(pieces, shares, seeds, strict=True) if part[1]]
        with ThreadPoolExecutor(at_once, thread_name_prefix="smartaug") as pool:
            made = list(pool.map(lambda part: propose(*part), jobs))
        picks, counts = zip(*made, strict=True)
        return torch.cat(picks), torch.cat(counts)


@lru_cache(maxsize=1)
def _compiled() -> ModuleType:
    """The compiled backend; the first call imports numba."""
    with compiled.compiling("selection", 10):
        from .greedy import numba as greedy_numba

        points, _ = points_of(Embedding(torch.zeros(2, 1)), "distance")
        greedy_numba.assigned(points, greedy_numba.exact(points, torch.ones(2), 1)[0])
    return greedy_numba


@lru_cache(maxsize=1)
def _compiled_by_class() -> None:
    """Compile the loop over many classes, if that was not done before."""
    backend, one = _compiled(), np.ones(1, np.int64)
    with compiled.compiling("selection of many classes", 10):
        backend.exact_by_class(torch.zeros(2, 1), np.zeros(1), 2 * one, one)
