"""What the framework tests share: samples that carry their index, a stage that can be counted, and who saw what.

Image i is i / 1000 everywhere, and 0.5 more in its first column. A pass is right when every image met `add_ten` exactly
once, its index is what the target says, and it is flipped as (seed 0, epoch, index) wants, whatever the framework did.
"""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

import smartaug

SIZE = 32


class Coded(Dataset):
    def __init__(self, size=SIZE, keys=None):
        self.size, self.keys = size, keys

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        image = torch.full((1, 8, 8), index / 1000.0)
        image[..., 0] += 0.5
        pair = (image, index % 4)
        return pair if self.keys is None else dict(zip(self.keys, pair, strict=True))


class CodedStream(IterableDataset):
    """The same samples without indices; ``set_epoch`` is not understood."""

    def __init__(self, size=SIZE):
        self.size = size

    def __iter__(self):
        samples = Coded(self.size)
        yield from (samples[index] for index in range(self.size))


def add_ten(images):
    return images + 10.0


def stages():
    return [add_ten, smartaug.Flip()]


def read(images, target=None):
    """[(index, flipped)] of a batch; fails unless `add_ten` ran exactly once and the target says the same indices."""
    plain = images.detach().double()[:, 0, 0] - 10.0
    found = (plain[:, 3] * 1000).round().long()
    assert bool(((found >= 0) & (found < 400)).all()), f"the stage did not run exactly once: {images[:, 0, 0, 3]}"
    torch.testing.assert_close(plain[:, 3], found / 1000.0, rtol=0, atol=1e-5, check_dtype=False)
    assert bool(((plain[:, 0] > plain[:, 3] + 0.4) ^ (plain[:, 7] > plain[:, 3] + 0.4)).all()), "one bright column"
    if target is not None:
        assert isinstance(target, smartaug.Target)
        assert target.index.tolist() == found.tolist()
        assert target.tolist() == (found % 4).tolist()
    return list(zip(found.tolist(), (plain[:, 7] > plain[:, 0]).tolist(), strict=True))


def read_pass(loader):
    return [sample for images, target in loader for sample in read(images, target)]


@functools.cache
def flips(epoch, size=SIZE):
    """{index: flipped} of seed 0 in ``epoch``: what every framework must show."""
    loader = smartaug.DataLoader(Coded(size), batch_size=5, augment=stages(), seed=0)
    loader.set_epoch(epoch)
    return dict(read_pass(loader))


def assert_epoch(seen, epoch, indices=range(SIZE)):
    """``seen`` [(index, flipped)] are exactly ``indices``, in any order, augmented as in ``epoch``."""
    assert sorted(index for index, _ in seen) == sorted(indices)
    assert dict(seen) == {index: flips(epoch)[index] for index in indices}


def weigh(batch, trace):
    return torch.linspace(0.5, 1.5, len(batch.inputs)), None


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
