"""Counter-based randomness: every draw is a pure function of where it is used.

A draw is named by (seed, epoch, sample index, view, stage, slot). Nothing is consumed in order, so the augmentation of
a sample does not depend on batch size, order, workers, ranks, prefetching or resuming, and no global generator is
touched.

The generator is SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): a *key*
is the starting state of one stream, a *slot* the position in it, and the output is the 64-bit finaliser of
``key + (slot + 1) * GOLDEN``. All arithmetic wraps at 64 bits: on uint64 arrays on the CPU, where NumPy begins an
operation in a third of torch's time, and on int64 tensors elsewhere. So `bits`, `uniform`, `integers` and
`permutation` are the same on CPU and CUDA to the bit; `normal` and `symmetric_beta` go through each device's own
transcendental functions and agree to rounding.

A `Prescribed` may take the place of the keys: its draws are given by the caller, so that an augmentation can be
enumerated or integrated over (see `moments`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK = (1 << 64) - 1
_BLOCK = 1 << 15  # 64-bit elements mixed at a time: 256 KiB stays in the second-level cache
_LANES = 64  # a multiple of every vector width that torch's CPU kernels are built for

Words = Any  # 64-bit words: a uint64 array on the CPU, an int64 tensor elsewhere


Slot = tuple[tuple[int, ...], int]  # the words folded into a stream, and the position in it


class Prescribed:
    """Streams for ``rows`` samples whose uniform draws are given by ``read``; takes the place of keys (B,).

    read: called with slots, a list of `Slot`; gives their draws in [0, 1), (rows, slots) float64. note: called with a
    slot and ``high`` where the draw only picks one of ``high`` integers.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        rows: int,
        read: Callable[[list[Slot]], Tensor],
        note: Callable[[Slot, int], None] = lambda slot, high: None,
        path: tuple[int, ...] = (),
    ) -> None:
        self.rows, self.read, self.note, self.path = rows, read, note, path

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: Tensor) -> Prescribed:
        """The streams of the samples ``rows`` (R,) int64."""
        return Prescribed(len(rows), lambda slots: self.read(slots)[rows], self.note, self.path)

    def numel(self) -> int:
        """The number of samples, as of a tensor of keys."""
        return self.rows

    def fold(self, word: int) -> Prescribed:
        """The stream that `fold` names by ``word``."""
        return Prescribed(self.rows, self.read, self.note, (*self.path, word))

    def slots(self, count: int, start: int) -> list[Slot]:
        """The names of ``count`` draws from ``start`` on."""
        return [(self.path, slot) for slot in range(start, start + count)]

    def uniform(self, shape: tuple[int, ...], start: int, dtype: torch.dtype) -> Tensor:
        """What `uniform` gives: (rows, *shape), never 1."""
        drawn = self.read(self.slots(math.prod(shape), start))
        if dtype != torch.float64:
            drawn = (drawn * 2.0**24).floor() * 2.0**-24
        return drawn.to(dtype).reshape(self.rows, *shape)


def _signed(word: int) -> int:
    word &= _MASK
    return word - (1 << 64) if word >> 63 else word


def _words(tensor: Tensor) -> Words:
    """An int64 tensor as words, sharing its memory."""
    return tensor.numpy().view(np.uint64) if tensor.is_cpu else tensor


def _tensor(words: Words) -> Tensor:
    """Words as an int64 tensor, sharing their memory."""
    return torch.from_numpy(words.view(np.int64)) if isinstance(words, np.ndarray) else words


def _number(word: int, words: Words) -> np.ndarray | int:
    """One word, as what computes with ``words``; NumPy begins sooner with an array of no dimensions than a scalar."""
    return np.array(word & _MASK, np.uint64) if isinstance(words, np.ndarray) else _signed(word)


@lru_cache(maxsize=1024)
def mix(word: int) -> int:
    """SplitMix64's finaliser of one Python integer (taken modulo 2**64): an int in [0, 2**64)."""
    word &= _MASK
    word = ((word ^ (word >> 30)) * _FIRST) & _MASK
    word = ((word ^ (word >> 27)) * _SECOND) & _MASK
    return word ^ (word >> 31)


_ROUNDS = tuple(
    (np.array(shift, np.uint64), np.array(factor, np.uint64)) for shift, factor in ((30, _FIRST), (27, _SECOND))
)
_LAST = np.array(31, np.uint64)


def _mix_(words: Words) -> Words:
    """SplitMix64's finaliser, in place."""
    if isinstance(words, np.ndarray):
        shifted = np.empty_like(words)
        for shift, factor in _ROUNDS:
            np.right_shift(words, shift, shifted)
            np.bitwise_xor(words, shifted, words)
            np.multiply(words, factor, words)
        np.right_shift(words, _LAST, shifted)
        return np.bitwise_xor(words, shifted, words)
    for bits_, factor_ in ((30, _FIRST), (27, _SECOND), (31, 1)):  # shifts made logical by a mask
        words ^= (words >> bits_) & ((1 << (64 - bits_)) - 1)
        words *= _signed(factor_)
    return words


@lru_cache(maxsize=1024)
def _origin(seed: int, epoch: int, view: int) -> int:
    word = mix(seed + _GOLDEN)
    word = mix(word ^ mix(epoch + 2 * _GOLDEN))
    return mix(word ^ mix(view + 3 * _GOLDEN))


def key(seed: int, epoch: int, index: Tensor, view: int = 0) -> Tensor:
    """Stream keys of the samples ``index`` (B,) int64 in this epoch and view; (B,) int64 on the same device.

    ``seed``, ``epoch`` and ``view`` are any Python integers (taken modulo 2**64).
    """
    words = _words(index.to(torch.int64))
    word, golden = _number(_origin(seed, epoch, view), words), _number(_GOLDEN, words)
    words = words * golden
    words += word
    words = _mix_(words)
    words ^= word
    return _tensor(_mix_(words))


def fold(key: Tensor, word: int) -> Tensor:
    """An independent stream for every integer ``word`` (a stage, an attempt): keys (B,) to keys (B,)."""
    if isinstance(key, Prescribed):
        return key.fold(word)  # takes the place of keys
    words = _words(key)
    return _tensor(_mix_(words ^ (_folded(word) if isinstance(words, np.ndarray) else _signed(mix(word + _GOLDEN)))))


@lru_cache(maxsize=1024)
def _folded(word: int) -> np.ndarray:
    """What `fold` mixes with the keys for a word."""
    return np.array(mix(word + _GOLDEN), np.uint64)


def folds(key: Tensor, count: int) -> Sequence[Tensor] | Tensor:
    """``fold(key, word)`` for the words 0 to ``count − 1``: keys (B,) to ``count`` times keys (B,)."""
    if isinstance(key, Prescribed):
        return [fold(key, word) for word in range(count)]
    words = _words(key)
    if not isinstance(words, np.ndarray):
        return torch.stack([fold(key, word) for word in range(count)]) if count else key.new_empty(0, len(key))
    mixed = np.array([mix(word + _GOLDEN) for word in range(count)], np.uint64)
    return _tensor(_mix_(words ^ mixed[:, None]))


def of_each(draw: Callable[[Tensor], Tensor], keys: Sequence[Tensor] | Tensor) -> Tensor:
    """``draw(key)`` of each of N streams of keys (B,), as `folds` gives them, in one call where it can be: (N, B, ...).

    draw: from keys to a tensor with a row for each, which depends on that key alone.
    """
    if not isinstance(keys, Tensor):
        return torch.stack([draw(key) for key in keys])
    made = draw(keys.flatten())
    return made.view(*keys.shape, *made.shape[1:])


def bits(key: Tensor, slots: int, start: int = 0) -> Tensor:
    """Raw 64-bit draws of slots ``start`` to ``start + slots - 1``: (B,) keys to (B, slots) int64."""
    if isinstance(key, Prescribed):
        raise TypeError("raw bits (and permutations of the batch) cannot be prescribed, only uniform draws can")
    words = _words(key)
    if not isinstance(words, np.ndarray):
        return _mix_(words[:, None] + torch.arange(start + 1, start + slots + 1, device=key.device) * _signed(_GOLDEN))
    return _tensor(_drawn(words, slots, start))


def _drawn(words: np.ndarray, slots: int, start: int) -> np.ndarray:
    """`bits` of keys that are an array: (B, slots) uint64."""
    steps = _steps(slots, start)
    out = np.empty((len(words), slots), np.uint64)
    if out.size <= _BLOCK:
        return np.asarray(_mix_(np.add(words[:, None], steps, out=out)))
    rows = max(1, _BLOCK // slots)
    for first in range(0, len(words), rows):
        for left in range(0, slots, _BLOCK):
            block = out[first : first + rows, left : left + _BLOCK]
            _mix_(np.add(words[first : first + rows, None], steps[left : left + _BLOCK], out=block))
    return out


def bits_at(key: Tensor, slot: Tensor) -> Tensor:
    """Raw 64-bit draws of any slots: (B,) keys and (B, ...) int64 slots to (B, ...) int64, on the same device."""
    words = _words(slot)
    made = words + _number(1, words)
    made *= _number(_GOLDEN, made)
    made += _words(key).reshape(-1, *[1] * (slot.ndim - 1))
    return _tensor(_mix_(made))


@lru_cache(maxsize=64)
def _steps(slots: int, start: int) -> np.ndarray:
    """What is added to a key for each slot."""
    return np.arange(start + 1, start + slots + 1, dtype=np.uint64) * np.uint64(_GOLDEN)


def uniform(key: Tensor, shape: Sequence[int] = (), start: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform draws in [0, 1): (B,) keys to (B, *shape); 24 random bits in float32, 53 in float64."""
    shape = tuple(shape)
    if isinstance(key, Prescribed):
        return key.uniform(shape, start, dtype)
    kept = 53 if dtype == torch.float64 else 24
    if key.is_cpu and dtype in _ARRAYS:
        array = _drawn(_words(key), math.prod(shape), start)
        kind, drop = _ARRAYS[dtype]
        drawn = np.right_shift(array, drop, array).astype(kind)
        drawn *= 2.0**-kept
        return torch.from_numpy(drawn.reshape(len(array), *shape))
    words = bits(key, math.prod(shape), start)
    words >>= 64 - kept
    words &= (1 << kept) - 1
    return words.to(dtype).mul_(2.0**-kept).reshape(key.numel(), *shape)


_ARRAYS: dict[torch.dtype, tuple[Any, np.ndarray]] = {  # NumPy's type, and how many of the 64 bits are dropped
    torch.float32: (np.float32, np.array(40, np.uint64)),
    torch.float64: (np.float64, np.array(11, np.uint64)),
}


def integers(key: Tensor, high: int, shape: Sequence[int] = (), start: int = 0) -> Tensor:
    """Uniform integers in [0, high): (B,) keys to (B, *shape) int64 (bias below high / 2**53).

    Raises ValueError unless 1 ≤ high ≤ 2**32.
    """
    if not 1 <= high <= 1 << 32:
        raise ValueError(f"integers needs 1 <= high <= 2**32, got high={high}")
    if isinstance(key, Prescribed):
        for slot in key.slots(math.prod(shape), start):
            key.note(slot, high)
    drawn = uniform(key, shape, start, torch.float64)
    if drawn.device.type == "cpu":
        return torch.from_numpy((drawn.numpy() * high).astype(np.int64))
    return (drawn * high).to(torch.int64)


def normal(key: Tensor, shape: Sequence[int] = (), start: int = 0) -> Tensor:
    """Standard normal draws by inversion: (B,) keys to (B, *shape) float32."""

    def draw(keys: Tensor) -> Tensor:
        # centred in cells of 2**-53, so never 0; the last centre would round to 1, whose quantile is infinite
        centred = uniform(keys, shape, start, torch.float64).add_(2.0**-54).clamp_max_(1.0 - 2.0**-53)
        return torch.special.ndtri(centred).to(torch.float32)

    return _whatever_the_batch(draw, key)


def symmetric_beta(key: Tensor, alpha: float, start: int = 0) -> Tensor:
    """Beta(alpha, alpha) draws for any alpha > 0 from two uniforms: (B,) keys to (B,) float64 in [0, 1].

    Bailey's polar method ("Polar generation of random variates with the t-distribution", Math. Comp. 1994) gives a
    Student t with 2·alpha degrees of freedom, and ½ + t / (2·sqrt(2·alpha + t²)) is Beta(alpha, alpha). Written with
    q = U**(1/alpha) and c = cos(2πV) it needs no division by a vanishing number.
    """

    def draw(keys: Tensor) -> Tensor:
        u = uniform(keys, (2,), start, torch.float64)
        q = (1.0 - u[:, 0]) ** (1.0 / alpha)
        c = torch.cos(2.0 * math.pi * u[:, 1])
        return 0.5 + 0.5 * c * torch.sqrt(1.0 - q) / torch.sqrt(q + (1.0 - q) * c * c).clamp_min(1e-300)

    return _whatever_the_batch(draw, key)


def permutation(key: Tensor) -> Tensor:
    """A random order of the rows, drawn from the rows' own keys: (B,) keys to a permutation of 0..B-1."""
    return torch.argsort(bits(key, 1)[:, 0], stable=True)


def _whatever_the_batch(draw: Callable[[Tensor], Tensor], key: Tensor) -> Tensor:
    """``draw(key)``, computed so that a row has the same bits in every batch.

    On CPU torch computes the elements that do not fill a vector at the end of a tensor (or of a thread's share of it)
    with scalar functions, and their last bit differs: 14 of 6000 Beta(0.2, 0.2) draws changed with the batch size. So
    rows are padded to full vectors and drawn in blocks too small to be shared among threads.
    """
    if key.device.type != "cpu" or isinstance(key, Prescribed):
        return draw(key)
    blocks = F.pad(key, (0, -key.numel() % _LANES)).split(_BLOCK // 8)
    return torch.cat([draw(block) for block in blocks])[: key.numel()]
