"""apply="append" in its three forms: copies of the selection beside all originals, its own, or those of others."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug import coreset
from smartaug.coreset.originals import random_originals, shared
from smartaug.pipeline.augmenting.result_rows import with_copies
from tests.test_coreset_apply import BATCH, SIZE, images_of

AUG = smartaug.Compose([smartaug.RandAugment(), smartaug.Normalize(0.5, 0.25)])


def make(originals, copies=1, amount=8, select=None, loader=None, **settings):
    chosen = smartaug.Coreset(
        amount,
        select=select or coreset.RandomSubset(),
        apply="append",
        originals=originals,
        copies=copies,
        **settings,
    )
    data = TensorDataset(images_of(), torch.arange(SIZE) % 3)
    given = {"batch_size": BATCH, "shuffle": True, "seed": 5, "augment": AUG, **(loader or {})}
    return smartaug.DataLoader(data, coreset=chosen, **given)


def sets(loader, epoch):
    """The selected samples, and those whose originals are trained on."""
    selected = loader.coreset.selection(epoch, SIZE, 5)[0]
    plain = {"all": torch.arange(SIZE), "selected": selected, "random": random_originals(selected, SIZE, 5, epoch)}
    return set(selected.tolist()), set(plain[loader.coreset.use.originals].tolist())


def copy_of(sample, epoch, view):
    plan = AUG.plan((1, 3, 12, 12), index=torch.tensor([sample]), epoch=epoch, seed=5, view=view)
    return AUG.apply(images_of()[sample : sample + 1], plan)[0]


# --- pure functions --------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.data(), st.integers(0, 99))
def test_random_originals_share_the_mean_of_random_subsets(size, data, epoch):
    budget = data.draw(st.integers(1, size))
    selected = torch.randperm(size, generator=torch.Generator().manual_seed(epoch))[:budget].sort().values
    made = random_originals(selected, size, 3, epoch)
    assert made.tolist() == sorted(set(made.tolist()))
    assert len(made) == budget
    assert made.min() >= 0
    assert made.max() < size
    assert len(set(made.tolist()) & set(selected.tolist())) == shared(budget, size)
    assert abs(shared(budget, size) - budget * budget / size) <= 0.5
    assert torch.equal(made, random_originals(selected, size, 3, epoch))


def test_every_sample_is_an_original_as_often():
    selected, counts = torch.arange(0, 40, 4), torch.zeros(40)
    for epoch in range(2000):
        counts[random_originals(selected, 40, 1, epoch)] += 1
    spread = (2000 * 0.25 * 0.75) ** 0.5
    shares = torch.full((40,), (10 - shared(10, 40)) / 30)
    shares[selected] = shared(10, 40) / 10
    assert (counts - 2000 * shares).abs().max() < 4 * spread


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["selected", "plain", "both"]), max_size=12), st.integers(1, 4))
def test_rows_and_copies_one_by_one(kinds, copies):
    selected = torch.tensor([kind != "plain" for kind in kinds], dtype=torch.bool)
    plain = torch.tensor([kind != "selected" for kind in kinds], dtype=torch.bool)
    rows = with_copies(selected, plain, copies)
    wanted = [(row, 0 if kind != "selected" else 1) for row, kind in enumerate(kinds)]
    for number in range(1, copies + 1):
        wanted += [(row, number) for row, kind in enumerate(kinds) if kind != "plain" and (row, number) not in wanted]
    assert list(zip(rows.source.tolist(), rows.view.tolist(), strict=True)) == wanted
    assert rows.augmented.tolist() == [view > 0 for _, view in wanted]
    for own in (torch.arange(len(kinds))[start::2].contiguous() for start in (0, 1)):
        part, become = rows.of(own)
        assert own[part.source].tolist() == rows.source[become].tolist()
        assert part.view.tolist() == rows.view[become].tolist()


# --- through the loader ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("originals", "copies", "workers"),
    [("all", 2, 0), ("selected", 1, 0), ("selected", 3, 0), ("random", 1, 0), ("random", 2, 0), ("random", 2, 2)],
)
def test_originals_are_plain_and_copies_are_views_of_their_own(originals, copies, workers):
    loader = make(originals, copies, loader={"num_workers": workers})
    plain = smartaug.Normalize(0.5, 0.25)(images_of())
    length = len(loader)
    for epoch in range(2):
        selected, kept = sets(loader, epoch)
        wanted = {(i, 0) for i in kept} | {(i, number) for i in selected for number in range(1, copies + 1)}
        made, batches = [], 0
        for images, target in loader:
            batches += 1
            assert torch.equal(target.plain, target.index % 3)
            for image, sample in zip(images, target.index.tolist(), strict=True):
                same = [view for view in range(1, copies + 1) if torch.allclose(image, copy_of(sample, epoch, view))]
                views = [0] if torch.allclose(image, plain[sample]) and sample in kept else same
                made.append((sample, [view for view in views if (sample, view) in wanted]))
        assert batches == length
        assert len(made) == len(wanted)
        # a draw may leave an image as it is, so that several views look alike
        assert all(views for _, views in made)
        assert {sample for sample, _ in made} == {sample for sample, _ in wanted}
        assert len(kept) == (SIZE if originals == "all" else 8)
    assert loader.steps(2) == 2 * length
    assert loader.stats()["augmented"] == 2 * 8 * copies


def test_shares_of_ranks_and_frameworks_see_each_drawn_sample_once():
    loader = make("random")
    selected, kept = sets(loader, 0)
    drawn = [sample for rank in range(2) for sample in loader.sampler.part(rank, 2)]
    assert set(drawn) == selected | kept
    assert len(loader.sampler) == len(selected | kept) == 16 - shared(8, SIZE)
    assert "a random subset" not in loader.explain()
    assert "originals: random" in loader.explain()


@pytest.mark.parametrize("originals", ["selected", "random"])
def test_a_run_resumed_in_mid_epoch_draws_the_rest(originals):
    loader = make(originals, 2, select=smartaug.MaxLoss(), loader={"batch_size": 3})
    model, criterion = nn.Sequential(nn.Flatten(), nn.Linear(432, 3)), smartaug.Loss(nn.CrossEntropyLoss())

    def passed(batches, count):
        made = []
        for _, (images, target) in zip(range(count), batches, strict=False):
            criterion(model(images), target)
            made.append((images, target.index))
        return made

    passed(loader, 99)
    batches = iter(loader)
    passed(batches, 1)
    state = loader.state_dict()
    rest = passed(batches, 99) + passed(loader, 99)
    resumed = make(originals, 2, select=smartaug.MaxLoss(), loader={"batch_size": 3})
    resumed.load_state_dict(state)
    again = passed(resumed, 99) + passed(resumed, 99)
    assert len(again) == len(rest) > 2
    for (images, index), (other, other_index) in zip(rest, again, strict=True):
        assert torch.equal(index, other_index)
        assert torch.equal(images, other)
    drawn = resumed.coreset.drawn.selection(1, SIZE, 5)[0]
    for loaded in (copy.deepcopy(resumed.coreset), pickle.loads(pickle.dumps(resumed.coreset))):
        assert loaded.use == resumed.coreset.use
        assert torch.equal(loaded.drawn.selection(1, SIZE, 5)[0], drawn)


def test_weights_are_of_the_originals_and_copies_weigh_1():
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 3))
    passing = {"embed": "pass", "model": model, "transform": smartaug.Normalize(0.5, 0.25), "progress": False}
    loader = make("selected", 2, 9, coreset.FacilityLocation(), weights=True, warmup=0, **passing)
    seen = {}
    for _, target in loader:
        rows = len(target) // 3
        assert (target.weight[rows:] == 1).all()
        seen |= dict(zip(target.index[:rows].tolist(), target.weight[:rows].tolist(), strict=True))
    indices, weights = loader.coreset.selection(0, SIZE, 5)
    assert seen == pytest.approx(dict(zip(indices.tolist(), (weights / weights.mean()).tolist(), strict=True)))
    assert len(set(seen.values())) > 1


@pytest.mark.parametrize("originals", ["all", "selected", "random"])
def test_only_copies_are_reweighted(originals):
    loader = make(originals, 2, loader={"reweight": lambda batch, trace: (torch.rand(len(batch.inputs)), None)})
    for _, target in loader:
        rows = loader._pipeline.selecting.rows(target.index[: min(BATCH, len(target))].tolist(), BATCH, 0)
        if len(rows.source) == len(target):
            assert (target.weight[~rows.augmented] == 1).all()
            assert (target.weight[rows.augmented] != 1).all()


def test_the_record_has_the_originals():
    loader = make("selected", 2, select=smartaug.MaxLoss(), explore=0.0)
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    losses = {}
    for _, target in loader:
        output = torch.randn(len(target), 3)
        criterion(output, target)
        rows = nn.functional.cross_entropy(output, target.plain, reduction="none").tolist()
        losses |= {i: rows[place] for place, i in reversed(list(enumerate(target.index.tolist())))}
    record = loader.coreset._samples.record
    assert {i: pytest.approx(record.losses[i].item(), abs=1e-5) for i in losses} == losses
    assert (record.seen >= 0).sum() == 8


def test_images_of_several_sizes_in_lists():
    images = [torch.full((3, 6 + i % 2, 8), i, dtype=torch.uint8) for i in range(SIZE)]
    samples = list(zip(images, range(SIZE), strict=True))
    chosen = smartaug.Coreset(8, select=coreset.RandomSubset(), apply="append", originals="random", copies=2)

    def together(rows):
        return [image for image, _ in rows], torch.tensor([label for _, label in rows])

    loader = smartaug.DataLoader(
        samples, BATCH, collate_fn=together, coreset=chosen, augment=smartaug.augment.Invert(1.0), seed=5
    )
    selected = chosen.selection(0, SIZE, 5)[0]
    kept = random_originals(selected, SIZE, 5, 0).tolist()
    made = []
    for pictures, target in loader:
        for image, sample in zip(pictures, target.tolist(), strict=True):
            assert image.shape == images[sample].shape
            value = int(image[0, 0, 0])
            assert value in (sample, 255 - sample)
            made.append((sample, value != sample))
    wanted = [(i, False) for i in kept] + 2 * [(i, True) for i in selected.tolist()]
    assert sorted(made) == sorted(wanted)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"originals": "selected"}, "originals and copies are for apply="),
        ({"copies": 2}, "originals and copies are for apply="),
        ({"apply": "append", "copies": 0}, "copies must be a number of copies ≥ 1"),
        ({"apply": "append", "originals": "some"}, "originals must be one of all, selected, random"),
        ({"apply": "append", "originals": "random", "weights": True}, "weights are for apply="),
    ],
)
def test_what_does_not_go_together(settings, match):
    with pytest.raises(ValueError, match=match):
        smartaug.Coreset(0.5, **settings)


def test_the_loader_draws_so_a_sampler_is_refused():
    with pytest.raises(ValueError, match="sampler= must be left out"):
        make("random", loader={"sampler": range(4), "shuffle": None})
