"""Compiled lazy greedy for facility location on the CPU: matrix-free, exact.

What: costs are computed from the points when they are needed, a column at a time, never stored as a matrix. A candidate
can only represent the points that are nearer to it than to every medoid, and that set shrinks with every pick; once it
has few enough members (256, or 448 of few points) the candidate keeps it, with its costs, and is evaluated from that
list alone. When: no features, numba installed, CPU. Cost: two passes over all pairs (over torch's number of threads),
then mostly lists; 2 to 4 KiB a point. The first call on a machine compiles for some seconds; later ones load the result
from numba's cache.

Gains are float64 sums of differences of float32 costs: exact but for extreme ranges, so that equal gains are seen as
equal, and go to the lower index.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..._base.compiled import kept
from .costs import Points

OPTIONS = {"nogil": True, "error_model": "numpy"}
WIDE = 512  # points a block: their scratch stays in the first-level cache
LONGEST, LONGER, SMALL = 256, 448, 8192  # members of a list, 8 bytes each; the second up to so many points


# "contract" allows fused multiply-adds and no other order of the sum: equal points get equal costs in every block
@njit(fastmath={"contract"}, **OPTIONS)
def _costs(points, exponent, j, first, last, into):
    """Costs of serving the points [first, last) by j: the distance d, or −expm1(−d · exponent) where that is > 0."""
    size, columns = last - first, points.shape[0]
    for t in range(size):
        into[t] = np.float32(0.0)
    k = 0
    while k + 4 <= columns:  # four at a time: the sum stays in a register
        row0, row1, row2, row3 = (
            points[k, first:last], points[k + 1, first:last], points[k + 2, first:last], points[k + 3, first:last],
        )  # fmt: skip
        own0, own1, own2, own3 = points[k, j], points[k + 1, j], points[k + 2, j], points[k + 3, j]
        for t in range(size):
            a, b, c, d = row0[t] - own0, row1[t] - own1, row2[t] - own2, row3[t] - own3
            into[t] = (((into[t] + a * a) + b * b) + c * c) + d * d
        k += 4
    while k < columns:
        row, own = points[k, first:last], points[k, j]
        for t in range(size):
            apart = row[t] - own
            into[t] += apart * apart
        k += 1
    if exponent == 0.0:
        for t in range(last - first):
            into[t] = np.sqrt(into[t])
    else:
        for t in range(last - first):
            # 1 − exp(−x) would lose the digits of a small x
            into[t] = -np.expm1(-exponent * np.sqrt(np.float64(into[t])))


# "reassoc" lets the sum run in several registers: of differences of float32 in float64 any order gives the same
@njit(fastmath={"reassoc", "nsz"}, **OPTIONS)
def _saved(costs, nearest, mass, size):
    """Σ mass · max(nearest − cost, 0) and how many terms are positive."""
    total, count = 0.0, 0
    for t in range(size):
        less = np.float64(nearest[t]) - np.float64(costs[t])
        positive = less > 0.0
        count += int(positive)
        total += less * mass[t] if positive else 0.0
    return total, count


@njit(fastmath={"reassoc", "nsz"}, **OPTIONS)
def _weighted(costs, mass, size):
    total = 0.0
    for t in range(size):
        total += np.float64(costs[t]) * mass[t]
    return total


@njit(**OPTIONS)
def _total(points, exponent, mass, j, costs):
    """Σ_i mass_i cost_ij."""
    size, total = points.shape[1], 0.0
    for block in range(0, size, WIDE):
        end = min(block + WIDE, size)
        _costs(points, exponent, j, block, end, costs)
        total += _weighted(costs, mass[block:end], end - block)
    return total


@kept(**OPTIONS)
def sums(points, exponent, mass, first, last, into):
    """into[j] = Σ_i mass_i cost_ij for the candidates [first, last). points: (K, n) float32."""
    costs = np.empty(WIDE, np.float32)
    for j in range(first, last):
        into[j] = _total(points, exponent, mass, j, costs)


@njit(**OPTIONS)
def _dense(points, exponent, mass, nearest, j, costs, where, kept):
    """The gain of j over all points; fills its list (where, kept), whose length is −1 when it is too long."""
    size, room = points.shape[1], where.size
    total, members = 0.0, 0
    for block in range(0, size, WIDE):
        end = min(block + WIDE, size)
        part = costs[block:end]
        _costs(points, exponent, j, block, end, part)
        saved, count = _saved(part, nearest[block:end], mass[block:end], end - block)
        total += saved
        members += count
    if members > room:
        return total, -1
    length = 0
    for i in range(size):
        if nearest[i] > costs[i]:
            where[length] = i
            kept[length] = costs[i]
            length += 1
    return total, length


@njit(**OPTIONS)
def _listed(mass, nearest, where, kept, length):
    """The gain of a candidate from its list, which loses the members that are served better by now."""
    total, left = 0.0, 0
    for t in range(length):
        i, cost = where[t], kept[t]
        less = np.float64(nearest[i]) - np.float64(cost)
        where[left] = i  # without a branch: written always, kept only where ``left`` moves on
        kept[left] = cost
        positive = less > 0.0
        left += int(positive)
        total += less * mass[i] if positive else 0.0
    return total, left


@kept(**OPTIONS)
def gains(points, exponent, mass, nearest, first, last, bound, where, kept, length):
    """bound[j] = Σ_i mass_i max(nearest_i − cost_ij, 0) for the candidates [first, last), and their lists."""
    costs = np.empty(points.shape[1], np.float32)
    for j in range(first, last):
        bound[j], length[j] = _dense(points, exponent, mass, nearest, j, costs, where[j], kept[j])


@njit(**OPTIONS)
def _before(bound, a, b):
    return bound[a] > bound[b] or (bound[a] == bound[b] and a < b)


@njit(**OPTIONS)
def _sink(heap, count, bound, place):
    """Restore the heap below ``place``: largest bound first, lowest index among equals."""
    moved = heap[place]
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        if child + 1 < count and _before(bound, heap[child + 1], heap[child]):
            child += 1
        if not _before(bound, heap[child], moved):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = moved


@njit(**OPTIONS)
def _serve(points, exponent, j, costs, nearest, owner, where, kept, length, number):
    """Make j the medoid ``number``: the points that it serves better become its own, and itself in any case."""
    if length >= 0:
        for t in range(length):
            i = where[t]
            if kept[t] < nearest[i]:
                nearest[i] = kept[t]
                owner[i] = number
    else:
        size = points.shape[1]
        for block in range(0, size, WIDE):
            end = min(block + WIDE, size)
            _costs(points, exponent, j, block, end, costs)
            for t in range(end - block):
                if costs[t] < nearest[block + t]:
                    nearest[block + t] = costs[t]
                    owner[block + t] = number
    nearest[j] = np.float32(0.0)
    owner[j] = number


@kept(**OPTIONS)
def serve(points, exponent, j, nearest, owner, number):
    """Make j the medoid ``number``, by a pass over all points."""
    none, nothing = np.empty(0, np.int32), np.empty(0, np.float32)
    _serve(points, exponent, j, np.empty(WIDE, np.float32), nearest, owner, none, nothing, -1, number)


@kept(**OPTIONS)
def lazy(points, exponent, mass, nearest, owner, bound, where, kept, length, picks, made):
    """Lazy greedy from the ``made`` picks on: fills picks. bound: upper bounds of the gains, −1 for what is picked."""
    size = points.shape[1]
    costs = np.empty(size, np.float32)
    heap = np.empty(size, np.int32)
    count = 0
    for j in range(size):
        if bound[j] >= 0.0:
            heap[count] = j
            count += 1
    for place in range(count // 2 - 1, -1, -1):
        _sink(heap, count, bound, place)
    fresh = np.full(size, -1, np.int32)  # the pick before which the bound was computed
    while made < picks.size:
        j = heap[0]
        if fresh[j] == made or bound[j] == 0.0:  # up to date, or as low as a gain can be: bounds only fall
            _serve(points, exponent, j, costs, nearest, owner, where[j], kept[j], length[j], made)
            picks[made] = j
            made += 1
            count -= 1
            heap[0] = heap[count]
        elif length[j] >= 0:
            bound[j], length[j] = _listed(mass, nearest, where[j], kept[j], length[j])
            fresh[j] = made
        else:
            bound[j], length[j] = _dense(points, exponent, mass, nearest, j, costs, where[j], kept[j])
            fresh[j] = made
        _sink(heap, count, bound, 0)


@njit(**OPTIONS)
def _one(rows, exponent, picks, owner):
    """`exact` of one class whose points, (K, n) float32, count once each: fills picks and owner."""
    size = rows.shape[1]
    mass, total = np.ones(size, np.float32), np.empty(size)
    costs, nearest = np.empty(size, np.float32), np.full(size, np.inf, np.float32)
    for j in range(size):
        total[j] = _total(rows, exponent, mass, j, costs)
    first, bound = np.argmin(total), np.empty(size)
    where, kept = np.empty((size, size), np.int32), np.empty((size, size), np.float32)
    length = np.empty(size, np.int32)
    _serve(rows, exponent, first, costs, nearest, owner, where[first], kept[first], -1, 0)
    for j in range(size):
        bound[j], length[j] = _dense(rows, exponent, mass, nearest, j, costs, where[j], kept[j])
    bound[first] = -1.0
    picks[0] = first
    lazy(rows, exponent, mass, nearest, owner, bound, where, kept, length, picks, 1)


@kept(**OPTIONS)
def several(points, exponents, starts, cuts, picks, owner):
    """`_one` of class after class. points: (n, K) float32; class c is [starts[c], starts[c + 1]) of them, and
    [cuts[c], cuts[c + 1]) of picks, which are rows within the class."""
    for c in range(exponents.size):
        first, last, cut, end = starts[c], starts[c + 1], cuts[c], cuts[c + 1]
        if end > cut:
            rows = np.ascontiguousarray(points[first:last].T)
            _one(rows, exponents[c], picks[cut:end], owner[first:last])


@kept(**OPTIONS)
def sampled(points, exponent, mass, places, nearest, owner, where, kept, length, picks):
    """Stochastic greedy: pick t is the best of the candidates at the positions ⌊places[t] · left⌋ of those left."""
    size = points.shape[1]
    costs = np.empty(size, np.float32)
    left = np.arange(size).astype(np.int32)
    bound = np.full(size, np.inf)
    fresh = np.full(size, -1, np.int32)
    length[:] = -1
    for t in range(picks.size):
        count = size - t
        best, gain, at = -1, -np.inf, -1
        for s in range(places.shape[1]):
            place = int(places[t, s] * count)
            j = left[place]
            # drawn before, or its bound, which only falls, cannot win against the best so far
            if fresh[j] == t or bound[j] < gain or (bound[j] == gain and j > best):
                continue
            fresh[j] = t
            if t == 0:
                own = -_total(points, exponent, mass, j, costs)
            else:
                if length[j] >= 0:
                    own, length[j] = _listed(mass, nearest, where[j], kept[j], length[j])
                else:
                    own, length[j] = _dense(points, exponent, mass, nearest, j, costs, where[j], kept[j])
                bound[j] = own
            if own > gain or (own == gain and j < best):
                best, gain, at = j, own, place
        _serve(points, exponent, best, costs, nearest, owner, where[best], kept[best], length[best], t)
        picks[t] = best
        left[at] = left[count - 1]  # the last one takes the place of the pick


@kept(**OPTIONS)
def assign(points, exponent, picks, first, last, owner):
    """owner[i] = which of ``picks`` costs least for the points [first, last), the first among equals."""
    costs, least = np.empty(WIDE, np.float32), np.empty(WIDE, np.float32)
    for block in range(first, last, WIDE):
        end = min(block + WIDE, last)
        least[:] = np.inf
        for number in range(picks.size):
            _costs(points, exponent, picks[number], block, end, costs)
            for t in range(end - block):
                if costs[t] < least[t]:
                    least[t] = costs[t]
                    owner[block + t] = number


# --- what is called from outside -------------------------------------------------------------------------------------


def exact(points: Points, mass: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """(picks (budget ≥ 1,), owner (n,)) int64: the greedy medoids in order, and which of them represents each point.

    mass: (n,) float32, how often each point counts.
    """
    rows, weights, size = _rows(points), mass.numpy(), points.size
    total, bound = np.empty(size), np.empty(size)
    _over_candidates(sums, size, (rows, points.exponent, weights), (total,))
    first = int(total.argmin())
    nearest, owner = np.full(size, np.inf, np.float32), np.zeros(size, np.int64)
    serve(rows, points.exponent, first, nearest, owner, 0)
    lists = _lists(size)
    _over_candidates(gains, size, (rows, points.exponent, weights, nearest), (bound, *lists))
    bound[first] = -1.0
    picks = np.full(budget, first, np.int64)
    lazy(rows, points.exponent, weights, nearest, owner, bound, *lists, picks, 1)
    return torch.from_numpy(picks), torch.from_numpy(owner)


def exact_by_class(
    residual: Tensor, exponents: np.ndarray, sizes: np.ndarray, budgets: np.ndarray
) -> tuple[Tensor, Tensor]:
    """(picks (Σ budgets,), owner (n,)) int64 of C classes at once, each as `exact` has them, with rows of its own.

    residual: (n, K) float32, the points of one class after the other, of a few each; exponents (C,) float64.
    """
    starts, cuts = (np.concatenate([[0], np.cumsum(counts)]) for counts in (sizes, budgets))
    picks, owner = np.empty(cuts[-1], np.int64), np.zeros(starts[-1], np.int64)
    several(np.ascontiguousarray(residual.numpy()), exponents, starts, cuts, picks, owner)
    return torch.from_numpy(picks), torch.from_numpy(owner)


def stochastic(points: Points, mass: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """As `exact`, but each pick is the best of a random sample. places: (budget, s) float64 in [0, 1).

    Row t samples the candidates at the positions ⌊places · left⌋ of those left.
    """
    size = points.size
    nearest, owner = np.full(size, np.inf, np.float32), np.zeros(size, np.int64)
    picks = np.empty(len(places), np.int64)
    sampled(_rows(points), points.exponent, mass.numpy(), places.numpy(), nearest, owner, *_lists(size), picks)
    return torch.from_numpy(picks), torch.from_numpy(owner)


def assigned(points: Points, picks: Tensor) -> Tensor:
    """(n,) int64: which of ``picks`` (k,) represents each point: the first of the nearest, a pick itself."""
    owner = np.empty(points.size, np.int64)
    _over_candidates(assign, points.size, (_rows(points), points.exponent, picks.numpy()), (owner,))
    owner[picks.numpy()] = np.arange(len(picks))
    return torch.from_numpy(owner)


def _rows(points: Points) -> np.ndarray:
    """(K, n) float32: a column of the embedding lies in one piece, so that neighbouring points fill a register."""
    return np.ascontiguousarray(points.residual.numpy().T)


def _lists(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    room = min(size, LONGER if size <= SMALL else LONGEST)
    return np.empty((size, room), np.int32), np.empty((size, room), np.float32), np.empty(size, np.int32)


def _over_candidates(
    kernel: Callable[..., None], size: int, given: tuple[np.ndarray | float, ...], made: tuple[np.ndarray, ...]
) -> None:
    """``kernel(*given, first, last, *made)`` over torch's number of threads."""
    threads = torch.get_num_threads() if size >= 2048 else 1
    if threads == 1:
        kernel(*given, 0, size, *made)
        return
    # four pieces a thread, since candidates differ in cost; each writes rows of its own, so the order does not matter
    cuts = [size * n // (4 * threads) for n in range(4 * threads + 1)]
    with ThreadPoolExecutor(threads, thread_name_prefix="smartaug") as pool:
        for done in [pool.submit(kernel, *given, *cut, *made) for cut in itertools.pairwise(cuts)]:
            done.result()
