"""Several pictures of a sample: one draw for all, or one for each, by one rule for lists, tuples and dicts."""

import warnings

import pytest
import torch
from torch.utils.data import default_collate

import smartaug
from smartaug import coreset
from tests.data import Pair

ROWS, SIDE = 6, 12
PICTURES = torch.randint(0, 256, (ROWS, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
STAGES = [smartaug.PadCrop(4), smartaug.Flip(), smartaug.RandAugment()]


def tuples(samples):
    """torch's own collate function makes lists of tuples."""
    made = default_collate(samples)
    return tuple(made[0]), made[1]


# how each sample holds three pictures, how batches are collated, and the pictures of a batch
FORMS = {
    "list": (lambda x: ([x, x, x], 1), None, lambda b: b[0]),
    "tuple in a sample": (lambda x: ((x, x, x), 1), None, lambda b: b[0]),
    "tuple": (lambda x: ([x, x, x], 1), tuples, lambda b: b[0]),
    "dict": (lambda x: ({"a": x, "b": x, "c": x}, 1), None, lambda b: list(b[0].values())),
    "named list": (lambda x: {"frames": [x, x, x], "label": 1}, None, lambda b: b["frames"]),
    "named dict": (lambda x: {"image": {"a": x, "b": x, "c": x}, "y": 1}, None, lambda b: list(b["image"].values())),
    "beside each other": (lambda x: (x, x, x, 1), None, lambda b: b[:3]),
    "beside each other by name": (
        lambda x: {"image": x, "left": x, "right": x, "label": 1},
        None,
        lambda b: [b["image"], b["left"], b["right"]],
    ),
}


def batch_of(form, **settings):
    sample, collate_fn, pictures = FORMS[form]
    settings = {"augment": STAGES, "seed": 3, **settings}
    batch = next(iter(smartaug.DataLoader([sample(x) for x in PICTURES], ROWS, collate_fn=collate_fn, **settings)))
    return batch, pictures(batch)


def alone(view):
    return smartaug.Compose(STAGES)(PICTURES, index=torch.arange(ROWS), seed=3, view=view)


@pytest.mark.parametrize("form", FORMS)
def test_same_gives_all_pictures_one_draw(form):
    batch, pictures = batch_of(form, views="same")
    assert all(torch.equal(picture, alone(0)) for picture in pictures)
    plain = default_collate([FORMS[form][0](x) for x in PICTURES])
    assert type(batch) is type(plain) or form == "tuple"


@pytest.mark.parametrize("form", FORMS)
def test_independent_gives_each_picture_its_own(form):
    _, pictures = batch_of(form, views="independent")
    for view, picture in enumerate(pictures):
        assert torch.equal(picture, alone(view))


@pytest.mark.parametrize("form", ["list", "tuple in a sample", "tuple", "named list"])
def test_a_list_without_a_word_is_augmented_view_by_view_and_says_so_once(form):
    if form == "named list":  # "frames" is none of the names that are looked for, the shape is
        assert len(FORMS[form][0](PICTURES[0])["frames"]) == 3
    with pytest.warns(UserWarning, match=r'3 pictures of a sample .* views="independent".* views="same"') as told:
        _, pictures = batch_of(form)
    assert len(told) == 1
    assert torch.equal(pictures[1], alone(1))
    loader = smartaug.DataLoader([([x, x], 1) for x in PICTURES], 2, augment=STAGES)
    with pytest.warns(UserWarning, match="2 pictures") as told:
        list(loader)
    assert len(told) == 1


@pytest.mark.parametrize("form", ["dict", "named dict"])
def test_pictures_by_name_without_a_word_are_refused(form):
    with pytest.raises(ValueError, match=r"holds 3 pictures by name; write views='same' .*views='independent'"):
        batch_of(form)


@pytest.mark.parametrize("form", ["beside each other", "beside each other by name"])
def test_pictures_beside_each_other_without_a_word_are_refused(form):
    with pytest.raises(ValueError, match=r"a mask or a second image .* inputs=\[...\]"):
        batch_of(form)


def test_inputs_can_name_the_views():
    for views, wanted in (("same", 0), ("independent", 1)):
        batch, _ = batch_of("beside each other by name", inputs=["left", "right"], views=views, still="image")
        assert torch.equal(batch["right"], alone(wanted))
        assert torch.equal(batch["image"], PICTURES)


def test_what_is_kept_still_is_no_view():
    batch, _ = batch_of("beside each other by name", views="same", still="right")
    assert torch.equal(batch["left"], alone(0))
    assert torch.equal(batch["right"], PICTURES)


def test_a_mask_is_no_view():
    samples = [{"image": x, "mask": x, "label": 1} for x in PICTURES]
    tones = smartaug.augment.Invert(1.0)
    batch = next(iter(smartaug.DataLoader(samples, ROWS, augment=[smartaug.Flip(1.0), tones], views="same")))
    assert torch.equal(batch["mask"], torch.stack(list(PICTURES)).flip(3))  # moved as a mask, not recoloured
    samples = [{"image": x, "mask": x.float(), "label": 1} for x in PICTURES]
    with pytest.raises(ValueError, match=r"batch\['mask'\] is a mask or a second image"):
        next(iter(smartaug.DataLoader(samples, ROWS, augment=STAGES, views="same")))


def test_one_draw_of_foreign_stages_as_well():
    noise = [lambda images: images.float() + torch.rand(len(images), 1, 1, 1)]
    _, (first, second, _) = batch_of("list", augment=noise, views="same")
    assert torch.equal(first, second)
    _, (first, second, _) = batch_of("list", augment=noise, views="independent")
    assert not torch.equal(first, second)


def test_frames_are_mixed_together_and_the_label_once():
    samples = [([x, 255 - x], i % 3) for i, x in enumerate(PICTURES)]
    settings = {"augment": smartaug.MixUp(num_classes=3), "seed": 3}
    (first, second), target = next(iter(smartaug.DataLoader(samples, ROWS, views="same", **settings)))
    one, single = next(iter(smartaug.DataLoader([(v[0], y) for v, y in samples], ROWS, **settings)))
    assert torch.equal(first, one)
    assert torch.equal(target.soft, single.soft)
    assert (first.int() + second.int() - 255).abs().max() <= 1
    with pytest.raises(ValueError, match=r"one target for 2 views.*views='same'"):
        next(iter(smartaug.DataLoader(samples, ROWS, views="independent", **settings)))


def test_a_trace_has_the_shared_draws_once():
    seen = []

    def weigh(batch, trace):
        seen.append(trace.ops.shape[1])
        assert len(batch.inputs) == 3
        return None, None

    batch_of("list", views="same", reweight=weigh)
    batch_of("list", views="independent", reweight=weigh)
    assert seen[1] == 3 * seen[0]


@pytest.mark.parametrize("apply", ["augment", "append"])
def test_frames_of_selected_samples_move_together(apply):
    samples = [([x, x], i % 3) for i, x in enumerate(PICTURES)]
    chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), apply=apply)
    loader = smartaug.DataLoader(samples, ROWS, coreset=chosen, augment=STAGES, views="same", seed=3)
    (first, second), target = next(iter(loader))
    assert torch.equal(first, second)
    assert len(first) == len(target) == ROWS + 3 * (apply == "append")
    copy = first[-1]
    wanted = alone(1)[target.index[-1]] if apply == "append" else copy
    assert torch.equal(copy, wanted)


def test_same_needs_pictures_of_one_shape():
    samples = [([x, x[:, :6]], 1) for x in PICTURES]
    with pytest.raises(ValueError, match=r"needs one shape, .*\(6, 3, 6, 12\) and \(6, 3, 12, 12\)"):
        next(iter(smartaug.DataLoader(samples, ROWS, augment=STAGES, views="same")))
    views, _ = next(iter(smartaug.DataLoader(samples, ROWS, augment=STAGES, views="independent")))
    assert views[1].shape == (ROWS, 3, 6, 12)


def test_nothing_is_said_where_nothing_is_drawn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch_of("list", augment=smartaug.Normalize(0.5, 0.5))
        next(iter(smartaug.DataLoader([(x, 1) for x in PICTURES], ROWS, augment=STAGES)))
        next(iter(smartaug.DataLoader([Pair(x, 1) for x in PICTURES], ROWS, augment=STAGES, views="same")))


MAKERS = {
    "DataLoader": lambda **settings: smartaug.DataLoader([1], **settings),
    "wrap": lambda **settings: smartaug.wrap([], **settings),
    "Collate": smartaug.Collate,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_views_is_one_of_two(maker):
    with pytest.raises(ValueError, match=r'views must be "same" .* or "independent" .*, got \'shared\''):
        MAKERS[maker](views="shared")
