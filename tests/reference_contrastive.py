"""Slow, obvious twins of what the package does with pairs: one pair, and one reverse pass, at a time."""

import itertools
import math

import torch
from torch.func import functional_call


def pair_losses(first, second, scale, soft=None):
    """ℓ_i = −½ Σ_k y_ik (log p_ik + log q_ik), with cosines by hand; soft=None is each pair's own label."""
    count = len(first)
    unit = [[row / row.norm() for row in rows] for rows in (first, second)]
    z = [[scale * (a * b).sum() for b in unit[1]] for a in unit[0]]
    losses = []
    for i in range(count):
        over_second = torch.stack(z[i])
        over_first = torch.stack([z[k][i] for k in range(count)])
        loss = 0.0
        for k in range(count):
            share = float(i == k) if soft is None else soft[i, k]
            log_p = over_second[k] - sum(v.exp() for v in over_second).log()
            log_q = over_first[k] - sum(v.exp() for v in over_first).log()
            loss = loss - share * (log_p + log_q) / 2
        losses.append(loss)
    return torch.stack(losses)


def pair_benefits(model, losses, inputs, direction):
    """B[i, k] = ⟨∇ ℓ_i(label k), g⟩ by K·K reverse passes. losses: (output, soft) -> (K,) values."""
    parameters = {name: part for name, part in model.named_parameters() if part.requires_grad}
    count = len(inputs[0])
    made = torch.zeros(count, count, dtype=torch.float64)
    output = model(*inputs)
    for i, k in itertools.product(range(count), range(count)):
        soft = torch.zeros(count, count, dtype=torch.float64)
        soft[i, k] = 1.0
        gradients = torch.autograd.grad(
            losses(output, soft)[i], list(parameters.values()), retain_graph=True, allow_unused=True
        )
        made[i, k] = sum(
            (gradient * direction[name]).sum()
            for name, gradient in zip(parameters, gradients, strict=True)
            if gradient is not None
        )
    return made


def pair_hypergradient(model, policy, seen, batch, held, scale, lr):
    """d L_val(ŵ(θ)) / dθ with ŵ = w − lr ∇_w Σ_i P_i ℓ_i / ΣP, by a second-order graph.

    batch, held: two inputs each.
    """
    parameters = dict(model.named_parameters())
    P = policy(*seen)
    losses = pair_losses(*functional_call(model, parameters, batch)[:2], scale(parameters))
    slopes = torch.autograd.grad(
        (P / P.sum() * losses).sum(), list(parameters.values()), create_graph=True, allow_unused=True
    )
    moved = {
        name: part if slope is None else part - lr * slope
        for (name, part), slope in zip(parameters.items(), slopes, strict=True)
    }
    value = pair_losses(*functional_call(model, moved, held)[:2], scale(moved)).mean()
    return torch.autograd.grad(value, list(policy.parameters()))


def jest(products, reference, sizes, noise, loss, ranks=1):
    """The rows that chunks of the given sizes pick from the products (n, n) of two models, row by row and pair by pair.

    sigmoid: the sum of s over all pairs of the row with itself and the rows drawn, s = nll − nll of the reference.
    softmax: −z_ii and half of both log-sums over the rows drawn, each less that of the reference. ranks: equal parts of
    the rows, in order, of which each draws ``sizes`` rows of its own, given those that all parts drew in earlier
    chunks; then a list of the rows of each part.
    """

    def nll(z, i, k):
        return math.log1p(math.exp(-float(z[i, k]) if i == k else float(z[i, k])))

    def of(z, i, chosen):
        if loss == "sigmoid":
            return nll(z, i, i) + sum(nll(z, i, k) + nll(z, k, i) for k in chosen)
        sums = [sum(math.exp(float(v)) for v in (z[i, chosen], z[chosen, i])[side]) for side in (0, 1)]
        return -float(z[i, i]) + sum(math.log(one) / 2 for one in sums if chosen)

    each = len(products) // ranks
    chosen = [[] for _ in range(ranks)]
    for chunk, size in enumerate(sizes):
        before = [row for own in chosen for row in own]
        for rank, own in enumerate(chosen):
            left = [i for i in range(rank * each, (rank + 1) * each) if i not in own]
            worth = {i: of(products, i, before) - of(reference, i, before) + float(noise[i, chunk]) for i in left}
            own += sorted(left, key=lambda i: -worth[i])[:size]
    return chosen[0] if ranks == 1 else chosen
