"""Kornia lifted: the same pixels for the same parameters, the same distribution, keyed per sample."""

import kornia.augmentation as K
import pytest
import torch
from scipy import stats

import smartaug
from smartaug import draws
from smartaug.augment.backends.tables.tones import TONES
from smartaug.augment.foreign import Foreign
from smartaug.augment.plan import Plan, Warp
from smartaug.lift.kornia.translate import Planned, keyed_parameters
from smartaug.lift.registry import translate
from smartaug.lift.steps import State
from tests.lifting import DRAWS, alike, alike_kinds, as_batch, as_often, pictures, reached

SIZE = (48, 64)
KEYS = draws.key(3, 0, torch.arange(DRAWS))


def images(count=6, size=SIZE):
    """Photographs as floats in [0, 1]."""
    return as_batch(pictures("tensor", count, *size)) / 255.0


def stage_of(module, state=None):
    step = translate(module, State() if state is None else state)
    assert step.where == "device"
    return step.stage


def levels(found, expected):
    """Differences in grey levels."""
    assert found.shape == expected.shape
    return (found.double() - expected.double()).abs() * 255.0


# --- the same pixels for the same parameters -------------------------------------------------------------------------


def affine(scale=(0.8, 1.2), shear=10.0, **settings):
    return K.RandomAffine(30.0, (0.1, 0.2), scale, shear, **settings)


def modules(p):
    """Every module that has a plan, with that probability."""
    return [
        K.RandomHorizontalFlip(p=p),
        K.RandomVerticalFlip(p=p),
        affine(p=p, align_corners=True),
        affine(p=p, padding_mode="border"),
        affine(p=p, align_corners=True, padding_mode="reflection"),
        affine(p=p, padding_mode="reflection"),
        affine(p=p, resample="nearest"),
        affine(
            (0.5, 0.9, 1.1, 1.3),
            (-5.0, 5.0, 3.0, 8.0),
            p=p,
            padding_mode="fill",
            fill_value=torch.tensor([0.2, 0.4, 0.9]),
        ),
        K.RandomRotation((10.0, 70.0), p=p),
        K.RandomTranslate((-0.2, 0.1), (0.0, 0.3), p=p),
        K.RandomShear((-20.0, 10.0), p=p),
        K.RandomErasing((0.1, 0.4), (0.5, 2.0), value=0.3, p=p),
        K.RandomBrightness((0.5, 1.6), p=p),
        K.RandomContrast((0.4, 1.7), p=p),
        K.RandomGamma((0.4, 2.0), (0.8, 1.1), p=p),
        K.RandomSolarize(0.3, 0.2, p=p),
        K.RandomPosterize((2.0, 6.0), p=p),
        K.RandomInvert(p=p),
        K.RandomEqualize(p=p),
        K.RandomGrayscale(p=p),
        K.RandomHue((-0.3, 0.4), p=p),
        K.ColorJitter(0.4, 0.3, 0.5, 0.1, order=(0, 1, 2, 3), p=p),
        K.ColorJitter((0.5, 0.9), (1.1, 1.4), (0.2, 0.6), (0.1, 0.2), order=(3, 2, 1, 0), p=p),
        K.RandomGaussianBlur((5, 7), (0.5, 2.0), p=p),
        K.RandomGaussianBlur(3, (0.5, 2.0), p=p),
    ]


MODULES = modules(1.0)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: type(m).__name__)
def test_pixels(module):
    given, key = images(), KEYS[:6]
    stage = stage_of(module)
    drawn = keyed_parameters(module, draws.fold(key, 1), given.shape)
    expected = module(
        given, params={**drawn, "batch_prob": torch.ones(6), "forward_input_shape": torch.tensor(given.shape)}
    )
    found = stage.apply(given, stage.sample(given.shape, key))
    difference = levels(found, expected)
    assert (difference <= 1).double().mean() >= 0.995
    assert difference.mean() <= 0.25


def test_uint8_travels():
    given = as_batch(pictures("tensor", 6, *SIZE))
    for module in (K.RandomContrast((0.4, 1.7), p=1.0), K.ColorJitter(0.4, order=(0,), p=1.0)):
        stage = stage_of(module)
        plan = stage.sample(given.shape, KEYS[:6])
        found, exact = stage.apply(given, plan), stage.apply(given / 255.0, plan)
        assert found.dtype == torch.uint8
        assert levels(found / 255.0, exact).max() <= 1


def test_behind_normalize_values_keep_their_units():
    module = K.RandomAffine(20.0, padding_mode="fill", fill_value=torch.tensor([0.5]), p=1.0)
    lifted = smartaug.lift(K.ImageSequential(K.Normalize(0.4, 0.2), module, K.RandomErasing(value=0.25, p=1.0)))
    assert [step.where for step in lifted.steps] == ["folded", "device", "device"]
    found = lifted.augment(images(), index=torch.arange(6), seed=0)
    assert -2.0 - 1e-5 <= float(found.min()) < 0.0
    assert (found == 0.25).any()
    assert (found == 0.5).any()


# --- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES, ids=lambda m: type(m).__name__)
def test_parameters(module):
    shape = (len(KEYS), 3, *SIZE)
    torch.manual_seed(1)
    theirs, ours = module.generate_parameters(shape), keyed_parameters(module, KEYS, shape)
    assert set(ours) == set(theirs)
    names = [name for name in theirs if name not in ("order", "center", "values")]
    drawn = []
    for name in names:
        assert ours[name].shape == theirs[name].shape
        assert ours[name].dtype == theirs[name].dtype
        for one, other in zip(ours[name].reshape(shape[0], -1).T, theirs[name].reshape(shape[0], -1).T, strict=True):
            alike(one, other)
            if len(other.unique()) > 80:
                drawn.append(one)
    if type(module).__name__ not in ("RandomErasing", "RandomAffine"):  # whose numbers depend on one another
        for n, one in enumerate(drawn):
            assert all(abs(float(stats.spearmanr(one, other).statistic)) < 0.04 for other in drawn[:n])


def test_boxes_are_distributed_as_theirs():
    """Heights and widths depend on one another through the area."""
    module = MODULES[11]
    shape = (len(KEYS), 3, *SIZE)
    theirs, ours = module.generate_parameters(shape), keyed_parameters(module, KEYS, shape)
    for function in (lambda d: d["heights"] * d["widths"], lambda d: d["heights"] / d["widths"]):
        alike(function(ours), function(theirs))


@pytest.mark.parametrize("module", modules(0.3), ids=lambda m: type(m).__name__)
def test_how_often_each(module):
    shape = (len(KEYS), 3, 8, 8)
    torch.manual_seed(1)
    theirs = module.forward_parameters(shape)["batch_prob"].sum()
    as_often(reached(stage_of(module).sample(shape, KEYS)).sum(), theirs, 0.3)


def test_the_order_of_jitter_is_drawn_per_sample():
    module = K.ColorJitter(0.4, 0.3, 0.5, 0.1, p=1.0)
    torch.manual_seed(0)
    theirs = [tuple(module.generate_parameters((1, 3, 4, 4))["order"].tolist()) for _ in range(DRAWS)]
    plan = stage_of(module).sample((DRAWS, 3, 4, 4), KEYS)
    kinds = [TONES.index(name) for name in ("Brightness", "Contrast", "Color", "Hue")]
    ours = [
        tuple(map(kinds.index, row)) for row in zip(*(segment.op.tolist() for segment in plan.segments), strict=True)
    ]
    assert len(set(ours)) == 24
    alike_kinds(ours, theirs)


def flip(p=1.0):
    return K.RandomHorizontalFlip(p=p)


def upside_down(p=1.0):
    return K.RandomVerticalFlip(p=p)


DONE = {
    "RandomHorizontalFlip": lambda image: image.flip(-1),
    "RandomVerticalFlip": lambda image: image.flip(-2),
    "RandomInvert": lambda image: 255 - image,
}


def path(items, row):
    """The names of the modules that a sequence of Kornia's has drawn to run on an image of a batch."""
    names = ()
    for item in items:
        if isinstance(item.data, list):
            names += path(item.data, row)
        elif item.data["batch_prob"][row] > 0:
            names += (item.name.partition("_")[0],)
    return names


@pytest.mark.parametrize(
    "module",
    [
        K.AugmentationSequential(flip(0.3), K.RandomInvert(p=0.6)),
        K.ImageSequential(flip(0.5), K.ImageSequential(upside_down(0.2))),
        K.AugmentationSequential(flip(), upside_down(0.7), K.RandomInvert(p=1.0), random_apply=2),
        K.AugmentationSequential(flip(), upside_down(), random_apply=1, random_apply_weights=[0.8, 0.3]),
        K.ImageSequential(flip(), upside_down(), K.RandomInvert(p=1.0), random_apply=(1, 3)),
        K.ImageSequential(flip(0.9), K.RandomInvert(p=1.0), random_apply=3),
    ],
    ids=lambda module: " ".join(type(part).__name__ for part in module.children()),
)
def test_how_often(module):
    """Every way that a tiny picture can end up."""
    torch.manual_seed(0)
    one_by_one = DRAWS if module.random_apply else 1  # the modules that run are one draw for a batch
    shape = torch.Size((DRAWS // one_by_one, 3, 4, 4))
    drawn = [module.forward_parameters(shape) for _ in range(one_by_one)]
    paths = [path(items, row) for items in drawn for row in range(shape[0])]
    picture = as_batch(pictures("tensor", 1, 4, 4))
    ends = {}
    for names in set(paths):
        made = picture
        for name in names:
            made = DONE[name](made)
        ends[names] = made.numpy().tobytes()
    lifted = smartaug.lift(module)
    found = lifted.augment(picture.expand(DRAWS, -1, -1, -1), index=torch.arange(DRAWS), seed=0)
    alike_kinds([image.tobytes() for image in found.numpy()], [ends[names] for names in paths])


def test_a_sample_does_not_depend_on_its_batch():
    lifted = smartaug.lift(
        K.AugmentationSequential(*MODULES[2:12], K.ColorJitter(0.4, 0.3, 0.2, 0.1), random_apply=(2, 5))
    )
    given = images(12)
    whole = lifted.augment(given, index=torch.arange(12), seed=0)
    for rows in (torch.tensor([3]), torch.tensor([11, 2, 7])):
        assert torch.allclose(lifted.augment(given[rows], index=rows, seed=0), whole[rows], atol=1e-6)


# --- what a plan does not hold ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    [
        K.RandomElasticTransform(p=1.0),
        K.RandomMotionBlur(3, 35.0, 0.5, p=1.0),
        K.ColorJiggle(0.2, 0.2, 0.2, 0.1, p=1.0),
        K.RandomAffine(20.0, resample="bicubic", p=1.0),
        K.RandomInvert(torch.tensor(0.5), p=1.0),
        K.RandomGrayscale(torch.tensor([0.2, 0.3, 0.5]), p=1.0),
        K.RandomContrast((0.5, 1.5), clip_output=False, p=1.0),
        K.RandomGaussianBlur(3, (0.5, 2.0), border_type="circular", p=1.0),
        K.RandomHorizontalFlip(same_on_batch=True),
        K.ImageSequential(K.RandomHorizontalFlip(), K.RandomMotionBlur(3, 35.0, 0.5), random_apply=1),
        K.ImageSequential(K.RandomHorizontalFlip(), K.RandomInvert(), random_apply=1, same_on_batch=True),
        K.ImageSequential(K.RandomHorizontalFlip(), K.RandomInvert(), random_apply=(2, 3)),
    ],
    ids=lambda m: type(m).__name__,
)
def test_what_has_no_plan_stays_a_kornia_stage(module):
    lifted = smartaug.lift(K.ImageSequential(module, K.RandomVerticalFlip(p=1.0)))
    assert isinstance(lifted.steps[0].stage, Foreign)
    assert isinstance(lifted.steps[1].stage, Planned)
    assert "no plan for it: as it is, in a forked RNG" in lifted.explain()
    before = torch.get_rng_state()
    found = lifted.augment(images(), index=torch.arange(6), seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found, lifted.augment(images(), index=torch.arange(6), seed=0))
    assert found.shape == images().shape


def test_a_stage_behind_to_tensor_gets_floats():
    from torchvision.transforms import v2

    to_floats = v2.ToDtype(torch.float32, scale=True)
    lifted = smartaug.lift(v2.Compose([v2.ToImage(), to_floats, K.RandomMotionBlur(3, 35.0, 0.5, p=1.0)]))
    assert lifted.stays == ()
    given = as_batch(pictures("tensor", 6, *SIZE))
    found = lifted.augment(given, index=torch.arange(6), seed=0)
    assert found.dtype == torch.float32
    assert levels(found, lifted.augment(given / 255.0, index=torch.arange(6), seed=0)).max() < 0.01


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (K.AugmentationSequential(K.RandomHorizontalFlip(), data_keys=["input", "mask"]), "data_keys"),
        (K.AugmentationSequential(K.RandomHorizontalFlip(), data_keys=None), "data_keys"),
        (K.RandomMixUpV2(), "labels"),
        (K.VideoSequential(K.RandomHorizontalFlip()), "not covered"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_stays_says_why(module, says):
    lifted = smartaug.lift(module)
    assert lifted.augment is None
    assert says in lifted.reason


@pytest.mark.parametrize("count", [0, 1])
def test_empty_and_single_batches(count):
    lifted = smartaug.lift(K.ImageSequential(*MODULES))
    given = torch.rand(count, 3, 16, 16)
    assert lifted.augment(given, index=torch.arange(count), seed=0).shape == given.shape


def test_lifting_changes_no_module():
    module = K.ImageSequential(K.RandomAffine(20.0), K.ColorJitter(0.2), random_apply=1)
    before = repr(module), module[0]._param_generator.degree_sampler
    lifted = smartaug.lift(module)
    plan = lifted.augment.plan((4, 3, 8, 8), seed=0)
    assert isinstance(plan, Plan)
    assert any(isinstance(segment, Warp) for segment in plan.segments)
    assert (repr(module), module[0]._param_generator.degree_sampler) == before
    assert not module[0]._params
