"""What every test finds: a seed, one thread, workers started without a fork from a server, code compiled once."""

import fcntl
import gc
import importlib.util
import multiprocessing
import os

os.environ["SMARTAUG_COMPILE"] = "wait"  # which backend runs must not depend on what was compiled before
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: waking a second thread costs more than a test's steps

import pytest
import torch

# Read by glibc in the processes of `pytest -n 2`, which start after this line. Memory in large pages, kept and not
# handed back, makes a fork cheaper (its page tables are shorter), and an allocation (each page is faulted in once).
MALLOC = ("hugetlb=1", "mmap_threshold=1073741824", "trim_threshold=1073741824")
os.environ.setdefault("GLIBC_TUNABLES", ":".join(f"glibc.malloc.{setting}" for setting in MALLOC))

# what each worker process started by "forkserver" would import for itself in 3 s, as one started by "spawn" does
multiprocessing.set_forkserver_preload(["torch", "smartaug", "smartaug.loading.dataloader", "pytest", "hypothesis"])


def pytest_collection_finish():
    """What was imported stays: no later collection walks through it, and no forked worker copies it by doing so."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _as_found():
    """The seed and the number of threads that each test starts with."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed keeps three tracebacks for a GPU that may come
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory, worker_id):
    """Of the processes of `pytest -n 2` each compiles one part of the code, and then loads the other's from the disk.

    Alone (``-n 0``) there is nothing to share: what a test needs is compiled when it is met.
    """
    if worker_id == "master" or importlib.util.find_spec("numba") is None:
        return
    from tests import compiled

    parts = list(enumerate(compiled.PARTS))
    for number, compile_or_load in parts if worker_id == "gw0" else reversed(parts):
        with open(tmp_path_factory.getbasetemp().parent / f"compiled{number}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            compile_or_load()
