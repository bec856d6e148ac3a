"""Slow, obvious twins of magnitudes that depend on the sample, and of MetaAugment's table, in Python's own numbers."""

import itertools
import math


def softmax(logits):
    largest = max(logits)
    powers = [math.exp(value - largest) for value in logits]
    return [power / sum(powers) for power in powers]


def entropy_level(logits):
    """1 − H(p) / log K of one row of logits."""
    p = softmax(logits)
    entropy = -sum(value * math.log(value) for value in p if value > 0)
    return 1 - entropy / math.log(len(p))


def cosine_level(logits, label):
    """cos(p, y)^(2 / log K) of one row of logits, ``label`` a distribution."""
    p = softmax(logits)
    dot = sum(a * b for a, b in zip(p, label, strict=True))
    lengths = math.sqrt(sum(a * a for a in p)) * math.sqrt(sum(b * b for b in label))
    return (dot / lengths) ** (2 / math.log(len(p)))


def entropy_step(level, bins):
    return min(int((bins - 1) * level) + 1, bins - 1)


def band(level, bands):
    """Which of ``bands`` equal parts of [0, 1] a level lies in; one just below a border counts as on it."""
    return next(part for part in range(bands) if bands * level + 1e-5 < part + 1 or part == bands - 1)


def table(seen, operations, bands, epsilon, without):
    """p of every sequence of (operation, band): (1 − ε) v / Σv + ε / count, v the mean weight, 1 where never seen.

    seen: pairs of a sequence and a weight. Operations in ``without`` have no magnitude: their bands count as one.
    """
    cells = list(itertools.product(range(operations), range(bands)))
    sequences = list(itertools.product(cells, repeat=len(seen[0][0])))

    def same(drawn, cell):
        return drawn[0] == cell[0] and (drawn[1] == cell[1] or cell[0] in without)

    v = {}
    for sequence in sequences:
        weights = [weight for drawn, weight in seen if all(map(same, drawn, sequence))]
        v[sequence] = sum(weights) / len(weights) if weights else 1.0
    total = sum(v.values())
    return {sequence: (1 - epsilon) * v[sequence] / total + epsilon / len(v) for sequence in sequences}
