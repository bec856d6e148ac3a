"""The augmentation of (seed, epoch, index) does not depend on how the batches came about."""

import pytest
import torch
from torch.utils.data import DistributedSampler

import smartaug


class Photos(torch.utils.data.Dataset):
    """Random uint8 images, always the same."""

    def __init__(self, size=24):
        self.images = torch.randint(
            0, 256, (size, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], index % 5


def stages():
    return [smartaug.PadCrop(2), smartaug.Flip(), smartaug.Erase(), smartaug.Normalize(0.5, 0.25)]


def augmented(epochs=2, stages=stages, **arguments):
    """{(epoch, index): image} over some epochs."""
    loader = smartaug.DataLoader(Photos(), augment=stages(), **arguments)
    found = {}
    for epoch in range(epochs):
        for images, target in loader:
            found.update({(epoch, i): image for i, image in zip(target.index.tolist(), images, strict=True)})
    return found


@pytest.fixture(scope="module")
def plain():
    return augmented(batch_size=4, seed=3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 1},
        {"batch_size": 24},
        {"batch_size": 7, "shuffle": True},
        {"batch_size": 4, "num_workers": 1},
        {"batch_size": 5, "num_workers": 2, "shuffle": True},
        {"batch_size": 5, "num_workers": 2, "persistent_workers": True},
        {"batch_size": 5, "num_workers": 2, "prefetch_factor": 4, "in_order": False},
        {"batch_sampler": [[5, 3], list(range(10, 20)), [0]]},
        {"batch_size": 4, "sampler": DistributedSampler(range(24), num_replicas=2, rank=1)},
    ],
    ids=["ones", "whole", "sevens", "worker", "shuffled", "persistent", "out of order", "batch sampler", "ranks"],
)
def test_bit_identical_however_batched(plain, arguments):
    found = augmented(seed=3, **arguments)
    assert found
    for place, image in found.items():
        assert torch.equal(image, plain[place])


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 1},
        {"batch_size": 4},
        {"batch_size": 3, "num_workers": 2},
        {"batch_sampler": [[3, 3, 3], [7, 3], [0, 3], [3], [7, 7, 3]]},
    ],
    ids=["ones", "fours", "workers", "batch sampler"],
)
def test_a_sample_that_comes_again_is_drawn_anew(plain, arguments):
    """Samplers with replacement and repeated augmentation; the first time is drawn as always."""
    order = [3, 3, 3, 7, 3, 0, 3, 3, 7, 7, 3]
    given = {**arguments} if "batch_sampler" in arguments else {**arguments, "sampler": order}
    whole = smartaug.DataLoader(Photos(), augment=stages(), seed=3, batch_size=len(order), sampler=order)
    loader = smartaug.DataLoader(Photos(), augment=stages(), seed=3, **given)
    for epoch in range(2):
        images = torch.cat([batch for batch, _ in loader])
        assert torch.equal(images, next(iter(whole))[0])
        for sample, drawn in ((3, images[[place for place, i in enumerate(order) if i == 3]]), (7, images[[3, 8, 9]])):
            assert torch.equal(drawn[0], plain[epoch, sample])
            assert len(drawn.flatten(1).unique(dim=0)) >= len(drawn) - 1


def test_the_index_of_a_sample_that_comes_again_is_its_own():
    loader = smartaug.DataLoader(Photos(), augment=smartaug.Flip(), batch_size=3, sampler=[2, 2, 5])
    assert next(iter(loader))[1].index.tolist() == [2, 2, 5]


def test_seeds_epochs_and_samples_differ(plain):
    other = augmented(batch_size=4, seed=4)
    assert sum(torch.equal(plain[place], other[place]) for place in plain) < 3
    assert sum(torch.equal(plain[0, i], plain[1, i]) for i in range(24)) < 3


def test_without_a_seed_it_is_torchs_initial_seed():
    torch.manual_seed(17)
    free = augmented(batch_size=4)
    torch.manual_seed(99)
    fixed = augmented(batch_size=4, seed=17)
    assert all(torch.equal(free[place], fixed[place]) for place in free)


def test_a_stage_alone_draws_as_when_called_directly():
    photos = Photos()
    crop = smartaug.Compose([smartaug.PadCrop(3), smartaug.Flip()])
    loader = smartaug.DataLoader(photos, batch_size=6, shuffle=True, augment=crop, seed=5)
    loader.set_epoch(2)
    for images, target in loader:
        direct = crop(photos.images[target.index], index=target.index, epoch=2, seed=5)
        assert torch.equal(images, direct)


def test_labels_of_mixed_samples_follow_the_images():
    photos = Photos()
    mix = smartaug.MixUp(num_classes=5)
    loader = smartaug.DataLoader(photos, batch_size=8, augment=mix, seed=5)
    for images, target in loader:
        plan = mix.plan(images.shape, index=target.index, epoch=0, seed=5)
        share, partner = plan.mixes[0].share, plan.mixes[0].partner
        onehot = torch.nn.functional.one_hot(target.plain, 5).float()
        assert torch.allclose(target.soft, share[:, None] * onehot + (1 - share[:, None]) * onehot[partner])
        assert torch.equal(target.plain, target.index % 5)


def test_foreign_stages_are_drawn_from_seed_epoch_and_indices_alone():
    def noise():
        return [lambda images: images.float() + torch.rand(images.shape)]

    torch.manual_seed(1)
    one = augmented(stages=noise, batch_size=6, seed=2)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    other = augmented(stages=noise, batch_size=6, seed=2, num_workers=0, generator=torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[place], other[place]) for place in one)
    assert not torch.equal(one[0, 3], one[1, 3])


def test_views_are_augmented_one_by_one():
    class TwoViews(Photos):
        def __getitem__(self, index):
            return [self.images[index], self.images[index]], index

    loader = smartaug.DataLoader(TwoViews(), batch_size=6, augment=smartaug.Erase(1.0), views="independent", seed=1)
    (first, second), target = next(iter(loader))
    assert target.index.tolist() == list(range(6))
    assert not torch.equal(first, second)
    direct = smartaug.Erase(1.0)(Photos().images[:6], index=torch.arange(6), seed=1, view=1)
    assert torch.equal(second, direct)
