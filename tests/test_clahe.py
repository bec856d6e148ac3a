"""CLAHE and 8-bit Lab are OpenCV's, bit for bit; every backend's is that (test_backends)."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smartaug.augment.backends.torch.clahe import by_opencv, clahe, computed, from_lab, to_lab


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 3),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
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
    assert made.dtype == torch.uint8
    assert torch.equal(made, expected)


@pytest.mark.parametrize("first", [0, 3, 21, 128, 254, 255])
def test_lab_is_opencvs(first):
    """All pairs of the other two channels, there and back."""
    second, third = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    for order in ((0, 1, 2), (1, 0, 2), (1, 2, 0)):
        parts = [np.full_like(second, first), second, third]
        picture = np.stack([parts[place] for place in order], -1)
        planes = torch.from_numpy(picture).permute(2, 0, 1)[None]
        lab = torch.stack(to_lab(planes), -1)[0].numpy()
        assert np.array_equal(lab, cv2.cvtColor(picture, cv2.COLOR_RGB2LAB))
        rgb = from_lab(*planes.long().unbind(1))[0].permute(1, 2, 0).numpy()
        assert np.array_equal(rgb, cv2.cvtColor(picture, cv2.COLOR_LAB2RGB))


def test_changes_something():
    images = torch.arange(64, dtype=torch.uint8).repeat(1, 3, 64, 1)
    assert not torch.equal(by_opencv(images, torch.tensor([4.0]), grid=(4, 4)), images)
    with pytest.raises(ValueError, match="zip"):
        by_opencv(images, torch.ones(2), grid=(4, 4))
