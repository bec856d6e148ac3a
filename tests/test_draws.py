"""Draws are a pure function of their name: equal to SplitMix64 on Python integers, uniform and independent."""

import random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from smartaug import draws
from tests import reference

WORDS = st.integers(-(2**70), 2**70)
INDICES = st.lists(st.integers(0, 2**62), max_size=5)
SEVERE = 1e-4  # tests are seeded: a p value below this is a defect, not bad luck


def keys(count=1_000_000, seed=0, epoch=0, view=0):
    return draws.key(seed, epoch, torch.arange(count), view)


# --- the same numbers as the twin ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(seed=WORDS, epoch=WORDS, view=WORDS, index=INDICES, word=WORDS)
def test_keys_equal_the_twin(seed, epoch, view, index, word):
    made = draws.key(seed, epoch, torch.tensor(index, dtype=torch.int64), view)
    expected = [reference.draw_key(seed, epoch, one, view) for one in index]
    assert made.dtype == torch.int64
    assert made.tolist() == [reference.signed(key) for key in expected]
    folded = draws.fold(made, word)
    assert folded.tolist() == [reference.signed(reference.draw_fold(key, word)) for key in expected]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_folds_are_folds(count):
    key = keys(7)
    made = draws.folds(key, count)
    assert made.shape == (count, 7)
    assert all(torch.equal(one, draws.fold(key, word)) for word, one in enumerate(made))


@pytest.mark.parametrize("draw", [draws.normal, lambda key: draws.uniform(key, (3,), 2, torch.float64)])
def test_several_streams_at_once_draw_what_each_draws(draw):
    several = draws.folds(keys(70), 3)
    expected = torch.stack([draw(key) for key in several])
    assert torch.equal(draws.of_each(draw, several), expected)
    assert torch.equal(draws.of_each(draw, list(several)), expected)


@settings(deadline=None)
@given(seed=WORDS, index=INDICES, slots=st.integers(0, 6), start=st.integers(0, 2**40))
def test_bits_equal_the_twin(seed, index, slots, start):
    made = draws.bits(draws.key(seed, 0, torch.tensor(index, dtype=torch.int64)), slots, start)
    assert made.shape == (len(index), slots)
    for row, one in zip(made.tolist(), index, strict=True):
        key = reference.draw_key(seed, 0, one)
        assert row == [reference.signed(reference.draw_bits(key, start + slot)) for slot in range(slots)]


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 70_000), slots=st.integers(1, 70_000), data=st.data())
@example(count=32768, slots=1, data=None)
@example(count=32769, slots=1, data=None)
@example(count=3, slots=32769, data=None)
@example(count=1, slots=65537, data=None)
@example(count=4097, slots=16, data=None)
def test_bits_across_the_blocks(count, slots, data):
    slots = max(1, min(slots, 200_000 // max(1, count)))
    made = draws.bits(keys(count), slots)
    assert made.shape == (count, slots)
    if count == 0:
        return
    rows = {0, count - 1, count // 2, min(count - 1, 32768 // slots), max(0, min(count, 32768 // slots) - 1)}
    for row in rows:
        key = reference.draw_key(0, 0, row)
        for slot in {0, slots - 1, min(slots - 1, 32768), min(slots - 1, 32767)}:
            assert made[row, slot].item() == reference.signed(reference.draw_bits(key, slot))


def test_indices_of_other_types_and_strides():
    index = torch.arange(20)
    assert torch.equal(draws.key(1, 2, index.int()), draws.key(1, 2, index))
    assert torch.equal(draws.key(1, 2, index[::3]), draws.key(1, 2, index)[::3])
    assert torch.equal(index, torch.arange(20))  # mixing in place stays inside
    key = draws.key(1, 2, index)
    before = key.clone()
    draws.fold(key, 1), draws.bits(key, 3), draws.uniform(key), draws.symmetric_beta(key, 0.3), draws.permutation(key)
    assert torch.equal(key, before)


def test_uniform_is_the_top_bits():
    key = keys(1000)
    words = draws.bits(key, 6).view(-1).numpy().view(np.uint64)
    single = draws.uniform(key, (2, 3))
    assert single.shape == (1000, 2, 3)
    assert single.dtype == torch.float32
    assert np.array_equal(single.flatten().numpy(), ((words >> np.uint64(40)) * 2.0**-24).astype(np.float32))
    double = draws.uniform(key, (6,), dtype=torch.float64)
    assert np.array_equal(double.flatten().numpy(), (words >> np.uint64(11)) * 2.0**-53)
    assert draws.uniform(key).shape == (1000,)
    assert torch.equal(draws.uniform(key, (2,), start=4), draws.uniform(key, (6,))[:, 4:])


def test_no_samples():
    key = keys(0)
    assert draws.uniform(key, (2,)).shape == (0, 2)
    assert draws.integers(key, 5).shape == (0,)
    assert draws.normal(key, (3,)).shape == (0, 3)
    assert draws.symmetric_beta(key, 1.0).shape == (0,)
    assert draws.permutation(key).shape == (0,)


FAMILIES = {
    "bits": lambda key: draws.bits(key, 3),
    "uniform": lambda key: draws.uniform(key, (2,), dtype=torch.float64),
    "integers": lambda key: draws.integers(key, 1000),
    "normal": lambda key: draws.normal(key, (3,)),
    "beta(0.2)": lambda key: draws.symmetric_beta(key, 0.2),
    "beta(0.4)": lambda key: draws.symmetric_beta(key, 0.4),
    "beta(1)": lambda key: draws.symmetric_beta(key, 1.0),
    "beta(4)": lambda key: draws.symmetric_beta(key, 4.0),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_does_not_depend_on_its_batch(name):
    draw, key = FAMILIES[name], keys(40_000)
    whole = draw(key)
    for size in (1, 7, 64, 129):
        assert torch.equal(torch.cat([draw(part) for part in key[:3000].split(size)]), whole[:3000]), size
    assert torch.equal(draw(key[::2]), whole[::2])
    assert torch.equal(draw(key.flip(0)), whole.flip(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_global_generators_are_not_touched(name):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    FAMILIES[name](keys(100))
    draws.permutation(keys(100))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[2], strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the same bits on CUDA: this machine has none")
@pytest.mark.parametrize("name", FAMILIES)
def test_cuda_draws_the_same(name):
    key = draws.key(3, 1, torch.arange(50_000))
    on_cuda = draws.key(3, 1, torch.arange(50_000, device="cuda"))
    assert torch.equal(on_cuda.cpu(), key)
    assert torch.equal(draws.permutation(on_cuda).cpu(), draws.permutation(key))
    got, expected = FAMILIES[name](on_cuda).cpu(), FAMILIES[name](key)
    if name in ("bits", "uniform", "integers"):
        assert torch.equal(got, expected)
    else:  # each device has its own cos, pow and ndtri
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)


# --- uniform ---------------------------------------------------------------------------------------------------------


def assert_uniform(sample, bins=1000):
    """Chi-square over equal bins and Kolmogorov-Smirnov of values (n,) in [0, 1)."""
    sample = sample.numpy().astype(np.float64)
    assert sample.min() >= 0
    assert sample.max() < 1
    counts = np.bincount((sample * bins).astype(np.int64), minlength=bins)
    assert stats.chisquare(counts).pvalue > SEVERE
    assert stats.kstest(sample, "uniform").pvalue > SEVERE


NAMED = {
    "indices": lambda n: draws.uniform(keys(n)),
    "indices in float64": lambda n: draws.uniform(keys(n), dtype=torch.float64),
    "indices of another seed": lambda n: draws.uniform(keys(n, seed=-(2**63))),
    "even indices": lambda n: draws.uniform(draws.key(0, 0, torch.arange(n) * 2)),
    "far indices": lambda n: draws.uniform(draws.key(0, 0, torch.arange(n) + 2**61)),
    "multiples of a power": lambda n: draws.uniform(draws.key(0, 0, torch.arange(n) << 40)),
    "slots": lambda n: draws.uniform(keys(1), (n,))[0],
    "slots of few samples": lambda n: draws.uniform(keys(10), (n // 10,)).flatten(),
    "stages": lambda n: torch.stack([draws.uniform(draws.fold(keys(n // 100), stage)) for stage in range(100)]).view(
        -1
    ),
    "folded": lambda n: draws.uniform(draws.fold(draws.fold(keys(n), 1), 2)),
    "low bits": lambda n: (draws.bits(keys(n), 1)[:, 0] & 0xFFFFFF) * 2.0**-24,
}


@pytest.mark.parametrize("name", NAMED)
def test_uniformity(name):
    assert_uniform(NAMED[name](1_000_000))


@pytest.mark.parametrize("part", ["seed", "epoch", "view", "fold"])
def test_uniformity_over_a_part_of_the_name(part):
    index = torch.tensor([7])

    def named(word):
        if part == "fold":
            return draws.fold(draws.key(0, 0, index), word)
        words = {"seed": 0, "epoch": 0, "view": 0, part: word}
        return draws.key(words["seed"], words["epoch"], index, words["view"])

    assert_uniform(draws.uniform(torch.cat([named(word) for word in range(-5000, 5000)])), bins=100)


def test_every_bit_is_fair_and_independent():
    words = draws.bits(keys(100_000), 1)[:, 0]
    planes = torch.stack([(words >> bit) & 1 for bit in range(64)]).double().numpy()
    assert np.abs(planes.mean(1) - 0.5).max() < 5 * 0.5 / np.sqrt(100_000)
    correlation = np.corrcoef(planes) - np.eye(64)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(100_000)


# --- independence across each part of the name -----------------------------------------------------------------------


def assert_independent(first, second, bins=32):
    """Correlation, and chi-square of the pairs on a grid, of two samples (n,) in [0, 1)."""
    first, second = first.double().numpy().ravel(), second.double().numpy().ravel()
    assert not np.array_equal(first, second)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(len(first))
    cells = (first * bins).astype(np.int64) * bins + (second * bins).astype(np.int64)
    assert stats.chisquare(np.bincount(cells, minlength=bins * bins)).pvalue > SEVERE


N = 500_000
PAIRS = {
    "seeds": lambda: (draws.uniform(keys(N)), draws.uniform(keys(N, seed=1))),
    "negated seeds": lambda: (draws.uniform(keys(N, seed=5)), draws.uniform(keys(N, seed=-5))),
    "epochs": lambda: (draws.uniform(keys(N)), draws.uniform(keys(N, epoch=1))),
    "seed and epoch swapped": lambda: (
        draws.uniform(keys(N, seed=1, epoch=2)),
        draws.uniform(keys(N, seed=2, epoch=1)),
    ),
    "views": lambda: (draws.uniform(keys(N)), draws.uniform(keys(N, view=1))),
    "epoch and view swapped": lambda: (
        draws.uniform(keys(N, epoch=1, view=0)),
        draws.uniform(keys(N, epoch=0, view=1)),
    ),
    "indices": lambda: (draws.uniform(keys(N)), draws.uniform(keys(N + 1))[1:]),
    "far indices": lambda: (draws.uniform(keys(N)), draws.uniform(draws.key(0, 0, torch.arange(N) + 2**62))),
    "slots": lambda: (draws.uniform(keys(N)), draws.uniform(keys(N), start=1)),
    "slot and index": lambda: (draws.uniform(keys(N), start=1)[:-1], draws.uniform(keys(N))[1:]),
    "key and stage": lambda: (draws.uniform(keys(N)), draws.uniform(draws.fold(keys(N), 0))),
    "stages": lambda: (draws.uniform(draws.fold(keys(N), 0)), draws.uniform(draws.fold(keys(N), 1))),
    "order of stages": lambda: (
        draws.uniform(draws.fold(draws.fold(keys(N), 0), 1)),
        draws.uniform(draws.fold(draws.fold(keys(N), 1), 0)),
    ),
    "slots in a row": lambda: draws.uniform(keys(5), (N, 2)).unbind(-1),
}


@pytest.mark.parametrize("name", PAIRS)
def test_independence(name):
    assert_independent(*PAIRS[name]())


def test_no_two_names_share_a_stream():
    index = torch.arange(2000)
    streams = [draws.key(s, e, index, v) for s in range(3) for e in range(3) for v in range(3)]
    streams += [draws.fold(streams[0], word) for word in range(10)]
    joined = torch.cat(streams)
    assert len(joined.unique()) == len(joined)


# --- other distributions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [1, 2, 3, 7, 10, 256])
def test_integers(high):
    made = draws.integers(keys(300_000), high, (2,), start=3)
    assert made.dtype == torch.int64
    assert made.shape == (300_000, 2)
    counts = torch.bincount(made.flatten(), minlength=high)
    assert len(counts) == high
    assert high == 1 or stats.chisquare(counts.numpy()).pvalue > SEVERE


def test_integers_up_to_the_largest_bound():
    made = draws.integers(keys(), 2**32)
    assert made.min() >= 0
    assert made.max() < 2**32
    assert_uniform(made.double() / 2**32)


@pytest.mark.parametrize("high", [0, -1, 2**32 + 1])
def test_integers_refuse_other_bounds(high):
    with pytest.raises(ValueError, match=rf"1 <= high <= 2\*\*32, got high={high}"):
        draws.integers(keys(2), high)


def test_normal():
    made = draws.normal(keys(), (2,))
    assert made.dtype == torch.float32
    assert torch.isfinite(made).all()
    sample = made[:, 1].double().numpy()
    assert stats.kstest(sample, "norm").pvalue > SEVERE
    assert abs(stats.skew(sample)) < 5 * np.sqrt(6 / len(sample))
    assert abs(stats.kurtosis(sample)) < 5 * np.sqrt(24 / len(sample))
    assert abs(np.corrcoef(made.double().numpy().T)[0, 1]) < 5 / np.sqrt(len(sample))


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 1.0, 4.0])
def test_symmetric_beta(alpha):
    sample = draws.symmetric_beta(keys(200_000), alpha, start=5)
    assert sample.dtype == torch.float64
    assert sample.min() >= 0
    assert sample.max() <= 1
    expected = stats.beta(alpha, alpha)
    # float64 has no values between 1 - 1e-16 and 1, where 1 % of Beta(0.1, 0.1) lies: the tails are counted apart
    low, high = expected.cdf(1e-9), expected.cdf(1 - 1e-9)
    inside = sample[(sample > 1e-9) & (sample < 1 - 1e-9)].numpy()
    assert stats.kstest(inside, lambda x: (expected.cdf(x) - low) / (high - low)).pvalue > SEVERE
    assert stats.binomtest(int((sample <= 1e-9).sum()), len(sample), low).pvalue > SEVERE
    assert stats.binomtest(int((sample >= 1 - 1e-9).sum()), len(sample), low).pvalue > SEVERE
    assert abs(sample.mean() - 0.5) < 5 * expected.std() / np.sqrt(len(sample))
    assert sample.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)
    torchs = torch.distributions.Beta(alpha, alpha).sample((200_000,))
    # torch's float32 draws pile up at the ends for small alpha, so only the middle is compared
    inner = [values[(values > 0.01) & (values < 0.99)].double().numpy() for values in (sample, torchs)]
    assert stats.ks_2samp(*inner).pvalue > SEVERE


@pytest.mark.parametrize("alpha", [1e-3, 0.01, 1e3, 1e6])
def test_symmetric_beta_at_the_ends(alpha):
    sample = draws.symmetric_beta(keys(100_000), alpha)
    assert torch.isfinite(sample).all()
    assert sample.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_permutation():
    key = keys(2000)
    order = draws.permutation(key)
    assert torch.equal(order.sort().values, torch.arange(2000))
    assert abs(np.corrcoef(order.numpy(), np.arange(2000))[0, 1]) < 5 / np.sqrt(2000)
    assert not torch.equal(order, draws.permutation(keys(2000, epoch=1)))
    # the first place of three is taken by each row equally often
    firsts = torch.tensor([int(draws.permutation(keys(3, seed=seed))[0]) for seed in range(3000)])
    assert stats.chisquare(torch.bincount(firsts, minlength=3).numpy()).pvalue > SEVERE


def test_permutation_draws_each_row_from_its_own_key():
    key = keys(50)
    order = draws.permutation(key)
    kept = torch.arange(0, 50, 2)  # leaving rows out does not change the others' order
    assert torch.equal(kept[draws.permutation(key[kept])], order[order % 2 == 0])
