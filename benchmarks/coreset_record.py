"""What recording the user's own outputs costs, and what 128 bytes a sample leave out.

Method: cost: a ResNet-9-like network (16 channels in its first layer) on random 32×32 images, batch 128, float32, one
thread, K outputs. Processor time of what `Coreset` does with a batch's outputs (residual, loss, writing the rows) as a
ratio to the training step (SGD, momentum) of the same turn; steps and recordings alternate. Error: {size} residuals of
one class for logits s · N(0, 1) with s more for the label, s from clueless (0) to sure (12); the relative error of
residuals and of distances between pairs of samples (root of the mean squares), and Σ_i min_j ‖g_i − g_j‖ over the full
residuals of the 10 % that facility location picks from what was kept, as a ratio to the same of picks from the full
residuals. Rivals at as many bytes: the 29 largest entries alone; a fixed random projection to 58 dimensions in float16.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import smartaug
from smartaug.coreset.record import ENTRIES, Record, pack, unpack

if __package__:
    from benchmarks import harness
    from benchmarks.reweight import resnet9
else:
    import harness
    from reweight import resnet9

BATCH, SIZE, SAMPLES = 128, 2000, 50_000
SHARPNESS = {"clueless": 0.0, "early": 1.0, "trained": 4.0, "sure": 12.0}


def cost(classes: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of a step and of recording its outputs, and their ratio."""
    torch.manual_seed(0)
    model = resnet9(16)
    model[-1] = nn.Linear(model[-1].in_features, classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images, target = torch.randn(BATCH, 3, 32, 32), torch.randint(0, classes, (BATCH,))
    record, index = Record(SAMPLES, classes), torch.randperm(SAMPLES)[:BATCH]

    def timed(run: Callable[[], Any]) -> float:
        started = time.process_time()
        run()
        return 1000 * (time.process_time() - started)

    def step() -> None:
        loss = nn.functional.cross_entropy(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    output = model(images).detach()
    steps, recordings = [], []
    for _ in range(repeats + 1):
        steps.append(timed(step))
        recordings.append(timed(lambda: record.add(index, pack(output, target), 0)))
    ratios = [a / b for a, b in zip(recordings[1:], steps[1:], strict=True)]
    return {
        "step_ms": harness.summary(steps[1:]),
        "recording_ms": harness.summary(recordings[1:]),
        "ratio": harness.summary(ratios),
        "bytes_per_sample": record.bytes,
    }


def kept(residual: Tensor, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The residual (n, K) as each form keeps it."""
    classes = residual.shape[1]
    packed = pack(logits, target)
    largest = residual.abs().topk(ENTRIES, 1).indices
    alone = torch.zeros_like(residual).scatter_(1, largest, residual.gather(1, largest).half().float())
    projection = torch.randn(classes, 58, generator=torch.Generator().manual_seed(5)) / 58**0.5
    return {
        "ours": unpack(packed.values, packed.classes, classes),
        "largest entries alone": alone,
        "random projection": (residual @ projection).half().float(),
    }


def error(classes: int, sharpness: float) -> dict[str, Any]:
    """Relative errors, and how good the picks are, of each form."""
    torch.manual_seed(1)
    target = torch.zeros(SIZE, dtype=torch.int64)
    logits = sharpness * torch.randn(SIZE, classes)
    logits[:, 0] += sharpness
    residual = (logits.softmax(1) - nn.functional.one_hot(target, classes)).float()
    criterion = smartaug.FacilityLocation()
    whole = smartaug.Embedding(residual)
    best = criterion.cost(whole, criterion(whole, SIZE // 10)[0])
    distance, figures = torch.cdist(residual, residual), {}
    for name, form in kept(residual, logits, target).items():
        wrong = torch.cdist(form, form) - distance
        picks = criterion(smartaug.Embedding(form), SIZE // 10)[0]
        figures[name] = {
            "residual": None if form.shape != residual.shape else rounded((form - residual).norm() / residual.norm()),
            "distances": rounded(wrong.norm() / distance.norm()) if sharpness else None,
            "cost_ratio": rounded(criterion.cost(whole, picks) / best) if sharpness else None,
        }
    return figures


def rounded(value: Any) -> float:
    return float(f"{float(value):.3g}")


def main() -> None:
    """Measure and write results/coreset_record.json."""
    options = harness.arguments(__doc__, repeats_of_steps=15)
    classes = (10, 100, 1000)
    results: dict[str, Any] = {
        "cost": {str(k): cost(k, options.repeats_of_steps) for k in classes},
        "error": {
            f"{k} classes, {name}": error(k, sharpness) for k in classes[1:] for name, sharpness in SHARPNESS.items()
        },
    }
    for name, row in results["cost"].items():
        print(f"{name:>5} classes: {row['ratio']['median']:.3%} of a step, {row['bytes_per_sample']} bytes a sample")
    for name, forms in results["error"].items():
        print(name, *(f"{form}: {figures}" for form, figures in forms.items()), sep="\n    ")
    harness.write("coreset_record", str(__doc__).format(size=SIZE), results)


if __name__ == "__main__":
    main()
