"""CLAHE in tensor operations is OpenCV's, within one grey level."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smartaug.lift.opencv_clahe import by_opencv, clahe, computed


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 3),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(16, 50), st.integers(16, 50)),
    grid=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    seed=st.integers(0, 99),
)
def test_is_opencvs(count, channels, size, grid, seed):
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.rand(count, channels, 5, 6, generator=generator)
    images = (
        torch.nn.functional.interpolate(smooth, size, mode="bilinear") if count else torch.empty(0, channels, *size)
    )
    images = (images * 200 + 20 * torch.rand(images.shape, generator=generator)).to(torch.uint8)
    limit = 1 + 4 * torch.rand(count, generator=generator, dtype=torch.float64)
    expected, made = by_opencv(images, limit, grid=grid), computed(images, limit, grid=grid)
    assert torch.equal(clahe(images, limit, grid=grid), expected)
    assert made.shape == expected.shape == images.shape
    assert made.dtype == expected.dtype == torch.uint8
    if count:
        apart = (made.int() - expected.int()).abs()
        assert (apart <= 1).double().mean() >= 0.99
        assert apart.double().mean() <= 0.25


def test_changes_something():
    images = torch.arange(64, dtype=torch.uint8).repeat(1, 3, 64, 1)
    assert not torch.equal(by_opencv(images, torch.tensor([4.0]), grid=(4, 4)), images)
    with pytest.raises(ValueError, match="zip"):
        by_opencv(images, torch.ones(2), grid=(4, 4))
