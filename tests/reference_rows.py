"""Slow twins of what is done to rows of features: one value after the other, in float64."""

import math

import torch


def swapped(rows, partner):
    """rows (B, F) or (B, T, F): value [i, ..., f] is that of row partner[i][f]."""
    made = rows.clone()
    for i in range(len(rows)):
        for f in range(rows.shape[-1]):
            made[i, ..., f] = rows[partner[i][f], ..., f]
    return made


def between(rows, partner, share, taken):
    """Numbers on the line from a row to its partner; categories are the partner's where ``taken`` (B, F) says so."""
    made = rows.clone()
    for i in range(len(rows)):
        other = rows[partner[i]]
        for f in range(rows.shape[-1]):
            if rows.is_floating_point():
                made[i, ..., f] = share[i] * rows[i, ..., f] + (1 - share[i]) * other[..., f]
            elif taken[i][f]:
                made[i, ..., f] = other[..., f]
    return made


def neighbours(numbers, categories, group, most):
    """For each row the rows of its group by rising SMOTE-NC distance, the ``most`` nearest; numbers (B, F) float64."""
    columns = [[float(row[f]) for row in numbers] for f in range(numbers.shape[1])]
    spreads = sorted(math.sqrt(sum((v - sum(c) / len(c)) ** 2 for v in c) / len(c)) for c in columns)
    differs = spreads[(len(spreads) - 1) // 2] ** 2 if spreads else 1.0
    found = []
    for i in range(len(group)):
        apart = []
        for j in range(len(group)):
            if i != j and group[i] == group[j]:
                far = sum((float(a) - float(b)) ** 2 for a, b in zip(numbers[i], numbers[j], strict=True))
                far += differs * sum(int(a != b) for a, b in zip(categories[i], categories[j], strict=True))
                apart.append((far, j))
        found.append([j for _, j in sorted(apart)[:most]])
    return found


def noisy(rows, noise, spread, centre):
    """rows + noise · spread + centre; noise (B, F) or (B, T, F) is given."""
    made = rows.clone()
    for i in range(len(rows)):
        if float(spread[i]) or float(centre[i]):
            made[i] = rows[i] + noise[i].to(torch.float64) * float(spread[i]) + float(centre[i])
    return made
