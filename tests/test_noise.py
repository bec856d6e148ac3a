"""Noise for every pixel: standard normal, independent, and the same for a sample in every batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from smartaug import draws
from smartaug.lift.noise import normal_field


def keys(count):
    return draws.key(0, 1, torch.arange(count))


def test_is_standard_normal():
    field = normal_field(keys(4), (3, 64, 100))
    assert stats.kstest(field.flatten().double().numpy(), "norm").pvalue > 1e-3
    assert field.abs().max() < 6.8
    lines = torch.stack([field[0].flatten()[:-1], field[0].flatten()[1:], field[1].flatten()[1:]])
    assert (torch.corrcoef(lines) - torch.eye(3)).abs().max() < 0.03


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 6), st.integers(0, 3), st.integers(0, 40), st.integers(0, 900), st.integers(1, 2))
def test_a_row_is_the_same_in_every_batch(count, channels, height, width, threads):
    whole = normal_field(keys(count), (channels, height, width))
    assert whole.shape == (count, channels, height, width)
    torch.set_num_threads(threads)
    for row in range(count):
        assert torch.equal(normal_field(keys(count)[row : row + 1], (channels, height, width))[0], whole[row])


def test_the_words_are_those_of_draws():
    words = draws.bits(keys(2), 64)
    low, high = (words & 0xFFFFFF).double() / 2**24, ((words >> 32) & 0xFFFFFFFF).double()
    radius = (-2 * torch.log((high + 0.5) / 2**32)).sqrt()
    expected = torch.cat([radius * torch.cos(2 * torch.pi * low), radius * torch.sin(2 * torch.pi * low)], 1)
    torch.testing.assert_close(normal_field(keys(2), (128,)), expected, rtol=1e-4, atol=1e-4, check_dtype=False)


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
