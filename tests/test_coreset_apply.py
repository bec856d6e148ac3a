"""apply="augment" and apply="append": exactly the selected rows are augmented, the others pass plain."""

import kornia.augmentation as K
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset
from torchvision.transforms import v2

import smartaug
from smartaug import coreset
from smartaug.augment.plan import Trace
from tests.data import WithGetItems, add_constant

SIZE, BATCH = 24, 8


def images_of(size=SIZE, side=12, dtype=torch.uint8):
    images = torch.randint(0, 256, (size, 3, side, side), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    return images if dtype == torch.uint8 else images.to(dtype) / 255


def load(apply, augment, amount=0.5, dtype=torch.uint8, **settings):
    data = TensorDataset(images_of(dtype=dtype), torch.arange(SIZE) % 3)
    chosen = smartaug.Coreset(amount, select=coreset.Uniform(), apply=apply)
    settings = {"batch_size": BATCH, "shuffle": True, "seed": 5, **settings}
    return smartaug.DataLoader(data, coreset=chosen, augment=augment, **settings)


def selected(loader, epoch):
    return set(loader.coreset.selection(epoch, SIZE, 5)[0].tolist())


STAGES = {
    "policy": lambda: smartaug.RandAugment(),
    "crop and flip": lambda: [smartaug.PadCrop(4), smartaug.Flip(p=1.0)],
    "chains": lambda: smartaug.AugMix(),
    "erase": lambda: smartaug.Erase(p=1.0),
    "foreign": lambda: lambda images: 255 - images,
    "foreign beside": lambda: [smartaug.RandAugment(), lambda images: 255 - images, smartaug.Flip(p=1.0)],
}


@pytest.mark.parametrize(
    ("name", "workers"),
    [*((name, {}) for name in STAGES), ("policy", {"num_workers": 2, "persistent_workers": True})],
    ids=[*STAGES, "2 workers"],
)
def test_the_selected_are_augmented_as_ever_and_the_others_not_at_all(name, workers):
    partly = load("augment", STAGES[name](), **workers)
    whole = smartaug.DataLoader(partly.dataset, batch_size=1, augment=STAGES[name](), seed=5)
    plain, drawn = images_of(), 0
    for epoch in range(2):
        augmented = {int(target.index): images[0] for images, target in whole}
        chosen, seen = selected(partly, epoch), []
        assert len(chosen) == SIZE / 2
        for images, target in partly:
            seen += target.index.tolist()
            for image, index in zip(images, target.index.tolist(), strict=True):
                assert torch.equal(image, augmented[index] if index in chosen else plain[index])
        assert sorted(seen) == list(range(SIZE))
        drawn += len(chosen)
    assert partly.stats()["augmented"] == drawn
    assert partly.stats()["samples"] == 2 * SIZE


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_sizes_types_and_normalisation_hold_for_all(dtype):
    crop, store = smartaug.RandomResizedCrop((6, 9)), smartaug.Normalize(0.4, 0.2)
    loader = load("augment", [crop, store], dtype=dtype)
    resized = torch.nn.functional.interpolate(images_of(dtype=torch.float32), (6, 9), mode="bilinear")
    for images, target in loader:
        assert images.shape == (BATCH, 3, 6, 9)
        assert images.dtype == torch.float32
        for image, index in zip(images, target.index.tolist(), strict=True):
            same = torch.allclose(image, (resized[index] - 0.4) / 0.2, atol=0.02)
            assert same == (index not in selected(loader, 0))


@pytest.mark.parametrize("amount", [1, SIZE - 1, SIZE])
@pytest.mark.parametrize("apply", ["augment", "append"])
def test_batches_without_and_with_only_selected_rows(apply, amount):
    loader = load(apply, [smartaug.Flip(p=1.0), smartaug.MixUp(num_classes=3)], amount, batch_size=2)
    rows = 0
    for images, target in loader:
        here = sum(index in selected(loader, 0) for index in set(target.index.tolist()))
        rows += len(images)
        assert len(images) == len(target) == 2 + (here if apply == "append" else 0)
        assert target.soft is None or len(target.soft) == len(target)
    assert rows == SIZE + (amount if apply == "append" else 0)


def test_unselected_rows_keep_their_own_pixels_and_labels_when_others_mix():
    loader = load("augment", smartaug.CutMix(alpha=1.0, num_classes=3), batch_size=SIZE)
    ((images, target),) = loader
    mine = torch.tensor([index in selected(loader, 0) for index in target.index.tolist()])
    whole = torch.nn.functional.one_hot(target.plain, 3).float()
    assert torch.equal(images[~mine], images_of()[target.index[~mine]])
    assert torch.equal(target.soft[~mine], whole[~mine])
    changed = (images[mine] != images_of()[target.index[mine]]).flatten(1).any(1)
    assert changed.sum() >= 8
    assert torch.allclose(target.soft.sum(1), torch.ones(SIZE))
    # of each mixed row the partner is another selected one: its label is one of theirs
    assert not torch.equal(target.soft[mine], whole[mine])


def test_append_adds_copies_drawn_as_view_1():
    aug = smartaug.Compose([smartaug.RandAugment(), smartaug.Normalize(0.5, 0.25)])
    loader = load("append", aug)
    plain = smartaug.Normalize(0.5, 0.25)(images_of())
    copies = []
    for images, target in loader:
        index = target.index
        mine = [i for i in index[:BATCH].tolist() if i in selected(loader, 0)]
        assert index[BATCH:].tolist() == mine
        assert torch.equal(target.plain, index % 3)
        assert torch.allclose(images[:BATCH], plain[index[:BATCH]])
        for image, i in zip(images[BATCH:], mine, strict=True):
            plan = aug.plan((1, 3, 12, 12), index=torch.tensor([i]), epoch=0, seed=5, view=1)
            assert torch.allclose(image, aug.apply(images_of()[i : i + 1], plan)[0])
        copies += mine
    assert set(copies) == selected(loader, 0)
    assert len(copies) == SIZE / 2
    assert len(loader) == SIZE / BATCH


def test_append_feeds_the_loss_weights_and_all_rows():
    def weigh(batch, trace: Trace):
        assert len(batch.inputs) == len(batch.target) == len(trace.ops) == len(batch.index)
        plain = (trace.ops[:BATCH] == trace.names.index("Identity")).all()
        assert plain
        return torch.linspace(0.5, 1.5, len(batch.inputs)), None

    loader = load("append", smartaug.Flip(p=1.0), reweight=weigh)
    criterion = smartaug.Loss(torch.nn.CrossEntropyLoss())
    for images, target in loader:
        output = torch.randn(len(images), 3)
        rows = torch.nn.functional.cross_entropy(output, target.plain, reduction="none")
        assert torch.allclose(criterion(output, target), (rows * target.weight).mean())


def test_append_grows_every_tensor_of_the_batch_and_returns_a_batch():
    samples = [
        {"image": image, "label": i % 3, "number": i, "caption": f"text {i}"} for i, image in enumerate(images_of())
    ]
    chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), apply="append")
    settings = {"batch_size": BATCH, "coreset": chosen, "augment": smartaug.Flip(), "seed": 1}
    for batch in smartaug.DataLoader(samples, **settings):
        assert torch.equal(batch["number"], batch["label"].index)
        assert len(batch["image"]) == len(batch["number"]) > BATCH
        assert batch["caption"] == [f"text {i}" for i in batch["number"].tolist()]
    for batch in smartaug.DataLoader(samples, **settings, returns="batch"):
        assert torch.equal(batch.target.plain, batch.index % 3)


def test_two_views_of_each_sample():
    pairs = [((image, image), i % 3) for i, image in enumerate(images_of())]
    for apply, rows in (("augment", BATCH), ("append", BATCH + 4)):
        chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), apply=apply)
        loader = smartaug.DataLoader(
            pairs,
            batch_size=BATCH,
            coreset=chosen,
            augment=smartaug.RandAugment(),
            inputs=0,
            target=1,
            views="independent",
            seed=1,
        )
        total = 0
        for (first, second), target in loader:
            assert first.shape == second.shape
            assert len(first) == len(target)
            assert not torch.equal(first, second)
            total += len(first)
        assert total == rows * 3


def test_kornia_gets_and_leaves_unit_floats():
    loader = load("augment", [K.RandomInvert(p=1.0), K.Normalize(0.5, 0.5)])
    plain = images_of(dtype=torch.float32)
    for images, target in loader:
        for image, index in zip(images, target.index.tolist(), strict=True):
            wanted = 1 - plain[index] if index in selected(loader, 0) else plain[index]
            assert torch.allclose(image, (wanted - 0.5) / 0.5, atol=1e-5)


@pytest.mark.parametrize("stage", [lambda images: images.float() / 255, lambda images: images[:, :, :6]])
def test_a_foreign_stage_that_changes_type_or_size_is_refused(stage):
    with pytest.raises(ValueError, match="not selected stay"):
        next(iter(load("augment", stage)))


def test_what_append_needs():
    with pytest.raises(ValueError, match="there is no augment="):
        load("append", None)
    texts = [(image, str(i)) for i, image in enumerate(images_of())]
    chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), apply="append")
    with pytest.raises(TypeError, match='apply="append" repeats the target'):
        next(iter(smartaug.DataLoader(texts, coreset=chosen, augment=smartaug.Flip(), batch_size=8, target=1)))


def test_the_users_own_sampler_and_order_stay():
    for sampler in ({"sampler": range(8)}, {"batch_sampler": [[3, 1], [2, 0]]}):
        data = TensorDataset(images_of(), torch.arange(SIZE))
        chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), apply="augment")
        loader = smartaug.DataLoader(data, coreset=chosen, augment=smartaug.Flip(p=1.0), seed=5, **sampler)
        stock = torch.utils.data.DataLoader(data, **sampler)
        assert [target.tolist() for _, target in loader] == [target.tolist() for _, target in stock]
        for images, target in loader:
            for image, index in zip(images, target.index.tolist(), strict=True):
                assert torch.equal(image, images_of()[index]) != (index in chosen.selection(1, SIZE, 5)[0].tolist())


@pytest.mark.parametrize("context", ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_the_membership_mask_is_one_shared_tensor_and_known_before_workers_load(context):
    chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), apply="augment")
    mask = chosen.membership(20)
    assert mask.is_shared()
    assert mask.dtype == torch.uint8
    assert mask.tolist() == [1] * 20
    loader = smartaug.DataLoader(
        Masked(mask),
        batch_size=5,
        coreset=chosen,
        seed=3,
        num_workers=1 if context == "spawn" else 2,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    for epoch in range(2 if context == "spawn" else 3):
        seen = {int(index): int(bit) for _, bit, index in (row for batch in loader for row in zip(*batch, strict=True))}
        wanted = set(chosen.selection(epoch, 20, 3)[0].tolist())
        assert {index for index, bit in seen.items() if bit} == wanted
        assert chosen.membership(20) is mask
        assert set(mask.nonzero().flatten().tolist()) == wanted
    del loader


class Masked(WithGetItems):
    """What a per-sample pipeline in a worker sees of the mask."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def __getitem__(self, index):
        image, _ = super().__getitem__(index)
        return image, self.mask[index].clone(), index


def test_a_loader_rebuilt_by_accelerate_selects_before_workers_load():
    """Accelerate makes a stock loader of our batch sampler and collate function; our ``__iter__`` is gone."""
    chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), apply="augment")
    loader = smartaug.DataLoader(Masked(chosen.membership(20)), batch_size=5, coreset=chosen, seed=3)
    stock = torch.utils.data.DataLoader(
        loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn, num_workers=1
    )
    for epoch in range(2):
        rows = [row for batch in stock for row in zip(*batch, strict=True)]
        marked = sorted(int(index) for _, bit, index in rows if bit)
        assert marked == chosen.selection(epoch, 20, 3)[0].tolist()


def test_a_sampler_alone_draws_all_and_selects_what_workers_augment():
    chosen = smartaug.Coreset(6, select=coreset.Uniform(), apply="augment")
    sampler, mask = smartaug.CoresetSampler(chosen, size=20, seed=3), chosen.membership(20)
    loader = torch.utils.data.DataLoader(Masked(mask), batch_size=5, sampler=sampler, num_workers=1)
    assert len(loader) == 4
    for epoch in range(2):
        rows = [row for batch in loader for row in zip(*batch, strict=True)]
        assert sorted(int(index) for _, _, index in rows) == list(range(20))
        marked = sorted(int(index) for _, bit, index in rows if bit)
        assert marked == chosen.selection(epoch, 20, 3)[0].tolist()


def test_a_copied_coreset_has_a_shared_mask_of_its_own():
    import copy
    import pickle

    chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), model=torch.nn.Linear(2, 2))
    mask = chosen.membership(10)
    chosen.selection(0, 10, 0)
    for made in (copy.deepcopy(chosen), pickle.loads(pickle.dumps(chosen))):
        other = made.membership(10)
        assert other.is_shared()
        assert other is not mask
        assert torch.equal(other, mask)
        made.selection(7, 10, 0)
        assert not torch.equal(other, mask)
    assert copy.deepcopy(chosen).model is chosen.model
    with pytest.raises(RuntimeError, match="no model"):
        assert pickle.loads(pickle.dumps(chosen)).model


def test_a_stage_counted_by_its_constant():
    loader = load("augment", add_constant, dtype=torch.float32)
    for images, target in loader:
        added = (images - images_of(dtype=torch.float32)[target.index]).flatten(1).mean(1).round().tolist()
        assert added == [10.0 if index in selected(loader, 0) else 0.0 for index in target.index.tolist()]


class Transformed(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return self.transform(images_of()[index]), index % 3


LIFTED = {
    "plans": lambda: [v2.CenterCrop(8), v2.Pad(2), v2.GaussianBlur(3, 1.0), v2.RandomHorizontalFlip()],
    "normalised": lambda: [
        v2.CenterCrop(8),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5] * 3, [0.25] * 3),
    ],
    "one": lambda: [v2.CenterCrop(8)],
}


@pytest.mark.parametrize("batch_size", [1, BATCH])
@pytest.mark.parametrize("own", ["plan", "foreign"])
@pytest.mark.parametrize("name", LIFTED)
@pytest.mark.parametrize("apply", ["augment", "append"])
def test_what_was_lifted_runs_on_all_and_augment_on_the_selected(apply, name, own, batch_size):
    augment, nothing = {
        "plan": (smartaug.augment.Invert(1.0), smartaug.augment.Invert(0.0)),
        "foreign": (lambda images: images * 0, lambda images: images),
    }[own]
    data = Transformed(v2.Compose([v2.Resize((12, 12)), *LIFTED[name]()]))
    settings = {"batch_size": batch_size, "seed": 5, "lift": True}
    chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), apply=apply)
    loader = smartaug.DataLoader(data, augment=augment, coreset=chosen, **settings)
    # the draws of a stage do not depend on what the other stages do
    plain = torch.cat([images for images, _ in smartaug.DataLoader(data, augment=nothing, **settings)])
    whole = torch.cat([images for images, _ in smartaug.DataLoader(data, augment=augment, **settings)])
    for images, target in loader:
        rows = len(set(target.index.tolist()))
        for place, (image, index) in enumerate(zip(images, target.index.tolist(), strict=True)):
            if place < rows and (apply == "append" or index not in selected(loader, 0)):
                assert torch.allclose(image, plain[index], atol=1e-5)
            elif apply == "augment":
                assert torch.allclose(image, whole[index], atol=1e-5)
            else:
                assert image.shape == plain[index].shape


@pytest.mark.parametrize("apply", ["augment", "append"])
def test_a_lifted_pipeline_alone_is_nothing_to_select_for(apply):
    chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), apply=apply)
    with pytest.raises(ValueError, match="augment=RandAugment"):
        smartaug.DataLoader(Transformed(v2.RandomInvert()), lift=True, coreset=chosen)


class Fixed(smartaug.Coreset):
    """Selects the first ``count`` samples, and remembers no selection."""

    count = SIZE // 2

    def selection(self, epoch, size, seed):
        return torch.arange(self.count), None

    def budget(self, size, epoch=0):
        return self.count


@pytest.mark.parametrize("apply", ["train", "augment"])
def test_a_state_loaded_into_the_coreset_alone_reaches_the_loader(apply):
    def rows(loader):
        chosen = loader._pipeline.selecting.selections
        return set((loader.sampler.selection(0) if chosen is None else chosen.of(0)).indices.tolist())

    loader, other = load(apply, smartaug.RandAugment()), load(apply, smartaug.RandAugment(), seed=6)
    for one in (loader, other):
        next(iter(one))
    before = rows(loader)
    members = loader.coreset.membership(SIZE)
    state = {**other.coreset.state_dict(), "made": []}  # nothing is remembered: it is selected anew
    loader.coreset.load_state_dict(state)
    assert bool(members.all())
    assert rows(loader) == before == selected(loader, 0)
    state["made"] = [[0, SIZE, 5, torch.arange(SIZE // 2), None]]
    loader.coreset.load_state_dict(state)
    assert rows(loader) == set(range(SIZE // 2)) == selected(loader, 0) == set(members.nonzero().flatten().tolist())


@pytest.mark.parametrize("apply", ["train", "augment"])
def test_selections_of_a_subclass_are_those_of_its_own_method(apply):
    data = TensorDataset(images_of(), torch.arange(SIZE) % 3)
    chosen = Fixed(0.5, select=coreset.Uniform(), apply=apply)
    made = smartaug.DataLoader(data, coreset=chosen, augment=smartaug.RandAugment(), batch_size=BATCH, seed=5)
    seen = [index for _, target in made for index in target.index.tolist()]
    assert sorted(seen) == list(range(SIZE // 2 if apply == "train" else SIZE))
    state = {**chosen.state_dict(), "made": [[0, SIZE, 5, torch.arange(3), None]]}
    chosen.load_state_dict(state)  # what the base class remembers is not asked
    own = made._pipeline.selecting.selections
    assert (made.sampler.selection(0) if own is None else own.of(0)).indices.tolist() == list(range(SIZE // 2))
