"""Facts that stand in one table, and what a backend must do for each row: a toy row shows that a lack is found."""

import ast
import importlib
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_backends import pictures, same

from smartaug.augment import backends, mixing, plan
from smartaug.augment.backends.numba import codes, encode
from smartaug.augment.backends.numba import run as numba_backend
from smartaug.augment.backends.tables import filters, tones
from smartaug.augment.backends.torch import run as torch_backend
from smartaug.augment.backends.torch import tone as torch_tone
from smartaug.augment.backends.triton import run as triton_backend
from smartaug.augment.plan import Branches, Filter, Mix, Plan, Segment, Store, Tone

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
CPU = ["torch", "numba"]
SHAPE = (4, 3, 20, 17)  # enough pixels for Equalize to change some


def tone_agrees(row, backend, run=backends.execute):
    """One tone by ``backend`` is the torch backend's, at both ends of its range and between, and is no copy there."""
    low, high = row.low, min(row.high, 2.0 if row.high == float("inf") else row.high)
    amount = torch.tensor([low, (low + high) / 2, high, high / 3])
    amount = amount.round() if row.unit == "bits kept" else amount
    images = pictures(SHAPE)
    segment = Tone(torch.full((4,), tones.TONES.index(row.name)), amount)
    expected = torch_backend.run((segment,), images)
    assert torch.equal(expected, images) == (row.name == "Identity")
    found, where = run(Plan(SHAPE, (segment,)), images, backend), f"{backend}/tone.py has another {row.name}"
    assert not torch.equal(found, images) or row.name == "Identity", f"{where}, or none: samples stay as they are"
    assert torch.equal(found, expected), f"{where} than torch/tone.py: {(found != expected).sum()} values differ"


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.parametrize("row", tones.TABLE, ids=lambda row: row.name)
def test_every_tone_on_every_backend(row, backend):
    tone_agrees(row, backend)


@pytest.fixture
def toy(monkeypatch):
    """A row that only the torch backend has a function for."""
    row = tones.Operation("Toy", unit="grey levels", high=255.0)
    monkeypatch.setattr(tones, "TABLE", (*tones.TABLE, row))
    monkeypatch.setattr(tones, "TONES", (*tones.TONES, "Toy"))
    monkeypatch.setitem(torch_tone.OPERATIONS, "Toy", lambda part, amount: part.clamp(min=100))
    return row


def test_a_backend_that_lacks_a_tone_is_found(toy):
    """It leaves samples as they are, which the conformance test above does not accept, and other tones are the same."""
    with pytest.raises(AssertionError):
        tone_agrees(toy, "numba")
    images = pictures(SHAPE)
    segment = Tone(torch.full((4,), tones.TONES.index("Toy")), torch.ones(4))
    assert torch.equal(backends.execute(Plan(SHAPE, (segment,)), images, "numba"), images)
    for row in tones.TABLE[:-1]:
        tone_agrees(row, "numba")


def test_a_function_that_is_not_there_is_named(toy):
    with pytest.raises(NotImplementedError, match=r"torch/tone.py lacks Toy of tables/tones.py; write toy\(\) there"):
        tones.functions(vars(torch_tone), "torch/tone.py")


def with_cap(folder, monkeypatch):
    """`backends` of a copy of smartaug, to which the guide's row, functions of backends, and class were added."""
    shutil.copytree(ROOT / "smartaug", folder / "toyaug", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "toyaug" / "__init__.py").write_text("")
    backends = folder / "toyaug" / "augment" / "backends"
    table = backends / "tables" / "tones.py"
    row = 'Operation("Cap", unit="grey levels", high=255.0)'
    assert row in GUIDE
    table.write_text(table.read_text().replace("\n)\nTONES =", f"\n    {row},\n)\nTONES ="))
    for backend in ("torch", "numba", "triton"):
        file = backends / backend / "tone.py"
        _, added, _ = re.split(rf"# smartaug/augment/backends/{backend}/tone.py\n(.*?)```", GUIDE, flags=re.DOTALL)
        lines = file.read_text().splitlines()
        gathered = ast.parse(file.read_text()).body[-1].lineno - 1
        file.write_text("\n".join([*lines[:gathered], added, *lines[gathered:]]))
    _, added, _ = re.split(r"# smartaug/augment/ops/tone.py\n(.*?)```", GUIDE, flags=re.DOTALL)
    file = folder / "toyaug" / "augment" / "ops" / "tone.py"
    file.write_text(f"{file.read_text()}\n\n{added}")
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "toyaug"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("toyaug.augment.backends")


def cap_agrees(toy, dtype=torch.uint8, name="torch", device="cpu"):
    """`Cap` in that copy's plans is what it says, by the backend ``name``."""
    plan = importlib.import_module("toyaug.augment.plan")
    tones = importlib.import_module("toyaug.augment.backends.tables.tones")
    images, cap = pictures(SHAPE, dtype), tones.CODES["Cap"]
    segment = plan.Tone(torch.tensor([cap, tones.CODES["Invert"], 0, cap]), torch.tensor([100.0, 7.0, 7.0, 0.0]))
    found = toy.execute(plan.Plan(SHAPE, (segment,)), images.to(device), name).cpu()
    top = 255 if dtype == torch.uint8 else 1.0
    expected = images.clone()
    expected[0].clamp_(max=100 if dtype == torch.uint8 else 100 / 255)
    expected[1], expected[3] = top - images[1], 0
    assert torch.equal(found, expected)


def test_a_row_and_a_function_a_backend_make_a_tone(tmp_path, monkeypatch):
    """By CONTRIBUTING, in a copy of the package: no other line is touched. Triton's is run by `test_triton`."""
    toy = with_cap(tmp_path, monkeypatch)
    cap_agrees(toy)
    cap_agrees(toy, torch.float32)
    cap, images = importlib.import_module("toyaug.augment.ops.tone").Cap, pictures(SHAPE)
    assert torch.equal(cap(100, backend="torch")(images), images.clamp(max=100))
    assert cap(100).p == 1.0
    with pytest.raises(ValueError, match="limit"):
        cap(256)
    tone = importlib.import_module("toyaug.augment.backends.numba.tone")
    codes = tone.tones.CODES
    given = pictures((1, 3, 5, 5)).flatten().numpy()
    pairs = ((codes["Cap"], np.minimum(given, 100)), (codes["Invert"], 255 - given), (0, given), (31, given))
    for code, expected in pairs:
        made = np.zeros_like(given)
        tone.tone(code, given, made, 3, np.float32(100.0))
        assert np.array_equal(made, expected)


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.parametrize("code", [-1, len(tones.TABLE), 1 << 40])
@pytest.mark.parametrize("kind", [Tone, Filter])
def test_an_unknown_code_is_refused(kind, code, backend):
    segment = kind(torch.tensor([0, 1, code, 0]), torch.ones(4))
    with pytest.raises(ValueError, match=rf"{kind.__name__}.op has the codes \[{code}\].*write one of: 0 Identity, 1 "):
        backends.execute(Plan(SHAPE, (segment,)), pictures(SHAPE), backend)


def test_codes_are_positions_and_all_different():
    assert [tones.CODES[row.name] for row in tones.TABLE] == list(range(len(tones.TABLE)))
    others = [value for name, value in vars(codes).items() if name.isupper() and name not in ("TONES", "RARE")]
    behind_tones = [value for value in others if value >= codes.TONES]
    assert len(set(behind_tones)) == len(behind_tones) == 12
    assert tones.TONES[0] == filters.FILTERS[0] == "Identity"
    assert all(row.low <= row.high and (row.unit == "none") == (row.low == row.high) for row in tones.TABLE)


NOT_RUN = (plan.Mixing, mixing.Parts)  # what several kinds share; what labels alone follow


def kinds_of_segment(base=Segment):
    for kind in base.__subclasses__():
        if kind.__module__ in (plan.__name__, mixing.__name__) and kind not in NOT_RUN:
            yield kind
        yield from kinds_of_segment(kind)


def without_torch(kinds):
    return set(kinds) - set(torch_backend.RUNS)


def test_every_kind_of_segment_runs_on_torch():
    assert not without_torch(kinds_of_segment())

    class Toy(Segment):
        pass

    assert without_torch([*kinds_of_segment(), Toy]) == {Toy}


@pytest.mark.parametrize("backend", [numba_backend, triton_backend], ids=["numba", "triton"])
def test_what_a_backend_does_not_run_is_left_to_torch(backend):
    """A kind of segment that no backend but torch knows goes to torch, and says so."""

    class Toy(Segment):
        pass

    assert "Toy" in backend.lacks(Toy())
    assert set(torch_backend.RUNS) >= backend.RUNS
    assert Branches not in backend.RUNS
    for kind in set(torch_backend.RUNS) - backend.RUNS:
        assert kind.__name__ in backend.lacks(object.__new__(kind))


def test_the_declared_kinds_are_the_encoded_ones():
    assert {*encode.STEPS, Mix, Store} == numba_backend.RUNS


def test_branches_run_on_torch_alone_as_through_execute():
    images = pictures(SHAPE)
    invert = (Tone(torch.ones(4, dtype=torch.int64), torch.zeros(4)),)
    segment = Branches((invert, ()), torch.tensor([[0.5, 0.25, 0.25]]).repeat(4, 1))
    found = torch_backend.run((segment,), images)
    same(backends.execute(Plan(SHAPE, (segment,)), images), found)
