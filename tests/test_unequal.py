"""Images of unequal size: crops and resizes of a list give the bytes of each image by itself, by every backend."""

import copy
import pickle

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from test_backends import pictures, same
from torch.utils.data import Dataset

import smartaug
import smartaug.augment as A
from smartaug import draws
from smartaug.augment import backends
from smartaug.augment.backends.torch import resample as torch_resample
from smartaug.augment.backends.torch.weights import weights
from smartaug.augment.resample import Resample
from smartaug.augment.unequal import UnequalPlan, shape_of
from smartaug.pipeline.augmenting import trial, unequal
from tests import reference

SIZES = [(30, 41), (25, 60), (30, 41), (50, 33), (44, 44), (28, 29), (30, 41), (61, 37)]
STEPS = {
    "antialiased": lambda: A.RandomResizedCrop((17, 23), antialias=True),
    "bicubic": lambda: A.RandomResizedCrop(19, interpolation="bicubic", antialias=True),
    "no part that fits": lambda: A.RandomResizedCrop(9, (0.9, 1.0), (3.0, 4.0), antialias=True),
    "one pixel wide": lambda: A.RandomResizedCrop((5, 1), antialias=True),
    "bilinear": lambda: A.RandomResizedCrop((17, 23)),
    "nearest": lambda: A.RandomResizedCrop(40, interpolation="nearest"),
    "resized": lambda: A.Resize((12, 70)),
    "resized, antialiased": lambda: A.Resize((70, 12), antialias=True),
    "cut": lambda: A.Crop(19),
    "cut from the centre": lambda: A.Crop((25, 18), place="center"),
    "padded and cut": lambda: A.PadCrop(5, size=24, mode="reflect", fill=3),
    "padded with a value": lambda: A.PadCrop(9, size=(40, 46), fill=(3, 200, 7)),
    "crop and flip": lambda: A.Compose([A.RandomResizedCrop(17), A.Flip(), A.RandAugment(), A.Normalize(0.5, 0.25)]),
    "stages before": lambda: A.Compose(
        [A.ColorJitter(0.5), A.RandomApply([A.Affine(20)], 0.5), A.Resize(17, antialias=True), A.Erase(1.0)]
    ),
    "a compose inside": lambda: A.Compose([A.Flip(), A.Compose([A.Crop(20), A.RandAugment()]), A.Affine(10)]),
}


def listed(channels=3, dtype=torch.uint8, sizes=SIZES):
    """Images of unequal size, the last of them as Pillow's arrays lie in memory: (H, W, C) seen as (C, H, W)."""
    images = [pictures((1, channels, *size), dtype)[0] for size in sizes]
    images[-1] = images[-1].permute(1, 2, 0).contiguous().permute(2, 0, 1)
    return images


def alone(step, images, **keywords):
    """The plain form: each image as a batch of its own."""
    rows = torch.arange(len(images)) * 3
    parts = [step(one[None], index=rows[n : n + 1], **keywords) for n, one in enumerate(images)]
    return torch.cat(parts)


@pytest.mark.parametrize("backend", [None, "torch", "numba"])
@pytest.mark.parametrize("name", STEPS)
def test_a_list_gives_the_bytes_of_each_image_alone(name, backend):
    if backend == "numba":
        pytest.importorskip("numba")
    images, step = listed(), STEPS[name]()
    given = [image.clone() for image in images]
    found = smartaug.Compose([step], backend=backend) if backend else step
    rows = torch.arange(len(images)) * 3
    key = {"epoch": 2, "seed": 5}
    wanted = alone(A.Compose([STEPS[name]()]) if backend else STEPS[name](), images, **key)
    same(found(images, index=rows, **key), wanted)
    assert all(map(torch.equal, images, given))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["antialiased", "bilinear", "cut", "stages before"])
def test_floats_are_those_of_each_image_alone(name, dtype):
    images = [(image.float() / 255).to(dtype) for image in listed()]
    same(
        STEPS[name]()(images, index=torch.arange(8) * 3, seed=1),
        alone(STEPS[name](), images, seed=1),
    )


LAYOUTS = {
    "planes": lambda image: image,
    "pixels": lambda image: image.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    "rows of channels": lambda image: image.permute(1, 0, 2).contiguous().permute(1, 0, 2),
    "columns": lambda image: image.permute(0, 2, 1).contiguous().permute(0, 2, 1),
    "every other pixel": lambda image: image.repeat_interleave(2, 2)[:, :, ::2],
    "a part": lambda image: torch.nn.functional.pad(image, (3, 2, 1, 4))[:, 1:-4, 3:-2],
}


def test_torch_reads_one_pixel_wide_parts_where_they_lie():
    """`interpolate` takes the neighbouring column for the next line, where the lines of an image are its columns."""
    image = LAYOUTS["columns"](torch.tensor([[[179, 223], [75, 20]]], dtype=torch.uint8))
    bounds, matrix = torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64), torch.zeros(1, 2, 3, dtype=torch.float64)
    segment = Resample(matrix, (2, 2), "bilinear", padding="edge", bounds=bounds)
    assert backends.unequal.one_by_one(segment, [image]).flatten().tolist() == [179, 179, 75, 75]
    assert torch_resample.resampled(image[None], segment, False).flatten().tolist() == [179, 179, 75, 75]


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.data())
def test_the_compiled_resize_is_torchs_whatever_the_sizes_and_layouts(data):
    pytest.importorskip("numba")
    side = st.integers(1, 70)
    sizes = data.draw(st.lists(st.tuples(side, side), min_size=1, max_size=4))
    size = data.draw(st.tuples(st.integers(2, 50), st.integers(2, 50)))
    channels, layouts = data.draw(st.integers(1, 5)), st.sampled_from(sorted(LAYOUTS))
    images = [LAYOUTS[data.draw(layouts)](pictures((1, channels, *size), torch.uint8)[0]) for size in sizes]
    mode = data.draw(st.sampled_from(["bilinear", "bicubic"]))
    crop = A.RandomResizedCrop(size, (0.01, 1.0), (0.2, 5.0), mode, antialias=True)
    plan = crop.sample(shape_of(images), draws.key(data.draw(st.integers(0, 99)), 0, torch.arange(len(images)), 0))
    (segment,) = plan.segments
    assert backends.explain_unequal(plan, images)[0].backend == "numba"
    assert torch.equal(backends.execute_unequal(plan, images), backends.unequal.one_by_one(segment, images))


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.integers(1, 90), st.integers(1, 60), st.sampled_from(["bilinear", "bicubic"]))
def test_weights_are_the_compiled_ones_and_those_of_the_reference(length, made, interpolation):
    taps = 2 * 2 * 90 + 4
    found = weights(torch.tensor([length, 7]), made, interpolation, taps)
    dense = torch.zeros(made, length + taps, dtype=torch.float64)
    places = found.first[0][:, None].long() + torch.arange(taps)
    dense.scatter_(1, places, found.values[0].double() / (1 << int(found.bits[0])))
    assert not dense[:, length:].any()
    half = 0.5 / (1 << int(found.bits[0]))
    assert (dense[:, :length] - reference.resizing_weights(length, made, interpolation)).abs().max() <= half + 1e-12
    compiled = pytest.importorskip("smartaug.augment.backends.numba.resample")
    import numpy as np

    first, count = np.empty((2, made), np.int64)
    values = np.empty((made, compiled.room(length, made, interpolation == "bicubic")), np.int16)
    assert compiled.weigh(length, made, interpolation == "bicubic", first, count, values) == int(found.bits[0])
    assert first.tolist() == found.first[0].tolist()
    assert values.tolist() == found.values[0, :, : values.shape[1]].tolist()


def test_where_torch_resizes_otherwise_the_compiled_resize_is_not_used(monkeypatch, recwarn):
    pytest.importorskip("numba")
    monkeypatch.setattr(backends.unequal, "_known", {})
    plain = backends.unequal.torch_resample.unequal
    monkeypatch.setattr(backends.unequal.torch_resample, "unequal", lambda *given: 255 - plain(*given))
    step, images = A.Resize(9, antialias=True), listed()
    wanted = 255 - torch.cat([step(image[None]) for image in images])
    same(step(images), wanted)
    assert "resizes to other bytes here than compiled code, so torch resizes" in str(recwarn.list[0].message)
    plan = step.sample(shape_of(images), draws.key(0, 0, torch.arange(8), 0))
    assert "resizes to other bytes" in backends.explain_unequal(plan, images)[0].reason
    same(step(images), wanted)


def test_gradients_reach_each_image():
    images = [(image.double() / 255).requires_grad_() for image in listed()]
    A.Resize(9, antialias=True)(images).sum().backward()
    alone = [image.detach().clone().requires_grad_() for image in images]
    sum(A.Resize(9, antialias=True)(image[None]).sum() for image in alone).backward()
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(images, alone, strict=True))


def test_one_plan_says_what_each_image_receives():
    images, step = listed(), STEPS["stages before"]()
    keyed = step.unequal_parts(draws.key(0, 0, torch.arange(8), 0))
    assert [type(part).__name__ for part, _ in keyed.before] == ["ColorJitter", "RandomApply"]
    crop = A.RandomResizedCrop(17)
    plan = crop.sample(shape_of(images), draws.key(0, 0, torch.arange(8), 0))
    assert isinstance(plan, UnequalPlan)
    assert plan.output_shape == (8, 3, 17, 17)
    assert plan.sizes.tolist() == [list(size) for size in SIZES]
    chosen = torch.tensor([6, 0])
    own = plan.of_size(chosen)
    assert own.shape == (2, 3, 30, 41)
    assert plan.rows(chosen).sizes.tolist() == [[30, 41]] * 2
    whole = torch.stack([images[6], images[0]])
    same(backends.execute(own, whole), backends.execute_unequal(plan, images)[[6, 0]])
    same(plan.trace.rows(chosen).magnitudes, own.trace.magnitudes)


@pytest.mark.parametrize(
    ("step", "images", "error", "match"),
    [
        (A.Flip(), listed(), ValueError, r"Flip does not make images.*Compose\(\[smartaug.RandomResizedCrop\(224\)"),
        (A.PadCrop(2), listed(), ValueError, "PadCrop does not make images of unequal size equal"),
        (A.Crop(30), listed(), ValueError, r"Crop cannot cut 30×30 out of 25×60; pad before it"),
        (A.PadCrop(2, size=40), listed(), ValueError, r"out of 25×60 padded by 2; use a padding of at least 8"),
        (A.Crop(9), [*listed(), *listed(1)], ValueError, "uint8 with 1 channels and uint8 with 3 channels"),
        (A.Crop(9), [], TypeError, "must be a torch.Tensor.*got list"),
        (A.Crop(9), ["picture"], TypeError, "must be a torch.Tensor.*got list"),
        (A.Crop(9), [torch.zeros(3, 9, 9, dtype=torch.int32)], TypeError, "images must be uint8"),
        (A.Compose([A.Flip()]), listed(), ValueError, "Compose does not make images"),
    ],
)
def test_what_cannot_be_is_refused(step, images, error, match):
    with pytest.raises(error, match=match):
        step(images)


def test_labels_of_a_list_are_mixed_as_those_of_a_batch():
    step = A.Compose([A.Resize(12), A.MixUp(num_classes=3)])
    images, target = listed(), torch.arange(8) % 3
    found, labels = step(images, target, index=torch.arange(8), seed=0)
    equal = torch.cat([A.Resize(12)(image[None]) for image in images])
    wanted, as_batch = step(equal, target, index=torch.arange(8), seed=0)
    same(found, wanted)
    same(labels.soft, as_batch.soft)


@pytest.mark.parametrize("antialias", [True, False])
def test_bicubic_is_there_with_antialiasing_alone(antialias):
    if antialias:
        assert A.Resize(9, "bicubic", antialias=True).interpolation == "bicubic"
        return
    with pytest.raises(ValueError, match="antialias=True"):
        A.Resize(9, "bicubic")


# --- the loader -------------------------------------------------------------------------------------------------------

MOVES = [A.RandomResizedCrop(17, antialias=True), A.Flip(), A.Normalize(0.5, 0.25)]


class Pictures(Dataset):
    """Images of unequal size with labels, and masks where asked for."""

    def __init__(self, masks=False, named=False, count=8):
        self.images = (listed() * count)[:count]
        self.masks = [(image[0] > 99).long() for image in self.images] if masks else None
        self.named = named

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        label = index % 3
        parts = (self.images[index], label) if self.masks is None else (self.images[index], self.masks[index], label)
        return dict(zip(("image", "mask", "label")[: len(parts)], parts, strict=True)) if self.named else parts


def as_list(samples):
    images, labels = zip(*samples, strict=True)
    return list(images), torch.tensor(labels)


@pytest.fixture(params=[unequal.AT_ONCE, unequal.BY_TORCH, unequal.BY_SIZE])
def way(request, monkeypatch):
    """The one way that all batches run in."""
    monkeypatch.setattr(trial.Trial, "way", lambda self: request.param)
    return request.param


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("collate", [None, as_list])
def test_batches_are_those_of_each_image_alone(way, collate, workers):
    more = {"multiprocessing_context": "forkserver", "num_workers": 2} if workers else {}
    loader = smartaug.DataLoader(Pictures(), 3, collate_fn=collate, augment=MOVES, seed=0, **more)
    batches = list(loader)
    assert [type(images) for images, _ in batches] == [torch.Tensor if collate is None else list] * 3
    found = torch.cat([torch.stack(list(images)) for images, _ in batches])
    step, rows = A.Compose(MOVES), torch.arange(8)
    for row, image in enumerate(listed()):
        same(found[row], step(image[None], index=rows[row : row + 1], epoch=0, seed=0)[0])
    assert torch.cat([labels for _, labels in batches]).tolist() == [row % 3 for row in range(8)]


def test_masks_follow_in_the_batch_that_the_images_are_in(way):
    steps = [A.RandomResizedCrop(17, interpolation="nearest"), A.Flip()]
    loader = smartaug.DataLoader(
        Pictures(masks=True, named=True), 8, augment=steps, follow={"mask": "mask"}, target="label", seed=0
    )
    batch = next(iter(loader))
    assert batch["image"].shape == (8, 3, 17, 17)
    assert batch["mask"].shape == (8, 17, 17)
    assert torch.equal(batch["mask"], (batch["image"][:, 0] > 99).long())


def test_masks_that_nobody_named_are_refused():
    loader = smartaug.DataLoader(Pictures(masks=True), 8, augment=MOVES, target=2, seed=0)
    with pytest.raises(ValueError, match=r"batch\[1\]\[i\] is a mask.*write follow=\{1: \"mask\"\}"):
        next(iter(loader))
    loader = smartaug.DataLoader(Pictures(masks=True), 8, augment=MOVES, target=2, still=1, seed=0)
    with pytest.raises(
        ValueError, match=r"batch\[1\] holds tensors of the sizes \(25, 60\).*no stage made equal.*follow=\{1: 'mask'\}"
    ):
        next(iter(loader))


@pytest.mark.parametrize("apply", ["augment", "append"])
def test_samples_that_a_coreset_leaves_alone_are_in_the_batch(apply):
    coreset = smartaug.Coreset(0.5, select=smartaug.coreset.RandomSubset(), apply=apply, warmup=0)
    loader = smartaug.DataLoader(Pictures(), 8, augment=MOVES, seed=0, coreset=coreset, target=1)
    images, _ = next(iter(loader))
    assert images.shape == (8 if apply == "augment" else 12, 3, 17, 17)


def test_samples_are_mixed_once_they_are_equal():
    steps = [*MOVES[:2], A.MixUp(num_classes=3)]
    loader = smartaug.DataLoader(Pictures(), 8, augment=steps, seed=0, target=1)
    images, target = next(iter(loader))
    wanted, labels = A.Compose(steps)(listed(), torch.arange(8) % 3, index=torch.arange(8), epoch=0, seed=0)
    same(images, wanted)
    same(target.soft, labels.soft)
    assert "mixing needs images of one size" in loader.explain()
    loader = smartaug.DataLoader(Pictures(masks=True), 8, augment=steps, target=2, follow={1: "mask"}, seed=0)
    with pytest.raises(ValueError, match=r"mixing samples needs images of one size in a batch where batch\[1\]"):
        next(iter(loader))


def test_reweighting_reads_the_batch_that_they_become():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 17 * 17, 3))
    held = torch.utils.data.TensorDataset(torch.randn(6, 3, 17, 17), torch.arange(6) % 3)
    learner = smartaug.LearningToReweight(model, held)
    loader = smartaug.DataLoader(Pictures(), 8, augment=MOVES, reweight=learner, seed=0, target=1)
    images, target = next(iter(loader))
    assert images.shape == (8, 3, 17, 17)
    assert float(target.weight.mean()) == pytest.approx(1.0)


def test_what_leaves_sizes_unequal_stays_a_list_or_is_refused_as_ever():
    loader = smartaug.DataLoader(Pictures(), 8, collate_fn=as_list, augment=A.Flip(1.0), seed=0)
    images, _ = next(iter(loader))
    assert type(images) is list
    assert all(torch.equal(made, image.flip(2)) for made, image in zip(images, listed(), strict=True))
    assert "size by size" in loader.explain()
    assert "leaves the sizes unequal" in loader.explain()
    with pytest.raises(RuntimeError, match=r"equal size.*augment=\[smartaug.RandomResizedCrop\(224\)"):
        next(iter(smartaug.DataLoader(Pictures(), 8, augment=A.Flip(1.0), seed=0)))


def test_a_loader_times_both_ways_and_says_what_it_chose():
    loader = smartaug.DataLoader(Pictures(), 8, collate_fn=as_list, augment=MOVES, seed=0)
    next(iter(loader))
    assert "and size by size are timed on the first batches" in loader.explain()
    with smartaug._base.background.waiting():
        for _ in range(3 * trial.TIMED + 4):
            next(iter(loader))
    assert "the fastest:" in loader.explain()
    assert "timed here" in loader.explain()
    copied = pickle.loads(pickle.dumps(copy.deepcopy(loader._pipeline.augmenting.unequal)))
    assert copied.explain() == loader._pipeline.augmenting.unequal.explain()


def test_the_faster_way_wins_and_spoilt_batches_do_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(trial.time, "perf_counter", lambda: now[0])
    own = trial.Trial("slow", "quick")
    taken = []
    for number in range(9):
        chosen = own.way()
        taken.append(chosen)
        with own.timing(chosen, 10):
            now[0] += 5.0 if number < 2 else {"slow": 0.3, "quick": 0.1}[chosen]  # compiling comes first
            if number == 3:
                own.spoilt()
    assert taken == ["slow", "quick", "slow", "quick", "quick", "slow", "quick", "quick", "quick"]
    assert own.explain() == "the fastest: 10.00 ms an image against 30.00 slow, timed here"
