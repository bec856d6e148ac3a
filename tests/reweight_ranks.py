"""One of two gloo ranks: ``python -m tests.reweight_ranks RANK FOLDER`` leaves what each method made in the folder."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DistributedSampler, TensorDataset

import smartaug
from smartaug.augment.plan import Trace

METHODS = ("SAFLEX", "SAFLEX at loss", "LearningToReweight", "LiLAW", "MetaAugment", "MetaWeightNet")
PAIRED = {
    "SAFLEX": {},
    "SAFLEX of layers without derivatives": {},
    "SAFLEX at loss": {"when": "loss", "method": "difference"},
    "MetaWeightNet": {},
    "MetaAugment": {},
}
STEPS, SIZE, HELD = 3, 8, 6


def problem():
    """The same model, validation data and batches everywhere."""
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    held = (torch.randn(30, 5, dtype=torch.float64), torch.arange(30) % 3)
    batches = [(torch.randn(SIZE, 5, dtype=torch.float64), torch.randint(0, 3, (SIZE,))) for _ in range(STEPS)]
    return model, held, batches


def verdicts(name, wrap, rank, world):
    """(weights, soft labels or nothing, the policy's parameters) of this rank's rows over the steps."""
    model, held, batches = problem()
    settings = {"validation_batch": HELD // world}
    if name == "MetaAugment":
        settings |= {"operations": ("Identity", "Flip"), "num_ops": 1}
    if name == "SAFLEX at loss":
        settings |= {"scope": "head", "when": "loss"}
    model = wrap(model)
    stage = getattr(smartaug, name.partition(" ")[0])(model, held, **settings)
    rows = slice(rank * SIZE // world, (rank + 1) * SIZE // world)
    weights, labels = [], []
    for epoch, (inputs, target) in enumerate(batches):
        ops = torch.arange(SIZE)[rows, None] % 2
        trace = Trace(ops, torch.zeros(len(ops), 1), ("Identity", "Flip"))
        if name == "MetaAugment":
            stage.begin(epoch)
        batch = smartaug.Batch(inputs[rows], target[rows], None, None, torch.arange(SIZE)[rows] + SIZE * epoch)
        weight, soft = stage(batch, trace)
        if name == "SAFLEX at loss":
            weight, soft = stage.settle(model(batch.inputs), smartaug.Target(batch.target, index=batch.index))
        weights.append(weight)
        labels += [] if soft is None else [soft]
    net = getattr(stage, "net", None)
    policy = [] if net is None else [part.detach() for part in net.parameters()]
    if name == "MetaAugment":
        policy.append(stage.probabilities)
    return {"weights": weights, "labels": labels, "policy": policy}


def levels(rank, world):
    """The levels of 12 samples after two epochs, in each of which the ranks see other ones."""
    source, logits = smartaug.SRA(), torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(8))
    for epoch in range(2):
        source.begin(epoch)
        seen = torch.arange(10 - epoch).roll(epoch)[rank::world]  # samples 10 and 11 are never seen
        source.observe(seen, logits[epoch, seen], seen % 3)
    source.begin(2)
    return source.levels(torch.arange(12))


class Towers(nn.Module):
    """Numbers beside words, which an EmbeddingBag takes."""

    def __init__(self, bag):
        super().__init__()
        self.numbers = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
        self.words = nn.EmbeddingBag(9, 4) if bag else nn.Sequential(nn.Embedding(9, 2), nn.Flatten())
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, image, tokens):
        return self.numbers(image), self.words(tokens), self.scale.exp()


def pairs_weighed(name, wrap, rank, world):
    """What a method made of this rank's pairs over the steps, the loss with it, and the gradient of the model."""
    torch.manual_seed(9)
    model = Towers("without" in name).double()
    image, tokens = torch.randn(20 + SIZE * STEPS, 5).double(), torch.randint(0, 9, (20 + SIZE * STEPS, 2))
    settings = {"validation_batch": HELD // world, "criterion": smartaug.ContrastiveLoss(), **PAIRED[name]}
    held = ((image[:20], tokens[:20]), tokens[:20])
    wrapped = wrap(model)
    stage = getattr(smartaug, name.partition(" ")[0])(wrapped, held, **settings)
    criterion, weights, labels, losses = smartaug.Loss(smartaug.ContrastiveLoss()), [], [], []
    for step in range(STEPS):
        first = 20 + SIZE * step + rank * SIZE // world
        rows = torch.arange(first, first + SIZE // world)
        weight, soft = stage(smartaug.Batch((image[rows], tokens[rows]), tokens[rows], None, None, rows), None)
        output = wrapped(image[rows], tokens[rows])
        if "at loss" in name:
            weight, soft = stage.settle(output, smartaug.Target(tokens[rows], index=rows))
        weights.append(weight)
        labels += [] if soft is None else [soft]
        loss = criterion(output, smartaug.Target(tokens[rows], weight, soft))
        loss.backward()
        losses.append(loss.detach())
    gradient = torch.cat([part.grad.flatten() for part in model.parameters()])
    return {"weights": weights, "labels": labels, "losses": losses, "gradient": gradient}


def chooser(gather):
    """JEST, and the two models that it compares."""
    torch.manual_seed(10)
    model, known = Towers(False).double(), Towers(False).double()
    return smartaug.coreset.JEST(model, known, 0.5, chunks=2, gather=gather), model, known


def pairs_chosen(rank, world):
    """The indices that a loader hands out of each batch that this rank reads."""
    torch.manual_seed(11)
    data, made = TensorDataset(torch.randn(24, 5).double(), torch.randint(0, 9, (24, 2))), {}
    for gather in (True, False):
        sampler = DistributedSampler(data, world, rank, shuffle=False)
        loader = smartaug.DataLoader(
            data, 6, sampler=sampler, coreset=chooser(gather)[0], inputs=[0, 1], target=1, seed=3
        )
        made["gathered" if gather else "alone"] = [tokens.index.tolist() for _, tokens in loader]
    try:
        chooser(True)[0](data.tensors[0][: 4 + 2 * rank], data.tensors[1][: 4 + 2 * rank])
    except ValueError as error:
        made["unequal"] = str(error)
    return made


def refusals(rank):
    """What ranks with unequal batches, and products of one rank's pairs, are told."""
    told = []
    for output in ((torch.ones(2 + rank, 4), torch.ones(2 + rank, 4), 1.0), torch.eye(2)):
        try:
            smartaug.ContrastiveLoss()(output)
        except ValueError as error:
            told.append(str(error))
    return told


def main(rank, folder):
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    made = {name: verdicts(name, nn.parallel.DistributedDataParallel, rank, 2) for name in METHODS}
    made["levels"] = levels(rank, 2)
    made |= {f"{name} of pairs": pairs_weighed(name, nn.parallel.DistributedDataParallel, rank, 2) for name in PAIRED}
    made["refusals"] = refusals(rank)
    made["chosen"] = pairs_chosen(rank, 2)
    torch.save(made, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
