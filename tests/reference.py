"""Slow, obvious twins of what the package does fast."""

import torch

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


# --- draws: SplitMix64 on Python integers ----------------------------------------------------------------------------


def splitmix64(word: int) -> int:
    """The finaliser of Steele, Lea and Flood (OOPSLA 2014), as published."""
    word &= MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def draw_key(seed: int, epoch: int, index: int, view: int = 0) -> int:
    word = splitmix64(seed + GOLDEN)
    word = splitmix64(word ^ splitmix64(epoch + 2 * GOLDEN))
    word = splitmix64(word ^ splitmix64(view + 3 * GOLDEN))
    return splitmix64(splitmix64(word + index * GOLDEN) ^ word)


def draw_fold(key: int, word: int) -> int:
    return splitmix64(key ^ splitmix64(word + GOLDEN))


def draw_bits(key: int, slot: int) -> int:
    return splitmix64(key + (slot + 1) * GOLDEN)


# --- Target: which rows an operation keeps, on lists of row numbers --------------------------------------------------


def split(rows: list, size: int) -> list[list]:
    return [rows[start : start + size] for start in range(0, len(rows), size)] or [rows]


def chunk(rows: list, chunks: int) -> list[list]:
    return split(rows, -(-len(rows) // chunks)) if rows else [rows] * chunks


def repeat(rows: list, repeats: int | list[int]) -> list:
    counts = [repeats] * len(rows) if isinstance(repeats, int) else repeats
    return [row for row, count in zip(rows, counts, strict=True) for _ in range(count)]


# --- Loss: one sample at a time --------------------------------------------------------------------------------------


def weighted_loss(one, normaliser, output, target, weight):
    """Σ w_i ℓ_i / Σ c_i with ℓ_i = one(output[i:i+1], target[i:i+1]), the sum over the sample's elements."""
    total = torch.zeros((), dtype=output.dtype)
    count = torch.zeros((), dtype=output.dtype)
    for i in range(len(output)):
        if weight[i] != 0:
            total = total + weight[i].to(output.dtype) * one(output[i : i + 1], target[i : i + 1])
        count = count + normaliser(output[i : i + 1], target[i : i + 1])
    return total / count
