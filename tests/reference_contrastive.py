"""Slow, obvious twins of what the package does with pairs: one pair, and one reverse pass, at a time."""

import itertools
import math

import torch


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


def jest(scores, first, chunk, count, pick):
    """The rows that chunked sampling picks from (n, n) scores, each chunk by ``pick(logits over rows, size)``."""
    chosen = list(first)
    while len(chosen) < count:
        logits = []
        for i in range(len(scores)):
            terms = sum(float(scores[i, k]) + float(scores[k, i]) for k in chosen)
            logits.append(-math.inf if i in chosen else float(scores[i, i]) + terms)
        chosen += pick(torch.tensor(logits, dtype=torch.float64), min(chunk, count - len(chosen)))
    return chosen
