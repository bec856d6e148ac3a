"""While numba is compiled in a process of its own, a loader's batches run on torch, to the same bytes."""

import os
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

import smartaug
from smartaug._base import background, compiled
from smartaug.augment import backends
from smartaug.augment.backends.numba import ahead, run

pytest.importorskip("numba")

IMAGES = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
WAITS = """
import sys, time
from pathlib import Path
end = Path(__file__).with_name("end")
while not end.exists():
    time.sleep(0.01)
sys.exit(end.read_text() or 0)
"""


@pytest.fixture
def process(monkeypatch, tmp_path):
    """Stands for the process that compiles: it ends when the file is written, in an error with what is in it."""
    (tmp_path / "waits.py").write_text(WAITS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv(background.SWITCH, "")
    monkeypatch.setattr(run, "BACKGROUND", background.Background("waits"))
    monkeypatch.setattr(run, "_ready", set())
    monkeypatch.setattr(run, "is_kept", lambda *_: False)
    monkeypatch.setattr(compiled, "_given_up", [])
    compiled.say_once.cache_clear()
    yield tmp_path / "end"
    (tmp_path / "end").write_text("")
    run.BACKGROUND.join()
    compiled.say_once.cache_clear()


def loader(**keywords):
    data = TensorDataset(IMAGES, torch.arange(8))
    return smartaug.DataLoader(data, 4, augment=smartaug.RandAugment(**keywords), seed=0, target=1)


def ended(end, text=""):
    end.write_text(text)
    run.BACKGROUND.join()


def epoch(own):
    own.set_epoch(0)
    return torch.cat([images for images, _ in own])


def test_batches_run_on_torch_until_it_is_compiled(process, capfd):
    own, wanted = loader(), epoch(loader(backend="torch"))
    assert torch.equal(epoch(own), wanted)
    assert torch.equal(epoch(own), wanted)
    assert own.stats()["batches_while_compiling"] == 4
    assert background.WHY in own.explain()
    assert capfd.readouterr().err.count("in the background, once on this machine") == 1
    ended(process)
    assert torch.equal(epoch(own), wanted)
    assert own.stats()["batches_while_compiling"] == 4
    assert background.WHY not in own.explain()
    assert "uint8 on the CPU" in own.explain()


def test_a_process_that_fails_is_said_once_and_torch_stays(process):
    own, wanted = loader(), epoch(loader(backend="torch"))
    assert torch.equal(epoch(own), wanted)
    ended(process, "no room")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert all(torch.equal(epoch(own), wanted) for _ in range(2))
    (told,) = [str(one.message) for one in caught if "smartaug" in str(one.message)]
    assert "could not compile augmentations in the background: exit status 1, no room" in told


@pytest.mark.parametrize("how", ["direct", "by name", "switch", "inside"])
def test_direct_calls_a_named_backend_and_the_switch_wait(process, monkeypatch, how):
    if how == "direct":
        smartaug.Flip(1.0)(IMAGES)
    else:
        monkeypatch.setenv(background.SWITCH, "wait" if how == "switch" else "")
        own = loader(backend="numba" if how == "by name" else None)
        with background.waiting() if how == "inside" else nullcontext():
            epoch(own)
        assert "batches_while_compiling" not in own.stats()
    assert run.BACKGROUND._process is None
    assert "common" in run._ready


def test_what_is_on_the_disk_is_loaded_at_once(process, monkeypatch):
    monkeypatch.setattr(run, "is_kept", lambda *_: True)
    own = loader()
    epoch(own)
    assert "batches_while_compiling" not in own.stats()
    assert run.BACKGROUND._process is None


def test_the_parts_are_those_that_plans_need():
    """What the process compiles is what a batch calls, whatever its plan: the same signatures."""
    for part in ahead.PARTS:
        ahead.compile_part(part)
    before = [len(run._compiled(rare).overloads) for rare in (False, True)]
    stages = [smartaug.RandAugment(), smartaug.Erase(), smartaug.MixUp(), smartaug.Normalize(0.5, 0.5)]
    smartaug.Compose(stages)(IMAGES, torch.arange(8))
    smartaug.Compose(stages[:2])(IMAGES.contiguous(memory_format=torch.channels_last))
    assert before == [len(run._compiled(rare).overloads) for rare in (False, True)] == [1, 1]
    for unequal in (smartaug.RandomResizedCrop(3), smartaug.Resize(3, antialias=True), smartaug.Crop(2)):
        unequal([IMAGES[0], IMAGES[1, :, 1:]])
    assert len(backends.unequal._compiled().overloads) == 1


@pytest.mark.slow
def test_a_cold_cache_for_real(tmp_path):
    code = (
        "import sys, time; sys.path.insert(0, 'tests'); from tests import test_background as t\n"
        "own, wanted = t.loader(), t.epoch(t.loader(backend='torch'))\n"
        "assert t.torch.equal(t.epoch(own), wanted)\n"
        "assert own.stats()['batches_while_compiling'] == 2\n"
        "t.run.BACKGROUND.join()\n"
        "started = time.monotonic()\n"
        "assert t.torch.equal(t.epoch(own), wanted)\n"
        "assert own.stats()['batches_while_compiling'] == 2 and 'common' in t.run._ready\n"
        "print(time.monotonic() - started)\n"
    )
    root = Path(smartaug.__file__).parent.parent
    own = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), background.SWITCH: "", "PYTHONPATH": str(root)}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=own, cwd=root, capture_output=True, text=True, check=True, timeout=600
    )
    assert float(done.stdout) < 0.3 * (time.monotonic() - started)  # loaded, not compiled again
    assert "in the background" in done.stderr
