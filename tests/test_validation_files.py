"""Validation data in files: this process never opens them, so forked workers inherit no handle."""

import os

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

import smartaug
from smartaug.reweight import validation
from smartaug.reweight.validation import ValidationBatches

SIZE, CLASSES = 48, 4


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("h5") / "data.h5"
    with h5py.File(path, "w") as file:
        images = np.random.default_rng(0).integers(0, 255, (SIZE, 1, 4, 4), dtype=np.uint8)
        images[:, 0, 0, 0] = np.arange(SIZE)
        file.create_dataset("images", data=images, chunks=(1, 1, 4, 4), compression="gzip")
        file.create_dataset("labels", data=np.arange(SIZE) % CLASSES)
    return path


class InFile(Dataset):
    """Opens its file at first use, as the usual advice has it, and notes in which processes."""

    def __init__(self, path, log):
        self.path, self.log, self.file = path, log, None

    def open(self):
        if self.file is None:
            with open(self.log, "a") as log:
                log.write(f"{os.getpid()}\n")
            self.file = h5py.File(self.path, "r")
        return self.file

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        file = self.open()
        return torch.from_numpy(file["images"][index]).float(), int(file["labels"][index])


class WithLabels(InFile):
    @property
    def targets(self):
        return self.open()["labels"][:].tolist()


@pytest.fixture
def opened(tmp_path):
    """The file in which datasets note who opened theirs, and what it says."""
    log = tmp_path / "log"
    return log, lambda: {int(line) for line in log.read_text().split()}


@pytest.mark.parametrize("kind", [InFile, WithLabels])
def test_a_split_is_made_without_opening_the_file_here(kind, path, opened):
    log, pids = opened
    dataset = kind(path, log)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    training, held = smartaug.split_validation(dataset, 0.25)
    assert torch.equal(torch.get_rng_state(), before)
    assert dataset.file is None
    assert os.getpid() not in pids()
    assert [i % CLASSES for i in held.indices].count(1) == 3
    assert len(training) + len(held) == SIZE


@pytest.mark.filterwarnings("ignore::smartaug.NoEffectWarning")  # no loss is computed here
@pytest.mark.parametrize("kept", [True, False])
def test_learned_weights_from_a_file_that_workers_read_too(kept, path, opened, monkeypatch):
    if not kept:
        monkeypatch.setattr(validation, "_KEPT_BYTES", 0)
    log, pids = opened
    dataset = InFile(path, log)
    training, held = smartaug.split_validation(dataset, 0.25)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES))
    reweight = smartaug.SAFLEX(net, held, validation_batch=8)
    loader = smartaug.DataLoader(training, 6, shuffle=True, num_workers=2, reweight=reweight)
    for _ in range(2):  # workers are forked anew
        seen = 0
        for images, target in loader:
            members = torch.tensor(training.indices)[target.index]
            assert images[:, 0, 0, 0].tolist() == members.tolist()
            assert target.plain.tolist() == (members % CLASSES).tolist()
            assert bool((target.weight >= 0).all())
            seen += len(images)
        assert seen == len(training)
    assert dataset.file is None
    assert os.getpid() not in pids()


def test_batches_are_the_same_wherever_they_are_read(path, opened, monkeypatch):
    dataset = Subset(InFile(path, opened[0]), range(5, 41))
    images = torch.stack([dataset[i][0] for i in range(36)])
    dataset.dataset.file.close()
    dataset.dataset.file = None
    arrays = TensorDataset(images, torch.tensor([i % CLASSES for i in range(5, 41)]))
    steps = (0, 1, 2, 7, 8, 3)
    wanted = [ValidationBatches(arrays, 6, seed=3).batch(step, torch.device("cpu")) for step in steps]
    for bound in (1 << 20, 0):
        monkeypatch.setattr(validation, "_KEPT_BYTES", bound)
        batches = ValidationBatches(dataset, 6, seed=3)
        for step, (inputs, labels) in zip(steps, wanted, strict=True):
            found = batches.batch(step, torch.device("cpu"))
            assert torch.equal(found[0], inputs)
            assert torch.equal(found[1], labels)
    assert dataset.dataset.file is None
