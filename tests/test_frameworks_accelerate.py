"""Accelerate drops a loader's class and its `__iter__`; the stages must run all the same, once, on every rank."""

import accelerate
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, prepare_data_loader
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DataLoaderConfiguration

import smartaug
from tests import frameworks_ranks
from tests.frameworks import SIZE, Coded, CodedStream, assert_epoch, flips, net, read, read_pass, stages


@pytest.fixture(autouse=True)
def _fresh_state():
    torch.manual_seed(0)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def accelerator(device_placement=True, **settings):
    return accelerate.Accelerator(
        cpu=True, device_placement=device_placement, dataloader_config=DataLoaderConfiguration(**settings)
    )


def ours(**settings):
    settings = {"batch_size": 4, "shuffle": True, **settings}
    loader = smartaug.DataLoader(Coded(), augment=stages(), seed=0, **settings)
    return loader, loader


def stock(**settings):
    collate = smartaug.Collate(augment=stages(), seed=0)
    settings = {"batch_size": 4, "shuffle": True, **settings}
    return torch.utils.data.DataLoader(Coded(), collate_fn=collate, **settings), collate


LOADERS = {"ours": ours, "stock": stock}
WORKERS = {"0": {}, "2": {"num_workers": 2}, "persistent": {"num_workers": 2, "persistent_workers": True}}


@pytest.mark.parametrize("seedable", [False, True])
@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_prepared_loader_runs_the_stages_once_an_epoch(make, workers, seedable):
    loader, handle = make(**workers)
    prepared = accelerator(use_seedable_sampler=seedable).prepare(loader)
    orders = []
    for epoch in range(3):
        seen = read_pass(prepared)
        assert_epoch(seen, epoch)
        orders.append([index for index, _ in seen])
        assert handle.stats()["epoch"] == epoch
    assert orders[0] != orders[1] != orders[2]
    assert handle.stats()["samples"] == 3 * SIZE
    assert handle.stats()["batches"] == 3 * SIZE / 4


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_without_device_placement_a_batch_opens_on_first_use(make):
    loader, handle = make()
    prepared = accelerator(device_placement=False).prepare(loader)
    for epoch in range(2):
        seen = []
        for batch in prepared:
            before = handle.stats()["batches"]
            seen += read(*batch)
            assert handle.stats()["batches"] == before + 1
            assert len(batch) == 2
            assert read(batch[0], batch[1]) == seen[-4:]  # opened already: the same tensors again
            assert handle.stats()["batches"] == before + 1
        assert_epoch(seen, epoch)


def test_a_whole_training_step():
    loader, _ = ours(batch_size=8)
    model = net()
    criterion = smartaug.Loss(torch.nn.CrossEntropyLoss())
    run = accelerator()
    model, optimizer, prepared = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), loader)
    before = model[1].weight.detach().clone()
    correct = 0
    for images, target in prepared:
        output = model(images)
        run.backward(criterion(output, target))
        optimizer.step()
        optimizer.zero_grad()
        predicted, wanted = run.gather_for_metrics((output.argmax(1), target))
        correct += (predicted == wanted).sum()
    assert not torch.equal(before, model[1].weight)
    assert 0 <= int(correct) <= SIZE


# --- epochs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seedable", [False, True])
def test_set_epoch_on_the_prepared_loader_reaches_the_stages(seedable):
    loader, handle = ours()
    prepared = accelerator(use_seedable_sampler=seedable).prepare(loader)
    prepared.set_epoch(5)
    assert_epoch(read_pass(prepared), 5)
    assert handle.stats()["epoch"] == 5
    assert_epoch(read_pass(prepared), 6)
    prepared.set_epoch(1)
    assert_epoch(read_pass(prepared), 1)


def test_set_epoch_on_the_users_handle_counts_on_a_collate():
    loader, collate = stock()
    prepared = accelerator().prepare(loader)
    collate.set_epoch(5)
    assert_epoch(read_pass(prepared), 5)
    assert_epoch(read_pass(prepared), 6)


@pytest.mark.parametrize("workers", [0, 2])
def test_skip_first_batches(workers):
    loader, handle = ours(shuffle=False, num_workers=workers)
    run = accelerator()
    prepared = run.prepare(loader)
    assert_epoch(read_pass(prepared), 0)
    assert_epoch(read_pass(run.skip_first_batches(prepared, 3)), 1, range(12, SIZE))
    prepared.set_epoch(2)
    assert_epoch(read_pass(prepared), 2)
    assert handle.stats()["samples"] == 3 * SIZE - 12


@pytest.mark.parametrize("seedable", [False, True])
def test_a_resumed_run_skips_batches_of_the_epoch_it_is_told(seedable):
    loader, _ = ours(num_workers=1)
    run = accelerator(use_seedable_sampler=seedable)
    prepared = run.prepare(loader)
    prepared.set_epoch(3)
    seen = read_pass(run.skip_first_batches(prepared, 3))
    assert_epoch(seen, 3, [index for index, _ in seen])
    assert len(seen) == SIZE - 12


def test_a_pass_left_early_is_a_pass():
    loader, collate = stock(num_workers=2)
    prepared = accelerator().prepare(loader)
    for images, target in prepared:
        first = dict(read(images, target))
        break
    assert first.items() <= flips(0).items()
    assert_epoch(read_pass(prepared), 1)
    assert collate.stats()["epoch"] == 1


# --- ranks -----------------------------------------------------------------------------------------------------------


def rank(number, make=ours, seed=7, **settings):
    """The prepared loader of one of two ranks. In one process nobody broadcasts the generators: they are set alike."""
    loader, handle = make(**settings)
    prepared = prepare_data_loader(
        loader, torch.device("cpu"), num_processes=2, process_index=number, put_on_device=True, rng_types=["generator"]
    )
    if prepared.synchronized_generator is not None:
        prepared.synchronized_generator.manual_seed(seed)
    return prepared, handle


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_two_ranks_share_the_samples(make, workers):
    accelerator()
    first, second = rank(0, make, num_workers=workers), rank(1, make, num_workers=workers)
    for epoch in range(2):
        parts = [read_pass(prepared) for prepared, _ in (first, second)]
        assert [len(part) for part in parts] == [SIZE / 2, SIZE / 2]
        assert_epoch(parts[0] + parts[1], epoch)
    assert first[1].stats()["samples"] == second[1].stats()["samples"] == SIZE


def test_set_epoch_reaches_the_stages_of_a_rank():
    accelerator()
    prepared, _ = rank(1, shuffle=False)
    assert isinstance(prepared.batch_sampler, BatchSamplerShard)
    prepared.set_epoch(4)
    assert_epoch(read_pass(prepared), 4, [index for index in range(SIZE) if index // 4 % 2])


def test_a_seedable_sampler_over_two_ranks():
    accelerator()
    parts = []
    for number in range(2):
        loader, _ = ours(generator=torch.Generator().manual_seed(3))
        parts.append(
            prepare_data_loader(
                loader,
                torch.device("cpu"),
                num_processes=2,
                process_index=number,
                put_on_device=True,
                use_seedable_sampler=True,
                data_seed=11,
            )
        )
    for epoch in range(2):
        assert_epoch([sample for part in parts for sample in read_pass(part)], epoch)


# --- streams and the dispatcher --------------------------------------------------------------------------------------


def test_a_stream_in_one_process():
    loader = smartaug.DataLoader(CodedStream(), batch_size=4, augment=stages(), seed=0)
    prepared = accelerator().prepare(loader)
    for _ in range(2):
        seen = [sample for images, target in prepared for sample in read(images) if target.index is None]
        assert [index for index, _ in seen] == list(range(SIZE))
    assert loader.stats()["samples"] == 2 * SIZE


def test_wrap_around_a_prepared_loader():
    stock_loader = torch.utils.data.DataLoader(CodedStream(), batch_size=4)
    wrapped = smartaug.wrap(accelerator().prepare(stock_loader), augment=stages(), seed=0)
    passes = []
    for _ in range(2):
        passes.append([sample for images, target in wrapped for sample in read(images)])
        assert [index for index, _ in passes[-1]] == list(range(SIZE))
    assert passes[0] != passes[1]
    assert wrapped.stats()["samples"] == 2 * SIZE
    assert wrapped.stats()["epoch"] == 1


@pytest.mark.parametrize(
    ("task", "failing"), [("dispatch", 0), pytest.param("dispatch_split", 1, marks=pytest.mark.slow)]
)
def test_two_gloo_ranks_share_the_samples_and_the_dispatcher_says_what_to_do(tmp_path, task, failing):
    errors = frameworks_ranks.run(task, tmp_path)
    assert "DataLoaderConfiguration(dispatch_batches=False)" in errors[failing]
    assert "smartaug.wrap(accelerator.prepare(loader))" in errors[failing]
    assert all(isinstance(error, str) for error in errors)  # and nobody trains on
    sharded = [torch.load(tmp_path / f"sharded{rank}.pt") for rank in range(2)]
    for epoch in range(2):
        assert len(sharded[0][epoch]) == len(sharded[1][epoch]) == SIZE / 2
        assert_epoch(sharded[0][epoch] + sharded[1][epoch], epoch)
    seen = [torch.load(tmp_path / f"wrapped{rank}.pt") for rank in range(2)]
    assert sorted(index for part in seen for index, _ in part) == list(range(16))
    assert len(seen[0]) == len(seen[1]) == 8
