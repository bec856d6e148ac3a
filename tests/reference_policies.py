"""Slow, obvious twins of sample-aware magnitudes, MetaAugment's table and LiLAW, in Python's own numbers."""

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


# --- LiLAW -----------------------------------------------------------------------------------------------------------


def lilaw_weight(given, largest, alpha, beta, delta):
    """σ(α s − m) + σ(m − β s) + exp(−(δ s − m)² / 2)."""

    def sigmoid(value):
        return 1 / (1 + math.exp(-value))

    easy, hard = sigmoid(alpha * given - largest), sigmoid(-(beta * given - largest))
    return easy + hard + math.exp(-((delta * given - largest) ** 2) / 2)


def lilaw_step(logits, labels, scalars, lr, decay):
    """The three numbers one step later, by differences of the weighted validation loss."""

    def loss(values):
        total = 0.0
        for row, label in zip(logits, labels, strict=True):
            p = softmax(row)
            total += lilaw_weight(p[label], max(p), *values) * -math.log(p[label])
        return total / len(labels)

    moved = []
    for place, value in enumerate(scalars):
        up, down = ([*scalars[:place], value + by, *scalars[place + 1 :]] for by in (1e-5, -1e-5))
        moved.append(value - lr * ((loss(up) - loss(down)) / 2e-5 + decay * value))
    return max(moved[0], 1.0), moved[1], max(moved[2], moved[1])
