"""Greedy facility location in torch: everywhere, with features, on CUDA.

What: lazy greedy by batches. The candidates with the largest upper bounds form a working set, whose costs are computed
together by matrix products; medoids are picked from it for as long as the best of it beats every bound outside. Costs
are never stored for more than the working set. When: no numba, features, or embeddings on CUDA. Cost: two passes over
all pairs in blocks, then working set × n per pick; one wait for the device per pick.

Gains are float64 sums of float32 costs. Ties go to the lowest index.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .costs import Points, costs

WORKING_SET = 64


def exact(points: Points, mass: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """(picks (budget ≥ 1,), owner (n,)) int64: the greedy medoids in order, and which of them stands for each point.

    mass: (n,) float32, how often each point counts.
    """
    size, device = points.size, points.residual.device
    everything = slice(None)
    blocks = torch.arange(size, device=device).split(WORKING_SET)
    total = torch.cat([_weighted(costs(points, block, everything), mass) for block in blocks])
    state = _State(points, mass, budget)
    state.serve(total.argmin(), costs(points, total.argmin()[None], everything)[0])
    bound = torch.cat([_weighted(state.saved(costs(points, block, everything)), mass) for block in blocks])
    while state.made < budget:
        bound[state.picks[: state.made]] = -1.0
        order = bound.argsort(descending=True, stable=True)
        members = order[: min(WORKING_SET, size - state.made)].sort().values
        after = order[len(members) : len(members) + 1]
        beaten, beaten_at = (bound[after].item(), after.item()) if len(after) else (-1.0, size)
        rows = costs(points, members, everything)
        _from_working_set(state, bound, members, rows, float(beaten), int(beaten_at))
    return state.picks, state.owner


def _from_working_set(
    state: _State, bound: Tensor, members: Tensor, rows: Tensor, beaten: float, beaten_at: int
) -> None:
    """Pick from the working set until its best falls behind (beaten, beaten_at), the best bound outside."""
    open_members = torch.ones(len(members), dtype=torch.bool, device=members.device)
    for _ in range(len(members)):
        gain = _weighted(state.saved(rows), state.mass)
        gain = torch.where(open_members, gain, -1.0)
        bound[members] = gain
        place = gain.argmax()
        best, at = torch.stack([gain[place], members[place].double()]).tolist()
        if state.made == len(state.picks) or best < beaten or (best == beaten and at > beaten_at):
            return
        state.serve(members[place], rows[place])
        open_members[place] = False


def stochastic(points: Points, mass: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """As `exact`, but each pick is the best of a random sample. places: (budget, s) float64 in [0, 1) on the CPU.

    Row t samples the candidates at the positions ⌊places · left⌋ of those left.
    """
    state = _State(points, mass, len(places))
    left = torch.arange(points.size, device=points.residual.device)
    for t, row in enumerate(places):
        count = points.size - t
        where = (row * count).long().unique().to(left.device)
        sample, order = left[where].sort()
        rows = costs(points, sample, slice(None))
        gain = -_weighted(rows, mass) if t == 0 else _weighted(state.saved(rows), mass)
        place = gain.argmax()
        state.serve(sample[place], rows[place])
        left[where[order[place]]] = left[count - 1]
    return state.picks, state.owner


def assigned(points: Points, picks: Tensor) -> Tensor:
    """(n,) int64: which of ``picks`` (k,) stands for each point; the first of the nearest, and a pick for itself."""
    rows = max(1, (WORKING_SET * points.size) // max(len(picks), 1))
    blocks = torch.arange(points.size, device=points.residual.device).split(rows)
    owner = torch.cat([costs(points, block, picks).argmin(1) for block in blocks])
    owner[picks] = torch.arange(len(picks), device=owner.device)
    return owner


class _State:
    """The medoids so far: ``made`` of ``picks``, each point's cost ``nearest`` and medoid ``owner``."""

    def __init__(self, points: Points, mass: Tensor, budget: int) -> None:
        device = points.residual.device
        self.mass, self.made = mass.double(), 0
        self.picks = torch.empty(budget, dtype=torch.int64, device=device)
        self.nearest = torch.full((points.size,), torch.inf, device=device)
        self.owner = torch.zeros(points.size, dtype=torch.int64, device=device)

    def saved(self, rows: Tensor) -> Tensor:
        """(b, n) what each candidate, with costs ``rows``, would save each point."""
        return (self.nearest - rows).clamp_min_(0)

    def serve(self, pick: Tensor, row: Tensor) -> None:
        """Make the candidate ``pick`` () with costs ``row`` (n,) a medoid; it stands for itself in any case."""
        nearer = row < self.nearest
        self.nearest = torch.where(nearer, row, self.nearest)
        self.owner.masked_fill_(nearer, self.made)
        self.nearest[pick] = 0.0
        self.owner[pick] = self.made
        self.picks[self.made] = pick
        self.made += 1


def _weighted(rows: Tensor, mass: Tensor) -> Tensor:
    """(b,) float64 Σ_i mass_i rows_bi."""
    return rows.double() @ mass.double()
