"""One of two gloo ranks: ``python -m tests.reweight_ranks RANK FOLDER`` leaves what each method made in the folder."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import nn

import smartaug
from smartaug.augment.plan import Trace

METHODS = ("SAFLEX", "SAFLEX at loss", "LearningToReweight", "LiLAW", "MetaAugment", "MetaWeightNet")
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


def main(rank, folder):
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    made = {name: verdicts(name, nn.parallel.DistributedDataParallel, rank, 2) for name in METHODS}
    made["levels"] = levels(rank, 2)
    torch.save(made, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
