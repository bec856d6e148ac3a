"""What two gloo ranks do with coresets: a task of tests/frameworks_ranks.py. The model is frozen and nothing moves the
observed samples, so that the selections of two ranks must be those of one process."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset, DistributedSampler

import smartaug
from tests.frameworks import net

EPOCHS, SIZE, BATCH = 4, 40, 4


class Points(Dataset):
    """Images (1, 8, 8) drawn by index, labels index % 4."""

    def __init__(self, size=SIZE):
        self.images = torch.randn(size, 1, 8, 8, generator=torch.Generator().manual_seed(6))
        self.targets = [index % 4 for index in range(size)]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.images[index], self.targets[index]


def frozen():
    torch.manual_seed(11)
    return net()


def coreset(amount=20, **settings):
    if settings.get("embed") == "pass":
        settings = {"model": frozen(), "progress": False, **settings}
    return smartaug.Coreset(amount, **{"select": smartaug.FacilityLocation(backend="torch"), **settings})


def make(chosen, **settings):
    return smartaug.DataLoader(
        Points(), **{"batch_size": BATCH, "shuffle": True, "coreset": chosen, "seed": 3, **settings}
    )


def passes(loader, epochs=EPOCHS, step=None, told=()):
    """[[indices of a batch] of an epoch] as drawn, with the loss computed by a frozen model."""
    model, criterion = frozen(), smartaug.Loss(nn.CrossEntropyLoss())
    drawn = []
    for epoch in range(epochs):
        for listener in told:
            listener.set_epoch(epoch)
        drawn.append([])
        for images, target in loader:
            criterion(model(images), target)
            drawn[-1].append(target.index.tolist())
    return drawn


def selections(chosen, epochs=EPOCHS, seed=3):
    return [chosen.selection(epoch, SIZE, seed)[0].tolist() for epoch in range(epochs)]


def interrupted(shared):
    """A run of five epochs, and one resumed from its state after a batch of epoch 2: rank 0's state, or every rank's.

    What each drew from there on, what it selected for epochs 3 and 4, and how many samples it has never seen.
    """
    results = []
    chosen = coreset(explore=0.3)
    loader = make(chosen)
    passes(loader, 2)
    model, criterion, batches = frozen(), smartaug.Loss(nn.CrossEntropyLoss()), iter(loader)
    images, target = next(batches)
    criterion(model(images), target)
    told = [loader.state_dict()]
    if shared:
        dist.broadcast_object_list(told, src=0)
    for own in (None, coreset(explore=0.3)):
        if own is not None:
            chosen, loader = own, make(own)
            loader.load_state_dict(told[0])
            batches = iter(loader)
        drawn = []
        for images, target in batches:
            criterion(model(images), target)
            drawn.append(target.index.tolist())
        drawn = [drawn, *passes(loader, 2)]
        selected = [chosen.selection(epoch, SIZE, 3)[0].tolist() for epoch in (3, 4)]
        chosen.selection(5, SIZE, 3)  # the ranks' records become one
        results.append({"drawn": drawn, "selected": selected, "unseen": loader.stats()["coreset"]["unseen"]})
    return results


def negative(images):
    return -images


PLAIN = {
    "observed": {},
    "uneven": {"amount": 19},
    "every": {"every": 2, "explore": 0.5},
    "pass": {"embed": "pass"},
    "schedule": {"amount": lambda epoch: 8 + 4 * epoch},
    "uniform": {"select": smartaug.coreset.Uniform(), "every": 2},
}
APPENDED = {
    "augment": {"apply": "augment"},
    "append": {"apply": "append"},
    "selected": {"apply": "append", "originals": "selected", "copies": 2},
    "random": {"apply": "append", "originals": "random", "copies": 2},
}
# of 24 samples each rank gets three batches; Accelerate repeats a batch where they do not divide
ACCELERATE = {"observed": {"amount": 24}, "pass": {"amount": 24, "embed": "pass"}}


def pruning():
    """Coresets without a budget."""
    clean = tuple(torch.utils.data.default_collate([Points()[index] for index in range(8)]))
    return {
        "RePB": smartaug.coreset.RePB(),
        "AlignPrune": smartaug.coreset.AlignPrune(9, clean, model=frozen(), window=3),
    }


def plain():
    """Our loader in a bare process group: it draws this rank's part."""
    results = {}
    for name, settings in PLAIN.items():
        chosen = coreset(**settings)
        loader = make(chosen)
        results[name] = {"drawn": passes(loader), "selected": selections(chosen), "steps": loader.steps(EPOCHS)}

    results["resumed"] = {"own": interrupted(False), "rank 0": interrupted(True)}

    sampler = DistributedSampler(Points(), shuffle=True, seed=2)
    chosen = coreset()
    results["base"] = {"drawn": passes(make(chosen, shuffle=None, sampler=sampler), told=[sampler])}
    results["base"]["selected"] = selections(chosen)

    whole = smartaug.CoresetSampler(coreset(select=smartaug.coreset.Uniform()), dataset=Points(), seed=3)
    loader = TorchDataLoader(range(SIZE), batch_size=BATCH, sampler=whole.part())
    results["alone"] = {"drawn": [[batch.tolist() for batch in loader] for _ in range(EPOCHS)]}
    results["alone"]["selected"] = selections(whole.coreset)

    for name, chosen in pruning().items():
        results[name] = {"drawn": passes(make(chosen)), "selected": selections(chosen)}

    for apply, form in APPENDED.items():
        chosen = coreset(**form)
        own = {} if chosen.drawn else {"shuffle": None, "sampler": DistributedSampler(Points())}
        loader = make(chosen, augment=negative, **own)
        model, criterion = frozen(), smartaug.Loss(nn.CrossEntropyLoss())
        augmented, drawn = [], []
        for _ in range(EPOCHS):
            augmented.append([])
            drawn.append([])
            for images, target in loader:
                criterion(model(images), target)
                own = Points().images[target.index]
                assert bool(((images == own) | (images == -own)).all())
                changed = (images == -own).flatten(1).all(1)
                augmented[-1] += target.index[changed].tolist()
                drawn[-1] += target.index[~changed].tolist()
        results[apply] = {"augmented": augmented, "plain": drawn, "selected": selections(chosen)}

    def failing(embedding, budget, generator):
        raise ValueError("no choice")

    loader = make(coreset(select=failing))
    passes(loader, 1)
    try:
        passes(loader, 1)
    except (ValueError, RuntimeError) as error:
        results["failing"] = f"{type(error).__name__}: {error}"
    state = make(coreset()).state_dict()
    assert state["ranks"] == 2
    return results


def accelerate():
    import accelerate

    run = accelerate.Accelerator(cpu=True)
    results = {}
    for name, settings in ACCELERATE.items():
        chosen = coreset(**settings)
        results[name] = {"drawn": passes(run.prepare(make(chosen))), "selected": selections(chosen)}
    return results


def fabric():
    from lightning.fabric import Fabric

    run = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    run.launch()
    chosen = coreset()
    return {"observed": {"drawn": passes(run.setup_dataloaders(make(chosen))), "selected": selections(chosen)}}


def lightning(folder):
    from tests.test_frameworks_lightning import trainer

    model, chosen = learner(), coreset()
    run = trainer(folder, max_epochs=EPOCHS, strategy="ddp", devices=2)
    run.fit(model, make(chosen), make(None, shuffle=False))
    sampler = type(run.train_dataloader.sampler).__name__
    return {
        "observed": {"drawn": model.drawn, "selected": selections(chosen)},
        "validated": model.validated,
        "sampler": sampler,
    }


def learner():
    import lightning as pl

    class Drawing(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.criterion = frozen(), smartaug.Loss(nn.CrossEntropyLoss())
            self.drawn, self.validated = [], []

        def training_step(self, batch, number):
            images, target = batch
            if number == 0:
                self.drawn.append([])
            self.drawn[-1].append(target.index.tolist())
            return self.criterion(self.net(images), target)

        def validation_step(self, batch, number):
            if number == 0:
                self.validated.append(self.current_epoch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    return Drawing()


def lightning_coresets(folder):
    """Each framework in turn, in one pair of processes."""
    import warnings

    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    return {"plain": plain(), "accelerate": accelerate(), "fabric": fabric(), "lightning": lightning(folder)}
