"""Moments of augmentations: how fast without sampling, and how many random draws an estimate of the loss takes.

Method. Speed: the mean and the variance image of a CIFAR batch (128 × 3 × 32 × 32 uint8, or noise of that shape without
--data) under padded crop (4) × flip, by closed form, by enumerating all 162 transforms, and by Monte Carlo through the
same compiled augmentation; and under rotation by ±30° (bilinear) by quadrature. The Monte Carlo run takes 400 draws and
is timed in turn with the others; its time at equal error is that time scaled by the number of draws that brings the
root-mean-square relative error of the mean image, sqrt(tr Σ / n) / |μ|, of the median image to 1e-3 (the exact forms
have rounding error only, the quadrature has as many nodes as bring mean and deviation of all images within 1e-3 of one
of 8192 nodes). Memory: a process of its own integrates one 224 × 224 image under RandAugment(2, 9), all of its 529
different transforms, with mean, variance, and the largest eigenvector; peak resident memory.

Draws needed: n = 1.96² Var[ℓ] / (0.01² E[ℓ]²), from exact loss moments (all transforms, or 1024 quadrature nodes where
there are more). Per image: median and quartiles over test images; of the data set's mean loss: draws in all when every
image is drawn equally often, from the mean variance and the mean loss. Networks: the demo's small CNN, one for each
data set, one seed, trained on as many images and epochs as each row says, on digits with shifts of 1 pixel, on CIFAR-10
(--data) with padded crop and flip; accuracy and mean loss of the test images beside. linearised: exact over linearised
variance of each image's loss, quartiles.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import smartaug
from smartaug import augment, moments
from smartaug.cli.demo.command import digits_task, folder_task, small_cnn
from smartaug.moments.image import summed
from smartaug.moments.source import MEMORY, PlannedSource

if __package__:
    from benchmarks import harness
else:
    import harness

AIM = 1e-3
PIPELINES: dict[str, list[Any]] = {
    "flip": [augment.Flip()],
    "shift by 3 pixels": [augment.Affine(translate=(3 / 32, 3 / 32))],
    "padded crop (4)": [augment.PadCrop(4)],
    "padded crop (4), flip": [augment.PadCrop(4), augment.Flip()],
    "rotation by 30°": [augment.Affine(30, interpolation="bilinear")],
    "colour jitter (0.4)": [augment.ColorJitter(0.4, 0.4, 0.4)],
    "erase (0.5)": [augment.Erase(0.5)],
    "RandAugment(2, 9)": [augment.RandAugment(2, 9)],
    "TrivialAugment": [augment.TrivialAugment()],
    "padded crop, flip, RandAugment(2, 9)": [augment.PadCrop(4), augment.Flip(), augment.RandAugment(2, 9)],
}
FOR_DIGITS: dict[str, list[Any]] = {
    "shift by 1 pixel": [augment.PadCrop(1)],
    "rotation by 15°": [augment.Affine(15, interpolation="bilinear")],
    "erase (0.5)": [augment.Erase(0.5)],
    "RandAugment(2, 9)": [augment.RandAugment(2, 9)],
}


def relative(one: Tensor, other: Tensor) -> float:
    """The norm of the difference over that of ``other``, in the worst image."""
    return float(((one - other).flatten(1).norm(dim=1) / other.flatten(1).norm(dim=1)).max())


def worst(made: moments.Moments, best: moments.Moments) -> float:
    """The larger of the relative errors of the mean and of the deviation image."""
    return max(relative(made.mean, best.mean), relative(made.variance().sqrt(), best.variance().sqrt()))


def enumerated(aug: Any, images: Tensor, nodes: int) -> moments.Moments:
    """The moments from every transform, closed forms left aside."""
    found = PlannedSource(augment.Compose(aug), images, nodes, MEMORY)
    return summed(found, [lambda batch: batch], torch.float32)  # what is not known has no closed form


def speed(images: Tensor, repeats: int) -> dict[str, Any]:
    """Seconds of each way, and times faster than Monte Carlo of equal error."""
    results: dict[str, Any] = {}
    crop, turn = [augment.PadCrop(4), augment.Flip()], [augment.Affine(30, interpolation="bilinear")]
    fine = enumerated(turn, images, 8192)
    nodes = next(n for n in (45, 60, 90, 120, 180, 240, 480, 960) if worst(enumerated(turn, images, n), fine) < AIM)
    cases: dict[str, tuple[Any, dict[str, Any], moments.Moments]] = {
        "padded crop (4) × flip": (
            crop,
            {"closed form": lambda: moments.of(crop, images), "162 transforms": lambda: enumerated(crop, images, 1024)},
            moments.of(crop, images),
        ),
        "rotation by ±30°": (turn, {f"quadrature, {nodes} nodes": lambda: enumerated(turn, images, nodes)}, fine),
    }
    sample = 400
    for name, (aug, ways, best) in cases.items():
        drawn = moments.of(aug, images, draws=sample)
        figures = harness.side_by_side(
            {"Monte Carlo": lambda aug=aug: moments.of(aug, images, draws=sample), **ways}, repeats=repeats
        )
        needed = float((best.trace() / (AIM**2 * best.mean.flatten(1).square().sum(1))).median())
        case: dict[str, Any] = {
            "draws for a relative error of 1e-3": round(needed),
            f"relative error of the mean, {sample} draws": float(f"{relative(drawn.mean, best.mean):.3g}"),
            "seconds": {way: harness.summary(times) for way, times in figures.items()},
        }
        for way, make in ways.items():
            ratios = [m * needed / sample / t for m, t in zip(figures["Monte Carlo"], figures[way], strict=True)]
            made = make()
            case[way] = {
                "relative error of the mean": float(f"{relative(made.mean, best.mean):.2g}"),
                "relative error of the deviation": float(
                    f"{relative(made.variance().sqrt(), best.variance().sqrt()):.2g}"
                ),
                "times faster than Monte Carlo": harness.summary(ratios, 3),
            }
        results[name] = case
    return results


def memory() -> dict[str, Any]:
    """Peak resident memory of a process that integrates one image of 224 × 224 under RandAugment(2, 9)."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", "child"], capture_output=True, text=True, check=True
    ).stdout.split()
    return {
        "transforms": int(done[0]),
        "seconds": round(float(done[1]), 2),
        "peak GiB": round(float(done[2]), 3),
        "peak GiB before": round(float(done[3]), 3),
    }


def child() -> None:
    """The process of `memory`: prints transforms, seconds, peak GiB, and peak GiB before the work."""
    from sklearn.datasets import load_sample_images

    photo = torch.tensor(load_sample_images().images[0]).permute(2, 0, 1)[None, :, 100:324, 200:424].contiguous()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = time.perf_counter()
    found = moments.of(augment.RandAugment(2, 9), photo)
    found.top(1)
    seconds = time.perf_counter() - started
    print(found.size, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, before)


def pixels(dataset: Any, count: int) -> tuple[Tensor, Tensor]:
    """``count`` images (count, C, H, W) uint8 spread over a data set, and their labels."""
    rows = torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().tolist()
    pairs = [dataset[row] for row in rows]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def trained(images: Tensor, labels: Tensor, classes: int, stages: list[Any], epochs: int) -> nn.Module:
    """The demo's network after training with ``stages``."""
    torch.manual_seed(0)
    model = small_cnn(images.shape[1], classes)
    loader: Any = smartaug.DataLoader(
        torch.utils.data.TensorDataset(images, labels),
        batch_size=64,
        shuffle=True,
        drop_last=True,
        augment=[*stages, augment.Normalize(0.5, 0.25)],
        seed=0,
        device="cpu",
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=epochs * len(loader))
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    for _ in range(epochs):
        for batch, target in loader:
            optimizer.zero_grad()
            criterion(model(batch), target).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def quartiles(values: Tensor) -> list[float]:
    return [float(f"{v:.4g}") for v in values.double().quantile(torch.tensor([0.25, 0.5, 0.75]).double()).tolist()]


def needed(
    task: Any, learned: list[Any], pipelines: dict[str, list[Any]], training: int, epochs: int, shown: int
) -> dict[str, Any]:
    """Draws for a 1 % estimate of the loss, per image and of the data set's mean, for each pipeline."""
    from torchvision.transforms import v2

    images, labels = pixels(task.train(v2.PILToTensor()), training)
    test, answers = pixels(task.test(v2.PILToTensor()), 2000)
    some = torch.linspace(0, len(test) - 1, min(shown, len(test))).long()
    results = {}
    model = trained(images, labels, len(task.classes), learned, epochs)
    with torch.no_grad():
        logits = torch.cat([model(part) for part in augment.Normalize(0.5, 0.25)(test).split(256)])
    for name, stages in pipelines.items():
        whole = [*stages, augment.Normalize(0.5, 0.25)]
        parts = [moments.loss_moments(model, None, test[rows], answers[rows], whole) for rows in some.split(16)]
        mean, var = (torch.cat(part) for part in zip(*parts, strict=True))
        linear = torch.cat(
            [
                moments.loss_moments(model, None, test[rows], answers[rows], whole, method="linear")[1]
                for rows in some.split(16)
            ]
        )
        found = moments.nodes(augment.Compose(stages), test.shape[1:], 1024)
        draws = moments.samples_needed(mean, var)
        results[name] = {
            "per image, quartiles": [round(value) for value in quartiles(draws)],
            "data set's mean": int(moments.samples_needed(mean.mean()[None], var.mean()[None])),
            "accuracy, percent": round(100 * float((logits.argmax(1) == answers).double().mean()), 1),
            "mean loss": float(f"{nn.functional.cross_entropy(logits, answers):.3g}"),
            "mean loss under augmentation": float(f"{mean.mean():.3g}"),
            "linearised": quartiles(var[linear > 0] / linear[linear > 0]),
            "transforms": len(found.weights),
            "exact": found.exact,
            "images": len(some),
            "training images": len(images),
            "epochs": epochs,
        }
        print(f"{task.name}: {name}: {results[name]}", flush=True)
    return results


def main() -> None:
    options = harness.arguments(__doc__, data=None, only="", images=48, training=25000)
    if options.only == "child":
        return child()
    earlier = harness.RESULTS / "moments.json"
    results: dict[str, Any] = {}
    folder = folder_task(options.data) if options.data else None
    if options.only in ("", "speed"):
        batch = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8)
        if folder is not None:
            from torchvision.transforms import v2

            batch = pixels(folder.test(v2.PILToTensor()), 128)[0]
        results["speed"] = speed(batch, options.repeats)
        results["memory"] = memory()
        print(results)
    if options.only in ("", "draws"):
        results["draws, digits"] = needed(digits_task(), [augment.PadCrop(1)], FOR_DIGITS, 1438, 15, 2 * options.images)
        if folder is not None:
            results["draws, CIFAR-10"] = needed(
                folder, PIPELINES["padded crop (4), flip"], PIPELINES, options.training, 4, options.images
            )
    if options.only and earlier.exists():  # the other part stays
        results = {**json.loads(earlier.read_text())["results"], **results}
    packages = ("scikit-learn", "torchvision", "numba")
    path: Path = harness.write("moments", __doc__ or "", results, packages=packages)
    print(path)


if __name__ == "__main__":
    main()
