"""Every augmentation on every backend: the same bytes as the torch backend, whatever the batch looks like.

Parametrised over `smartaug.augment.__all__`: a new augmentation needs a row in ``ROWS`` and then gets all of this.
"""

import copy
import dataclasses
import multiprocessing
import pickle
import subprocess
import sys
import threading
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import smartaug.augment as A
from smartaug._base import compiled
from smartaug.augment import backends
from smartaug.augment.backends.tables.filters import FILTERS
from smartaug.augment.backends.tables.tones import TONES
from smartaug.augment.magnitudes import SRA
from smartaug.augment.mixing import Tiles
from smartaug.augment.plan import (
    Branches,
    Clahe,
    Erase,
    EraseNoise,
    Filter,
    Lookup,
    Mix,
    Noise,
    Plan,
    Store,
    Tone,
    Trace,
    Warp,
)

ROWS = {
    "Affine": [
        lambda: A.Affine(30, (0.2, 0.1), (0.7, 1.4), 15),
        lambda: A.Affine(30, interpolation="bilinear", fill=9),
    ],
    "AugMix": [A.AugMix, lambda: A.AugMix(10, 2, 2, 0.4, False, "nearest", fill=7)],
    "AutoAugment": [A.AutoAugment, lambda: A.AutoAugment("svhn", "bilinear", 128), lambda: A.AutoAugment("cifar10")],
    "AutoContrast": [A.AutoContrast],
    "ColorJitter": [lambda: A.ColorJitter(0.4, (0.5, 2.0), 0.9, 0.5), A.ColorJitter],
    "Compose": [
        lambda: A.Compose([A.PadCrop(4), A.Flip(), A.RandAugment(), A.Erase(), A.CutMix()]),
        lambda: A.Compose([A.RandomResizedCrop(12), A.Flip(), A.MixUp(), A.Invert(), A.Normalize(0.5, 0.2)]),
        lambda: A.Compose([]),
    ],
    "Crop": [lambda: A.Crop((1, 1)), lambda: A.Crop((1, 1), place="center")],
    "CutMix": [A.CutMix],
    "Equalize": [A.Equalize],
    "Erase": [A.Erase, lambda: A.Erase(1.0, scale=(0.2, 0.9), fill=200, count=3)],
    "Flip": [A.Flip, lambda: A.Flip(vertical=True)],
    "GaussianBlur": [lambda: A.GaussianBlur(3), lambda: A.GaussianBlur((5, 9), (0.3, 4.0), p=0.5)],
    "GaussianNoise": [A.GaussianNoise, lambda: A.GaussianNoise((0.02, 0.2), mean=-0.1, p=0.6)],
    "Grayscale": [lambda: A.Grayscale(0.5)],
    "Invert": [A.Invert],
    "MixUp": [A.MixUp, lambda: A.MixUp(0.2, p=0.5)],
    "Mosaic": [
        A.Mosaic,
        lambda: A.Mosaic((9, 20), centre=(0, 2), scale=(0.3, 0.9), p=0.7, fill=99),
        lambda: A.Mosaic(scale=(1, 1), p=0.7),
    ],
    "Normalize": [
        lambda: A.Normalize(0.4, 0.3),
        lambda: A.Normalize(0.4, 0.3, dtype=torch.float64),
        lambda: A.Normalize(0.4, 0.3, dtype=torch.bfloat16),
    ],
    "OneOf": [lambda: A.OneOf([A.Flip(1.0), A.RandAugment(), A.Erase()], weights=[1, 2, 3], p=0.8)],
    "Pad": [lambda: A.Pad((1, 2, 0, 3), fill=99), lambda: A.Pad((2, 1, 2, 1), mode="edge")],
    "PadCrop": [partial(A.PadCrop, 3, mode=m, fill=40) for m in ("constant", "edge", "reflect", "symmetric")]
    + [lambda: A.PadCrop(2, size=1)],
    "Posterize": [lambda: A.Posterize(3), lambda: A.Posterize(0), lambda: A.Posterize(8)],
    "RandAugment": [
        A.RandAugment,
        lambda: A.RandAugment(3, 30, interpolation="bilinear", fill=77),
        lambda: A.RandAugment(3, 5, 10, exact=False),
        lambda: A.RandAugment(0),
        lambda: A.RandAugment(2, (4, 12)),
        lambda: A.RandAugment(1, SRA()),
    ],
    "RandomApply": [lambda: A.RandomApply([A.Affine(30), A.CutMix(), A.Equalize(1.0)], 0.6)],
    "RandomOrder": [lambda: A.RandomOrder([A.Affine(30), A.ColorJitter(0.4), A.Solarize(99)])],
    "RandomResizedCrop": [
        lambda: A.RandomResizedCrop((9, 20)),
        lambda: A.RandomResizedCrop(7, interpolation="nearest"),
        lambda: A.RandomResizedCrop(5, antialias=True),
    ],
    "Resize": [lambda: A.Resize((9, 20)), lambda: A.Resize((5, 4), "nearest"), lambda: A.Resize(4, antialias=True)],
    "Sharpness": [lambda: A.Sharpness(0.3), lambda: A.Sharpness(4.0)],
    "Solarize": [lambda: A.Solarize(100.5), lambda: A.Solarize(0), lambda: A.Solarize(255)],
    "SomeOf": [lambda: A.SomeOf([A.Flip(1.0), A.Posterize(2), A.AutoContrast(1.0)], (0, 4), replace=True)],
    "TrivialAugment": [
        A.TrivialAugment,
        lambda: A.TrivialAugment(magnitude=SRA()),
        lambda: A.TrivialAugment(interpolation="bilinear", exact=False),
    ],
}
NEED_MASKS = {"CopyPaste"}  # what no plan does without instance masks has tests of its own: test_mixing_dense.py
NEED_ROWS = {"SMOTE", "SwapFeatures"}  # what takes rows of features alone: test_row_operations.py
CASES = [pytest.param(make, id=f"{name}{n}") for name, rows in ROWS.items() for n, make in enumerate(rows)]
SHAPES = [(5, 3, 13, 17), (4, 1, 8, 8), (3, 3, 1, 1), (2, 3, 2, 31), (0, 3, 6, 5), (1, 1, 3, 4)]


def pictures(shape, dtype=torch.uint8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(shape, generator=generator).sqrt()
    return (images * 255).to(torch.uint8) if dtype == torch.uint8 else images.to(dtype)


def planned(augmentation, shape):
    return augmentation.plan(shape, index=torch.arange(shape[0]), epoch=1, seed=3)


def same(found, expected):
    """Equal bytes for uint8, within 1/255 for floats."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if found.dtype == torch.uint8:
        assert torch.equal(found, expected)
    else:
        atol = {torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(found.dtype, 1e-5)
        torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_every_augmentation_has_a_row():
    lacking = set(A.__all__) - {"Augmentation", *NEED_MASKS, *NEED_ROWS} - set(ROWS)
    assert not lacking, f"write a row in ROWS of tests/test_backends.py for {', '.join(sorted(lacking))}"
    assert set(ROWS) <= set(A.__all__)
    for name, rows in ROWS.items():
        assert all(type(make()).__name__ == name for make in rows)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", CASES)
def test_numba_gives_the_bytes_of_torch(make, shape):
    images, augmentation = pictures(shape), make()
    plan = planned(augmentation, shape)
    expected = backends.execute(plan, images, "torch")
    assert tuple(expected.shape) == plan.output_shape
    same(backends.execute(plan, images, "numba"), expected)
    same(backends.execute(plan, images), expected)


@pytest.mark.parametrize("backend", backends.NAMES)
@pytest.mark.filterwarnings("ignore:.*not writable.*:UserWarning")
@pytest.mark.parametrize("make", CASES)
def test_forms_of_input(make, backend):
    """Layouts give the same values, the output keeps the memory format, the input is left as it is."""
    shape = (5, 3, 13, 17)
    images, augmentation = pictures(shape), make()
    plan = planned(augmentation, shape)
    expected = backends.execute(plan, images, backend)
    array = images.numpy().copy()
    array.flags.writeable = False
    read_only = torch.from_numpy(array)
    wide = torch.empty(5, 3, 13, 34, dtype=torch.uint8)
    wide[..., ::2] = images
    last = images.contiguous(memory_format=torch.channels_last)
    for given_form in (read_only, wide[..., ::2], last, images.flip(0).flip(0)):
        before = given_form.clone()
        found = backends.execute(plan, given_form, backend)
        same(found, expected)
        assert torch.equal(given_form, before)
    assert backends.execute(plan, last, backend).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", CASES)
def test_floats_are_the_uint8_result(make, dtype):
    """Floats go through the same plan; where no level is spread they end within a few levels of uint8."""
    shape = (5, 3, 13, 17)
    images, augmentation = pictures(shape), make()
    plan = planned(augmentation, shape)
    unit = images.to(dtype) / 255
    plan_in_unit = Plan(plan.shape, tuple(in_unit(segment) for segment in plan.segments), plan.trace)
    before = unit.clone()
    found = backends.execute(plan_in_unit, unit)
    assert torch.equal(unit, before)
    assert tuple(found.shape) == plan.output_shape
    expected = backends.execute(plan, images).double()
    if any(isinstance(segment, Store) for segment in plan.segments):
        assert found.dtype == plan.segments[-1].dtype
    else:
        assert found.dtype == dtype
        expected = expected / 255
    if found.numel() and type(augmentation).__name__ not in ("RandAugment", "TrivialAugment", "AutoAugment", "AugMix"):
        off = (found.double() - expected).abs() > (0.1 if dtype == torch.bfloat16 else 0.05)
        assert off.double().mean() < 0.05


def in_unit(segment):
    """The segment with fills for floats in [0, 1]."""
    if isinstance(segment, Warp):
        return dataclasses.replace(segment, fill=tuple(v / 255 for v in segment.fill))
    if isinstance(segment, Tiles):
        fill = None if segment.fill is None else tuple(v / 255 for v in segment.fill)
        return dataclasses.replace(segment, fill=fill)
    if isinstance(segment, Erase):
        return Erase(segment.boxes, tuple(v / 255 for v in segment.fill))
    if isinstance(segment, Branches):
        return Branches(tuple(tuple(in_unit(s) for s in branch) for branch in segment.branches), segment.weights)
    return segment


@pytest.mark.parametrize("backend", backends.NAMES)
@pytest.mark.parametrize("make", CASES)
def test_replay_and_composition(make, backend):
    """The same plan gives the same bytes, with any number of threads, and rows do not depend on the batch."""
    shape = (6, 3, 13, 17)
    images, augmentation = pictures(shape), make()
    plan = planned(augmentation, shape)
    found = backends.execute(plan, images, backend)
    same(backends.execute(plan, images, backend), found)
    same(augmentation(images, index=torch.arange(6), epoch=1, seed=3), backends.execute(plan, images))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        same(backends.execute(plan, images, backend), found)
    finally:
        torch.set_num_threads(before)
    if not plan.mixes:
        some = torch.tensor([4, 1])
        part = augmentation.plan((2, 3, 13, 17), index=some, epoch=1, seed=3)
        same(backends.execute(part, images[some], backend), found[some])


def test_threads_split_large_batches(monkeypatch):
    images = pictures((9, 3, 64, 64))
    plan = planned(A.Compose([A.RandAugment(), A.MixUp(), A.Normalize()]), images.shape)
    expected = backends.execute(plan, images, "torch")
    monkeypatch.setattr(backends.numba_backend, "_SMALL", 0)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            same(backends.execute(plan, images, "numba"), expected)
    finally:
        torch.set_num_threads(before)


def test_called_from_two_threads_at_once(monkeypatch):
    monkeypatch.setattr(backends.numba_backend, "_SMALL", 0)
    images = pictures((16, 3, 32, 32))
    plan = planned(A.RandAugment(), images.shape)
    expected, found = backends.execute(plan, images, "torch"), {}

    def work(n):
        for _ in range(5):
            found[n] = backends.execute(plan, images, "numba")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(3):
        same(found[n], expected)


def _child(images, plan, queue):
    queue.put(backends.execute(plan, images, "numba").numpy())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_in_a_forked_worker(monkeypatch):
    """A forked child runs compiled code though the parent's threads did not come with it."""
    monkeypatch.setattr(backends.numba_backend, "_SMALL", 0)
    images = pictures((16, 3, 32, 32))
    plan = planned(A.RandAugment(), images.shape)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = backends.execute(plan, images, "numba")
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=_child, args=(images, plan, queue))
        child.start()
        assert np.array_equal(queue.get(), expected.numpy())
        child.join(30)
        assert child.exitcode == 0
    finally:
        torch.set_num_threads(before)


def numbers(low, high):
    return st.floats(low, high, allow_nan=False, width=32)


DTYPES = [torch.float32, torch.float16, torch.float64]


@st.composite
def plans(draw):
    """Any sequence of segments with any parameters, also such as no augmentation draws."""
    batch, channels = draw(st.integers(0, 3)), draw(st.sampled_from([1, 3]))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    shape, size = (batch, channels, height, width), (height, width)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def uniform(*shape_of, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(shape_of, generator=generator, dtype=torch.float64)

    def tone():
        op = torch.randint(len(TONES), (batch,), generator=generator)
        limits = {"Posterize": 8.0, "Solarize": 255.0, "Hue": 0.5}
        top = torch.tensor([limits.get(name, 2.0) for name in TONES])[op]
        amount = (uniform(batch).float() * top).where(
            op != TONES.index("Posterize"), (uniform(batch) * 8.99).floor().float()
        )
        return Tone(op, amount)

    def warp():
        new = size if draw(st.booleans()) else (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
        active = torch.rand(batch, generator=generator) < 0.7 if new == size else None
        matrix = uniform(batch, 2, 3, low=-2.0, high=2.0) * torch.tensor([1.0, 1.0, 4.0])
        padding = draw(st.sampled_from(["constant", "edge", "reflect", "symmetric"]))
        if draw(st.booleans()):
            matrix[:, 0, 1] = matrix[:, 1, 0] = 0
        if active is not None:
            matrix[~active] = torch.eye(2, 3, dtype=torch.float64)
        bounds = None
        if draw(st.booleans()):
            bounds = torch.tensor([[0.0, draw(st.integers(0, width - 1)), 0.0, draw(st.integers(0, height - 1))]])
            bounds = bounds.double().expand(batch, 4)
        fill = (draw(numbers(0, 255)),) * draw(st.sampled_from([1, channels]))
        return Warp(
            matrix, new, draw(st.sampled_from(["nearest", "bilinear"])), fill, padding, False, False, active, bounds
        )

    def filtered():
        op = torch.randint(len(FILTERS), (batch,), generator=generator)
        return Filter(op, 0.2 + 2 * torch.rand(batch, generator=generator), (3, 5))

    def erase():
        boxes = torch.randint(0, 12, (batch, draw(st.integers(0, 3)), 4), generator=generator)
        return Erase(boxes, (draw(numbers(0, 255)),))

    def erase_noise():
        boxes = erase().boxes - torch.tensor([3, 3, 0, 0])
        key = torch.randint(-(2**62), 2**62, (batch,), generator=generator)
        return EraseNoise(boxes, key, draw(st.booleans()))

    def some():
        return None if draw(st.booleans()) else torch.rand(batch, generator=generator) < 0.7

    def lookup():
        between = () if draw(st.booleans()) else (channels,)
        return Lookup(uniform(batch, *between, 256, low=-20.0, high=280.0).float(), some())

    def clahe():
        grid = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        return Clahe(uniform(batch, low=0.5, high=6.0), grid, some())

    def noise():
        key = torch.randint(-(2**62), 2**62, (batch,), generator=generator)
        spread, centre = uniform(batch, high=60.0).float(), uniform(batch, low=-20.0, high=20.0).float()
        return Noise(key, spread, centre, draw(st.booleans()), some())

    def mix():
        partner = torch.randint(0, max(1, batch), (batch,), generator=generator)
        corner = torch.stack([torch.randint(0, side, (batch,), generator=generator) for side in size], 1)
        room = torch.tensor(size) - corner
        boxes = torch.cat([corner, (room * uniform(batch, 2)).long()], 1) if draw(st.booleans()) else None
        return Mix(partner, uniform(batch).float(), boxes)

    def tiles():
        new = draw(st.integers(1, 9)), draw(st.integers(1, 9))
        row = torch.randint(0, max(1, batch), (batch, 2), generator=generator)
        matrix = uniform(batch, 2, 2, 3, low=-2.0, high=2.0) * torch.tensor([[1.0, 0.0, 4.0], [0.0, 1.0, 4.0]])
        corner = torch.stack([torch.randint(0, side, (batch, 2), generator=generator) for side in new], -1)
        boxes = torch.cat([corner, ((torch.tensor(new) - corner) * uniform(batch, 2, 2)).round().long()], -1)
        fill = draw(st.sampled_from([None, (9.0,)]))
        return Tiles(row, matrix, boxes, new, draw(st.sampled_from(["nearest", "bilinear"])), fill)

    segments = []
    for _ in range(draw(st.integers(0, 5))):
        segments.append(draw(st.sampled_from([tone, lookup, clahe, noise, warp, filtered, erase, mix, tiles]))())
        size = segments[-1].output_size(*size)
    if draw(st.booleans()):
        segments.append(Store((0.3,) * channels, (0.5,) * channels, draw(st.sampled_from(DTYPES))))
        late = st.sampled_from([lambda: dataclasses.replace(erase(), fill=(-0.25,)), erase_noise])
        segments += [draw(late)() for _ in range(draw(st.integers(0, 2)))]
    return Plan(shape, tuple(segments), Trace.empty(batch))


def test_large_pictures_give_the_same_bytes():
    """Every operation of the policies on more pixels than the compiled loops take at a time."""
    cases = ((A.RandAugment(1), range(2, 28, 2)), (A.RandAugment(1, 30, interpolation="bilinear", fill=9), (3, 10)))
    for policy, entries in cases:
        shape = (len(entries), 3, 260, 261)
        images = pictures((1, *shape[1:])).expand(shape)
        plan = policy.table(260, 261).plan(
            shape, torch.tensor(entries)[:, None], interpolation=policy.interpolation, fill=policy.fill
        )
        same(backends.execute(plan, images, "numba"), backends.execute(plan, images, "torch"))


@pytest.mark.parametrize("size", [None, 1, (5, 40), (40, 6)])
def test_slices_move_pixels_as_lookups_do(size, monkeypatch):
    """Large samples are moved by slices, small ones by a lookup; also windows that lie outside the picture."""
    shape = (50, 3, 13, 17)
    images = pictures(shape)
    crop = A.PadCrop(30, size=size, fill=(7, 8, 9))
    for augmentation in (A.Compose([crop, A.Flip(), A.Flip(vertical=True)]), A.Flip(), crop):
        plan = planned(augmentation, shape)
        for given_form in (images, images.contiguous(memory_format=torch.channels_last), images.float()):
            monkeypatch.setattr(backends.torch_backend.torch_warp, "LARGE", 1 << 30)
            expected = backends.execute(plan, given_form, "torch")
            monkeypatch.setattr(backends.torch_backend.torch_warp, "LARGE", 0)
            same(backends.execute(plan, given_form, "torch"), expected)


def test_rows_are_put_back_one_by_one_as_together(monkeypatch):
    plan = planned(A.RandAugment(3), (40, 3, 9, 9))
    images = pictures(plan.shape)
    expected = backends.execute(plan, images, "torch")
    monkeypatch.setattr(backends.torch_backend.torch_warp, "LARGE", 0)
    same(backends.execute(plan, images, "torch"), expected)


@settings(max_examples=100, deadline=None)
@given(plans(), st.booleans())
def test_any_plan_gives_the_same_bytes(plan, channels_last):
    images = pictures(plan.shape)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    expected = backends.execute(plan, images, "torch")
    assert tuple(expected.shape) == plan.output_shape
    same(backends.execute(plan, images, "numba"), expected)


def test_explain_says_which_and_why(monkeypatch):
    images = pictures((4, 3, 16, 16))
    plan = planned(A.Compose([A.PadCrop(2), A.GaussianBlur(3), A.Normalize()]), images.shape)
    found = [(type(c.segment).__name__, c.backend, c.reason) for c in backends.explain(plan, images)]
    assert [name for name, _, _ in found] == ["Warp", "Filter", "Store"]
    assert [backend for _, backend, _ in found] == ["numba", "torch", "numba"]
    assert "blur" in found[1][2]
    assert {c.backend for c in backends.explain(plan, images, "torch")} == {"torch"}
    floats = backends.explain(plan, images.float())
    assert {c.backend for c in floats} == {"torch"}
    assert "float32" in floats[0].reason
    monkeypatch.setattr(compiled, "installed", lambda: False)
    assert "smartaug[fast]" in A.Flip().explain(planned(A.Flip(), images.shape), images)[0].reason


def test_importing_pulls_in_no_optional_package():
    code = (
        "import sys, torch, smartaug.augment as A\n"
        "optional = {'numba', 'torchvision', 'albumentations', 'matplotlib', 'kornia'}\n"
        "assert not optional & set(sys.modules), optional & set(sys.modules)\n"
        "A.RandAugment(backend='torch')(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))\n"
        "A.RandAugment()(torch.zeros(2, 3, 8, 8))\n"
        "assert not optional & set(sys.modules), optional & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_says_once_that_it_compiles(caplog, monkeypatch):
    images = pictures((2, 3, 8, 8))
    monkeypatch.setattr(backends.numba_backend, "_ready", set())
    with caplog.at_level("INFO", logger="smartaug"):
        for _ in range(3):
            A.Invert()(images)
    assert [record.message for record in caplog.records if "compile" in record.message] == [caplog.records[0].message]


def test_compiled_code_is_cached_under_all_of_its_sources():
    """numba only looks at the file of the cached function; the digest stands for the files it calls into."""
    from smartaug.augment.backends.numba import program as numba_run

    assert numba_run.source_digest() == numba_run.source_digest() > 0
    assert numba_run.compiled(1, 0).py_func.__closure__[0].cell_contents == 1


@pytest.mark.parametrize("make", CASES)
def test_augmentations_pickle_copy_and_print(make):
    augmentation = make()
    images = pictures((3, 3, 9, 9))
    for copied in (pickle.loads(pickle.dumps(augmentation)), copy.deepcopy(augmentation)):
        first, second = (a(images, index=torch.arange(3), seed=5) for a in (augmentation, copied))
        same(second, first)
    assert repr(augmentation).startswith(type(augmentation).__name__ + "(")


def test_trace_is_readable():
    plan = planned(A.Compose([A.Flip(1.0), A.RandAugment(2, 9)]), (64, 3, 32, 32))
    lines = [plan.trace.describe(row) for row in range(64)]
    assert all(line.startswith("HorizontalFlip") for line in lines)
    assert any("Rotate -9" in line for line in lines)
    assert any("Rotate 9" in line for line in lines)


def test_number_of_classes_reaches_the_labels():
    images, target = pictures((4, 3, 8, 8)), torch.tensor([0, 1, 2, 0])
    for augmentation in (A.CutMix(num_classes=7), A.Compose([A.Flip(), A.MixUp(num_classes=7)])):
        _, mixed = augmentation(images, target, index=torch.arange(4), seed=0)
        assert mixed.soft.shape == (4, 7)


def test_memory_is_used_again_only_when_nobody_holds_it():
    buffers = backends.numba_backend.buffers
    images = pictures((2, 3, 600, 600))  # above the size from which results are kept
    assert images.numel() >= buffers.LEAST
    invert = A.Invert(1.0)
    held = [invert(images) for _ in range(buffers.KEPT + 2)]
    views = [result[:1, :, 5] for result in held]
    assert len({result.data_ptr() for result in held}) == len(held)
    copies = [view.clone() for view in views]
    places = {result.data_ptr() for result in held}
    del held
    more = [A.Solarize(0, 1.0)(pictures((2, 3, 600, 600), seed=n)) for n in range(buffers.KEPT)]
    assert not places & {result.data_ptr() for result in more}  # the views still hold theirs
    assert all(torch.equal(view, copy) for view, copy in zip(views, copies, strict=True))
    del views, more
    again = {invert(images).data_ptr() for _ in range(5)}
    assert len(again) == 1  # dropped at once, so the same memory serves
    with_store = A.Normalize(0.5, 0.5)(images.contiguous(memory_format=torch.channels_last))
    assert with_store.is_contiguous(memory_format=torch.channels_last)
    same(with_store, backends.execute(planned(A.Normalize(0.5, 0.5), images.shape), images, "torch"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("make", CASES)
def test_no_value_of_the_batch_is_waited_for(make, dtype):
    """On the meta device tensors have no values: whatever would make an accelerator wait raises there."""
    images = torch.empty(5, 3, 13, 17, dtype=dtype, device="meta")
    plan = planned(make(), images.shape)
    found = backends.execute(plan, images)
    assert found.device.type == "meta"
    assert tuple(found.shape) == plan.output_shape


class _Augmenting:
    """A collator that augments in the worker."""

    def __call__(self, index):
        images = pictures((len(index), 3, 24, 24), seed=0)
        return A.RandAugment()(images, index=torch.tensor(index), seed=4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("context", ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_inside_loader_workers(context):
    loader = torch.utils.data.DataLoader(
        range(12), batch_size=4, num_workers=2, collate_fn=_Augmenting(), multiprocessing_context=context
    )
    expected = [_Augmenting()(list(range(first, first + 4))) for first in (0, 4, 8)]
    for found, wanted in zip(loader, expected, strict=True):
        same(found, wanted)
