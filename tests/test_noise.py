"""Noise for every pixel: standard normal, independent, and the same for a sample in every batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import smartaug
from smartaug import draws
from smartaug.augment import backends
from smartaug.augment.backends.tables import gauss
from smartaug.augment.backends.torch.run import noisy_where_covered
from smartaug.augment.plan import EraseNoise, Plan
from smartaug.lift.noise import EraseNoise as LiftedEraseNoise


def keys(count):
    return draws.key(0, 1, torch.arange(count))


def test_is_standard_normal():
    field = gauss.field(keys(40), (3, 64, 100))
    assert stats.kstest(field.flatten().double().numpy(), "norm").pvalue > 1e-3
    assert field.abs().max() < 5.14
    assert abs(field.double().pow(4).mean() - 3.0) < 0.03
    first = field[0].flatten()
    half = len(first) // 2  # both parts of a word, neighbours, and two samples
    lines = torch.stack([first[:half], first[half:], field[1].flatten()[:half], first[1 : half + 1]])
    assert (torch.corrcoef(lines) - torch.eye(4)).abs().max() < 0.04


def test_the_table_is_as_good_as_its_card_says():
    """The distribution function of all 2**24 equally likely values against the normal one, exactly."""
    table = gauss.quantiles().astype(np.float64)
    first, second = float(gauss.FIRST) * table, float(gauss.SECOND) * table
    places = np.linspace(-5.2, 5.2, 301) + 1e-6
    below = np.array([np.searchsorted(second, place - first, side="right").mean() / len(table) for place in places])
    assert np.abs(below - stats.norm.cdf(places)).max() < 4.5e-5
    assert abs((first.var() + second.var()) - 1.0) < 1e-6
    assert abs(table.mean()) < 1e-7
    assert (first + second).max() < 5.14


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 6), st.integers(0, 3), st.integers(0, 40), st.integers(0, 900))
def test_a_row_is_the_same_in_every_batch(count, channels, height, width):
    whole = gauss.field(keys(count), (channels, height, width))
    assert whole.shape == (count, channels, height, width)
    for row in range(count):
        assert torch.equal(gauss.field(keys(count)[row : row + 1], (channels, height, width))[0], whole[row])


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_the_words_are_those_of_draws(count):
    """The slow twin: value by value."""
    found = gauss.field(keys(2), (count,))
    table, half = gauss.quantiles(), (count + 1) // 2
    words = draws.bits(keys(2), half).numpy().view(np.uint64)
    for row in range(2):
        for n in range(count):
            word = int(words[row, n % half]) >> (24 if n >= half else 0)
            expected = gauss.FIRST * table[word & 4095] + gauss.SECOND * table[(word >> 12) & 4095]
            assert float(found[row, n]) == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3), st.sampled_from([1, 3]), st.integers(0, 2), st.booleans(), st.integers(0, 2**31))
def test_boxes_of_noise(batch, channels, count, flat, seed):
    """The slow twin, pixel by pixel, of both ways to fill boxes, some of which lie outside or over each other."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.randint(-4, 10, (batch, count, 4), generator=generator)
    boxes[..., 2:].clamp_(min=0)
    images, key = torch.rand(batch, channels, 7, 6, generator=generator), keys(batch)
    segment, expected = EraseNoise(boxes, key, flat), images.clone()
    for row in range(batch):
        for n, (top, left, tall, wide) in enumerate(boxes[row].tolist()):
            field = gauss.field(draws.fold(key, n)[row : row + 1], (channels,) if flat else (channels, tall, wide))[0]
            for y in range(tall):
                for x in range(wide):
                    if 0 <= top + y < 7 and 0 <= left + x < 6:
                        expected[row, :, top + y, left + x] = field if flat else field[:, y, x]
    before = images.clone()
    plan = Plan(tuple(images.shape), (segment,))
    for made in (backends.execute(plan, images), noisy_where_covered(images, segment)):
        assert torch.equal(made, expected)
    assert torch.equal(images, before)


def test_noise_in_grey_levels_is_refused():
    segment = EraseNoise(torch.tensor([[[0, 0, 2, 2]]]), keys(1))
    with pytest.raises(TypeError, match="does not fit uint8"):
        backends.execute(Plan((1, 3, 4, 4), (segment,)), torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match='per must be "pixel" or "channel"'):
        LiftedEraseNoise(smartaug.Erase(), "row")
