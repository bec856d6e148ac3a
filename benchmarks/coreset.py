"""How long facility location takes, how much memory, and whether it loses anything.

Method: residuals p − y of random logits, as a half-trained network of 10 classes gives them, and for one class also
normal points in 10 dimensions, where lists are longer. One class: exact greedy
by submodlib, by apricot, by a plain lazy greedy in NumPy, and by ours; every repeat runs all of them in turn in one
process, on one thread. The rivals get the similarity matrix ready made, ours starts from the embedding. Objective:
Σ_i max_j (C − ‖g_i − g_j‖) in float64, C the largest distance. Memory: what a selection adds to the highest resident
size of a fresh process (Linux) after a small warm-up, the similarity matrix included where one is needed. CIFAR-10
size: from logits to indices and weights, the sum over its 10 classes. Many classes: 30 % of 200,000 samples that are
drawn among 100,000 classes, from their embeddings to indices. A million: the same sum on {million} samples,
once, beside the objective that the same number of parts reaches on 20,000 samples. Compiling is never counted: it
happens once on a machine.
"""

from __future__ import annotations

import heapq
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import smartaug

if __package__:
    from benchmarks import harness
else:
    import harness

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # which apricot goes by
CLASSES = 10
Picks = list[int]


def logits(size: int, seed: int = 0) -> Tensor:
    """(size, 10) of samples of class 0, from well known to confused."""
    generator = torch.Generator().manual_seed(seed)
    made = 2 * torch.randn(size, CLASSES, generator=generator)
    made[:, 0] += 4 * torch.rand(size, generator=generator)
    return made


def residual(made: Tensor) -> Tensor:
    rows = made.softmax(1)
    rows[:, 0] -= 1
    return rows


def similarity_of(rows: Tensor) -> np.ndarray:
    """(n, n) float32 C − ‖g_i − g_j‖."""
    distance = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    return (distance.max() - distance).numpy()


# --- contestants: (residual, similarity, budget) -> picks ------------------------------------------------------------


def by_submodlib(rows: Tensor, similarity: np.ndarray, budget: int) -> Picks:
    import scipy.sparse

    scipy.sparse.csr = scipy.sparse  # where submodlib-py 0.0.3 looks for csr_matrix
    import submodlib

    function = submodlib.FacilityLocationFunction(n=len(rows), mode="dense", sijs=similarity, separate_rep=False)
    return [pick for pick, _ in function.maximize(budget=budget, optimizer="LazyGreedy", show_progress=False)]


def by_apricot(rows: Tensor, similarity: np.ndarray, budget: int) -> Picks:
    import apricot

    made = apricot.FacilityLocationSelection(budget, metric="precomputed", optimizer="lazy").fit(similarity)
    return made.ranking.tolist()


def by_numpy(rows: Tensor, similarity: np.ndarray, budget: int) -> Picks:
    served = np.zeros(len(similarity), np.float32)
    bounds = [(-float(gain), j) for j, gain in enumerate(similarity.sum(0, dtype=np.float64))]
    heapq.heapify(bounds)
    picks: Picks = []
    fresh = [-1] * len(similarity)
    while len(picks) < budget:
        gain, j = bounds[0]
        if fresh[j] == len(picks):
            heapq.heappop(bounds)
            picks.append(j)
            np.maximum(served, similarity[j], out=served)
        else:
            fresh[j] = len(picks)
            gain = -float(np.maximum(similarity[j] - served, 0).sum(dtype=np.float64))
            heapq.heapreplace(bounds, (gain, j))
    return picks


def ours(**settings: Any) -> Callable[[Tensor, Any, int], Picks]:
    def select(rows: Tensor, similarity: Any, budget: int) -> Picks:
        indices, _ = smartaug.FacilityLocation(**settings)(smartaug.Embedding(rows), budget)
        return indices.tolist()

    return select


RIVALS = {"submodlib, LazyGreedy": by_submodlib, "apricot, lazy": by_apricot, "NumPy, lazy": by_numpy}
OURS = {
    "smartaug, numba": ours(backend="numba"),
    "smartaug, torch": ours(backend="torch"),
    "smartaug, numba, stochastic": ours(backend="numba", method="stochastic"),
}
ALL = {**RIVALS, **OURS}


# --- one class -------------------------------------------------------------------------------------------------------


def objective(similarity: np.ndarray, picks: Picks) -> float:
    return float(similarity[picks].max(0).sum(dtype=np.float64))


def points(kind: str, size: int) -> Tensor:
    """(size, 10) "residuals" or "normal"."""
    return residual(logits(size)) if kind == "residuals" else torch.randn(size, 10, generator=torch.Generator())


def one_class(kind: str, size: int, share: float, names: list[str], repeats: int, threads: int) -> dict[str, Any]:
    """Seconds, objective and memory of each contestant, and how many times faster ours is."""
    rows, budget = points(kind, size), round(share * size)
    similarity = similarity_of(rows)
    picks = {name: ALL[name](rows, similarity, budget) for name in names}  # warms up, too
    figures: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            torch.set_num_threads(threads)  # apricot leaves another number behind
            started = time.perf_counter()
            ALL[name](rows, similarity, budget)
            figures[name].append(time.perf_counter() - started)
    best = objective(similarity, picks["smartaug, numba"])
    told: dict[str, Any] = {}
    for name in names:
        ratios = [theirs / own for theirs, own in zip(figures[name], figures["smartaug, numba"], strict=True)]
        told[name] = {
            "seconds": harness.summary(figures[name], 3),
            "times ours": harness.summary(ratios, 3),
            "objective over ours": round(objective(similarity, picks[name]) / best, 9),
            "MiB added": round(peak(name, size, budget), 1),
        }
        row = told[name]
        timed = f"{row['seconds']['median']:8.3f} s  ×{row['times ours']['median']:<6g}"
        print(
            f"{kind:9} {size:7} {share:4.0%}  {name:28} {timed} objective {row['objective over ours']:.7f}  "
            f"{row['MiB added']:7.1f} MiB",
            flush=True,
        )
    return told


def added_memory(name: str, size: int, budget: int) -> float:
    """MiB that a selection adds to this process's highest resident size."""
    small = residual(logits(300))
    ALL[name](small, similarity_of(small), 30)
    rows = residual(logits(size))
    before = _highest()
    ALL[name](rows, similarity_of(rows) if name in RIVALS else None, budget)
    return (_highest() - before) / 2**20


def _highest() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def peak(name: str, size: int, budget: int) -> float:
    """`added_memory` in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--peak", name]
    done = subprocess.run(
        [*command, "--size", str(size), "--budget", str(budget)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-1000:]}")
    return float(done.stdout.split()[-1])


# --- whole data sets -------------------------------------------------------------------------------------------------


def all_classes(made: list[Tensor], share: float, **settings: Any) -> float:
    """Seconds from logits to indices and weights, all classes one after the other."""
    select = smartaug.FacilityLocation(**settings)
    started = time.perf_counter()
    for rows in made:
        select(smartaug.Embedding(residual(rows)), round(share * len(rows)))
    return time.perf_counter() - started


def cifar_size(repeats: int, threads: int) -> dict[str, Any]:
    """50,000 samples of 10 classes, 10 %."""
    made = [logits(5000, seed) for seed in range(CLASSES)]
    torch.set_num_threads(threads)
    seconds = [all_classes(made, 0.1) for _ in range(repeats + 1)][1:]
    told = {"seconds, sum over classes": harness.summary(seconds, 3), "threads": threads}
    print("50,000 samples, 10 classes, 10 %:", told, flush=True)
    return told


def many_classes(size: int, classes: int, repeats: int, threads: int) -> dict[str, Any]:
    """30 % of ``size`` samples drawn among ``classes``, by each criterion, as a loader selects."""
    from smartaug.coreset import MaxLoss, OrderDP, RandomSubset, pick

    torch.set_num_threads(threads)
    draw = torch.Generator().manual_seed(0)
    groups = pick.classes(torch.randint(classes, (size,), generator=draw).numpy())
    whole = smartaug.Embedding(torch.randn(size, 29, generator=draw), None, torch.rand(size, generator=draw))
    quota = pick.split(round(0.3 * size), groups, False)

    def rows(chosen: np.ndarray) -> smartaug.Embedding:
        part = torch.from_numpy(chosen)
        assert whole.loss is not None
        return smartaug.Embedding(whole.residual[part], None, whole.loss[part])

    told: dict[str, Any] = {"classes with a sample": len(groups.names), "threads": threads}
    for select in (smartaug.FacilityLocation(), MaxLoss(), OrderDP(), RandomSubset()):
        seconds = []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            pick.chosen(select, groups, quota, np.ones(size, bool), rows, 0, 0)
            seconds.append(time.perf_counter() - started)
        told[type(select).__name__] = harness.summary(seconds[1:], 3)
    print(f"{size:,} samples, {classes:,} classes, 30 %:", told, flush=True)
    return told


def million(size: int, threads: int) -> dict[str, Any]:
    """Partitioned selection of 10 %, and what parts cost in objective on a subsample that can be done whole."""
    torch.set_num_threads(threads)
    made = [logits(size // CLASSES, seed) for seed in range(CLASSES)]
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident size begins anew
    before = _highest()
    seconds = all_classes(made, 0.1)
    added = (_highest() - before) / 2**20
    rows = residual(made[0][:20000])
    embedding, whole = smartaug.Embedding(rows), smartaug.FacilityLocation(memory=1 << 30)
    per_point = 4096 + 8 * CLASSES
    parts = -(-(size // CLASSES) // (smartaug.FacilityLocation().memory // per_point // 2))
    parted = smartaug.FacilityLocation(memory=max(1 << 20, 2 * -(-20000 // parts) * per_point))
    budget = len(rows) // 10
    costs = [select.cost(embedding, select(embedding, budget)[0]) for select in (parted, whole)]
    random = whole.cost(embedding, torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:budget])
    largest = float(max(torch.cdist(block, rows).max() for block in rows.split(1000))) * len(rows)
    told = {
        "seconds, sum over classes": round(seconds, 1),
        "threads": threads,
        "parts a class": parts,
        "MiB added": round(added, 1),
        "objective over exact, 20,000": round((largest - costs[0]) / (largest - costs[1]), 5),
        "cost over exact, 20,000": round(costs[0] / costs[1], 4),
        "cost over exact, 20,000, at random": round(random / costs[1], 4),
    }
    print(f"{size:,} samples, 10 classes, 10 %:", told, flush=True)
    return told


def main() -> None:
    defaults = {"million": 1_000_000, "both": 2, "peak": "", "size": 5000, "budget": 1500}
    options = harness.arguments(__doc__, **defaults)
    if options.peak:
        print(added_memory(options.peak, options.size, options.budget))
        return
    results: dict[str, Any] = {
        "one class of 5,000, 30 %": one_class("residuals", 5000, 0.3, list(ALL), options.repeats, options.threads),
        "5,000 normal points, 30 %": one_class("normal", 5000, 0.3, list(ALL), options.repeats, options.threads),
        "one class of 20,000, 10 %": one_class(
            "residuals",
            20000,
            0.1,
            ["smartaug, numba", "smartaug, numba, stochastic"],
            options.repeats,
            options.threads,
        ),
        "50,000, 10 classes, 10 %": cifar_size(options.repeats, options.threads),
        f"50,000, 10 classes, 10 %, {options.both} threads": cifar_size(options.repeats, options.both),
    }
    results["200,000, 100,000 classes, 30 %"] = many_classes(200_000, 100_000, options.repeats, options.threads)
    if options.million:
        results[f"{options.million:,}, 10 classes, 10 %"] = million(options.million, options.both)
    method = (__doc__ or "").format(million=f"{options.million:,}")
    print(harness.write("coreset", method, results, packages=("numba", "submodlib-py", "apricot-select")))


if __name__ == "__main__":
    main()
