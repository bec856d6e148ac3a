"""Nothing is left behind: processes, threads, file descriptors, references."""

import copy
import gc
import multiprocessing
import os
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sized
from types import ModuleType

import numpy as np
import pytest
import torch

import smartaug
from tests.data import Numbered, add_constant


def settled(figure, wanted, seconds=10.0):
    """``figure()`` once it has come down to ``wanted``, or its last value."""
    end = time.monotonic() + seconds
    while figure() > wanted and time.monotonic() < end:
        gc.collect()
        time.sleep(0.02)
    return figure()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("broken_off", [False, True])
def test_no_process_thread_or_descriptor_stays(persistent, broken_off):
    def use():
        loader = smartaug.DataLoader(
            Numbered(), batch_size=4, num_workers=2, persistent_workers=persistent, augment=add_constant
        )
        for _ in range(2):
            for _ in loader:
                if broken_off:
                    break

    threads = threading.active_count()
    use()  # what torch itself opens once
    settled(lambda: len(multiprocessing.active_children()), 0)
    settled(threading.active_count, threads)
    files = descriptors()
    for _ in range(3):
        use()
    assert settled(lambda: len(multiprocessing.active_children()), 0) == 0
    assert settled(threading.active_count, threads) <= threads
    assert settled(descriptors, files) <= files


def test_persistent_workers_end_with_the_loader():
    loader = smartaug.DataLoader(Numbered(), batch_size=4, num_workers=2, persistent_workers=True, augment=add_constant)
    list(loader)
    assert len(multiprocessing.active_children()) == 2
    gone = weakref.ref(loader)
    del loader
    assert gone() is None  # at once: no cycle holds it
    assert settled(lambda: len(multiprocessing.active_children()), 0) == 0


def test_the_loader_and_its_pipeline_go_without_the_collector():
    gc.disable()
    try:
        loader = smartaug.DataLoader(Numbered(), batch_size=4, augment=add_constant)
        list(loader)
        gone = [weakref.ref(loader), weakref.ref(loader.collate_fn.pipeline)]
        del loader
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


def module_containers():
    """How much every container at the top of a module of ours holds, by name; arrays do not grow."""
    others = (type, str, bytes, ModuleType, np.ndarray)
    modules = {name: part for name, part in sys.modules.items() if name.partition(".")[0] == "smartaug"}
    return {
        (name, entry): len(held)
        for name, part in modules.items()
        for entry, held in vars(part).items()
        if isinstance(held, (Sized, Mapping)) and not isinstance(held, others)
    }


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_loaders_leave_nothing_behind(count):
    """No registry grows, and no object stays: each loader hands a batch over, whose weights are read."""
    data = [(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.arange(2))]

    def weigh(batch, trace):
        return torch.ones(2), None

    def use(number):
        ((_, target),) = list(smartaug.wrap(data, augment=smartaug.Flip(), reweight=weigh, seed=number, device="cpu"))
        assert target.weight.shape == (2,)
        return target

    for number in range(20):
        use(number)
    gc.collect()
    before, objects = module_containers(), len(gc.get_objects())
    for number in range(count):
        last = use(number)
    gc.collect()
    assert module_containers() == before
    assert len(gc.get_objects()) < objects + 100
    assert last.weight.shape == (2,)  # a target outlives the loader that made it


def test_a_deep_copy_is_a_loader_of_its_own():
    loader = smartaug.DataLoader(Numbered(), batch_size=4, augment=smartaug.Erase(1.0), seed=3)
    other = copy.deepcopy(loader)
    one = [images for images, _ in loader]
    assert other.stats()["batches"] == 0
    assert all(torch.equal(a, b) for a, (b, _) in zip(one, other, strict=True))
    assert loader.stats()["batches"] == other.stats()["batches"] == 5
