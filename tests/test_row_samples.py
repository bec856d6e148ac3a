"""Rows of a collated batch belong to their samples, also where a few of their values do not tell them apart."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, default_collate

import smartaug
from smartaug.loading.row_samples import rows_of

COUNT = 16


def one_pixel(dtype=torch.uint8):
    """Images that differ in one pixel each, none of those that are compared first."""
    images = torch.zeros(8, 1, 64, 64, dtype=dtype)
    for number, image in enumerate(images):
        image[0, 2 * number + 1, 33] = 200
    return [(image, 0) for image in images]


@pytest.mark.parametrize("order", [list(range(8)), list(range(7, -1, -1)), [3, 1, 6], [2, 2, 5, 0]])
@pytest.mark.parametrize("cast", [lambda x: x, lambda x: x.float()])
def test_images_that_differ_in_one_pixel(order, cast):
    samples = one_pixel()
    images, labels = default_collate([samples[number] for number in order])
    assert rows_of(samples, (cast(images), labels)).samples == order


class Sequences(Dataset):
    """Of different lengths, (T, 4); nearly all labels are equal, so that they tell little."""

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return torch.full((3 + index * 7 % 11, 4), 1.0 + index), int(index == 0)


def longest_first(samples):
    return as_they_come(sorted(samples, key=lambda sample: -len(sample[0])))


def as_they_come(samples):
    return pad_sequence([rows for rows, _ in samples], batch_first=True), torch.tensor([label for _, label in samples])


@pytest.mark.parametrize("collate", [longest_first, as_they_come])
def test_sequences_that_are_padded(collate):
    loader = smartaug.DataLoader(
        Sequences(), 4, shuffle=True, augment=lambda rows: rows, inputs=0, target=1, collate_fn=collate, seed=0
    )
    seen = []
    for rows, label in loader:
        assert torch.equal(rows[:, 0, 0] - 1, label.index.float())
        seen += label.index.tolist()
    assert sorted(seen) == list(range(COUNT))
