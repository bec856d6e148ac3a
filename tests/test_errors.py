"""Bad input gets an error that says what to type, and the loader can be iterated again."""

import kornia.augmentation
import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

import smartaug
from tests.data import Numbered, Stream, add_constant


class Faulty(Numbered):
    """Sample 5 is ``fault(image)`` while ``broken`` is set."""

    broken = True

    def __init__(self, fault):
        super().__init__(8)
        self.fault = fault

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return (self.fault(image) if self.broken and index == 5 else image), label


def broken_once(dataset, match, error, **arguments):
    """The loader fails with ``error`` in the faulty batch, and works after the data set is mended."""
    loader = smartaug.DataLoader(dataset, batch_size=4, **{"augment": smartaug.Flip(), **arguments})
    with pytest.raises(error, match=match):
        list(loader)
    dataset.broken = False
    assert len(list(loader)) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_images_with_nan_name_the_rows(workers):
    fault = Faulty(lambda image: image / 0 - image / 0)
    broken_once(fault, r"NaN or Inf in rows \[1\].*nan_to_num", ValueError, num_workers=workers)


def test_images_with_inf_name_the_rows():
    broken_once(Faulty(lambda image: image + float("inf")), r"NaN or Inf in rows \[1\]", ValueError)


@pytest.mark.parametrize("workers", [0, 2])
def test_unequal_sizes_name_them(workers):
    match = r"(?s)equal size.*\(1, 4, 4\), \(1, 5, 4\).*RandomResizedCrop"
    broken_once(Faulty(lambda image: torch.zeros(1, 5, 4)), match, RuntimeError, num_workers=workers)


def test_a_failing_stage_names_itself_the_samples_and_the_input():
    def fragile(images):
        if float(images.max()) > 0.004:
            raise KeyError("lost")
        return images

    loader = smartaug.DataLoader(Numbered(8), batch_size=4, augment=[smartaug.Flip(), fragile])
    match = r"augment stage fragile failed on samples \[4, 5, 6, 7\], inputs float32 \(4, 1, 4, 4\): 'lost'"
    for _ in range(2):
        with pytest.raises(RuntimeError, match=match):
            list(loader)


def test_a_failing_reweighter_names_itself():
    def sour(batch, trace):
        raise ValueError("no grapes")

    loader = smartaug.DataLoader(Numbered(8), batch_size=4, reweight=sour)
    with pytest.raises(ValueError, match=r"reweight stage sour failed on samples \[0, 1, 2, 3\].*no grapes"):
        next(iter(loader))


@pytest.mark.parametrize("stage", [smartaug.CutMix, v2.GaussianBlur, kornia.augmentation.RandomErasing])
def test_a_class_is_no_stage(stage):
    with pytest.raises(TypeError, match=rf"got the class {stage.__name__}.*augment={stage.__name__}\(...\)"):
        smartaug.DataLoader(Numbered(), augment=[smartaug.Flip(), stage])


@pytest.mark.parametrize("keyword", ["reweight", "coreset"])
def test_a_class_is_no_reweighter_and_no_coreset(keyword):
    cls = {"reweight": smartaug.Uniform, "coreset": smartaug.Coreset}[keyword]
    with pytest.raises(TypeError, match=rf"{keyword} got the class {cls.__name__}"):
        smartaug.DataLoader(Numbered(), **{keyword: cls})


@pytest.mark.parametrize(
    ("keyword", "value", "match"),
    [
        ("augment", 3, "augment must be an augmentation, a Kornia module or a callable on a batch, got int"),
        ("reweight", 3, "reweight must be a reweighter, got int"),
        ("coreset", 0.3, "coreset must be a coreset, got float"),
    ],
)
def test_stages_of_the_wrong_kind(keyword, value, match):
    with pytest.raises(TypeError, match=match):
        smartaug.DataLoader(Numbered(), **{keyword: value})


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cuda:x", 3.5])
def test_a_device_that_does_not_exist(device):
    with pytest.raises(ValueError, match="device="):
        smartaug.DataLoader(Numbered(), augment=add_constant, device=device)


def test_returns_is_one_of_two():
    with pytest.raises(ValueError, match='returns must be "same" or "batch", got \'tuple\''):
        smartaug.DataLoader(Numbered(), returns="tuple")


def test_a_coreset_needs_indices_and_decides_the_order():
    with pytest.raises(ValueError, match="use a map-style dataset"):
        smartaug.DataLoader(Stream(), coreset=smartaug.Coreset(0.5))
    with pytest.raises(ValueError, match="sampler= must be left out"):
        smartaug.DataLoader(Numbered(), coreset=smartaug.Coreset(0.5), sampler=range(3))


def test_no_images_found_names_the_leaves():
    dataset = TensorDataset(torch.rand(8, 5), torch.rand(8, 6), torch.arange(8))
    loader = smartaug.DataLoader(dataset, batch_size=4, augment=add_constant)
    match = r"no images found.*\[0\]: float32 \(4, 5\), \[1\]: float32 \(4, 6\), \[2\]: int64 \(4,\).*inputs="
    with pytest.raises(ValueError, match=match):
        next(iter(loader))


def test_inputs_that_are_no_images():
    loader = smartaug.DataLoader(Numbered(), batch_size=4, augment=smartaug.Flip(), inputs=1)
    with pytest.raises(ValueError, match=r"inputs at \(1,\) have shape \(4,\), stages need \(B, C, H, W\)"):
        next(iter(loader))
    loader = smartaug.DataLoader(Numbered(structure="dict"), batch_size=4, augment=smartaug.Flip(), inputs="name")
    with pytest.raises(TypeError, match="are str, stages need a tensor"):
        next(iter(loader))


def test_no_target_found():
    loader = smartaug.DataLoader(TensorDataset(torch.rand(8, 3, 4, 4)), batch_size=4, augment=smartaug.CutMix())
    with pytest.raises(TypeError, match=r"mixing needs a target tensor, but no target leaf was found; .*target="):
        next(iter(loader))
    loader = smartaug.DataLoader(Numbered(), batch_size=4, reweight=smartaug.Uniform(), target="label")
    with pytest.raises(ValueError, match=r"target='label' is not in the batch; its leaves are \[0\]: float32"):
        next(iter(loader))


@pytest.mark.parametrize(("label", "shown"), [(7, r"0..3 to be mixed, got 7.*num_classes=8"), (-1, "got -1; leave")])
def test_labels_out_of_range(label, shown):
    class Wrong(Numbered):
        classes = ("a", "b", "c", "d")

        def __getitem__(self, index):
            return super().__getitem__(index)[0], label if index == 2 else 0

    loader = smartaug.DataLoader(Wrong(), batch_size=4, augment=smartaug.MixUp())
    with pytest.raises(ValueError, match=rf"labels must lie in .*{shown}"):
        next(iter(loader))


def test_masks_would_not_follow():
    dataset = TensorDataset(torch.rand(4, 3, 8, 8), torch.zeros(4, 8, 8, dtype=torch.long))
    for stage in (smartaug.Flip(), smartaug.CutMix(), add_constant):
        with pytest.raises(
            ValueError, match=r"batch\[1\] is a mask or a second image \(2, 8, 8\) that would not follow"
        ):
            next(iter(smartaug.DataLoader(dataset, batch_size=2, augment=stage)))
    images, mask = next(iter(smartaug.DataLoader(dataset, batch_size=2, augment=smartaug.Erase(1.0))))
    assert images.shape == (2, 3, 8, 8)
    assert mask.shape == (2, 8, 8)


def test_channels_last_arrays_are_noticed():
    data = [(torch.rand(8, 8, 3), 0)] * 4
    with pytest.raises(ValueError, match=r"look like \(B, H, W, C\).*permute\(2, 0, 1\)"):
        next(iter(smartaug.DataLoader(data, batch_size=2, augment=smartaug.Flip())))


def test_detection_batches_keep_each_samples_labels():
    def collate(samples):
        images, targets = zip(*samples, strict=True)
        return torch.stack(images), list(targets)

    data = [(torch.rand(3, 8, 8), {"labels": torch.tensor([1, 2])})] * 4
    loader = smartaug.DataLoader(data, batch_size=2, collate_fn=collate, augment=smartaug.Normalize(0.5, 0.5))
    _, targets = next(iter(loader))
    assert type(targets[0]["labels"]) is torch.Tensor


def test_a_leaf_that_repeats_the_index_is_no_target():
    data = [(torch.rand(3, 8, 8), i % 3, i) for i in range(8)]
    _, label, index = next(iter(smartaug.DataLoader(data, batch_size=4, shuffle=True, augment=smartaug.Flip())))
    assert type(index) is torch.Tensor
    assert torch.equal(label.index, index)


@pytest.mark.parametrize("seed", [0.5, "a", torch.tensor([1, 2])])
def test_seeds_are_integers(seed):
    with pytest.raises(TypeError, match="seed must be an integer or None"):
        smartaug.DataLoader(Numbered(), augment=add_constant, seed=seed)
    assert len(list(smartaug.DataLoader(Numbered(), augment=smartaug.Flip(), seed=np.int64(-3)))) == 20


def test_settings_are_frozen_once_the_loader_is_made():
    loader = smartaug.DataLoader(Numbered(), augment=add_constant)
    with pytest.raises(ValueError, match=r"augment cannot be changed .* build a new one with augment="):
        loader.augment = None


@pytest.mark.parametrize(
    ("image", "rows"),
    [
        (torch.full((1, 4, 4), 1e38), None),
        (torch.full((1, 4, 4), 6e4, dtype=torch.float16), None),
        (torch.full((1, 4, 4), float("nan"), dtype=torch.float16), [2]),
    ],
)
def test_only_values_that_are_not_finite_are_named(image, rows):
    data = [
        (torch.full_like(image, 6e4), 0),
        (torch.full_like(image, 6e4), 0),
        (image, 0),
        (torch.zeros_like(image), 0),
    ]
    loader = smartaug.DataLoader(data, batch_size=4, augment=smartaug.Flip())
    if rows is None:
        assert len(list(loader)) == 1
    else:
        with pytest.raises(ValueError, match=r"NaN or Inf in rows \[2\]"):
            next(iter(loader))


def test_labels_of_any_kind_do_not_stop_a_loader():
    class Named(Numbered):
        targets = ("cat", "dog")

    class Method(Numbered):
        def targets(self):
            return [1]

    for dataset in (Named(), Method()):
        assert len(list(smartaug.DataLoader(dataset, augment=smartaug.Flip()))) == 20


def test_uniform_weights_need_no_images():
    tokens = [{"input_ids": torch.arange(5) + i, "labels": torch.tensor(i % 2)} for i in range(8)]
    batch = next(iter(smartaug.DataLoader(tokens, batch_size=4, reweight=smartaug.Uniform())))
    assert batch["labels"].index.tolist() == [0, 1, 2, 3]


def test_views_cannot_be_mixed():
    dataset = [([torch.rand(3, 4, 4), torch.rand(3, 4, 4)], 1)] * 4
    mixing = smartaug.MixUp(num_classes=3)
    loader = smartaug.DataLoader(dataset, batch_size=2, augment=mixing, views="independent")
    with pytest.raises(ValueError, match="one target for 2 views"):
        next(iter(loader))


def test_stages_of_other_libraries_that_need_labels_name_ours():
    for stage, ours in (
        (v2.CutMix(num_classes=4), "CutMix"),
        (v2.MixUp(num_classes=4), "MixUp"),
        (kornia.augmentation.RandomMixUpV2(), "MixUp"),
    ):
        with pytest.raises(TypeError, match=rf"write augment=smartaug.{ours}\(\)"):
            smartaug.DataLoader(Numbered(), augment=stage)


def test_a_callable_must_return_a_batch():
    loader = smartaug.DataLoader(Numbered(), batch_size=4, augment=lambda images: images[0])
    with pytest.raises(TypeError, match=r"must return a tensor \(B, C, H, W\)"):
        next(iter(loader))


@pytest.mark.parametrize(
    ("made", "match"),
    [
        ((torch.ones(3), None), r"weight has shape \(3,\) for a batch of 4; it must be \(B,\)"),
        ((None, torch.ones(4)), r"soft has shape \(4,\) for a batch of 4; it must be \(B, K\)"),
        (([1.0] * 4, None), "weight must be a floating-point tensor or None, it returned list"),
        (
            (torch.ones(4, dtype=torch.int64), None),
            "weight must be a floating-point tensor or None, it returned torch.int64",
        ),
        (torch.ones(4), r"must return \(weight, soft\), each a tensor or None, and returned Tensor"),
    ],
)
def test_weights_and_labels_of_the_wrong_kind(made, match):
    loader = smartaug.DataLoader(Numbered(), batch_size=4, reweight=lambda batch, trace: made)
    with pytest.raises((TypeError, ValueError), match=match):
        next(iter(loader))


def test_weights_that_are_not_finite_fall_back_with_one_warning():
    def broken(batch, trace):
        return torch.full((len(batch.inputs),), float("nan")), None

    loader = smartaug.DataLoader(Numbered(), batch_size=5, reweight=broken)
    with pytest.warns(UserWarning, match="not finite") as warned:
        targets = [target for _, target in loader]
    assert len(warned) == 1
    assert all(torch.equal(target.weight, torch.ones(5)) for target in targets)
    assert loader.stats()["fallbacks"] == 4


def test_weights_without_a_target_to_carry_them():
    loader = smartaug.DataLoader(
        TensorDataset(torch.rand(8, 3, 4, 4)), batch_size=4, reweight=lambda batch, trace: (torch.ones(4), None)
    )
    with pytest.raises(TypeError, match='returns="batch"'):
        next(iter(loader))
    loader = smartaug.DataLoader(
        TensorDataset(torch.rand(8, 3, 4, 4)),
        batch_size=4,
        reweight=lambda batch, trace: (torch.ones(4), None),
        returns="batch",
    )
    batch = next(iter(loader))
    assert batch.target is None
    assert torch.equal(batch.weight, torch.ones(4))


def test_mixing_without_labels_is_never_silent():
    data = [(torch.rand(3, 4, 4), {"kind": "none"}) for _ in range(4)]
    loader = smartaug.DataLoader(data, batch_size=4, augment=smartaug.CutMix(), returns="batch")
    with pytest.raises(TypeError, match="mixing needs a target tensor"):
        next(iter(loader))


def test_weights_of_a_batch_of_views():
    data = [([torch.rand(3, 4, 4)] * 3, i) for i in range(8)]
    loader = smartaug.DataLoader(data, batch_size=4, reweight=lambda batch, trace: (torch.ones(4), None))
    views, target = next(iter(loader))
    assert len(views) == 3
    assert target.weight.shape == (4,)


def test_wrap_refuses_what_it_cannot_do():
    with pytest.raises(TypeError, match="wrap needs an iterable of batches, got int"):
        smartaug.wrap(3, augment=add_constant)
    with pytest.raises(TypeError, match="leave wrap out"):
        smartaug.wrap(smartaug.DataLoader(Numbered(), augment=add_constant), augment=add_constant)


@pytest.mark.parametrize("size", [0, 1])
def test_empty_and_single_batches(size):
    def collate(samples):
        images, labels = torch.utils.data.default_collate(samples)
        return images[:size], labels[:size]

    stages = [smartaug.PadCrop(1), smartaug.CutMix(num_classes=4), smartaug.Normalize(0.5, 0.5), add_constant]
    loader = smartaug.DataLoader(Numbered(), batch_size=2, collate_fn=collate, augment=stages)
    images, target = next(iter(loader))
    assert images.shape == (size, 1, 4, 4)
    assert target.soft.shape == (size, 4)


def test_read_only_arrays_and_the_users_tensors_are_not_written_to():
    array = np.zeros((4, 3, 8, 8), dtype=np.uint8)
    array.flags.writeable = False

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return torch.tensor(array[index]), 0

    loader = smartaug.DataLoader(
        Rows(), batch_size=4, augment=[smartaug.Erase(1.0, fill=9), smartaug.PadCrop(1, fill=5)]
    )
    images, _ = next(iter(loader))
    assert int(images.max()) == 9
    whole = torch.rand(4, 3, 8, 8)
    before = whole.clone()
    smartaug.Compose([smartaug.Flip(1.0), smartaug.Erase(1.0), smartaug.Normalize()])(whole)
    assert torch.equal(whole, before)
