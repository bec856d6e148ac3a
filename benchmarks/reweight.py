"""What learned weights cost, and how good the cheap forms are.

Method: a ResNet-9-like network ({width} channels in its first layer) on random 32×32 images, batch 128, float32, one
thread. Time: one weighing and one plain training step (SGD, momentum), as a ratio to the plain step of the same turn,
by processor time, because machines are shared; rows with every=k run k steps a call. Our passes lay images out
channels-last on the CPU by themselves, which a plain loop does not: the rows that end in "channels-last images" are the
same for a user who does so, as ratios to the plain step with such images. Passes: single passes of the batch, as ratios
to the plain step. Memory: what four steps add to the highest resident size, in a fresh process a row, as a ratio to the
plain steps'; memory_ratio with every large block given back at once (MALLOC_MMAP_THRESHOLD_), so it is what is alive
together, resident_ratio (few rows) as malloc leaves it, with the holes that blocks of many sizes make. Rival: the
second-order graph (create_graph) on the same batches. Quality: along training runs on digits with 40 % random labels
(CNN with BatchNorm at 8×8; a ResNet-9 of 8 channels at 32×32), cosine and share of equal signs between Σ_k y_k B_k of
each cheap form and of the exact one, every 4 steps (ResNet-9: 8); an "old direction" is as old. ``--only ROW;ROW`` runs
the rows of cost whose names begin so, beside the plain ones; ``--only quality`` and ``--only passes`` those parts; the
others stay as they are in results/reweight.json.

Limit: the aim is full-scope benefits with a cosine of at least 0.99 to the exact ones at no more than 1.5 plain steps.
when="loss" comes to the edge of it with a new direction for every batch; with every=4 it is well inside, but the
direction is then up to 3 steps old (see quality). Tried besides: forward mode under bfloat16 autocast is exact enough
in the median, but slower than in float32 (see passes); a central difference in bfloat16 has a step below the resolution
of its parameters; the deeper half of the layers alone points elsewhere (see quality).
"""

from __future__ import annotations

import json
import os
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


RELAID = ", channels-last images"
RESIDENT = (
    "plain",
    "second order (create_graph)",
    "SAFLEX, jvp, validation 1/4",
    "SAFLEX, jvp, validation 1/4, every=4",
)


def steps(width: int) -> dict[str, tuple[int, Step]]:
    """Row -> (training steps a call, the call)."""
    rows = rows_with(width, relaid=False)
    again = (
        "plain",
        "MetaAugment, jvp",
        "SAFLEX, jvp, validation 1/4",
        "SAFLEX, difference, validation 1/4, at loss",
        "SAFLEX, difference, validation 1/4, every=4, at loss",
    )
    other = rows_with(width, relaid=True)
    return {**rows, **{name + RELAID: other[name] for name in again}}


def rows_with(width: int, relaid: bool) -> dict[str, tuple[int, Step]]:
    """The rows for a user whose images are, or are not, in channels-last layout."""
    torch.manual_seed(0)
    model = resnet9(width)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    inputs, target = torch.randn(BATCH, 3, 32, 32), torch.randint(0, CLASSES, (BATCH,))
    held = (torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % CLASSES)
    if relaid:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    index = torch.arange(BATCH)
    batch = smartaug.Batch(inputs, target, None, None, index)
    criterion = smartaug.Loss(nn.CrossEntropyLoss())

    def train(judge: Callable[[Tensor], tuple[Tensor | None, Tensor | None]]) -> None:
        optimizer.zero_grad()
        output = model(inputs)
        criterion(output, smartaug.Target(target, *judge(output))).backward()
        optimizer.step()

    def plain() -> None:
        train(lambda _: (None, None))

    def with_stage(stage: Any, count: int = 1) -> tuple[int, Step]:
        def judge(output: Tensor) -> tuple[Tensor | None, Tensor | None]:
            return stage.settle(output, smartaug.Target(target, index=index)) or made[0]

        made: list[Any] = [None]

        def call() -> None:
            for _ in range(count):
                before = stage.step
                made[0] = stage(batch, None)
                train(judge)
                if stage.step != before + 1:
                    raise RuntimeError("a step that the stage did not judge would be timed")

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
        plain()

    loss: dict[str, Any] = {"method": "difference", "when": "loss"}
    return {
        "plain": (1, plain),
        "second order (create_graph)": (1, second_order),
        "MetaAugment, jvp": with_stage(meta(1)),
        "MetaAugment, difference": with_stage(meta(1, method="difference")),
        "MetaAugment, jvp, validation 1/4, every=2": with_stage(meta(4, every=2), 2),
        "MetaAugment, difference, validation 1/4, every=2": with_stage(meta(4, every=2, method="difference"), 2),
        "SAFLEX, jvp, validation 1/4": with_stage(saflex(4)),
        "SAFLEX, difference, validation 1/4": with_stage(saflex(4, method="difference")),
        "SAFLEX, difference, validation 1/4, at loss": with_stage(saflex(4, **loss)),
        "SAFLEX, difference, validation 1/8, at loss": with_stage(saflex(8, **loss)),
        "SAFLEX, jvp, validation 1/4, every=4": with_stage(saflex(4, every=4), 4),
        "SAFLEX, difference, validation 1/4, every=4": with_stage(saflex(4, every=4, method="difference"), 4),
        "SAFLEX, difference, validation 1/4, every=4, at loss": with_stage(saflex(4, every=4, **loss), 4),
        "SAFLEX, jvp, validation 1/4, weigh_every=4": with_stage(saflex(4, weigh_every=4), 4),
        "SAFLEX, head, validation 1/4, every=4": with_stage(saflex(4, every=4, scope="head"), 4),
        "SAFLEX, head, validation 1/4, every=4, at loss": with_stage(saflex(4, every=4, scope="head", when="loss"), 4),
    }


def times(rows: dict[str, tuple[int, Step]], repeats: int) -> dict[str, Any]:
    """Processor seconds per training step of every row, as ratios to the plain step of the same turn."""
    figures: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(repeats + 1):  # the first turn warms up
        for name, (count, call) in rows.items():
            started = time.process_time()
            call()
            if turn:
                figures[name].append((time.process_time() - started) / count)
    told = {}
    for name, values in figures.items():
        base = "plain" + RELAID if name.endswith(RELAID) and name.startswith(("SAFLEX", "Meta")) else "plain"
        ratios = [value / one for value, one in zip(values, figures[base], strict=True)]
        told[name] = {"time_ratio": harness.summary(ratios, 3)}
        print(f"{name:70} {statistics.median(ratios):.2f} x time", flush=True)
    return told


def passes(width: int, repeats: int) -> dict[str, Any]:
    """What single passes of the batch cost, in plain steps."""
    torch.manual_seed(0)
    model, trained = resnet9(width), resnet9(width)
    optimizer = torch.optim.SGD(trained.parameters(), lr=1e-3)
    inputs, target = torch.randn(BATCH, 3, 32, 32), torch.randint(0, CLASSES, (BATCH,))
    relaid = inputs.contiguous(memory_format=torch.channels_last)
    g = grads.direction(model, inputs[:32], target[:32], training=False)
    logits = model(inputs).detach()  # the model that stays as it is

    def plain() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(trained(inputs), target).backward()
        optimizer.step()

    def forward(images: Tensor) -> Callable[[], Any]:
        return torch.no_grad()(lambda: model(images))

    def low(call: Callable[[], Any]) -> Callable[[], Any]:
        return torch.autocast("cpu", torch.bfloat16)(call)

    def jvp() -> Any:
        return grads.benefit(model, inputs, g)

    calls: dict[str, Step] = {
        "plain": plain,
        "forward": forward(inputs),
        "forward, channels-last images": forward(relaid),
        "forward, channels-last images, bfloat16 autocast": low(forward(relaid)),
        "benefit, jvp": jvp,
        "benefit, jvp, bfloat16 autocast": low(jvp),
        "benefit, difference": lambda: grads.benefit(model, inputs, g, "difference"),
        "benefit, difference, logits given": lambda: grads.benefit(model, inputs, g, "difference", logits=logits),
        "direction of a quarter": lambda: grads.direction(model, inputs[:32], target[:32], training=False),
        "direction of a quarter, head": lambda: grads.direction(
            model, inputs[:32], target[:32], training=False, scope="head"
        ),
    }
    return times({name: (1, call) for name, call in calls.items()}, repeats)


def peak(width: int, name: str) -> int:
    """Resident bytes of this process at their highest in four steps of that row, beyond model and data (Linux)."""
    count, call = steps(width)[name]
    before = _highest()
    for _ in range(4 // count):
        call()
    return _highest() - before


def _highest() -> int:
    # getrusage's figure would begin at the parent's
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def peaks(width: int, threads: int, names: list[str], alive: bool) -> dict[str, int]:
    """`peak` of every row, each in a process of its own; alive: large blocks go back to the system at once."""
    found = {}
    for name in names:
        command = [sys.executable, str(Path(__file__).resolve()), "--width", str(width), "--peak", name]
        # the package of this process, whichever is installed
        setting = {"PYTHONPATH": str(Path(smartaug.__file__).parents[1])}
        setting |= {"MALLOC_MMAP_THRESHOLD_": "65536"} if alive else {}
        done = subprocess.run(
            [*command, "--threads", str(threads)], capture_output=True, text=True, check=False, env=os.environ | setting
        )
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-1000:]}")
        found[name] = int(done.stdout.split()[-1])
    return found


# --- quality ---------------------------------------------------------------------------------------------------------

Net = Callable[[], nn.Module]


def digits_net() -> nn.Module:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)]
    return nn.Sequential(*block(3, 16), *block(16, 32, pool=True), *block(32, 32), *head)


Part = tuple[Tensor, Tensor]


def forms(model: nn.Module, inputs: Tensor, output: Tensor, held: Part, other: Part, old: Any) -> dict[str, Tensor]:
    """Benefits (B, K) in every cheap form, and the exact ones; old: the direction of an earlier step, or None."""
    g = grads.direction(model, *held, training=False)

    def along(direction: grads.Direction, **settings: Any) -> Tensor:
        return grads.benefit(model, inputs, direction, **settings)[1]

    made = {
        "exact": along(g),
        "difference": along(g, method="difference"),
        "difference, logits given": along(g, method="difference", logits=output.detach()),
        "head": along(grads.direction(model, *held, scope="head", training=False)),
        "deeper half of the layers": along(dict(list(g.items())[len(g) // 2 :])),
        "other validation batch": along(grads.direction(model, *other, training=False)),
    }
    with torch.autocast("cpu", torch.bfloat16):
        made["bfloat16 autocast"] = along(g)
    if old is not None:
        made["old direction"] = along(old)
    return made


def quality(net: Net, side: int, epochs: int, every: int) -> dict[str, Any]:
    """Cosine and equal signs of Σ_k y_k B_k, per sample, against the exact ones, every so many steps of a run."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    source = load_digits()
    images = torch.tensor(source.images / 16.0, dtype=torch.float32)[:, None].expand(-1, 3, -1, -1)
    images = nn.functional.interpolate(images, side)
    labels = torch.tensor(source.target)
    noisy = torch.where(torch.rand(len(labels)) < 0.4, torch.randint(0, 10, (len(labels),)), labels)
    order = torch.randperm(len(labels))
    held, rest = order[:300], order[300:]
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found: dict[str, list[tuple[float, float]]] = {}
    old: grads.Direction | None = None
    step = 0
    for _ in range(epochs):
        for rows in rest[torch.randperm(len(rest))].split(64):
            if len(rows) < 64:
                continue
            one, two = held[torch.randperm(300)][:128].split(64)
            output = model(images[rows])
            if step % every == 0 and step:
                parts = ((images[one], labels[one]), (images[two], labels[two]))
                made = forms(model, images[rows], output, *parts, old)
                gains = {name: B.gather(1, noisy[rows][:, None])[:, 0] for name, B in made.items()}
                exact = gains.pop("exact")
                for name, gain in gains.items():
                    agree = float((gain.sign() == exact.sign()).float().mean())
                    found.setdefault(name, []).append((float(torch.cosine_similarity(gain, exact, 0)), agree))
                old = grads.direction(model, *parts[0], training=False)
            optimizer.zero_grad()
            nn.functional.cross_entropy(output, noisy[rows]).backward()
            optimizer.step()
            step += 1
    told = {}
    for name, pairs in found.items():
        cosines, signs = zip(*pairs, strict=True)
        told[name] = {"cosine": harness.summary(list(cosines), 5), "equal_signs": harness.summary(list(signs), 4)}
        print(f"{name:26} cosine median {statistics.median(cosines):.4f} min {min(cosines):.4f}", flush=True)
    return told


def main() -> None:
    options = harness.arguments(__doc__, width=16, peak="", epochs=4, only="")
    if options.peak:
        print(peak(options.width, options.peak))
        return
    path = harness.RESULTS / "reweight.json"
    told: dict[str, Any] = json.loads(path.read_text())["results"] if options.only and path.exists() else {}
    wanted = tuple(options.only.split(";"))

    def keep() -> None:
        method = (__doc__ or "").replace("{width}", str(options.width))
        harness.write(path.stem, method, told, packages=("scikit-learn",), width=options.width, batch=BATCH)

    if "quality".startswith(wanted):
        told["quality"] = quality(digits_net, 8, options.epochs, 4)
        told["quality, ResNet-9"] = quality(lambda: resnet9(8), 32, options.epochs // 2, 8)
        keep()
    if "passes".startswith(wanted):
        told["passes"] = passes(options.width, options.repeats)
        keep()
    rows = steps(options.width)
    rows = {name: row for name, row in rows.items() if name.startswith("plain") or name.startswith(wanted)}
    if len(rows) > 2:
        cost = times(rows, options.repeats)
        few = [name for name in rows if name in RESIDENT]
        for figure, alive in (("memory_ratio", True), ("resident_ratio", False)):
            memory = peaks(options.width, options.threads, list(rows) if alive else few, alive)
            for name, value in memory.items():
                cost[name][figure] = round(value / memory["plain"], 2)
                print(f"{name:70} {cost[name][figure]:.2f} x {figure}", flush=True)
            told["plain_peak_mib" if alive else "plain_resident_mib"] = round(memory["plain"] / 2**20, 1)
        there = steps(options.width)
        told["cost"] = {**{name: row for name, row in told.get("cost", {}).items() if name in there}, **cost}
        keep()


if __name__ == "__main__":
    main()
