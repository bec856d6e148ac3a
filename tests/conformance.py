"""What every member of a family keeps, callable on any object: the suites that CONTRIBUTING promises.

`test_conformance` runs them over the families' own lists and over the examples of CONTRIBUTING.
"""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug.augment import backends
from smartaug.reweight import ByRule
from tests import test_augment, test_backends
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
