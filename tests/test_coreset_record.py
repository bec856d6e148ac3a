"""What is recorded of the user's own forward passes: 128 bytes a sample at most, and what selections make of it."""

import copy
import os
import resource
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import ConcatDataset, Subset, TensorDataset

import smartaug
from smartaug._base.dataset_labels import labels_of
from smartaug.coreset.record import Record, _allocate, pack, unpack

N, K = 60, 5


def data(size=N, classes=K, width=8):
    generator = torch.Generator().manual_seed(2)
    return TensorDataset(torch.randn(size, width, generator=generator), torch.arange(size) % classes)


def net(classes=K, width=8):
    torch.manual_seed(4)
    return nn.Linear(width, classes)


def run(loader, model, epochs, train=False, spoil=None):
    """[selection of each epoch]; the model stays frozen unless ``train``; spoil(index, output) changes outputs."""
    criterion, optimizer = smartaug.Loss(nn.CrossEntropyLoss()), torch.optim.SGD(model.parameters(), 0.1)
    drawn = []
    for _ in range(epochs):
        drawn.append([])
        for inputs, target in loader:
            output = model(inputs)
            output = output if spoil is None else spoil(target.index, output)
            loss = criterion(output, target)
            drawn[-1] += target.index.tolist()
            if train:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return [sorted(indices) for indices in drawn]


def make(chosen, dataset=None, **settings):
    settings = {"batch_size": 8, "shuffle": True, "seed": 7, **settings}
    return smartaug.DataLoader(dataset or data(), coreset=chosen, **settings)


# --- packing ---------------------------------------------------------------------------------------------------------


def full(logits, target):
    """p − y in float64, by the formula."""
    p = logits.double().softmax(1)
    return p - nn.functional.one_hot(target, p.shape[1]).double()


@pytest.mark.parametrize("classes", [2, 10, 29])
def test_up_to_29_classes_the_residual_is_kept_whole(classes):
    logits, target = 3 * torch.randn(20, classes), torch.randint(0, classes, (20,))
    packed = pack(logits, target)
    assert packed.classes is None
    assert torch.allclose(unpack(packed.values, None, classes).double(), full(logits, target), atol=1e-6)
    assert torch.allclose(packed.loss, nn.functional.cross_entropy(logits, target, reduction="none"), atol=1e-5)
    assert packed.label.tolist() == target.tolist()


@pytest.mark.parametrize("classes", [30, 100, 1000, 40_000])
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 4.0, 12.0], ids=["clueless", "early", "trained", "sure"])
def test_beyond_the_largest_entries_and_the_rest_evenly(classes, sharpness):
    torch.manual_seed(1)
    logits, target = sharpness * torch.randn(12, classes), torch.randint(0, classes, (12,))
    packed = pack(logits, target)
    kept, whole = unpack(packed.values, packed.classes, classes).double(), full(logits, target)
    assert torch.allclose(kept.sum(1), torch.zeros(12, dtype=torch.float64), atol=1e-4)
    pairs = torch.cdist(whole, whole), torch.cdist(kept, kept)
    # relative to the residual's own length: distances between samples move by less than a tenth of that
    assert (kept - whole).norm(dim=1).div(whole.norm(dim=1)).max() < 0.08
    assert (pairs[0] - pairs[1]).abs().max() < 0.1 * whole.norm(dim=1).mean()
    record = Record(12, classes)
    record.add(torch.arange(12), packed, 0)
    assert record.bytes <= 128
    assert torch.equal(record.embedding(np.arange(12)).residual.double(), kept)


def test_what_a_target_may_be():
    logits, target = torch.randn(6, 3), torch.randint(0, 3, (6,))
    whole = nn.functional.one_hot(target, 3).float()
    assert torch.allclose(pack(logits, whole).values, pack(logits, target).values)
    assert torch.equal(pack(logits, target[:, None]).values, pack(logits, target).values)
    single, chance = torch.randn(6), torch.tensor([0.0, 1.0, 0.25, 1.0, 0.0, 2.0])
    for output, wanted in ((single, chance), (single[:, None], chance[:, None])):
        packed = pack(output, wanted)
        assert torch.allclose(packed.values[:5, 1], (single.sigmoid() - chance)[:5], atol=1e-6)
        assert packed.status.tolist() == [0, 0, 0, 0, 0, 2]  # 2.0 is no probability
    assert pack(logits, torch.tensor([0, 1, 2, -100, 3, 0])).status.tolist() == [0, 0, 0, 2, 2, 0]
    spread = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [0.5, 0.5, 0], [2, -1, 0], [0, 0, 1]])
    assert pack(logits, spread).status.tolist() == [0, 2, 2, 0, 2, 0]
    masked = logits.clone()
    masked[:, 0] = -torch.inf
    packed = pack(masked, target.clamp(1))
    assert packed.status.tolist() == [0] * 6
    assert torch.isfinite(packed.loss).all()


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (torch.randn(4, 3, 8, 8), torch.zeros(4, 4, 4, dtype=torch.int64)),
        (torch.randn(4, 3), torch.randn(4)),
        (torch.randn(4, 3), torch.zeros(4, 2, dtype=torch.int64)),
        (torch.randn(4, 3), torch.zeros(5, dtype=torch.int64)),
        (torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)),
    ],
)
def test_outputs_and_targets_of_other_shapes(output, target):
    with pytest.raises(TypeError, match="recording needs"):
        pack(output, target)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.lists(st.lists(st.integers(0, 11), max_size=9), max_size=6), st.sampled_from([3, 40]))
def test_a_record_keeps_the_last_sight_of_each_sample(size, batches, classes):
    record, expected = Record(size, classes), {}
    for epoch, batch in enumerate(batches):
        index = torch.tensor([i % size for i in batch], dtype=torch.int64)
        packed = pack(torch.randn(len(index), classes), torch.randint(0, classes, (len(index),)))
        record.add(index, packed, epoch)
        rows = unpack(packed.values, packed.classes, classes)
        for row in reversed(range(len(index))):  # of a sample's rows in a batch the first
            expected[int(index[row])] = (rows[row], float(packed.loss[row]), int(packed.label[row]), epoch)
    embedding = record.embedding(np.arange(size))
    for i in range(size):
        residual, loss, label, epoch = expected.get(i, (torch.zeros(classes), 0.0, -1, -1))
        assert torch.equal(embedding.residual[i], residual)
        assert float(embedding.loss[i]) == loss == float(record.losses[i])
        assert (record.labels[i], record.seen[i]) == (label, epoch)


def test_beyond_the_bound_the_table_is_a_file_and_says_the_same(tmp_path):
    packed, index = pack(torch.randn(30, 4), torch.randint(0, 4, (30,))), torch.randperm(30)
    small, mapped = Record(30, 4), Record(30, 4, memory=100, folder=str(tmp_path))
    assert (small.mapped, mapped.mapped) == (False, True)
    for record in (small, mapped):
        record.add(index, packed, 3)
    for other in (mapped, copy.deepcopy(mapped), Record.from_state(mapped.state_dict(), memory=100)):
        assert torch.equal(other.embedding(np.arange(30)).residual, small.embedding(np.arange(30)).residual)
        assert other.seen.tolist() == [3] * 30
    assert list(tmp_path.iterdir()) == []  # the file has no name to leave behind
    with pytest.raises(FileNotFoundError):
        Record(30, 4, memory=100, folder=str(tmp_path / "nowhere"))


def test_an_index_from_elsewhere():
    with pytest.raises(ValueError, match="sample 5 was observed, but the coreset selects from 4"):
        Record(4, 3).add(torch.tensor([1, 5]), pack(torch.randn(2, 3), torch.tensor([0, 1])), 0)


# --- from outputs to selections --------------------------------------------------------------------------------------


@pytest.mark.parametrize("select", [smartaug.FacilityLocation(backend="torch"), smartaug.MaxLoss()], ids=str)
@pytest.mark.parametrize("classes", [5, 40])
def test_observed_and_passed_embeddings_select_the_same(select, classes):
    """The model is frozen, nothing is augmented, and every sample has been seen."""
    dataset, model = data(200, classes), net(classes)
    settings = {"select": select, "apply": "augment"}
    observed = smartaug.Coreset(0.4, **settings)
    passed = smartaug.Coreset(0.4, embed="pass", model=model, progress=False, **settings)
    for chosen in (observed, passed):
        run(make(chosen, dataset), model, 2)
    first, second = (chosen.selection(1, 200, 7)[0] for chosen in (observed, passed))
    assert len(first) == 80
    if classes == 5:
        assert torch.equal(first, second)
    else:  # 29 entries of 40, in half precision: near ties may turn
        assert len(set(first.tolist()) & set(second.tolist())) >= 76
    assert not torch.equal(first, observed.selection(0, 200, 7)[0])


def test_a_pass_leaves_the_model_and_the_generators_alone():
    model = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5), net())
    model.train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    chosen = smartaug.Coreset(0.5, embed="pass", model=lambda: model, warmup=0, progress=False, transform=torch.neg)
    chosen.attach(data())
    indices, _ = chosen.selection(0, N, 1)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    plain = smartaug.Coreset(0.5, embed="pass", model=model, warmup=0, progress=False)
    plain.attach(data())
    assert not torch.equal(indices, plain.selection(0, N, 1)[0])  # the transform counts


def test_the_pass_reads_batches_as_the_loader_does():
    samples = [{"photo": inputs, "kind": label} for inputs, label in data()]
    for extra in ({"inputs": "photo", "target": "kind"}, {"collate_fn": lambda rows: (
        torch.stack([row["photo"] for row in rows]), torch.tensor([int(row["kind"]) for row in rows])
    )}):  # fmt: skip
        chosen = smartaug.Coreset(0.5, embed="pass", model=net(), warmup=0, progress=False, features=True)
        loader = make(chosen, samples, **extra)
        drawn = [i for batch in loader for i in batch[1 if "collate_fn" in extra else "kind"].index.tolist()]
        labels = [int(samples[i]["kind"]) for i in drawn]
        assert sorted(labels) == sorted(list(range(K)) * 6)


def test_classes_get_their_share_of_those_seen_and_the_unseen_are_explored():
    chosen = smartaug.Coreset(0.5, select=smartaug.FacilityLocation(backend="torch"), explore=0.0)
    loader = make(chosen)
    seen = set()
    for selected in run(loader, net(), 5):
        assert np.bincount(np.array(selected) % K).tolist() == [6] * K
        new, unseen = set(selected) - seen, N - len(seen)
        # of a class that is unseen for one half, half of the share goes to unseen samples
        assert len(new) == (30 if not seen else sum(6 * (unseen // K) // 12 for _ in range(K)))
        seen |= set(selected)
    told = loader.stats()["coreset"]
    assert told["unseen"] == N - len(seen)
    assert told["selections"] == 5
    assert told["bytes_per_sample"] <= 128


def test_exploration_takes_those_unseen_for_longest():
    chosen = smartaug.Coreset(0.5, select=smartaug.MaxLoss(), explore=0.4, every=10)
    loader, last = make(chosen), np.full(N, -1)
    for epoch, selected in enumerate(run(loader, net(), 9)):
        if epoch > 5:  # all were seen; 12 are explored beside the 18 of the block
            fixed = [i for i in selected if last[i] == epoch - 1]
            explored = [i for i in selected if last[i] < epoch - 1]
            others = set(range(N)) - set(selected)
            assert len(explored) >= 6
            for i in explored:
                assert all(last[j] >= last[i] for j in others if j % K == i % K)
            assert fixed
        last[selected] = epoch
    told = loader.stats()["coreset"]
    assert (told["unseen"], told["age_max"]) == (0, int((8 - last).max()))
    assert told["age_mean"] == pytest.approx((8 - last).mean())
    assert told["explored"] >= 12 * 8


def test_rows_that_are_not_finite_are_left_out_and_counted():
    def spoil(index, output):
        return torch.where((index % 10 == 3)[:, None], torch.nan, output)

    chosen = smartaug.Coreset(0.5, apply="augment", select=smartaug.FacilityLocation(backend="torch"))
    loader = make(chosen)
    run(loader, net(), 2, spoil=spoil)
    assert loader.stats()["coreset"]["nonfinite"] == 12
    assert loader.stats()["coreset"]["unseen"] == 6
    # a class of 12 with 6 never recorded still gets its 6, and among those recorded first
    assert len(chosen.selection(1, N, 7)[0]) == 30


def test_nothing_recorded_says_what_to_do():
    for augment in (None, smartaug.MixUp(num_classes=N)):
        images = [(torch.rand(1, 4, 4), i) for i in range(N)]
        loader = make(smartaug.Coreset(0.5), images, augment=augment)
        model = nn.Sequential(nn.Flatten(), net(N, width=16))
        run(loader, model, 1, spoil=lambda index, output: output * torch.nan)
        assert loader.stats()["coreset"]["nonfinite"] == 30
        with pytest.raises(RuntimeError, match=r"no outputs were recorded.*smartaug\.Loss"):
            run(loader, model, 1)
    with pytest.raises(RuntimeError, match="no outputs were recorded"):
        list(make(smartaug.Coreset(0.5, warmup=0)))
    loader = make(smartaug.Coreset(0.5))
    list(loader)  # without a Loss
    with pytest.raises(RuntimeError, match="no outputs were recorded"):
        list(loader)


def test_criteria_and_models_that_cannot_be_recorded():
    loader = make(smartaug.Coreset(0.5))
    _, target = next(iter(loader))
    several = smartaug.Loss(nn.BCEWithLogitsLoss())
    with pytest.raises(TypeError, match=r"selects by p − y of one class"):
        several(torch.randn(8, K), target)
    smartaug.Loss(nn.CrossEntropyLoss())(torch.randn(8, K), target)
    with pytest.raises(ValueError, match="recorded outputs of 5 classes and now sees 7"):
        smartaug.Loss(nn.CrossEntropyLoss())(torch.randn(8, 7), target)
    with pytest.raises(ValueError, match="belongs to another dataset"):
        make(loader.coreset, data(40))
    with pytest.raises(ValueError, match="had 40 samples when the coreset was given to its loader, and has 60"):
        loader.coreset.selection(1, 40, 0)
    chosen = smartaug.Coreset(0.5)
    with pytest.raises(RuntimeError, match="saw an output before any selection"):
        chosen.observe(torch.arange(3), torch.randn(3, 2), torch.zeros(3, dtype=torch.int64))
    free = make(smartaug.Coreset(0.5, select=smartaug.coreset.Uniform()))
    _, target = next(iter(free))
    smartaug.Loss(nn.MSELoss())(torch.randn(8), target)  # nothing is recorded for it


def test_binary_classifiers_are_recorded():
    dataset = TensorDataset(torch.randn(N, 8), (torch.arange(N) % 2).float())
    chosen = smartaug.Coreset(0.5, apply="augment", select=smartaug.MaxLoss())
    loader, model = make(chosen, dataset), net(1)
    criterion = smartaug.Loss(nn.BCEWithLogitsLoss())
    for _ in range(2):
        for inputs, target in loader:
            criterion(model(inputs)[:, 0], target)
    loss = nn.functional.binary_cross_entropy_with_logits(
        model(dataset.tensors[0])[:, 0], dataset.tensors[1], reduction="none"
    )
    for name in (0.0, 1.0):  # labels were learned from the targets seen
        rows = (dataset.tensors[1] == name).nonzero()[:, 0]
        wanted = rows[loss[rows].argsort(descending=True)[:15]]
        mine = [i for i in chosen.selection(1, N, 7)[0].tolist() if dataset.tensors[1][i] == name]
        assert mine == sorted(wanted.tolist())


WORKERS = {
    "2": {"num_workers": 2},
    "persistent": {"num_workers": 2, "persistent_workers": True},
    "not forked": {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "forkserver"},
    "spawn": pytest.param({"num_workers": 1, "multiprocessing_context": "spawn"}, marks=pytest.mark.slow),
}


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_workers_change_no_selection(workers):
    def selected(**settings):
        loader = make(smartaug.Coreset(0.5, select=smartaug.FacilityLocation(backend="torch"), every=2), **settings)
        drawn = run(loader, net(), 4)
        assert drawn == [loader.coreset.selection(epoch, N, 7)[0].tolist() for epoch in range(4)]
        return drawn

    assert selected(**workers) == selected()


# --- state -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apply", ["train", "augment"])
@pytest.mark.parametrize("batches", [0, 2])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, apply, batches):
    def build():
        chosen = smartaug.Coreset(
            0.5, every=2, apply=apply, select=smartaug.FacilityLocation(backend="torch"), weights=apply == "train"
        )
        generator = torch.Generator().manual_seed(1)
        return make(chosen, augment=lambda images: images + 1, dataset=squares(), generator=generator), model_of()

    def squares():
        return [(inputs.view(1, 2, 4), int(label)) for inputs, label in data()]

    def model_of():
        return nn.Sequential(nn.Flatten(), net())

    def steps(loader, model, count=None):
        criterion, optimizer = smartaug.Loss(nn.CrossEntropyLoss()), torch.optim.SGD(model.parameters(), 0.1)
        seen = []
        for number, (inputs, target) in enumerate(loader):
            loss = criterion(model(inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append((target.index.tolist(), target.weight.tolist(), float(loss.detach())))
            if number + 1 == count:
                break
        return seen

    loader, model = build()
    for _ in range(2):
        steps(loader, model)
    if batches:
        steps(loader, model, batches)
    torch.save({"loader": loader.state_dict(), "model": model.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)

    whole, resumed = copy.deepcopy(loader), build()
    whole.load_state_dict(state["loader"])
    resumed[0].load_state_dict(state["loader"])
    resumed[1].load_state_dict(state["model"])
    twin = copy.deepcopy(model)
    for _ in range(4):
        assert steps(whole, twin) == steps(*resumed)


def test_a_state_replaces_what_a_loader_had_selected_itself():
    def trained(seed):
        loader = make(smartaug.Coreset(0.5, select=smartaug.MaxLoss()))
        torch.manual_seed(seed)
        run(loader, nn.Linear(8, K), 3)
        return loader

    first, second = trained(1), trained(2)
    iter_state = first.state_dict()
    batches = run(first, net(), 2)
    assert second.coreset.selection(2, N, 7)[0].tolist() != first.coreset.selection(2, N, 7)[0].tolist()
    list(second.sampler)  # a selection of its own for the epoch to come
    second.load_state_dict(iter_state)
    assert run(second, net(), 2) == batches


def test_a_state_without_the_record_is_small_and_warms_up_again():
    chosen = smartaug.Coreset(0.5, select=smartaug.FacilityLocation(backend="torch"))
    loader = make(chosen)
    run(loader, net(), 3)
    whole, small = loader.state_dict(), loader.state_dict(record=False)
    assert "record" in whole["stages"]["coreset"]
    assert "record" not in small["stages"]["coreset"]
    resumed = make(smartaug.Coreset(0.5, select=smartaug.FacilityLocation(backend="torch")))
    resumed.load_state_dict(small)
    drawn = run(resumed, net(), 2)
    assert [len(indices) for indices in drawn] == [30, 30]
    assert resumed.stats()["coreset"]["unseen"] == N - len(set(drawn[0]) | set(drawn[1]))
    assert resumed.stats()["epoch"] == 4


def test_a_state_before_the_first_output_does_not_warm_up_again():
    """There is no record yet, which is not the same as one that was left out."""

    def fresh():
        return make(smartaug.Coreset(0.5, select=smartaug.FacilityLocation(backend="torch")))

    def finished(loader, batches):
        model, criterion = net(), smartaug.Loss(nn.CrossEntropyLoss())
        for inputs, target in batches:
            criterion(model(inputs), target)
        return run(loader, model, 2)

    whole, resumed = fresh(), fresh()
    batches = iter(whole)
    next(batches)
    state = whole.state_dict()
    wanted = finished(whole, batches)
    resumed.load_state_dict(state)
    assert finished(resumed, resumed) == wanted


# --- labels ----------------------------------------------------------------------------------------------------------


def test_where_labels_are_found():
    base = data(12)
    assert labels_of(base).tolist() == [i % K for i in range(12)]
    assert labels_of(Subset(base, [3, 1])).tolist() == [3, 1]
    assert labels_of(ConcatDataset([base, Subset(base, [0])])).tolist() == [i % K for i in range(12)] + [0]
    assert labels_of(Subset(ConcatDataset([base, base]), [14])).tolist() == [2]

    class Holding:
        def __init__(self, size=12, **held):
            self.size = size
            self.__dict__.update(held)

        def __len__(self):
            return self.size

    assert labels_of(Holding(targets=[1] * 12)).tolist() == [1] * 12
    assert labels_of(Holding(labels=np.arange(12))).tolist() == list(range(12))
    assert labels_of(Holding(dataset=base)).tolist() == labels_of(base).tolist()
    assert labels_of(Holding(5, dataset=base)) is None
    assert labels_of(Holding(targets=["a"] * 12)) is None
    assert labels_of(Holding(targets=torch.rand(12))) is None
    assert labels_of(Holding()) is None
    assert labels_of(ConcatDataset([base, Holding()])) is None


@pytest.mark.parametrize("emulated", [False, True])
def test_a_mapped_record_takes_its_room_on_the_disk_at_once(tmp_path, monkeypatch, emulated):
    """A mapped page that finds no room when it is written kills the process: the room is taken, or refused, before."""
    if emulated:  # where the system has no call for it
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    before, size = resource.getrlimit(resource.RLIMIT_FSIZE), 50_000
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        _allocate(file, size, 28)
        assert os.fstat(file.fileno()).st_size == size * 28
        assert os.fstat(file.fileno()).st_blocks * 512 >= size * 28
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match=r"of 50000 samples needs 1,400,000 bytes .* folder=.* memory=1400000"):
            Record(size, 4, memory=100, folder=str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert Record(size, 4, memory=100, folder=str(tmp_path)).mapped
