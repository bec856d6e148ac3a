"""MetaAugment draws an operation that contradicts labels less often, and cannot tell lost information from none.

Method: digits (scikit-learn, 8×8), 300 class-balanced validation images, MLP 64-128-128-10, SGD 0.03 with momentum 0.9,
batch 64, 300 steps in epochs of 20. Ten operations, two a sample, drawn from the learned table: "Swap" pastes another
image in and keeps the label; "Twin" is a second Identity, the null control. α 0.1, policy Adam 2e-3, ε 0.1, history 5
epochs, validation batch 64. Figures: each operation's probability over its uniform share, mean, standard deviation,
minimum and maximum over seeds.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor, nn

import smartaug
from smartaug.augment.plan import Trace

if __package__:
    from benchmarks import harness
    from benchmarks.learning import digits, mlp
else:
    import harness
    from learning import digits, mlp

OPERATIONS = {
    "Identity": lambda x: x,
    "Twin": lambda x: x,
    "Swap": lambda x: x.roll(1, 0),
    "Flip": lambda x: x.flip(2),
    "Rotate": lambda x: x.rot90(1, (1, 2)),
    "Shift": lambda x: x.roll(1, 2),
    "Blank": lambda x: torch.zeros_like(x),
    "Darker": lambda x: 0.6 * x,
    "Noise": lambda x: x + 0.1 * torch.randn_like(x),
    "Erase": lambda x: x * (torch.arange(8) > 2)[None, :, None],
}


def augmented(images: Tensor, ops: Tensor) -> Tensor:
    """Images (B, 64) after the operations ``ops`` (B, 2), in order."""
    images = images.view(-1, 8, 8)
    for column in ops.T:
        made = torch.stack([operation(images) for operation in OPERATIONS.values()])
        images = made[column, torch.arange(len(images))]
    return images.flatten(1)


def shares(seed: int, steps: int, policy_lr: float = 2e-3) -> list[float]:
    """Every operation's probability over its uniform share at the end of a run."""
    data = digits(seed, noise=0.0)
    torch.manual_seed(seed)
    model = mlp(data)
    stage = smartaug.MetaAugment(
        model, data.validation, operations=tuple(OPERATIONS), lr=0.1, policy_lr=policy_lr, history=5, seed=seed
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    images, labels = data.train
    table = torch.empty(0)
    for step in range(steps):
        stage.begin(step // 20)
        table = stage.probabilities if stage.probabilities is not None else table
        rows = torch.randperm(len(labels))[:64]
        drawn = torch.multinomial(table.flatten(), 64, replacement=True)
        ops = torch.stack([drawn // len(OPERATIONS), drawn % len(OPERATIONS)], 1)
        shown = augmented(images[rows], ops)
        trace = Trace(ops, torch.zeros(64, 2), tuple(OPERATIONS))
        weight, _ = stage(smartaug.Batch(shown, labels[rows]), trace)
        optimizer.zero_grad()
        criterion(model(shown), smartaug.Target(labels[rows], weight)).backward()
        optimizer.step()
    stage.begin(steps)
    final = stage.probabilities
    if final is None:
        raise RuntimeError("a stage with operations has probabilities")
    return ((final.sum(0) + final.sum(1)) / 2 * len(OPERATIONS)).tolist()


def main() -> None:
    options = harness.arguments(__doc__, seeds=5, steps=300)
    runs = [shares(seed, options.steps) for seed in range(options.seeds)]
    results: dict[str, Any] = {}
    for name, values in zip(OPERATIONS, zip(*runs, strict=True), strict=True):
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        results[name] = {
            "mean": round(statistics.mean(values), 3),
            "sd": round(spread, 3),
            "min": round(min(values), 3),
            "max": round(max(values), 3),
        }
        print(f"{name:10}", results[name])
    harness.write(
        "policy", __doc__ or "", results, packages=("scikit-learn",), seeds=options.seeds, steps=options.steps
    )


if __name__ == "__main__":
    main()
