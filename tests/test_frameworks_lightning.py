"""Lightning rebuilds loaders from their attributes, keeps their state in its checkpoints, and reads lengths once."""

import lightning
import pytest
import torch
from lightning.fabric import Fabric
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import DistributedSampler, SequentialSampler

import smartaug
from tests import frameworks_ranks
from tests.frameworks import SIZE, Coded, add_ten, assert_epoch, flips, net, read, read_pass, stages, weigh

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:.*fork"),
]
WORKERS = {"0": {}, "2": {"num_workers": 2}, "persistent": {"num_workers": 2, "persistent_workers": True}}


class Watching(lightning.LightningModule):
    """Trains, and keeps what each epoch's batches showed."""

    def __init__(self):
        super().__init__()
        self.net, self.criterion = net(), smartaug.Loss(torch.nn.CrossEntropyLoss())
        self.seen, self.validated = {}, []

    def training_step(self, batch, number):
        images, target = batch
        self.seen.setdefault(self.current_epoch, []).append(read(images, target))
        loss = self.criterion(self.net(images), target)
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, number):
        self.validated.append((self.current_epoch, read(*batch)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def epoch(self, number):
        return [sample for batch in self.seen[number] for sample in batch]


def trainer(folder, **settings):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0}
    return lightning.Trainer(**{"accelerator": "cpu", "devices": 1, "default_root_dir": folder, **quiet, **settings})


def ours(**settings):
    settings = {"batch_size": 4, "shuffle": True, "augment": stages(), "seed": 0, **settings}
    return smartaug.DataLoader(Coded(), **settings)


@pytest.fixture(autouse=True)
def _seeded(monkeypatch, tmp_path):
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "lightning_logs").exists()


# --- fitting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_fit_runs_the_stages_once_and_validates_each_epoch(tmp_path, workers):
    loader, model = ours(**workers), Watching()
    validation = smartaug.DataLoader(Coded(8), batch_size=4, augment=add_ten, seed=0)
    trainer(tmp_path, max_epochs=2).fit(model, loader, validation)
    for epoch in range(2):
        assert_epoch(model.epoch(epoch), epoch)
    assert [index for index, _ in model.epoch(0)] != [index for index, _ in model.epoch(1)]
    assert loader.stats()["samples"] == 2 * SIZE
    assert loader.stats()["epoch"] == 1
    validated = [(epoch, index) for epoch, batch in model.validated for index, _ in batch]
    assert validated == [(epoch, index) for epoch in range(2) for index in range(8)]
    assert validation.stats()["samples"] == 16


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stock_loader_with_collate(tmp_path, workers):
    collate, model = smartaug.Collate(augment=stages(), seed=0), Watching()
    loader = TorchDataLoader(Coded(), batch_size=4, shuffle=True, collate_fn=collate, num_workers=workers)
    trainer(tmp_path, max_epochs=2).fit(model, loader)
    for epoch in range(2):
        assert_epoch(model.epoch(epoch), epoch)
    assert collate.stats()["samples"] == 2 * SIZE


def test_a_coreset_keeps_its_length_and_is_validated_each_epoch(tmp_path):
    loader, model = ours(coreset=smartaug.Coreset(0.5)), Watching()
    validation = smartaug.DataLoader(Coded(8), batch_size=4, augment=add_ten, seed=0)
    trainer(tmp_path, max_epochs=3).fit(model, loader, validation)
    chosen = [sorted(index for index, _ in model.epoch(epoch)) for epoch in range(3)]
    for epoch, indices in enumerate(chosen):
        assert len(set(indices)) == SIZE / 2
        assert_epoch(model.epoch(epoch), epoch, indices)
    assert chosen[0] != chosen[1]
    assert [epoch for epoch, _ in model.validated] == [0, 0, 1, 1, 2, 2]


# --- rebuilding ------------------------------------------------------------------------------------------------------


def rebuild(loader, sampler):
    from lightning.pytorch.utilities.data import _update_dataloader

    return _update_dataloader(loader, sampler)


@pytest.mark.parametrize("how", ["pytorch", "fabric"])
def test_a_rebuilt_loader_is_ours_with_the_same_pipeline(how):
    from lightning.fabric.utilities.data import _update_dataloader as fabric_update

    loader = ours(reweight=weigh, inputs=0, target=1)
    sampler = DistributedSampler(loader.dataset, num_replicas=2, rank=1, seed=3)
    rebuilt = (rebuild if how == "pytorch" else fabric_update)(loader, sampler)
    assert type(rebuilt) is smartaug.DataLoader
    assert rebuilt.sampler is sampler
    for name in ("augment", "reweight", "seed", "inputs", "target", "returns", "batch_size"):
        assert getattr(rebuilt, name) is getattr(loader, name)
    again = rebuild(rebuilt, SequentialSampler(loader.dataset))
    seen = []
    for images, target in again:
        assert target.weight.shape == (len(images),)
        seen += read(images, target)
    assert_epoch(seen, 0)
    assert loader.stats() == rebuilt.stats() == again.stats()
    assert loader.stats()["samples"] == SIZE
    assert loader.stats()["weighted"] == SIZE / 4


def test_overfit_batches_rebuilds_the_loader(tmp_path):
    loader, model = ours(), Watching()
    with pytest.warns(UserWarning, match="requested to overfit"):
        trainer(tmp_path, max_epochs=2, overfit_batches=3).fit(model, loader)
    for epoch in range(2):
        assert_epoch(model.epoch(epoch), epoch, range(12))
    assert loader.stats()["samples"] == 24


class Hooked(Watching):
    """Makes the loader inside a hook, where Lightning records the constructor's arguments."""

    def train_dataloader(self):
        self.handle = ours()
        return self.handle


def test_a_loader_made_in_a_hook_is_rebuilt_once(tmp_path):
    model = Hooked()
    run = trainer(tmp_path, max_epochs=2, overfit_batches=3)
    with pytest.warns(UserWarning, match="requested to overfit"):
        run.fit(model)
    for epoch in range(2):
        assert_epoch(model.epoch(epoch), epoch, range(12))
    assert run.train_dataloader.stats()["samples"] == 24


def test_a_loader_made_anew_each_epoch_is_told_the_epoch(tmp_path):
    model = Hooked()
    trainer(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1).fit(model)
    for epoch in range(3):
        assert_epoch(model.epoch(epoch), epoch)
    assert model.handle.stats()["samples"] == SIZE


def test_predicting_gives_every_sample_once(tmp_path):
    class Predicting(Watching):
        def predict_step(self, batch, number):
            return read(*batch)

    loader = ours(shuffle=False)
    parts = trainer(tmp_path).predict(Predicting(), loader)
    assert_epoch([sample for part in parts for sample in part], 0)
    assert loader.stats()["samples"] == SIZE


# --- checkpoints -----------------------------------------------------------------------------------------------------


class Saving(lightning.Callback):
    """Saves after some batches of an epoch."""

    def __init__(self, path, epoch, batches):
        self.path, self.epoch, self.batches = path, epoch, batches

    def on_train_batch_end(self, trainer, model, outputs, batch, number):
        if (trainer.current_epoch, number + 1) == (self.epoch, self.batches):
            trainer.save_checkpoint(self.path)


ORDERS = {
    "generator": lambda: {"generator": torch.Generator().manual_seed(8)},
    "global": dict,
    "distributed": lambda: {"shuffle": None, "sampler": DistributedSampler(range(SIZE), 1, 0, seed=4)},
}


@pytest.mark.parametrize(
    ("epoch", "batches", "workers", "name"),
    [
        (0, 3, 0, "generator"),
        (1, 5, 2, "generator"),
        (0, 3, 2, "global"),
        (1, 5, 0, "global"),
        (1, 5, 2, "distributed"),
    ],
)
def test_a_checkpoint_in_mid_epoch_resumes_with_the_remaining_batches(tmp_path, epoch, batches, workers, name):
    whole, path, order = Watching(), tmp_path / "mid.ckpt", ORDERS[name]
    saving = Saving(path, epoch, batches)
    trainer(tmp_path, max_epochs=3, callbacks=[saving]).fit(whole, ours(num_workers=workers, **order()))

    torch.manual_seed(99)
    rest, loader = Watching(), ours(num_workers=workers, **order())
    trainer(tmp_path, max_epochs=3).fit(rest, loader, ckpt_path=path, weights_only=True)
    assert rest.seen[epoch] == whole.seen[epoch][batches:]
    assert_epoch([sample for batch in whole.seen[epoch][:batches] for sample in batch] + rest.epoch(epoch), epoch)
    assert min(rest.seen) == epoch
    for later in range(epoch + 1, 3):
        assert_epoch(rest.epoch(later), later)
        if name != "global":  # Lightning does not keep the global generator
            assert rest.seen[later] == whole.seen[later]
    assert loader.stats()["epoch"] == 2


def test_a_checkpoint_between_epochs(tmp_path):
    whole, path = Watching(), tmp_path / "end.ckpt"
    order = ORDERS["generator"]
    trainer(tmp_path, max_epochs=3, callbacks=[Saving(path, 0, 8)]).fit(whole, ours(**order()))
    rest = Watching()
    trainer(tmp_path, max_epochs=3).fit(rest, ours(**order()), ckpt_path=path, weights_only=True)
    assert sorted(rest.seen) == [1, 2]
    for epoch in (1, 2):
        assert_epoch(rest.epoch(epoch), epoch)
        assert rest.seen[epoch] == whole.seen[epoch]


# --- ranks -----------------------------------------------------------------------------------------------------------


def test_two_ranks_share_the_samples_change_no_augmentation_and_resume(tmp_path):
    ranks = frameworks_ranks.run("lightning_ddp", tmp_path)
    assert not any(isinstance(rank, str) for rank in ranks), ranks
    for epoch in range(3):
        seen = [[sample for batch in rank["whole"]["seen"][epoch] for sample in batch] for rank in ranks]
        assert [len(part) for part in seen] == [SIZE / 2, SIZE / 2]
        assert_epoch(seen[0] + seen[1], epoch)
        assert dict(seen[1]).items() <= flips(epoch).items()
    for rank in ranks:
        whole, rest = rank["whole"], rank["rest"]
        assert whole["sampler"] == rest["sampler"] == "DistributedSampler"
        assert whole["samples"] == 3 * SIZE / 2  # on the user's own handle
        assert rest["seen"] == {1: whole["seen"][1][2:], 2: whole["seen"][2]}
        assert torch.equal(whole["weight"], rest["weight"])
    assert torch.equal(ranks[0]["whole"]["weight"], ranks[1]["whole"]["weight"])


def test_a_state_of_two_ranks_is_refused_by_one():
    loader = ours()
    next(iter(loader))
    with pytest.raises(RuntimeError, match=r"mid-epoch on 2 ranks.*the end of an epoch"):
        ours().load_state_dict({**loader.state_dict(), "ranks": 2})


# --- Fabric ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_fabric(workers, stock):
    fabric = Fabric(accelerator="cpu", devices=1)
    if stock:
        handle = smartaug.Collate(augment=stages(), seed=0)
        loader = TorchDataLoader(Coded(), batch_size=4, shuffle=True, collate_fn=handle, **workers)
    else:
        loader = handle = ours(**workers)
    prepared = fabric.setup_dataloaders(loader)
    model, optimizer = fabric.setup(module := net(), torch.optim.SGD(module.parameters(), lr=0.1))
    criterion = smartaug.Loss(torch.nn.CrossEntropyLoss())
    orders = []
    for epoch in range(2):
        seen = []
        for images, target in prepared:
            seen += read(images, target)
            fabric.backward(criterion(model(images), target))
            optimizer.step()
            optimizer.zero_grad()
        assert_epoch(seen, epoch)
        orders.append([index for index, _ in seen])
    assert orders[0] != orders[1]
    assert handle.stats()["samples"] == 2 * SIZE


# --- weights that nothing reads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("uses_loss", [False, True])
def test_weights_without_a_loss_are_noticed_in_fit(tmp_path, uses_loss):
    model = Watching()
    if not uses_loss:
        model.criterion = torch.nn.CrossEntropyLoss()
    loader = ours(batch_size=1, reweight=weigh)
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=20)
    if uses_loss:
        run.fit(model, loader)
    else:
        with pytest.warns(smartaug.NoEffectWarning, match=r"criterion = smartaug\.Loss\(criterion\)"):
            run.fit(model, loader)
    assert loader.stats()["weighted"] == 20


def test_read_pass_is_what_fit_sees():
    assert_epoch(read_pass(ours()), 0)
