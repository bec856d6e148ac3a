"""Two gloo ranks draw what one process would select, each sample once and in as many steps: counted, not assumed."""

import collections

import pytest
import torch
from torch.utils.data import DistributedSampler

import smartaug
from smartaug.coreset.originals import random_originals
from tests import coreset_ranks, frameworks_ranks
from tests.coreset_ranks import ACCELERATE, APPENDED, BATCH, EPOCHS, PLAIN, SIZE


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    results = frameworks_ranks.run("lightning_coresets", tmp_path_factory.mktemp("ranks"))
    assert not any(isinstance(result, str) for result in results), results
    return results


def alone(**settings):
    """(drawn, selected) in this process."""
    chosen = coreset_ranks.coreset(**settings)
    return coreset_ranks.passes(coreset_ranks.make(chosen)), coreset_ranks.selections(chosen)


def check(parts, selected):
    """Of each epoch: the ranks' parts are the selection, each sample once, in equally many and long steps."""
    for epoch in range(EPOCHS):
        first, second = ([len(batch) for batch in part[epoch]] for part in parts)
        assert first == second
        drawn = collections.Counter(index for part in parts for batch in part[epoch] for index in batch)
        assert set(drawn) == set(selected[epoch])
        assert sum(drawn.values()) == len(selected[epoch]) + len(selected[epoch]) % 2
        assert all(len(batch) == BATCH for batch in parts[0][epoch][:-1])


@pytest.mark.filterwarnings("ignore:.*epochs of different lengths")
@pytest.mark.parametrize("name", PLAIN)
def test_our_loader_shares_what_one_process_would_select(ranks, name):
    first, second = (rank["plain"][name] for rank in ranks)
    assert first["selected"] == second["selected"] == alone(**PLAIN[name])[1]
    check([first["drawn"], second["drawn"]], first["selected"])
    assert sum(map(len, first["drawn"])) == first["steps"]
    if name == "observed":
        assert len({tuple(selected) for selected in first["selected"]}) == EPOCHS


@pytest.mark.parametrize("framework", ["accelerate", "fabric", "lightning"])
def test_frameworks_share_it_once(ranks, framework):
    for name, settings in (ACCELERATE if framework == "accelerate" else {"observed": {}}).items():
        first, second = (rank[framework][name] for rank in ranks)
        assert first["selected"] == second["selected"] == alone(**settings)[1]
        check([first["drawn"], second["drawn"]], first["selected"])


def test_lightning_keeps_the_sampler_and_validates_each_epoch(ranks):
    for rank in ranks:
        assert rank["lightning"]["sampler"] == "CoresetSampler"
        assert rank["lightning"]["validated"][-EPOCHS:] == list(range(EPOCHS))


@pytest.mark.parametrize("name", ["base", "alone"])
def test_the_users_sampler_is_followed_and_the_sampler_works_in_torchs_loader(ranks, name):
    first, second = (rank["plain"][name] for rank in ranks)
    assert first["selected"] == second["selected"]
    check([first["drawn"], second["drawn"]], first["selected"])


def test_a_run_is_resumed_in_mid_epoch_on_all_ranks(ranks):
    """From every rank's own state as if nothing had happened; from rank 0's the same order, one selection, no loss."""
    for state in ("own", "rank 0"):
        (whole, again), (other, other_again) = (rank["plain"]["resumed"][state] for rank in ranks)
        for run, twin in ((whole, again), (other, other_again)):
            assert len(run["drawn"][0]) == 2
            assert run["drawn"][0] == twin["drawn"][0]
            assert twin["unseen"] == 0
            if state == "own":
                assert run == twin
        assert again["selected"] == other_again["selected"]
        for epoch, selected in enumerate(again["selected"]):
            parts = [index for run in (again, other_again) for batch in run["drawn"][epoch + 1] for index in batch]
            assert sorted(parts) == selected
            assert len(selected) == 20


@pytest.mark.parametrize("apply", APPENDED)
def test_ranks_augment_exactly_the_selected(ranks, apply):
    first, second = (rank["plain"][apply] for rank in ranks)
    assert first["selected"] == second["selected"]
    for epoch, selected in enumerate(first["selected"]):
        assert len(selected) == 20
        copies = APPENDED[apply].get("copies", 1)
        assert sorted(first["augmented"][epoch] + second["augmented"][epoch]) == sorted(copies * selected)
        plain = {
            "augment": set(range(SIZE)) - set(selected),
            "append": range(SIZE),
            "selected": selected,
            "random": random_originals(torch.tensor(selected), SIZE, 3, epoch).tolist(),
        }[apply]
        assert sorted(first["plain"][epoch] + second["plain"][epoch]) == sorted(plain)


@pytest.mark.filterwarnings("ignore:.*epochs of different lengths")
@pytest.mark.parametrize("name", coreset_ranks.pruning())
def test_ranks_prune_as_one_process_with_the_batches_of_both(ranks, name):
    first, second = (rank["plain"][name] for rank in ranks)
    chosen = coreset_ranks.pruning()[name]
    coreset_ranks.passes(coreset_ranks.make(chosen, batch_size=2 * BATCH))
    assert first["selected"] == second["selected"] == coreset_ranks.selections(chosen)
    assert len(first["selected"][0]) == SIZE > len(first["selected"][1])
    check([first["drawn"], second["drawn"]], first["selected"])


def test_what_fails_on_rank_0_fails_everywhere(ranks):
    assert ranks[0]["plain"]["failing"] == "ValueError: no choice"
    assert ranks[1]["plain"]["failing"] == "RuntimeError: rank 0 failed with ValueError: no choice"


def test_a_base_sampler_tells_rank_order_and_epoch():
    chosen = smartaug.Coreset(8, select=smartaug.coreset.Uniform())

    def make(**settings):
        base = DistributedSampler(range(20), num_replicas=2, rank=1, **settings)
        return base, smartaug.CoresetSampler(chosen, size=20, seed=3, base=base)

    base, sampler = make()
    base.set_epoch(7)
    assert sampler.epoch == 7
    drawn = list(sampler)
    assert sorted(drawn) == chosen.selection(7, 20, 3)[0].tolist()
    assert list(make()[1]) != drawn  # epoch 0
    assert sampler.epoch == 8  # not told again: counted
    sampler.set_epoch(7)
    assert base.epoch == 7
    assert list(sampler.part()) == drawn[1::2]
    _, other = make(seed=5)
    other.set_epoch(7)
    assert list(other) != drawn
    assert sorted(other) == chosen.selection(8, 20, 3)[0].tolist()
    _, plain = make(shuffle=False)
    assert list(plain) == chosen.selection(0, 20, 3)[0].tolist()
    assert len(smartaug.CoresetSampler(range(7), base=make(drop_last=True)[0]).part()) == 3


def test_a_part_of_a_sampler_in_one_process():
    whole = smartaug.CoresetSampler(range(3), shuffle=False)
    assert [list(whole.part(rank, 2)) for rank in range(2)] == [[0, 2], [1, 0]]
    assert [list(whole.part(rank, 7)) for rank in range(7)] == [[0], [1], [2], [0], [1], [2], [0]]
    assert list(smartaug.CoresetSampler([]).part(0, 2)) == []
    assert list(whole) == list(whole.part()) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"rank must lie in 0\.\.1"):
        whole.part(2, 2)
