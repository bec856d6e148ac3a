"""What learned weights cost, and how good the cheap forms are.

Method: a ResNet-9-like network ({width} channels in its first layer) on random 32×32 images, batch 128, float32, one
thread. Time: one weighing and one plain training step (SGD, momentum), as a ratio to the plain step of the same turn,
by processor time, because machines are shared; rows with every=k run k steps a call. Our passes lay images out
channels-last on the CPU by themselves; the plain step of a user who does so is a row, too. Memory: what a step adds
to the highest resident size, in a fresh process a row, as a ratio to the plain step's. Rival: the second-order graph
(create_graph) on the same batches. Quality: along a training run on digits with 40 % random labels (CNN, BatchNorm),
cosine and share of equal signs between Σ_k y_k B_k of each cheap form and of the exact one.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

import smartaug
from smartaug import grads

if __package__:
    from benchmarks import harness
else:
    import harness

BATCH, CLASSES = 128, 10


class Residual(nn.Module):
    """x + two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*block(width, width), *block(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x + self.body(x)


def block(before: int, after: int, pool: bool = False) -> list[nn.Module]:
    parts = [nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return [*parts, nn.MaxPool2d(2)] if pool else parts


def resnet9(width: int) -> nn.Module:
    """The DAWNBench network at ``width`` channels in its first layer (64 there)."""
    return nn.Sequential(
        *block(3, width),
        *block(width, 2 * width, pool=True),
        Residual(2 * width),
        *block(2 * width, 4 * width, pool=True),
        *block(4 * width, 8 * width, pool=True),
        Residual(8 * width),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(8 * width, CLASSES),
    )


Step = Callable[[], None]


def steps(width: int) -> dict[str, tuple[int, Step]]:
    """Row -> (training steps a call, the call)."""
    torch.manual_seed(0)
    model = resnet9(width)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    inputs, target = torch.randn(BATCH, 3, 32, 32), torch.randint(0, CLASSES, (BATCH,))
    held = (torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % CLASSES)
    batch = smartaug.Batch(inputs, target, None, None, torch.arange(BATCH))
    criterion = smartaug.Loss(nn.CrossEntropyLoss())

    def train(weight: Tensor | None, soft: Tensor | None) -> None:
        optimizer.zero_grad()
        criterion(model(inputs), smartaug.Target(target, weight, soft)).backward()
        optimizer.step()

    def with_stage(stage: Any, count: int = 1) -> tuple[int, Step]:
        def call() -> None:
            for _ in range(count):
                train(*stage(batch, None))

        return count, call

    def saflex(share: int, **settings: Any) -> Any:
        return smartaug.SAFLEX(model, held, validation_batch=BATCH // share, **settings)

    def meta(share: int, **settings: Any) -> Any:
        return smartaug.MetaAugment(model, held, validation_batch=BATCH // share, **settings)

    def second_order() -> None:
        """Learning to reweight's and MetaAugment's gradient by a graph of the pseudo step; then the task step."""
        parameters = dict(model.named_parameters())
        buffers = {name: part.clone() for name, part in model.named_buffers()}
        P = torch.full((BATCH,), 0.5, requires_grad=True)
        losses = nn.functional.cross_entropy(
            functional_call(model, {**parameters, **buffers}, (inputs,)), target, reduction="none"
        )
        pulled = torch.autograd.grad((P / P.sum() * losses).sum(), list(parameters.values()), create_graph=True)
        moved = {name: part - 0.1 * step for (name, part), step in zip(parameters.items(), pulled, strict=True)}
        model.eval()
        value = nn.functional.cross_entropy(functional_call(model, {**moved, **buffers}, (held[0],)), held[1])
        model.train()
        torch.autograd.grad(value, P)
        train(torch.ones(BATCH), None)

    relaid = inputs.contiguous(memory_format=torch.channels_last)

    def train_relaid() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(relaid), target).backward()
        optimizer.step()

    return {
        "plain": (1, lambda: train(None, None)),
        "plain, channels-last images": (1, train_relaid),
        "second order (create_graph)": (1, second_order),
        "MetaAugment, jvp": with_stage(meta(1)),
        "MetaAugment, difference": with_stage(meta(1, method="difference")),
        "MetaAugment, jvp, validation 1/4, every=2": with_stage(meta(4, every=2), 2),
        "MetaAugment, difference, validation 1/4, every=2": with_stage(meta(4, every=2, method="difference"), 2),
        "SAFLEX, jvp, validation 1/4": with_stage(saflex(4)),
        "SAFLEX, difference, validation 1/4": with_stage(saflex(4, method="difference")),
        "SAFLEX, jvp, validation 1/4, every=4": with_stage(saflex(4, every=4), 4),
        "SAFLEX, difference, validation 1/4, every=4": with_stage(saflex(4, every=4, method="difference"), 4),
        "SAFLEX, jvp, validation 1/4, every=4, weigh_every=4": with_stage(saflex(4, weigh_every=4), 4),
        "SAFLEX, head, validation 1/4, every=4": with_stage(saflex(4, every=4, scope="head"), 4),
        "SAFLEX, head, validation 1/4, weigh_every=4": with_stage(saflex(4, weigh_every=4, scope="head"), 4),
    }


def times(width: int, repeats: int) -> dict[str, Any]:
    """Processor seconds per training step of every row, as ratios to the plain step of the same turn."""
    rows = steps(width)
    figures: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(repeats + 1):  # the first turn warms up
        for name, (count, call) in rows.items():
            started = time.process_time()
            call()
            if turn:
                figures[name].append((time.process_time() - started) / count)
    told = {}
    for name, values in figures.items():
        ratios = [value / base for value, base in zip(values, figures["plain"], strict=True)]
        told[name] = {"time_ratio": harness.summary(ratios, 3)}
        print(f"{name:54} {statistics.median(ratios):.2f} x time", flush=True)
    return told


def peak(width: int, name: str) -> int:
    """Resident bytes of this process at their highest in a call of that row, beyond the model and its data (Linux)."""
    call = steps(width)[name][1]
    before = _highest()
    call()
    return _highest() - before


def _highest() -> int:
    # getrusage's figure would begin at the parent's
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def peaks(width: int, threads: int) -> dict[str, int]:
    """`peak` of every row, each in a process of its own."""
    found = {}
    for name in steps(width):
        command = [
            sys.executable,
            str(Path(__file__).resolve()),
            "--width",
            str(width),
            "--peak",
            name,
            "--threads",
            str(threads),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-1000:]}")
        found[name] = int(done.stdout.split()[-1])
    return found


# --- quality ---------------------------------------------------------------------------------------------------------

FORMS: dict[str, dict[str, str]] = {
    "difference": {"method": "difference"},
    "head": {"scope": "head"},
    "bfloat16 autocast": {"autocast": "1"},
    "direction 4 steps old": {"stale": "1"},
    "other validation batch": {"other": "1"},
}


def digits_net() -> nn.Module:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)]
    return nn.Sequential(*block(1, 16), *block(16, 32, pool=True), *block(32, 32), *head)


def quality(epochs: int) -> dict[str, Any]:
    """Cosine and equal signs of Σ_k y_k B_k, per sample, against the exact ones, every 4 steps of a training run."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    source = load_digits()
    images = torch.tensor(source.data / 16.0, dtype=torch.float32).view(-1, 1, 8, 8)
    labels = torch.tensor(source.target)
    noisy = torch.where(torch.rand(len(labels)) < 0.4, torch.randint(0, 10, (len(labels),)), labels)
    order = torch.randperm(len(labels))
    held, rest = order[:300], order[300:]
    model = digits_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in FORMS}
    old = None
    step = 0
    for _ in range(epochs):
        for rows in rest[torch.randperm(len(rest))].split(64):
            if len(rows) < 64:
                continue
            drawn = held[torch.randperm(300)]
            inputs, given = images[rows], nn.functional.one_hot(noisy[rows], CLASSES).float()
            if step % 4 == 0 and step:
                g = grads.direction(model, images[drawn[:64]], labels[drawn[:64]], training=False)
                exact = (given * grads.benefit(model, inputs, g)[1]).sum(1)
                for name, form in FORMS.items():
                    along = g
                    if "scope" in form:
                        along = grads.direction(
                            model, images[drawn[:64]], labels[drawn[:64]], scope="head", training=False
                        )
                    elif "other" in form:
                        along = grads.direction(model, images[drawn[64:128]], labels[drawn[64:128]], training=False)
                    elif "stale" in form:
                        if old is None:
                            continue
                        along = old
                    with torch.autocast("cpu", torch.bfloat16, enabled="autocast" in form):
                        _, B = grads.benefit(model, inputs, along, "difference" if "method" in form else "jvp")
                    made = (given * B).sum(1)
                    agree = float((made.sign() == exact.sign()).float().mean())
                    found[name].append((float(torch.cosine_similarity(made, exact, 0)), agree))
                old = g
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), noisy[rows]).backward()
            optimizer.step()
            step += 1
    told = {}
    for name, pairs in found.items():
        cosines, signs = zip(*pairs, strict=True)
        told[name] = {"cosine": harness.summary(list(cosines), 4), "equal_signs": harness.summary(list(signs), 4)}
        print(f"{name:26} cosine median {statistics.median(cosines):.4f} min {min(cosines):.4f}", flush=True)
    return told


def main() -> None:
    options = harness.arguments(__doc__, width=16, peak="", epochs=4)
    if options.peak:
        print(peak(options.width, options.peak))
        return
    memory = peaks(options.width, options.threads)
    results = times(options.width, options.repeats)
    for name, value in memory.items():
        results[name]["memory_ratio"] = round(value / memory["plain"], 2)
        print(f"{name:54} {results[name]['memory_ratio']:.2f} x memory")
    told = {"cost": results, "plain_peak_mib": round(memory["plain"] / 2**20, 1), "quality": quality(options.epochs)}
    method = (__doc__ or "").replace("{width}", str(options.width))
    harness.write(Path(__file__).stem, method, told, packages=("scikit-learn",), width=options.width, batch=BATCH)


if __name__ == "__main__":
    main()
