"""Small tensors between processes: what arrives is what was sent, and only large memory travels in files of its own."""

import multiprocessing.reduction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader as TorchDataLoader
from torchvision import tv_tensors

import smartaug
from smartaug.loading import small_tensors

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]


@given(st.lists(st.integers(0, 5), max_size=3), st.sampled_from(DTYPES))
def test_comes_back(shape, dtype):
    sent = (torch.rand(shape, generator=torch.Generator().manual_seed(len(shape))) * 9).to(dtype)
    found = small_tensors.loads(small_tensors.dumps([sent, {"turned": sent.T if sent.ndim == 2 else sent}]))
    assert found[0].dtype == dtype
    assert torch.equal(found[0], sent)
    assert torch.equal(found[1]["turned"], sent.T if sent.ndim == 2 else sent)
    if found[0].numel():
        found[0].zero_()  # may be written to
        assert not found[1]["turned"].any()  # views of one memory stay so


def test_types_stay():
    boxes = tv_tensors.BoundingBoxes([[1, 2, 3, 4.0]], format="XYWH", canvas_size=(5, 6))
    found = small_tensors.loads(small_tensors.dumps(boxes))
    assert (type(found), found.format, found.canvas_size) == (type(boxes), boxes.format, boxes.canvas_size)
    assert torch.equal(found.as_subclass(torch.Tensor), boxes.as_subclass(torch.Tensor))


def test_only_small_memory_is_copied(monkeypatch):
    files = []
    reduce = multiprocessing.reduction.ForkingPickler._extra_reducers[torch.UntypedStorage]
    monkeypatch.setitem(
        multiprocessing.reduction.ForkingPickler._extra_reducers,
        torch.UntypedStorage,
        lambda storage: files.append(storage.nbytes()) or reduce(storage),
    )
    most = torch.zeros(small_tensors.LIMIT, dtype=torch.uint8)
    more = torch.zeros(small_tensors.LIMIT + 1, dtype=torch.uint8)
    found = small_tensors.loads(small_tensors.dumps([most, more, more[:3], torch.zeros(7)]))
    assert files == [small_tensors.LIMIT + 1]
    assert [len(one) for one in found] == [len(most), len(more), 3, 7]


class Detected(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        boxes = torch.arange(4.0).repeat(index, 1) + torch.tensor([0.0, 0, 5, 5])
        return torch.full((3, 16, 16), index, dtype=torch.uint8), {"boxes": boxes, "labels": torch.arange(index)}


def listed(samples):
    return torch.stack([image for image, _ in samples]), [target for _, target in samples]


@pytest.mark.parametrize("workers", [1])
def test_batches_of_workers_are_those_of_torch(workers):
    shared = {"batch_size": 4, "collate_fn": listed, "multiprocessing_context": "fork"}
    ours = smartaug.DataLoader(Detected(), num_workers=workers, **shared)
    for (images, targets), (plain, wanted) in zip(ours, TorchDataLoader(Detected(), 4, collate_fn=listed), strict=True):
        assert torch.equal(images, plain)
        for found, expected in zip(targets, wanted, strict=True):
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in expected)
