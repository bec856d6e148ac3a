"""What every member of a family keeps, callable on any object: the suites that CONTRIBUTING promises.

`test_conformance` runs them over the families' own lists and over the examples of CONTRIBUTING.
"""

import copy
import dataclasses
import io
import pickle
import re

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchvision import tv_tensors

import smartaug
from smartaug import draws
from smartaug.augment import backends
from smartaug.reweight import ByRule
from tests import reference_targets, test_augment, test_backends
from tests.lifting import apart, as_batch, lifted_batch


def augmentation(make):
    """make: () -> Augmentation. All backends and dtypes, any layout and shape, replay, copies, nothing global."""
    for shape in test_backends.SHAPES:
        test_backends.test_numba_gives_the_bytes_of_torch(make, shape)
    for backend in backends.NAMES:
        test_backends.test_forms_of_input(make, backend)
        test_backends.test_replay_and_composition(make, backend)
    for dtype in (torch.uint8, torch.float32):
        test_backends.test_no_value_of_the_batch_is_waited_for(make, dtype)
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        test_backends.test_floats_are_the_uint8_result(make, dtype)
    test_backends.test_augmentations_pickle_copy_and_print(make)
    test_augment.test_every_augmentation(make)
    test_augment.test_calls_without_an_index_differ_and_draw_nothing_global(make)


def row_operation(make):
    """make: () -> Augmentation that takes rows. Rows and sequences of any size and type, replay, nothing global."""
    for shape in ((8, 5), (6, 4, 3), (1, 3), (0, 4), (5, 1)):
        step, draw = make(), torch.Generator().manual_seed(0)
        if len(shape) == 3 and step.takes_images:  # which a direct call takes for a picture without a batch dimension
            continue
        rows, labels = torch.randn(shape, generator=draw, dtype=torch.float64), torch.arange(shape[0]) % 2
        how = {"index": torch.arange(shape[0]) + 3, "epoch": 1, "seed": 2}
        before, state = rows.clone(), torch.get_rng_state()
        made, target = step(rows, labels, **how)
        assert torch.equal(rows, before)
        assert made.shape == rows.shape
        assert len(target) == shape[0]
        assert torch.equal(make()(rows, labels, **how)[0], made)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            close = step(rows.to(dtype), labels, **how)[0]
            assert close.dtype == dtype
            if not step.reads_labels:  # whose neighbours may be others
                assert torch.allclose(close.double(), made, atol=1e-5 if dtype == torch.float32 else 0.1)
        assert torch.equal(torch.get_rng_state(), state)
        if rows.numel() > 20:
            others = [step(rows, labels, **how | change)[0] for change in ({"epoch": 2}, {"seed": 3})]
            assert not any(torch.equal(other, made) for other in others)
            order = torch.randperm(shape[0], generator=draw)
            moved = step(rows[order], labels[order], **how | {"index": how["index"][order]})[0]
            assert torch.allclose(moved, made[order])


# --- what lies in the images -----------------------------------------------------------------------------------------

_SIZE, _OBJECTS = (12, 16), ((2, 1, 8, 5), (9, 6, 15, 11))  # xyxy
_WAY_OUT = re.compile(r"[;,] (\w+ )*?(write|leave|use|give|let|take|put|name|say)\b")
KINDS = ("mask", "boxes", "points")
_NAMES = ("mask", "boxes", "labels", "points", "masks")


def _scene(number):
    """Two rectangles with values, labels and places of their own, on a dark ground; what a sample holds of them."""
    shift = torch.tensor([number % 2, number // 2] * 2)
    boxes, mask = torch.tensor(_OBJECTS) + shift, torch.zeros(_SIZE, dtype=torch.int64)
    boxes = boxes.clamp(max=torch.tensor(_SIZE[::-1]).repeat(2))
    for place, (left, top, right, bottom) in enumerate(boxes.tolist()):
        mask[top:bottom, left:right] = 2 * number + place + 1
    return {
        "image": (mask * 25).to(torch.uint8).expand(3, -1, -1).clone(),
        "mask": mask,
        "boxes": boxes.float(),
        "labels": torch.tensor([2 * number + 1, 2 * number + 2]),
        "points": boxes[:, None, :2].float(),
        "masks": torch.stack([mask == value for value in (2 * number + 1, 2 * number + 2)]).to(torch.uint8),
    }


_SCENES = [_scene(number) for number in range(4)]


def _column(name):
    column = [scene[name] for scene in _SCENES]
    return torch.stack(column) if name in ("image", "mask") else column


def _as_dict(names):
    follow = {"boxes": "xyxy", "points": "keypoints", "masks": "mask"}
    batch = {name: _column(name) for name in ("image", *names)}
    return batch, {name: follow[name] for name in names if name in follow}, dict


def _as_tuple(names):
    follow = {"mask": "mask", "boxes": "xyxy", "labels": "object", "points": "keypoints", "masks": "mask"}
    names = ("image", *names)
    given = {place: follow[name] for place, name in enumerate(names) if name in follow}
    return tuple(map(_column, names)), given, lambda batch: dict(zip(names, batch, strict=True))


def _as_tv_tensors(names):
    made = {
        "mask": tv_tensors.Mask,
        "masks": tv_tensors.Mask,
        "boxes": lambda part: tv_tensors.BoundingBoxes(part, format="XYXY", canvas_size=_SIZE),
        "points": lambda part: tv_tensors.KeyPoints(part, canvas_size=_SIZE),
        "labels": lambda part: part,
    }
    targets = [{name: made[name](scene[name]) for name in names} for scene in _SCENES]
    return (_column("image"), targets), None, _of_tv_tensors


def _of_tv_tensors(batch):
    images, targets = batch
    return {"image": images} | {name: [one[name] for one in targets] for name in targets[0]}


FORMS = {"dict": _as_dict, "tuple": _as_tuple, "tv_tensors": _as_tv_tensors}


def dense(make, more=(), left_behind=()):
    """make: () -> Augmentation. In a dict, a tuple and tv_tensors all that lies in the images follows, or is refused.

    more: names of parts that it needs, "masks". left_behind: parts that are to stay, with which this must fail.
    Returns the kinds that were refused, by form.
    """
    stage, index = make(), torch.arange(len(_SCENES))
    plan = stage.plan((len(_SCENES), 3, *_SIZE), index=index, epoch=0, seed=0) if stage.takes_images else None
    mixes = plan is not None and plan.from_others
    seen = None if not mixes else "the picture" if "masks" in more else _painted(stage, plan)
    refused = {}
    for form in FORMS:
        together = _follows(make, form, KINDS, more, left_behind, plan, seen)
        apart = () if together else KINDS
        refused[form] = {kind for kind in apart if not _follows(make, form, (kind,), more, left_behind, plan, seen)}
    return refused


def _follows(make, form, kinds, more, left_behind, plan, seen):
    """Whether all followed, which is checked; not where it was refused, with the way out."""
    wanted = {*kinds, *more, *(("labels",) if {"boxes", "masks"} & {*kinds, *more} else ())}
    batch, follow, read = FORMS[form]([name for name in _NAMES if name in wanted])
    try:
        (made,) = smartaug.wrap([batch], augment=make(), follow=follow, seed=0)
    except (ValueError, TypeError) as error:
        if _WAY_OUT.search(str(error)) is None:
            pytest.fail(f"the refusal says no way out: {error}")
        return False
    found, given = dict(read(made)), read(batch)
    found |= {name: given[name] for name in left_behind if name in found}
    for row, scene in enumerate(_SCENES):
        own = {name: torch.as_tensor(part[row]).as_subclass(torch.Tensor) for name, part in found.items()}
        if seen is None:
            _check_moved(plan, row, scene, own)
        else:
            _check_mixed(_ids(own["image"]) if isinstance(seen, str) else seen[:, row], own)
    return True


def _check_moved(plan, row, scene, own):
    """Against the slow twin, point by point and pixel by pixel."""
    if "mask" in own:
        assert own["mask"].tolist() == reference_targets.mask(plan, row, scene["mask"].tolist(), 0)
    kept = list(range(len(_OBJECTS)))
    if "boxes" in own:
        moved = [reference_targets.box(plan, row, *box) for box in scene["boxes"].tolist()]
        large = [right - left >= 1 and bottom - top >= 1 for (left, top, right, bottom), _ in moved]
        kept = [n for n, (_, share) in enumerate(moved) if large[n] and share > 0]
        assert own["labels"].tolist() == scene["labels"][kept].tolist()
        expected = torch.tensor([moved[n][0] for n in kept], dtype=torch.float64).reshape(-1, 4)
        torch.testing.assert_close(own["boxes"].double(), expected, atol=1e-3, rtol=0)
    if "points" in own:
        places = (scene["points"][kept] + 0.5).reshape(-1, 2).tolist()
        expected = [[*reference_targets.point(plan, row, *place)] for place in places]
        expected = torch.tensor(expected, dtype=torch.float64).reshape(-1, 2) - 0.5
        torch.testing.assert_close(own["points"].double().reshape(-1, 2), expected, atol=1e-3, rtol=0)


def _painted(stage, plan):
    """(16, 4, H, W): how bright an object is in each sample of the result, where it is white and all else is black.

    The last eight are the first pixels of the objects.
    """
    moving = dataclasses.replace(plan, segments=tuple(one for one in plan.segments if one.moves_pixels))
    black = stage.apply(torch.zeros(len(_SCENES), 3, *_SIZE, dtype=torch.uint8), moving)[
        :, 0
    ].int()  # what is filled in
    shown, corners = [], []
    for row, scene in enumerate(_SCENES):
        for planes, (left, top, _, _) in zip(scene["masks"], scene["boxes"].int().tolist(), strict=True):
            corner = torch.zeros_like(planes)
            corner[top, left] = 1
            for part, made in ((planes, shown), (corner, corners)):
                images = torch.zeros(len(_SCENES), 3, *_SIZE, dtype=torch.uint8)
                images[row] = part * 255
                made.append((stage.apply(images, moving)[:, 0].int() - black).float() / 255)
    return torch.stack([*shown, *corners])


def _ids(image):
    """(8, H, W): which object a picture (3, H, W) shows where, by its values; CopyPaste copies them as they are."""
    return torch.stack([(image[0] == 25 * (number + 1)).float() for number in range(2 * len(_SCENES))])


def _check_mixed(seen, own):
    """Against pictures of each object alone. seen: how bright each is in the sample, and then their first pixels."""
    seen, corners = seen[:8], seen[8:]
    if "mask" in own:
        for number, bright in enumerate(seen):
            mine = own["mask"] == number + 1
            assert bool(mine[bright == 1].all())
            assert not bool(mine[bright == 0].any())
    if "boxes" in own:
        labels = own["labels"].tolist()
        assert len(labels) == len(own["boxes"])
        large = [number + 1 for number, bright in enumerate(seen) if int((bright > 0).sum()) >= 9]
        assert set(large) <= set(labels)
        for label, (left, top, right, bottom) in zip(labels, own["boxes"].tolist(), strict=True):
            rows, columns = (seen[label - 1] > 0.5 * float(seen[label - 1].max())).nonzero().unbind(1)
            assert len(rows) or (right - left) * (bottom - top) < 9
            if len(rows):
                assert left - 1 <= int(columns.min()) <= int(columns.max()) + 1 <= right + 1
                assert top - 1 <= int(rows.min()) <= int(rows.max()) + 1 <= bottom + 1
    if "points" in own and "boxes" in own:
        assert len(own["points"]) == len(own["boxes"])
        for label, (point,) in zip(own["labels"].tolist(), own["points"], strict=True):
            bright = corners[label - 1] if len(corners) else torch.zeros(1, 1)
            if float(bright.max()) > 0.3:
                places = (bright == bright.max()).nonzero().float().flip(1)
                assert float((places - point).abs().amax(1).min()) <= 1


# --- weights and labels ----------------------------------------------------------------------------------------------


def held_out(size=12):
    """Images of 3 classes as smartaug's loaders give them behind Normalize."""
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.rand(size, 3, 8, 8, generator=generator) * 4 - 2, torch.arange(size) % 3)


def _weighed(stage, model, batches=None):
    """(weight, soft) of the batches of a pass, with a step of training behind each, as a loop would take it."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (24, 3, 8, 8), dtype=torch.uint8, generator=generator)
    loader = smartaug.DataLoader(
        TensorDataset(images, torch.arange(24) % 3),
        batch_size=6,
        augment=[smartaug.Erase(0.5), smartaug.Normalize(0.5, 0.25)],
        reweight=stage,
        seed=0,
        device="cpu",
    )
    criterion, optimizer, made = smartaug.Loss(nn.CrossEntropyLoss()), torch.optim.SGD(model.parameters(), lr=0.1), []
    for number, (inputs, target) in enumerate(loader):
        if number == batches:
            break
        loss = criterion(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.append((target.weight.clone(), None if target.soft is None else target.soft.clone()))
    return made


def _model():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)
    )


def _equal(one, other):
    return all(
        torch.equal(a, b) and ((p is None and q is None) or torch.equal(p, q))
        for (a, p), (b, q) in zip(one, other, strict=True)
    )


def reweighter(make):
    """make: (model, held-out data) -> what ``reweight=`` takes. Weights, labels, the user's model, copies, resuming."""
    model = _model()
    made = _weighed(make(model, held_out()), model)
    for weight, soft in made:
        assert weight.shape == (6,)
        assert bool((weight >= 0).all())
        assert abs(float(weight.mean()) - 1) < 1e-5
        assert soft is None or (soft.shape == (6, 3) and torch.allclose(soft.sum(1), torch.ones(6), atol=1e-5))
    again = _model()
    assert _equal(_weighed(make(again, held_out()), again), made)  # nothing is drawn but by seed
    _leaves_the_model_alone(make)
    _is_kept_by_copies_and_checkpoints(make)


def _batch():
    generator = torch.Generator().manual_seed(4)
    inputs, target = torch.randn(6, 3, 8, 8, generator=generator), torch.arange(6) % 3
    plan = smartaug.Erase(0.5).plan(inputs.shape, index=torch.arange(6), seed=0)
    return smartaug.Batch(inputs, target, None, None, torch.arange(6)), plan.trace


def _leaves_the_model_alone(make):
    model = _model()
    stage, before, random = make(model, held_out()), copy.deepcopy(model.state_dict()), torch.get_rng_state()
    stage(*_batch())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(now, before[name]) for name, now in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def _is_kept_by_copies_and_checkpoints(make):
    model = _model()
    stage = make(model, held_out())
    stage(*_batch())
    copied, pickled = copy.deepcopy(stage), pickle.loads(pickle.dumps(stage))
    fresh = make(model, held_out())
    if hasattr(stage, "state_dict"):
        file = io.BytesIO()
        torch.save(stage.state_dict(), file)
        file.seek(0)
        fresh.load_state_dict(torch.load(file, weights_only=True))
    if hasattr(pickled, "bind"):
        pickled.bind(model)
    wanted = stage(*_batch())
    for twin in (copied, pickled, fresh):
        for part, expected in zip(twin(*_batch()), wanted, strict=True):
            assert (part is None) == (expected is None)
            assert part is None or torch.allclose(part, expected, atol=1e-6)


def rule(given):
    """given: a `Rule`. A pure function for any number of samples and classes; and what `reweighter` asks."""
    for size, classes in ((5, 3), (1, 3), (4, 1), (2, 50), (0, 3)):
        generator = torch.Generator().manual_seed(5)
        log_p = torch.randn(size, classes, generator=generator).log_softmax(1)
        benefits = torch.randn(size, classes, generator=generator)
        soft = torch.rand(size, classes, generator=generator).softmax(1)
        batch = smartaug.Batch(torch.zeros(size, 1), torch.zeros(size, dtype=torch.int64), None, soft)
        before = [part.clone() for part in (benefits, log_p, soft)]
        weight, label = given(benefits, log_p, batch)
        again, label_again = given(benefits, log_p, batch)
        assert all(torch.equal(*pair) for pair in zip(before, (benefits, log_p, soft), strict=True))
        for one, other, shape in ((weight, again, (size,)), (label, label_again, (size, classes))):
            assert (one is None) == (other is None)
            if one is not None:
                assert tuple(one.shape) == shape
                assert bool(torch.isfinite(one).all())
                assert bool((one >= 0).all())
                assert torch.equal(one, other)
    reweighter(lambda model, held: ByRule(given, model, held))


# --- magnitudes ------------------------------------------------------------------------------------------------------


def magnitudes(make):
    """make: () -> `SampleMagnitudes`. Levels in [0, 1] of what was seen, positions in range, nothing global, copies."""
    log_p = torch.randn(50, 5, generator=torch.Generator().manual_seed(7)).mul(9).log_softmax(1)
    labels, random = torch.eye(5)[torch.arange(50) % 5], torch.get_rng_state()
    level = make().level(log_p, labels)
    assert level.shape == (50,)
    assert bool(((level >= -1e-6) & (level <= 1 + 1e-6)).all())
    for bins in (2, 10, 31):
        made = make().steps(level.clamp(0, 1), bins)
        assert made.dtype == torch.int64
        assert set(made.tolist()) <= set(range(bins))
        assert bool((make().steps(torch.linspace(0, 1, 99), bins).diff() >= 0).all())  # a higher level is no weaker
    source, index = make(), torch.arange(60)
    key, drawn = draws.key(0, 1, index), torch.zeros(60, 2, dtype=torch.int64)
    for epoch in range(source.warmup + 1):
        assert torch.equal(source.chosen(key, index, drawn, 31), drawn)  # nobody was seen
        source.observe(index[:50], log_p, torch.arange(50) % 5)
        source.begin(epoch)
    source.begin(source.warmup + 1)
    assert torch.allclose(source.levels(index[:50]), level.clamp(0, 1), atol=1e-6)
    assert bool(source.levels(index[50:]).isnan().all())
    chosen = source.chosen(key, index, drawn, 31)
    assert torch.equal(chosen[50:], drawn[50:])
    assert torch.equal(source.chosen(key[7:9], index[7:9], drawn[7:9], 31), chosen[7:9])
    assert torch.equal(source.chosen(key, None, drawn, 31), drawn)
    file, fresh = io.BytesIO(), make()
    torch.save(source.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for twin in (copy.deepcopy(source), pickle.loads(pickle.dumps(source)), fresh):
        assert torch.equal(twin.chosen(key, index, drawn, 31), chosen)
    assert torch.equal(torch.get_rng_state(), random)


# --- selections ------------------------------------------------------------------------------------------------------


def criterion(make, size):
    """make: (size) -> a criterion. The exact budget, each sample once, weights of mean 1, drawn by the generator."""
    select = make(size)
    generator = torch.Generator().manual_seed(6)
    residual = torch.randn(size, 4, generator=generator).softmax(1)
    residual[torch.arange(size), torch.arange(size) % 4] -= 1.0
    fields = {"feature": torch.randn(size, 3, generator=generator), "loss": torch.rand(size, generator=generator)}
    given = {name: part for name, part in fields.items() if name in getattr(select, "reads", ("residual",))}
    embedding, before, random = smartaug.Embedding(residual, **given), residual.clone(), torch.get_rng_state()
    for budget in {0, size // 2, size}:
        (indices, weights), (again, _) = (select(embedding, budget, torch.Generator().manual_seed(4)) for _ in range(2))
        assert torch.equal(indices, again)
        assert indices.dtype == torch.int64
        assert len(set(indices.tolist())) == len(indices) == budget
        assert set(indices.tolist()) <= set(range(size))
        assert weights is None or (len(weights) == budget and bool((weights >= 0).all()))
        assert weights is None or budget == 0 or abs(float(weights.mean()) - 1) < 1e-6
    for budget in (-1, size + 1):
        with pytest.raises(ValueError, match="budget"):
            select(embedding, budget, None)
    assert torch.equal(residual, before)
    assert torch.equal(torch.get_rng_state(), random)


# --- lifted transforms -----------------------------------------------------------------------------------------------


def lifted(certain, drawn, images, *, apart_by=0.25):
    """certain: a transform that leaves nothing to chance; drawn: the same, drawn; both run on the device wholly.

    images: what the transform takes; apart_by: mean difference from the library's own pictures, in grey levels.
    """
    made = smartaug.lift(certain)
    assert made.stays == (), (
        f"stays in the workers; is its library named in LIBRARIES of smartaug/lift/registry.py, and its class in the "
        f"translator's table?\n{made.explain()}"
    )
    found, expected = lifted_batch(made, images), as_batch(certain(image) for image in images)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    close, mean, _ = apart(found, expected)
    assert close >= 0.995
    assert mean <= apart_by

    made, random = smartaug.lift(drawn), torch.get_rng_state()
    assert made.stays == (), made.explain()
    index, batch = torch.arange(len(images)), torch.stack([made.head(image) for image in images])
    passes = [made.augment(batch, index=index, seed=0, epoch=epoch) for epoch in range(20)]
    assert torch.equal(made.augment(batch, index=index, seed=0, epoch=3), passes[3])
    assert len({one.numpy().tobytes() for one in passes}) > 1
    order = index.flip(0)[: len(index) // 2]
    assert torch.equal(made.augment(batch[order], index=order, seed=0, epoch=3), passes[3][order])
    assert torch.equal(torch.get_rng_state(), random)
    again = pickle.loads(pickle.dumps(made))
    assert torch.equal(again.augment(batch, index=index, seed=0, epoch=3), passes[3])
