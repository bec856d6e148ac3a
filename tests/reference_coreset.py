"""Facility location, slow and obvious: gradients, all distances and all gains are written out, in float64."""

import itertools

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
