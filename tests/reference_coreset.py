"""Facility location, slow and obvious: gradients, all distances and all gains are written out, in float64."""

import itertools
import statistics

import torch


def distances(embedding, similarity="distance"):
    """(n, n) costs of letting j stand for i."""
    gradients = embedding.residual.double()
    if embedding.feature is not None:
        feature = torch.cat([embedding.feature.double(), torch.ones(len(gradients), 1)], 1)
        gradients = torch.einsum("nk,nd->nkd", gradients, feature).flatten(1)
    apart = (gradients[:, None] - gradients[None]).norm(dim=2)
    return apart if similarity == "distance" else 1 - torch.exp(-apart / gradients.shape[1])


def gains(costs, picks):
    """(n,) what each candidate lowers Σ_i min_j c_ij by; before the first pick every c_ij counts as C."""
    nearest = costs[:, picks].amin(1) if picks else costs.max().expand(len(costs))
    gain = (nearest[:, None] - costs).clamp_min(0).sum(0)
    gain[picks] = -1.0
    return gain


def greedy(embedding, budget, similarity="distance"):
    """The picks in order; gains equal up to rounding go to the smaller row, equal rows to the lower index."""
    costs, picks = distances(embedding, similarity), []
    rows = embedding.residual.tolist()
    for _ in range(budget):
        gain = gains(costs, picks)
        best = (gain >= gain.max() - 1e-12 * costs.max()).nonzero().flatten().tolist()
        picks.append(min((j for j in best if j not in picks), key=lambda j: (rows[j], j)))
    return picks


def objective(costs, picks):
    """Σ_i max_{j ∈ picks} (C − c_ij) with C the largest cost."""
    return float((costs.max() - costs[:, picks]).amax(1).sum()) if len(picks) else 0.0


def best_objective(costs, budget):
    """The optimum, by looking at every subset."""
    return max(objective(costs, list(subset)) for subset in itertools.combinations(range(len(costs)), budget))


def cluster_sizes(costs, picks):
    """How many points are nearest to each pick; a pick to itself, and ties to the earlier pick."""
    owner = costs[:, picks].argmin(1)
    owner[picks] = torch.arange(len(picks))
    return torch.bincount(owner, minlength=len(picks))


def mixed_record(logits, parts, shares, soft, index, own, least=0.25):
    """{sample: (residual, loss)} of mixed rows, one sample and one row after the other, in float64.

    logits, soft: (B, K); parts, shares: (B, C); index: (B,) samples of the rows; own: (B,) their class numbers. Samples
    with less than ``least`` in all rows are left out; a row that is its own sample alone counts alone.
    """
    made = {}
    log_p = logits.double().log_softmax(1)
    for row, sample in enumerate(index.tolist()):
        if sample in made:
            continue
        if float(shares[row, 0]) > 1 - 1e-6:
            y = torch.zeros(logits.shape[1], dtype=torch.float64)
            y[own[row]] = 1
            made[sample] = (log_p[row].exp() - y, -log_p[row, own[row]])
            continue
        total, residual, loss = 0.0, torch.zeros(logits.shape[1], dtype=torch.float64), 0.0
        for other in range(len(index)):
            for part, share in zip(parts[other].tolist(), shares[other].tolist(), strict=True):
                if part != sample:
                    continue
                y, p = soft[other].double(), log_p[other].exp()
                total += share
                residual = residual + share * (p - y)
                loss += share * float(torch.where(y > 0, y * (y.log() - log_p[other]), 0.0).sum())
        if total >= least:
            made[sample] = (residual / total, torch.tensor(loss / total, dtype=torch.float64))
    return made


def windows_kept(losses, windows, before, drawn, back, prune):
    """RePB's rule sample by sample: {sample: whether it is in the next epoch}. losses: None where unknown."""
    kept = {}
    for i, loss in enumerate(losses):
        if not before[i]:
            kept[i] = back[i] < 1 - prune
            continue
        mine = [other for other, w in zip(losses, windows, strict=True) if w == windows[i] and other is not None]
        easy = loss is not None and loss < sum(mine) / len(mine)
        kept[i] = not (easy and drawn[i] < prune)
    return kept


def alignment(losses, reference):
    """Pearson's correlation of the known losses (None: unknown) with the reference at the same epochs, or None."""
    pairs = [(a, b) for a, b in zip(losses, reference, strict=True) if a is not None]
    if len(pairs) < 3 or len({a for a, _ in pairs}) == 1 or len({b for _, b in pairs}) == 1:
        return None
    return statistics.correlation(*zip(*pairs, strict=True))
