"""Greedy facility location in torch: everywhere, with features, on CUDA.

What: lazy greedy by batches. The candidates with the largest upper bounds form a working set and are evaluated
together; medoids are picked from it for as long as the best of it beats every bound outside. A candidate can only serve
the points that are nearer to it than to every medoid, and that set shrinks with every pick; once it has at most 256
members the candidate keeps it, with its costs, and is evaluated from that list alone. When: no numba, features, or
embeddings on CUDA. Cost: two passes over all pairs in blocks, then mostly lists; about 4 KiB a point; one wait for the
device a pick.

Gains are float64 sums of differences of float32 costs: exact but for extreme ranges, so that equal gains are seen as
equal, and go to the lower index.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .costs import Points, costs

WORKING_SET = 64
LONGEST = 256  # members of a list, 8 bytes each


def exact(points: Points, mass: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """(picks (budget ≥ 1,), owner (n,)) int64: the greedy medoids in order, and which of them represents each point.

    mass: (n,) float32, how often each point counts.
    """
    state = _Greedy(points, mass, budget)
    blocks = torch.arange(points.size, device=mass.device).split(WORKING_SET)
    first = torch.cat([state.total(block) for block in blocks]).argmin()[None]
    state.serve(state.look(first), 0)
    bound = torch.cat([state.gains(state.look(block)) for block in blocks])
    while state.made < budget:
        bound[state.picks[: state.made]] = -1.0
        members = bound.topk(min(WORKING_SET, points.size - state.made)).indices.sort().values
        outside = bound.index_fill(0, members, -1.0)
        # one transfer for both; an index is exact in float64 up to 2⁵³
        rival, rival_at = torch.stack([outside.max(), outside.argmax().double()]).tolist()
        look = state.look(members)
        for _ in range(len(members)):
            gain = state.gains(look)
            bound[members] = gain
            place = gain.argmax()
            best, at = torch.stack([gain[place], members[place].double()]).tolist()
            # equal gains go to the lower index, wherever it stands
            if state.made == budget or (best, -at) < (rival, -rival_at):
                break
            state.serve(look, int(place))
    return state.picks, state.owner[:-1]


def stochastic(points: Points, mass: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """As `exact`, but each pick is the best of a random sample. places: (budget, s) float64 in [0, 1) on the CPU.

    Row t samples the candidates at the positions ⌊places · left⌋ of those left.
    """
    state = _Greedy(points, mass, len(places))
    left = torch.arange(points.size, device=mass.device)
    for t, row in enumerate(places):
        count = points.size - t
        where = (row * count).long().unique().to(left.device)
        sample, order = left[where].sort()
        look = state.look(sample)
        place = int((-state.total(sample) if t == 0 else state.gains(look)).argmax())
        state.serve(look, place)
        left[where[order[place]]] = left[count - 1]  # the last one takes the place of the pick
    return state.picks, state.owner[:-1]


def assigned(points: Points, picks: Tensor) -> Tensor:
    """(n,) int64: which of ``picks`` (k,) represents each point: the first of the nearest, a pick itself."""
    rows = max(1, (WORKING_SET * points.size) // max(len(picks), 1))
    blocks = torch.arange(points.size, device=points.residual.device).split(rows)
    owner = torch.cat([costs(points, block, picks).argmin(1) for block in blocks])
    owner[picks] = torch.arange(len(picks), device=owner.device)
    return owner


class _Candidates(NamedTuple):
    """Candidates (b,) evaluated together: which places have a list, which have none, and the costs of those."""

    members: Tensor
    listed: Tensor
    dense: Tensor
    rows: Tensor


class _Greedy:
    """The medoids so far: ``made`` of ``picks``, and each point's cost ``nearest`` and medoid ``owner``.

    One point more than there are, of mass 0 and served already, fills the lists up.
    """

    def __init__(self, points: Points, mass: Tensor, budget: int) -> None:
        size, device = points.size, mass.device
        self.points, self.made = points, 0
        self.mass = torch.cat([mass.double(), torch.zeros(1, device=device)])
        self.picks = torch.zeros(budget, dtype=torch.int64, device=device)
        self.nearest = torch.full((size + 1,), torch.inf, device=device)
        self.nearest[size] = 0.0
        self.owner = torch.zeros(size + 1, dtype=torch.int64, device=device)
        self._open = torch.ones(size, dtype=torch.bool, device=device)
        self._known = torch.zeros(size, dtype=torch.bool, device=device)
        room = min(LONGEST, size)
        self._where = torch.empty(size, room, dtype=torch.int32, device=device)
        self._costs = torch.empty(size, room, device=device)

    def total(self, members: Tensor) -> Tensor:
        """(b,) float64 Σ_i mass_i cost_ij of the candidates."""
        return costs(self.points, members, slice(None)).double() @ self.mass[:-1]

    def look(self, members: Tensor) -> _Candidates:
        """Make ``members`` (b,) ready to be evaluated: lists for those whose list is short enough."""
        new = members[~self._known[members]]
        rows = costs(self.points, new, slice(None))
        if len(new):
            active = rows < self.nearest[:-1]
            short = (active.sum(1) <= LONGEST).nonzero().flatten()
            self._keep(new[short], rows[short], active[short])
        known = self._known[members]
        rows = rows[~self._known[new]]
        return _Candidates(members, known.nonzero().flatten(), (~known).nonzero().flatten(), rows)

    def _keep(self, members: Tensor, rows: Tensor, active: Tensor) -> None:
        count = active.sum(1)
        row, column = active.nonzero(as_tuple=True)
        # the position of each member in its own list: its number in all less those of the lists before
        place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
        self._where[members] = self.points.size
        self._costs[members] = torch.inf
        self._where[members[row], place] = column.int()
        self._costs[members[row], place] = rows[row, column]
        self._known[members] = True

    def gains(self, look: _Candidates) -> Tensor:
        """(b,) float64 Σ_i mass_i max(nearest_i − cost_ij, 0); −1 for those that are medoids."""
        gain = torch.empty(len(look.members), dtype=torch.float64, device=self.mass.device)
        if len(look.dense):
            gain[look.dense] = _saved(self.nearest[:-1], look.rows) @ self.mass[:-1]
        if len(look.listed):
            listed = look.members[look.listed]
            where = self._where[listed]
            saved = _saved(self.nearest[where], self._costs[listed])
            gain[look.listed] = (saved * self.mass[where]).sum(1)
        return gain.masked_fill_(~self._open[look.members], -1.0)

    def serve(self, look: _Candidates, place: int) -> None:
        """Make the candidate at ``place`` a medoid; it always represents itself."""
        pick = look.members[place]
        if bool(self._known[pick]):
            where: Tensor | slice = self._where[pick]
            row = self._costs[pick]
        else:
            where = slice(self.points.size)
            row = look.rows[(look.dense == place).nonzero()[0, 0]]
        before = self.nearest[where]
        nearer = row < before
        self.nearest[where] = torch.where(nearer, row, before)
        self.owner[where] = torch.where(nearer, self.made, self.owner[where])
        self.nearest[pick] = 0.0
        self.owner[pick] = self.made
        self.picks[self.made] = pick
        self._open[pick] = False
        self.made += 1


def _saved(nearest: Tensor, rows: Tensor) -> Tensor:
    """max(nearest − cost, 0), float64: differences of float32 numbers, without rounding."""
    return rows.double().neg_().add_(nearest).clamp_(min=0)
