"""Compiled code: kept on disk, mended where it is damaged, and torch in its place where it cannot run."""

import os
import pty
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import smartaug
from smartaug._base import compiled

numba = pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """A cache folder of its own, and nothing said or given up before."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_given_up", [])
    compiled.say_once.cache_clear()
    yield
    compiled.say_once.cache_clear()


def made(added, rare=0):
    """A compiled function, as another process would make it: its code depends on what it closes over."""

    @compiled.kept(nogil=True)
    def add(values):
        return values.sum() + added + rare

    return add


def said(run):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run()
    return result, [str(one.message) for one in caught if "smartaug" in str(one.message)]


def files(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.smartaug"))


def hits(function):
    return sum(function.stats.cache_hits.values())


def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    assert made(1)(np.arange(3)) == 4
    assert len(files(tmp_path)) == 1
    again = made(1)
    assert again(np.arange(3)) == 4
    assert hits(again) == 1
    other = made(2)  # the same function and signature, other code
    assert other(np.arange(3)) == 5
    assert hits(other) == 0
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda data: data[:-9] + bytes([data[-9] ^ 128]) + data[-8:],
        lambda data: os.urandom(len(data)),
    ],
    ids=["empty", "half", "cut", "first bit", "late bit", "noise"],
)
def test_a_damaged_file_is_said_and_mended(tmp_path, damage):
    made(1)(np.arange(3))
    (file,) = files(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    result, told = said(lambda: made(1)(np.arange(3)))
    assert result == 4
    assert len(told) == 1
    assert "damaged or half-written" in told[0]
    mended = made(1)
    assert said(lambda: mended(np.arange(3))) == (4, [])
    assert hits(mended) == 1


def test_a_folder_that_cannot_be_written_costs_a_warning_and_nothing_else(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    function, told = said(lambda: made(1))
    if not told:  # numba found another place of its own
        function._cache = compiled._cache_of(function.py_func)
    result, more = said(lambda: function(np.arange(3)))
    assert result == 4
    assert all("set NUMBA_CACHE_DIR to a folder" in one for one in told + more)


def test_no_room_on_the_disk_costs_a_warning(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    function = made(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        result, told = said(lambda: function(np.arange(3)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result == 4
    assert len(told) == 1
    assert "cannot be kept" in told[0]
    assert "OSError" in told[0]
    assert files(tmp_path) == []  # nothing half-written stays


def test_many_at_once_never_get_each_others_code(tmp_path):
    """numba's own index can put one function's code under another's name when two processes save at once."""
    keys = [("signature", number) for number in range(8)]
    store = compiled.Files(tmp_path, "name", "stamp")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: [store.save(key, key) for _ in range(5)], keys))
    assert [store.load(key) for key in keys] == keys
    assert store.load("another") is None
    assert compiled.Files(tmp_path, "name", "other source").load(keys[0]) is None
    store.flush()
    assert list(tmp_path.glob("name*")) == []


# --- where it cannot run ----------------------------------------------------------------------------------------------


def augmented(backend=None):
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return smartaug.RandAugment(backend=backend)(images, index=torch.arange(4), seed=0)


def test_without_a_compiler_torch_runs_and_one_warning_says_why(monkeypatch):
    wanted = augmented("torch")
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    result, told = said(lambda: [augmented(), augmented()])
    assert all(torch.equal(one, wanted) for one in result)
    assert len(told) == 1
    assert "NUMBA_DISABLE_JIT is set" in told[0]
    with pytest.raises(ValueError, match=r'backend="numba" cannot run here: NUMBA_DISABLE_JIT is set'):
        augmented("numba")
    points = smartaug.Embedding(torch.randn(20, 3))
    picks, _ = smartaug.FacilityLocation()(points, 5)
    assert torch.equal(picks, smartaug.FacilityLocation(backend="torch")(points, 5)[0])
    with pytest.raises(ValueError, match="cannot run here"):
        smartaug.FacilityLocation(backend="numba")(points, 5)


def test_a_broken_numba_is_given_up(tmp_path):
    """As after an upgrade of NumPy: numba is there and cannot be imported."""
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('Numba needs NumPy 1.9 or less')")
    code = (
        "import warnings, torch, smartaug\n"
        "images = torch.arange(3 * 64).reshape(1, 3, 8, 8).to(torch.uint8)\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    made = [smartaug.Flip(1.0)(images) for _ in range(2)]\n"
        "    smartaug.FacilityLocation()(smartaug.Embedding(torch.randn(9, 2)), 3)\n"
        "assert all(torch.equal(one, images.flip(3)) for one in made)\n"
        "print([str(one.message) for one in caught if 'smartaug' in str(one.message)])\n"
        "try: smartaug.Flip(1.0); smartaug.RandAugment(backend='numba')(images)\n"
        "except ValueError as error: print(error)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(smartaug.__file__).parent.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    told, refused = done.stdout.strip().splitlines()
    assert told.count("smartaug: ") == 1
    assert "numba could not compile augmentations (ImportError: Numba needs NumPy 1.9 or less)" in told
    assert 'backend="numba" cannot run here' in refused


# --- what a terminal shows --------------------------------------------------------------------------------------------


def test_a_terminal_shows_that_it_compiles_and_for_how_long(monkeypatch):
    monkeypatch.setattr(compiled, "_QUIET", 0.1)
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with compiled.compiling("things", 35):
            time.sleep(1.3)
        text = os.read(reader, 4096).decode()
    os.close(reader)
    assert "compiling things, once on this machine: 1 of ≈ 35 s" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_shown_where_it_is_quick_or_no_terminal(monkeypatch, capfd, terminal):
    monkeypatch.setattr(compiled, "_QUIET", 0.1)
    if terminal:
        reader, writer = pty.openpty()
        with os.fdopen(writer, "w") as stream:
            monkeypatch.setattr(sys, "stderr", stream)
            with compiled.compiling("things", 35):
                pass
            os.set_blocking(reader, False)
            with pytest.raises(BlockingIOError):
                os.read(reader, 1)
        os.close(reader)
    else:
        with compiled.compiling("things", 35):
            time.sleep(0.3)
        assert capfd.readouterr().err == ""
    assert not any(one.name == "smartaug-compiling" for one in threading.enumerate())


def test_what_fails_inside_says_what_was_compiled():
    told = pytest.raises(compiled.CannotCompile, match=r"numba could not compile things \(ZeroDivisionError: why\)")
    with told, compiled.compiling("things", 35):
        raise ZeroDivisionError("why")
