"""Kinds of segments that are declared here, of which no module of the package knows anything."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from test_augment_tables import CPU
from test_backends import pictures
from torch.utils.data import TensorDataset

import smartaug
import smartaug.augment as A
from smartaug import draws
from smartaug.augment import backends, partly
from smartaug.augment.augmentation import Augmentation
from smartaug.augment.backends.numba import run as numba_backend
from smartaug.augment.backends.torch import run as torch_backend
from smartaug.augment.backends.triton import run as triton_backend
from smartaug.augment.ops.combinators import only
from smartaug.augment.plan import Plan, Segment, Trace
from smartaug.augment.targets import Mask, boxes
from smartaug.augment.targets.maps import move_map
from smartaug.augment.targets.through import move_objects

SHAPE = (6, 3, 5, 4)


@dataclass(frozen=True)
class Reversed(Segment):
    """The channels of some samples in the opposite order. active: (B,) bool."""

    active: torch.Tensor


@dataclass(frozen=True)
class Halved(Segment):
    """Every second column of uint8 images, as float16 in [0, 1]."""

    moves_pixels: ClassVar[bool] = True
    for_all: ClassVar[bool] = True

    def output_size(self, height, width):
        return height, width // 2

    def typed(self, given):
        return torch.float16


class Grainy(Reversed):
    draws_noise: ClassVar[bool] = True


@only.register
def _(segment: Reversed, rows: torch.Tensor, height: int, width: int) -> Reversed:
    return dataclasses.replace(segment, active=segment.active & rows)


def reversed_channels(images, segment, owned):
    return torch.where(segment.active.to(images.device)[:, None, None, None], images.flip(1), images)


def halved(images, segment, owned):
    return images[..., 1::2].half() / 255


class Backwards(Augmentation):
    """The channels in the opposite order, with probability ``p``."""

    def __init__(self, p=0.5, kind=Reversed):
        self.p, self.kind = p, kind

    def sample(self, shape, key):
        drawn = draws.uniform(key) < self.p
        trace = Trace(drawn.long()[:, None], torch.zeros(len(drawn), 1), ("Identity", "Backwards"))
        return Plan(tuple(shape), (self.kind(drawn),), trace)

    def cuts(self, shape):
        return {((), 0): [self.p]}


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """The one row that each kind of segment needs."""
    monkeypatch.setitem(torch_backend.RUNS, Reversed, reversed_channels)
    monkeypatch.setitem(torch_backend.RUNS, Halved, halved)


@pytest.mark.parametrize("backend", [None, *CPU])
def test_it_runs_between_others(backend):
    """By torch, whoever runs its neighbours; what was asked for by name is not refused."""
    images = pictures(SHAPE)
    augmentation = A.Compose([A.Invert(1.0), Backwards(1.0), A.Normalize(dtype=torch.float32)])
    plan = augmentation.plan(SHAPE, index=torch.arange(6), seed=0)
    found = backends.execute(plan, images, backend)
    torch.testing.assert_close(found, (255 - images.flip(1)) / 255)
    choices = {type(choice.segment).__name__: choice for choice in backends.explain(plan, images, backend)}
    assert choices["Reversed"].backend == "torch"
    assert backend == "torch" or choices["Reversed"].reason == "Reversed is not compiled"
    assert choices["Tone"].backend == choices["Store"].backend == (backend or "numba")


def test_the_compiled_backends_leave_it_to_torch():
    for backend, why in ((numba_backend, "is not compiled"), (triton_backend, "has no kernel")):
        assert backend.lacks(Reversed(torch.ones(2).bool())) == f"Reversed {why}"
        assert backend.lacks(Halved()) == f"Halved {why}"


def test_rows_and_devices_of_its_plan():
    plan = Backwards().plan(SHAPE, index=torch.arange(6), seed=0)
    assert torch.equal(plan.rows(torch.tensor([5, 5, 0])).segments[0].active, plan.segments[0].active[[5, 5, 0]])
    assert plan.segments[0].to("meta").active.device.type == "meta"
    assert not plan.moves_pixels
    assert Plan(SHAPE, (Halved(),)).moves_pixels


def test_it_goes_into_combinators():
    """A kind without its rule is refused with what to write, and so is one that changes the size."""
    images = pictures(SHAPE)
    found = A.RandomApply([Backwards(1.0)], 0.5)(images, seed=3)
    same = [torch.equal(found[row], images[row]) for row in range(6)]
    turned = [torch.equal(found[row], images[row].flip(0)) for row in range(6)]
    assert all(one != other for one, other in zip(same, turned, strict=True))
    assert {*same} == {True, False}
    with pytest.raises(TypeError, match=r"no way to leave rows out of Halved; register one with combinators\.only"):
        only(Halved(), torch.ones(6).bool(), 5, 4)
    halves = Backwards(kind=lambda drawn: Halved())
    with pytest.raises(ValueError, match="must keep the size, 5×4, and this one makes 5×2"):
        A.RandomApply([halves])(images)


def test_size_and_type_are_known_behind_it():
    images = pictures(SHAPE)
    flip = A.Flip(1.0).plan((6, 3, 5, 2), index=torch.arange(6), seed=0).segments
    plan = Plan(SHAPE, (Halved(), *flip))
    assert plan.output_shape == (6, 3, 5, 2)
    found = backends.execute(plan, images)
    assert torch.equal(found, halved(images, None, False).flip(3))
    reasons = [choice.reason for choice in backends.explain(plan, images)]
    assert reasons[1] == "numba runs uint8 images on the CPU; images are torch.float16 by then"
    erased = A.Erase(1.0, fill=-3.0).plan((6, 3, 5, 2), index=torch.arange(6), seed=0).segments
    with pytest.raises(ValueError, match=r"fill must lie in 0..255 for uint8 images, got \(-3.0,\)"):
        backends.execute(Plan((6, 3, 5, 2), erased), images[..., :2])
    assert (backends.execute(Plan(SHAPE, (Halved(), *erased)), images) == -3).any()  # it fits floats


def test_what_lies_in_the_image_stays_or_is_refused():
    """Points and masks stay where no pixel moves, and are refused until a kind that moves pixels says how."""
    found = boxes.to_objects(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), [1, 0, 0, 0, 0, 0], "xyxy", (5, 4))
    mask = torch.arange(20).view(1, 5, 4).expand(6, 5, 4).contiguous()
    stays = Backwards(1.0).plan(SHAPE, index=torch.arange(6), seed=0)
    assert torch.equal(move_objects(stays, found).points, found.points)
    assert torch.equal(move_map(stays, mask, Mask()), mask)
    for move in (
        lambda: move_objects(Plan(SHAPE, (Halved(),)), found),
        lambda: move_map(Plan(SHAPE, (Halved(),)), mask, Mask()),
    ):
        with pytest.raises(ValueError, match=r"^Halved .* leave the augmentation that makes it out"):
            move()


def test_samples_that_are_not_augmented_get_what_is_for_all():
    kinds = [type(part).__name__ for part in partly.plain(Plan(SHAPE, (Halved(), Reversed(torch.ones(6)))), 6).segments]
    assert kinds == ["Warp", "Halved"]


def test_its_moments_are_enumerated_unless_it_draws_noise():
    images = pictures((1, 3, 4, 4)) / 255
    found = smartaug.moments.of(Backwards(0.25), images)
    assert found.exact
    torch.testing.assert_close(found.mean, 0.75 * images + 0.25 * images.flip(1))
    with pytest.raises(TypeError, match="Backwards draws noise for every pixel"):
        smartaug.moments.of(Backwards(kind=Grainy), images)


def test_a_loader_runs_and_explains_it():
    images = pictures(SHAPE)
    loader = smartaug.DataLoader(
        TensorDataset(images, torch.arange(6)), batch_size=6, augment=[A.Invert(1.0), Backwards(1.0)], seed=0
    )
    (found, _), = loader  # fmt: skip
    assert torch.equal(found, 255 - images.flip(1))
    assert "Reversed" in loader.explain()
    assert "Reversed is not compiled" in loader.explain()
