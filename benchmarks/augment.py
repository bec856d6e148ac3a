"""Speed of per-sample augmentation against other libraries, and what ``exact=False`` changes.

    python -m benchmarks.augment              # about five minutes; writes results/augment.json
    python -m benchmarks.augment --quick      # fewer repeats, nothing written

Method: images per second, uint8 in and uint8 out (Kornia: float in and out, ready-made), the time of drawing
included; contenders take turns in one process, in a new order every round, after one call that is not counted. With
1 thread, time is the process's own CPU time (user and system), because the machine is shared; with 2 threads it is
the clock's, and the rivals get two forked processes that hand nothing back. Pictures are crops of scikit-learn's
two photographs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

import smartaug.augment as ours
from benchmarks import harness, rivals
from benchmarks.rivals import Call

PACKAGES = ("timm", "torchvision", "albumentations", "kornia", "numba", "opencv-python-headless", "pillow")
NOTES = (
    "profile of RandAugment at 32 px, batch 256, numba, one call after the other: 0.5 µs a sample for drawing (stream "
    "keys 0.12, draws 0.13, table rows and plan 0.26), 0.4 for choosing the backend, encoding and buffers, 1.4 in "
    "compiled code (equalize 2.5 an image, warps 0.6–1.1, sharpness 0.9, the others 0.1–0.5); exact=False saves a warp "
    "on every eighth sample and spends what that saves on the products of matrices",
    "torch backend at 224 px: each operation makes several passes of int64 or float32 over uint8 images (a gather "
    "needs 8-byte indices), 30–700 µs an image; it is behind the per-sample libraries there, which is what numba "
    "is for",
    "with 2 threads torch's own operations wait at OpenMP barriers for cores that others hold: the torch row "
    "there measures the load of the machine (see load_average) more than the backend",
    "the share of a GPU training step: not measured, no GPU",
    "flip + crop at 224 px, numba: 0.78 ms a batch in compiled code, where copying the batch takes 0.67; drawing and "
    "encoding take another 0.3",
)
CASES = {32: 256, 224: 64}
SINGLES: dict[str, Callable[[int], ours.Augmentation]] = {
    "equalize": lambda size: ours.Equalize(1.0),
    "sharpness": lambda size: ours.Sharpness(1.5, 1.0),
    "posterize": lambda size: ours.Posterize(4, 1.0),
    "colour jitter": lambda size: ours.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "flip + crop": lambda size: ours.Compose([ours.PadCrop(4), ours.Flip()]),
    "cutout": lambda size: ours.Erase(1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0)),
    "CutMix": lambda size: ours.CutMix(),
}
# what the project asks of RandAugment: (backend, exact) -> times the fastest per-sample rival
REACH = {
    32: {"torch": 2.0, "numba": 10.0, "numba, exact=False": 18.0},
    224: {"numba": 1.6, "numba, exact=False": 2.0},
}


def photographs(size: int, count: int) -> Tensor:
    """``count`` crops of scikit-learn's two photographs, (count, 3, size, size) uint8."""
    generator = torch.Generator().manual_seed(0)
    whole = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images]
    pictures = []
    for n in range(count):
        side = int(torch.randint(256, 427, (), generator=generator))
        top = int(torch.randint(0, 427 - side + 1, (), generator=generator))
        left = int(torch.randint(0, 640 - side + 1, (), generator=generator))
        part = whole[n % 2][None, :, top : top + side, left : left + side].float()
        pictures.append(torch.nn.functional.interpolate(part, (size, size), mode="area"))
    return torch.cat(pictures).round().to(torch.uint8)


def rates(
    contenders: dict[str, Call],
    images: int,
    repeats: int,
    seconds: float = 0.1,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    """Images per second of each contender, a call handling ``images`` of them: median, min, max, n.

    Contenders take turns, in a new order every round (what one leaves in the allocator slows the next); a figure is the
    mean over as many calls as fill about ``seconds``.
    """
    calls = {}
    for name, run in contenders.items():
        run()
        calls[name] = max(1, round(seconds / max(_seconds(run, 2, clock), 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in contenders}
    order = random.Random(0)
    for _ in range(repeats):
        for name, run in order.sample(list(contenders.items()), len(contenders)):
            found[name].append(images / _seconds(run, calls[name], clock))
    return {name: harness.summary(values, 3) for name, values in found.items()}


def _seconds(run: Call, calls: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(calls):
        run()
    return (clock() - started) / calls


def in_processes(function: Call, images: int, processes: int, repeats: int, seconds: float = 0.5) -> dict[str, Any]:
    """Images per second of ``processes`` forked copies of ``function`` at once that hand nothing back."""
    context = multiprocessing.get_context("fork")
    values = []
    for _ in range(repeats):
        queue: Any = context.SimpleQueue()
        children = [context.Process(target=_child, args=(function, images, seconds, queue)) for _ in range(processes)]
        for child in children:
            child.start()
        values.append(sum(queue.get() for _ in children))
        for child in children:
            child.join()
    return harness.summary(values, 3)


def _child(function: Call, images: int, seconds: float, queue: Any) -> None:
    torch.set_num_threads(1)
    function()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        function()
        calls += 1
    queue.put(images * calls / (time.perf_counter() - start))


def call(augmentation: ours.Augmentation, batch: Tensor, backend: str | None) -> Call:
    """Draw and execute, new draws at every call."""
    augmentation.backend = backend
    return lambda: augmentation(batch, seed=0)


def ours_randaugment(batch: Tensor) -> dict[str, Call]:
    return {
        "smartaug, torch": call(ours.RandAugment(2, 9), batch, "torch"),
        "smartaug, numba": call(ours.RandAugment(2, 9), batch, "numba"),
        "smartaug, numba, exact=False": call(ours.RandAugment(2, 9, exact=False), batch, "numba"),
    }


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Medians of ours over the fastest rival that draws per sample."""
    skip = ("smartaug", "one ")
    rival = max(
        entry["median"] for name, entry in found.items() if not name.startswith(skip[0]) and skip[1] not in name
    )
    return {name: round(entry["median"] / rival, 2) for name, entry in found.items() if name.startswith("smartaug")}


def randaugment(size: int, repeats: int) -> dict[str, Any]:
    batch = photographs(size, CASES[size])
    contenders = {**ours_randaugment(batch), **rivals.randaugment(rivals.Inputs(batch))}
    found = rates(contenders, len(batch), repeats)
    workers = found["smartaug, numba"]["median"] / found["albumentations"]["median"]
    return {
        "images/s": found,
        "times the best per-sample rival": ratios(found),
        "wanted": REACH[size],
        "albumentations workers that equal one thread": round(workers, 1),
    }


def randaugment_two_threads(size: int, repeats: int) -> dict[str, Any]:
    batch = photographs(size, CASES[size])
    inputs = rivals.Inputs(batch)
    per_sample = ("timm, PIL", "torchvision, PIL", "albumentations")
    found = {
        name: in_processes(function, len(batch), 2, repeats)
        for name, function in rivals.randaugment(inputs).items()
        if name in per_sample
    }
    torch.set_num_threads(2)
    found.update(rates(ours_randaugment(batch), len(batch), repeats, 0.3, time.perf_counter))
    torch.set_num_threads(1)
    return {"images/s": found, "times the best per-sample rival": ratios(found)}


def single(name: str, size: int, repeats: int) -> dict[str, Any]:
    batch = photographs(size, CASES[size])
    contenders = {
        "smartaug, torch": call(SINGLES[name](size), batch, "torch"),
        "smartaug, numba": call(SINGLES[name](size), batch, "numba"),
        **rivals.single(name, rivals.Inputs(batch)),
    }
    found = rates(contenders, len(batch), repeats)
    return {"images/s": found, "times the best per-sample rival": ratios(found)}


def affine(interpolation: str, size: int, repeats: int) -> dict[str, Any]:
    batch = photographs(size, CASES[size])
    ours_affine = ours.Affine(20, scale=(0.8, 1.2), shear=10, interpolation=interpolation)
    contenders = {
        "smartaug, numba": call(ours_affine, batch, "numba"),
        **rivals.affine(rivals.Inputs(batch), interpolation),
    }
    found = rates(contenders, len(batch), repeats)
    return {"images/s": found, "times the best per-sample rival": ratios(found)}


def exact_error(draws: int = 512) -> dict[str, Any]:
    """What composing warps behind the tones changes, in grey levels, on the photographs."""
    found = {}
    for size in CASES:
        batch = photographs(size, 2).repeat(draws // 2, 1, 1, 1)
        index = torch.arange(draws)
        for name, policy in (
            ("RandAugment", ours.RandAugment),
            ("RandAugment N=3", lambda exact: ours.RandAugment(3, exact=exact)),
        ):
            exact, moved = (policy(exact=kept)(batch, index=index, seed=0).int() for kept in (True, False))
            error = (exact - moved).abs().flatten(1).double()
            found[f"{name}, {size} px"] = {
                "samples": draws,
                "mean absolute error, grey levels": round(float(error.mean()), 3),
                "samples that differ": round(float((error.amax(1) > 0).double().mean()), 3),
                "mean absolute error of those": round(float(error[error.amax(1) > 0].mean()), 3),
            }
    return found


def on_cuda(size: int, count: int, repeats: int) -> Any:
    """The torch backend on an accelerator against Kornia there, the device waited for in every call."""
    if not torch.cuda.is_available():
        return "not measured: no GPU"
    batch = photographs(size, count).cuda().contiguous(memory_format=torch.channels_last)
    floats, mean, std = batch.float() / 255, (0.48, 0.46, 0.41), (0.23, 0.22, 0.23)
    gated, normalize = rivals.kornia_gated(), rivals.kornia.Normalize(torch.tensor(mean), torch.tensor(std))
    policy = ours.Compose([ours.RandAugment(2, 9), ours.Normalize(mean, std, dtype=torch.bfloat16)])
    into = {"dtype": torch.bfloat16, "memory_format": torch.channels_last}

    def waited(run: Call) -> Call:
        return lambda: (run(), torch.cuda.synchronize())

    contenders = {
        "smartaug, torch": waited(call(policy, batch, "torch")),
        "kornia, per-sample gates": waited(lambda: normalize(gated(floats)).to(**into)),
        "copy of the same bytes": waited(lambda: batch.to(**into)),
    }
    found = rates(contenders, count, repeats, clock=time.perf_counter)
    return {"images/s": found}


def kornia_with_raised_threshold(repeats: int) -> dict[str, Any]:
    """Kornia at 224 px with glibc keeping freed memory, in a process of its own."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 31)}
    command = [sys.executable, "-m", "benchmarks.augment", "--kornia-only", "--repeats", str(repeats)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def kornia_only(repeats: int) -> dict[str, Any]:
    batch = photographs(224, CASES[224])
    contenders = {name: f for name, f in rivals.randaugment(rivals.Inputs(batch)).items() if name.startswith("kornia")}
    contenders.update({k: v for k, v in ours_randaugment(batch).items() if k == "smartaug, numba"})
    return rates(contenders, len(batch), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only cases whose title contains this; nothing written")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kornia-only", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    rivals.quiet()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.kornia_only:
        print(json.dumps(kornia_only(arguments.repeats)))
        return
    repeats = 2 if arguments.quick else arguments.repeats
    result: dict[str, Any] = {}
    for title, measure in cases(repeats).items():
        if arguments.only in title:
            show(result, title, measure())
    if not (arguments.quick or arguments.only):
        method = (__doc__ or "").split("Method:")[1]
        harness.write(
            "augment", method, result, packages=PACKAGES, seed=0, load_average=os.getloadavg()[1], notes=NOTES
        )


def cases(repeats: int) -> dict[str, Callable[[], Any]]:
    """Every case by its title."""
    few = min(5, repeats)
    found: dict[str, Callable[[], Any]] = {}
    for size, count in CASES.items():
        case = f"{size} px, batch {count}"
        found[f"RandAugment, {case}, 1 thread"] = partial(randaugment, size, repeats)
        found[f"RandAugment, {case}, 2 threads"] = partial(randaugment_two_threads, size, few)
        for name in SINGLES:
            found[f"{name}, {case}, 1 thread"] = partial(single, name, size, repeats)
        for interpolation in ("nearest", "bilinear"):
            found[f"affine, {interpolation}, {case}, 1 thread"] = partial(affine, interpolation, size, repeats)
    found["RandAugment, 224 px, mmap threshold of the allocator raised"] = partial(kornia_with_raised_threshold, few)
    found["exact=False against exact=True, RandAugment M = 9"] = exact_error
    for size, count in ((32, 1024), (224, 256)):
        found[f"CUDA, RandAugment + Normalize to bf16 channels_last, {size} px, batch {count}"] = partial(
            on_cuda, size, count, repeats
        )
    return found


def show(result: dict[str, Any], title: str, found: Any) -> None:
    result[title] = found
    print(title, flush=True)
    rows = found.get("images/s", found) if isinstance(found, dict) else {"": found}
    for name, entry in rows.items():
        print(f"    {name:45s} {entry.get('median', entry) if isinstance(entry, dict) else entry}", flush=True)
    if isinstance(found, dict) and "times the best per-sample rival" in found:
        print(f"    -> {found['times the best per-sample rival']}", flush=True)


if __name__ == "__main__":
    main()
