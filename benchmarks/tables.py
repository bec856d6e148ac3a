"""Writes the tables of README and docs from the committed results: ``python -m benchmarks.tables`` (``--check``)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
NOT_MEASURED = "not measured"
NOT_RUN = "*Not measured yet: the command above measures it.*"  # in the place of a whole table
MEAN = "data set's mean"  # the key in the results
BATCHES = {32: 256, 224: 64}


def result(name: str) -> dict[str, Any]:
    """The content of ``results/name.json``; empty when there is none."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows, the first being the head, as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def augmenting(case: str, size: int) -> dict[str, Any]:
    """A case of the augmentation benchmark on one thread."""
    return result("augment").get("results", {}).get(f"{case}, {size} px, batch {BATCHES[size]}, 1 thread", {})


def both_sizes(case: str) -> str:
    """Ours over the fastest rival that draws per sample, at 32 and at 224 pixels."""
    found = [augmenting(case, size).get("times the best per-sample rival", {}) for size in BATCHES]
    if not all(found):
        return NOT_MEASURED
    return ", ".join(f"×{ratio['smartaug, numba']:g} at {size} px" for size, ratio in zip(BATCHES, found, strict=True))


def recipe() -> dict[str, Any]:
    """The epoch through the loader."""
    return result("loader").get("results", {}).get("cifar recipe, 2 workers", {})


def recipe_gain() -> str:
    """The whole loader over the fastest per-sample loader."""
    ratios = recipe().get("ratio_to_best_per_sample_rival", {})
    return f"×{ratios['smartaug, numba']['median']:g} per epoch of the CIFAR recipe" if ratios else NOT_MEASURED


def machinery() -> str:
    """What the hand-over adds to a batch, from the smallest to the largest of the measured stages."""
    added = result("loader").get("results", {}).get("machinery", {}).get("milliseconds_added", {})
    medians = sorted(figure["median"] for figure in added.values())
    return f"{medians[0]:.2f}–{medians[-1]:.2f} ms a batch" if medians else NOT_MEASURED


def step(contender: str) -> str:
    """Time of a training step over a plain one."""
    ratio = result("reweight").get("results", {}).get("cost", {}).get(contender, {}).get("time_ratio", {})
    return f"×{ratio['median']:g} a training step" if ratio else NOT_MEASURED


def accuracy(contender: str, part: str = "digits, 40 % flipped") -> str:
    """Test accuracy, by default on digits of which 40 % of the training labels are flipped."""
    figure = result("learning").get("results", {}).get(part, {}).get(contender, {}).get("accuracy", {})
    return f"{figure['mean']:.1f} ± {figure['sd']:.1f}" if figure else NOT_MEASURED


def cost(contender: str, part: str = "digits, 40 % flipped") -> str:
    """Processor time of a run over that of plain training."""
    figure = result("learning").get("results", {}).get(part, {}).get(contender, {}).get("cost", {})
    return f"×{figure['mean']:.1f} ± {figure['sd']:.1f} of a run" if figure else NOT_MEASURED


def learned(contender: str) -> str:
    """The accuracy with its honest rivals."""
    rivals = f"plain {accuracy('plain')}, with the validation data added {accuracy('plain + validation data')}"
    short = f"{accuracy(contender, 'CIFAR-10N random1')} % (plain {accuracy('plain', 'CIFAR-10N random1')})"
    return f"digits, 40 % flipped labels: {accuracy(contender)} % ({rivals}); 12 epochs of CIFAR-10N: {short}"


def soft_gain() -> str:
    """Soft Augmentation beside the same erasing without it."""
    rows = f"{accuracy('SoftAugmentation, erase')} % (erasing alone {accuracy('erase')})"
    return f"digits, 40 % flipped labels: {rows}"


def policy() -> str:
    """How often the label-changing operation is still drawn."""
    swap = result("policy").get("results", {}).get("shares", {}).get("Swap", {})
    return f"an operation that swaps images is drawn {swap['mean']:.2f} × as often as uniform" if swap else NOT_MEASURED


def policy_accuracy() -> str:
    """The magnitudes of samples beside drawn ones, on drawn characters."""
    rows = result("policy").get("results", {}).get("glyphs", {})
    named = [(name, rows.get(name)) for name in ("EntAugment", "SRA", "RandAugment, drawn magnitudes")]
    if any(row is None for _, row in named):
        return NOT_MEASURED
    return "drawn characters, 5 each: " + ", ".join(f"{name} {percent(row['accuracy'])}" for name, row in named if row)


def subsets(setting: str, contender: str) -> str:
    """Test accuracy after training on, or augmenting, a part of the data."""
    row = result("coreset_training").get("results", {}).get(setting, {}).get(contender)
    if row is None:
        return NOT_MEASURED
    spread = "" if row["accuracy"]["sd"] is None else f" ± {row['accuracy']['sd']:.1f}"
    return f"{row['accuracy']['mean']:.1f}{spread}"


def subset_gain(contender: str) -> str:
    """A tenth and three tenths of the data at equal cost, beside the fresh random subset."""
    parts = []
    for share in ("10%", "30%"):
        setting = f"{share}, equal cost"
        figure = f"{share.replace('%', ' %')}: {subsets(setting, contender)}"
        if contender != "fresh random subset":
            figure += f" (random {subsets(setting, 'fresh random subset')})"
        parts.append(figure)
    return f"small CIFAR-10, accuracy at equal cost, {', '.join(parts)}; full run {subsets('full', 'full')}"


def selecting() -> str:
    """Seconds for a dataset of CIFAR-10's size."""
    figure = result("coreset").get("results", {}).get("50,000, 10 classes, 10 %", {}).get("seconds, sum over classes")
    return f"{figure['median']:g} s for 10 % of 50,000 samples in 10 classes" if figure else NOT_MEASURED


def times_faster(case: str, way: str) -> str:
    """A way to the moments over Monte Carlo of equal error."""
    found = result("moments").get("results", {}).get("speed", {}).get(case, {})
    ratio = next((part["times faster than Monte Carlo"] for name, part in found.items() if name.startswith(way)), {})
    return f"×{ratio['median']:,g}" if ratio else NOT_MEASURED


def moments_gain() -> str:
    """Both cases of the benchmark of moments."""
    crop, turn = times_faster("padded crop (4) × flip", "162"), times_faster("rotation by ±30°", "quadrature")
    return f"speed over Monte Carlo of error 1e-3: {crop} padded crop and flip, {turn} rotation"


def draws() -> str:
    """How many draws a 1 % estimate of the loss takes, for each dataset and augmentation."""
    rows = [
        (
            "data",
            "augmentation",
            "one image: median (quartiles)",
            "dataset's mean",
            "accuracy, mean loss",
            "exact / linearised variance, median (quartiles)",
        )
    ]
    found = result("moments").get("results", {})
    for data in ("digits", "CIFAR-10"):
        for name, row in found.get(f"draws, {data}", {}).items():
            low, middle, high = row["per image, quartiles"]
            rows.append(
                (
                    data,
                    name,
                    f"{middle:,} ({low:,}–{high:,})",
                    f"{row[MEAN]:,}",
                    f"{row['accuracy, percent']:.1f} %, {row['mean loss']:g}",
                    "{1:.2g} ({0:.2g}–{2:.2g})".format(*row["linearised"]),
                )
            )
    return table(rows) if len(rows) > 1 else NOT_MEASURED


def recording() -> str:
    """Share of a training step that recording the user's own outputs takes, at worst over the numbers of classes."""
    rows = result("coreset_record").get("results", {}).get("cost", {})
    share = max((row["ratio"]["median"] for row in rows.values()), default=None)
    return NOT_MEASURED if share is None else f"at most {share:.2%} of a training step, 128 bytes a sample"


def methods() -> str:
    """One row a method: what, when, cost, measured gain."""
    return table(
        [
            ("method", "what", "when", "cost", "measured gain"),
            (
                "`DataLoader`",
                "runs what follows on whole batches, drawn per sample",
                "always",
                machinery(),
                recipe_gain(),
            ),
            (
                "`lift=True`, `lift`",
                "the dataset's own transforms, taken out of a copy of it and run batched, same distribution",
                "a pipeline exists already",
                "that of what it lifts",
                "the [lifted pipelines](performance.md#lifted-pipelines)",
            ),
            (
                "`AugmentedDataset`",
                "albumentations, torchvision or any callable per sample in the workers, drawn by seed, epoch and index",
                "transforms that stay on the CPU; augmenting only a part of the data (`only=`)",
                "setting the generators for each sample; not measured",
                "none in speed; draws that differ between workers and epochs, and repeat",
            ),
            (
                "`RandAugment`, `TrivialAugment`, `AutoAugment`, `AugMix`",
                "random operations from torchvision's tables, each sample its own",
                "image classification; TrivialAugment has nothing to tune",
                "about one pass over the batch per operation",
                f"speed: {both_sizes('RandAugment')}",
            ),
            (
                "`PadCrop`, `Flip`, `RandomResizedCrop`",
                "where the picture lies",
                "nearly always",
                "one pass for all neighbours",
                f"speed: {both_sizes('flip + crop')}",
            ),
            (
                "`Erase`",
                "rectangles set to a value (Random Erasing, Cutout)",
                "after tone operations",
                "one pass",
                f"speed: {both_sizes('cutout')}",
            ),
            (
                "`MixUp`, `CutMix`",
                "blends or pastes samples, labels become soft; a share for each sample",
                "classification with many epochs",
                "one extra read",
                f"speed: {both_sizes('CutMix')}",
            ),
            ("`Normalize`", "scales, normalises, casts", "last", "one pass", "part of the epoch above"),
            (
                "`Coreset` with `coreset.RandomSubset`",
                "a fresh random subset every few epochs",
                "the baseline that every selection must beat",
                "one permutation per selection",
                subset_gain("fresh random subset"),
            ),
            (
                "`FacilityLocation`",
                "medoids of the last-layer gradients of each class, weighted by how many samples they stand for",
                "to cover every class evenly with few samples; it keeps wrong labels",
                selecting(),
                subset_gain("FacilityLocation, observed"),
            ),
            (
                "`MaxLoss`",
                "the samples of largest loss, or of smallest",
                "as a rival in comparisons",
                "one sort",
                subset_gain("MaxLoss, observed"),
            ),
            (
                '`Coreset` with `embed="observed"`',
                "gradients of the last layer from your own forward passes",
                "selections without a pass over the data",
                recording(),
                "that pass",
            ),
            (
                "`InfoBatch`",
                "prunes at random below the mean loss and weighs the rest up",
                "to save steps without choosing a budget",
                "one random number a sample",
                subset_gain("InfoBatch"),
            ),
            (
                "`SAFLEX`",
                "weights and soft labels that lower the loss of a clean validation set",
                "wrong labels or label-changing augmentation, and some hundred clean samples",
                step("SAFLEX, jvp, validation 1/4"),
                learned("SAFLEX"),
            ),
            (
                "`LearningToReweight`, `MetaWeightNet`",
                "weights from the same benefit, by sign or by a small network of the loss",
                "as rivals of SAFLEX",
                "as SAFLEX; MetaWeightNet as MetaAugment",
                f"{learned('LearningToReweight')}; MetaWeightNet {accuracy('MetaWeightNet')}",
            ),
            (
                "`LiLAW`",
                "weights by three learned numbers, for easy, moderate and hard samples",
                "as a rival; wrong labels weigh more than right ones",
                f"a forward pass of the batch and of a validation batch: {cost('LiLAW')}",
                f"digits, 40 % flipped labels: {accuracy('LiLAW')} % (plain {accuracy('plain')})",
            ),
            (
                "`MetaAugment`",
                "a policy network weighs samples; pairs of operations it distrusts are drawn less often",
                "operations that may change the class; it sees label conflict, not lost information",
                step("MetaAugment, jvp"),
                policy(),
            ),
            (
                "`EntAugment`, `SRA`",
                "a magnitude of its own for each sample, from what the loss saw of it",
                "no time to tune RandAugment's magnitude",
                "a softmax; 12 bytes a sample",
                policy_accuracy(),
            ),
            (
                "`SoftAugmentation`",
                "softer labels the less of the sample is visible",
                "with strong crops and erasing",
                "none",
                soft_gain(),
            ),
            (
                "`moments`",
                "mean and covariance of augmented images and losses, exactly or by quadrature; draws needed",
                "to choose an augmentation and its strength, and to see what hurts a model",
                "one transform a node, one forward pass each for losses",
                moments_gain(),
            ),
            (
                "`moments.ExpectedLoss`, `moments.ridge`",
                "the expected loss: a closed form for linear models, a regulariser for networks",
                "small transforms; linear models",
                "one Jacobian–vector product a direction",
                NOT_MEASURED,
            ),
            (
                "`coreset.AugmentationVariance`",
                "samples whose loss the augmentation moves most, more often",
                "as a diagnostic; its largest are outliers and wrong labels",
                "a forward pass a transform and sample",
                NOT_MEASURED,
            ),
            (
                "`reweight.UniformWeights`",
                "nothing: plain training, bit for bit",
                "as the control",
                "none",
                "none, by design",
            ),
        ]
    )


def speeds() -> str:
    """Images per second of ours and of every rival, side by side; losses stay in."""
    cases = [augmenting("RandAugment", size).get("images/s", {}) for size in BATCHES]
    epoch = recipe().get("images_per_second", {})
    names = sorted({*cases[0], *cases[1], *epoch}, key=lambda name: (not name.startswith("smartaug"), name))
    columns = ("RandAugment, 32 px, 1 thread", "RandAugment, 224 px, 1 thread", "CIFAR recipe, 2 workers")
    rows = [("images per second", *columns)]
    for name in names:
        rows.append((name, *(f"{case[name]['median']:,.0f}" if name in case else "" for case in (*cases, epoch))))
    return table(rows) if names else NOT_MEASURED


def fetch() -> str:
    """Getting uint8 images out of a dataset in an array, and nothing else."""
    speeds = result("loader").get("results", {}).get("fetch", {}).get("images_per_second", {})
    rows = [("CIFAR-10 in memory, uint8, batches of 256", "images per second")]
    rows += [(name, f"{figure['median']:,.0f}") for name, figure in speeds.items()]
    return table(rows) if speeds else NOT_MEASURED


def dense() -> str:
    """Images with masks or boxes: images per second of each contestant, and the ratio to the best per-sample rival."""
    found = {name: part for name, part in result("dense").get("results", {}).items() if "images_per_second" in part}
    names = list(dict.fromkeys(name for part in found.values() for name in part["images_per_second"]))
    rows = [("images/s (× the best that draws per sample)", *found)]
    for name in sorted(names, key=lambda name: not name.startswith("smartaug")):
        cells = []
        for part in found.values():
            speed, ratio = part["images_per_second"].get(name), part["ratio_to_best_per_sample_rival"].get(name)
            cells.append(f"{speed['median']:,.0f} (×{ratio['median']:.2f})" if speed and ratio else "")
        rows.append((name, *cells))
    return table(rows) if names else NOT_MEASURED


def percent(figure: dict[str, Any]) -> str:
    """Mean and standard deviation."""
    return f"{figure['mean']:.1f} ± {figure['sd']:.1f}"


def lifted() -> str:
    """Every recipe: speed of the lifted loader over the original, and test accuracy of both."""
    speeds, accuracies = result("loader").get("results", {}).get("recipes", {}), result("lift").get("results", {})
    names = list(dict.fromkeys([*(name.rpartition(",")[0] for name in speeds), *accuracies]))
    rows = [
        ("pipeline", "speed, 32 px", "speed, 224 px with decoding", "accuracy, original", "lifted", "lifted − original")
    ]
    for name in names:
        ratios = [speeds.get(f"{name}, {size} px", {}).get("ratio_to_best_per_sample_rival", {}) for size in (32, 224)]
        best = [max((r["median"] for k, r in ratio.items() if "lifted" in k), default=None) for ratio in ratios]
        found = accuracies.get(name, {})
        if "lifted" not in found and not any(best):
            continue
        apart = found.get("lifted − original")
        shown = f"{round(apart['mean'], 1) + 0.0:+.1f}, noise ± {apart['noise']:.1f}" if apart else NOT_MEASURED
        rows.append(
            (
                name,
                *(NOT_MEASURED if one is None else f"×{one:g}" for one in best),
                *(percent(found[kind]) if kind in found else NOT_MEASURED for kind in ("original", "lifted")),
                shown,
            )
        )
    return table(rows) if len(rows) > 1 else NOT_MEASURED


def weighing() -> str:
    """What a training step costs with SAFLEX, and how near the benefits are to the exact ones."""
    results = result("reweight").get("results", {})
    cost, quality = results.get("cost", {}), results.get("quality", {})
    rows = [
        (
            "SAFLEX, validation batch 1/4",
            "time, × a plain step",
            "memory",
            "cosine to the exact benefits: median (least)",
        )
    ]
    forms = {
        "": ("jvp", None),
        '`method="difference"`': ("difference", "difference"),
        '`method="difference", when="loss"`': ("difference, at loss", "difference, logits given"),
        '`method="difference", when="loss", every=4`': ("difference, every=4, at loss", "old direction"),
        '`scope="head", when="loss", every=4`': ("head, every=4, at loss", "head"),
    }
    for written, (form, name) in forms.items():
        kind, _, rest = form.partition(", ")
        row = cost.get(", ".join(part for part in ("SAFLEX", kind, "validation 1/4", rest) if part), {})
        cosine = quality.get(name or "", {}).get("cosine")
        near = f"{cosine['median']:.4f} ({cosine['min']:.4f})" if cosine else "1" if name is None else NOT_MEASURED
        rows.append(
            (
                written or "as it is",
                f"{row['time_ratio']['median']:g}" if row else NOT_MEASURED,
                f"{row['memory_ratio']:g}" if row else NOT_MEASURED,
                near + (" of a direction 4 steps old" if name == "old direction" else ""),
            )
        )
    return table(rows)


def parts() -> str:
    """Accuracy at equal cost of training on, or augmenting, a part of the data; what wins first."""
    names = {"30%, equal cost": "30 %, cheap augmentation", "expensive, equal cost": "expensive augmentation"}
    tables = result("coreset_training").get("results", {})
    rows = []
    for setting, title in names.items():
        if setting not in tables:
            return NOT_MEASURED
        lines = [f"{name} {subsets(setting, name)}" for name in tables[setting]]
        rows.append((title, "; ".join(lines)))
    return table([("at equal cost", "accuracy, %, best first"), *rows])


def adopted() -> str:
    """What people have, what of it is lifted, and how much faster the epoch became."""
    found = result("loader").get("results", {}).get("recipes", {})
    rows = [("your data", "what is lifted", "measured, with 2 workers")]
    for written, lifted, name in ADOPTED:
        ratio = found.get(name, {}).get("ratio_to_best_per_sample_rival", {})
        best = max((row for key, row in ratio.items() if "lifted" in key), key=lambda row: row["median"], default=None)
        rows.append((written, lifted, NOT_MEASURED if best is None else f"×{spread(best)} images/s"))
    files = result("loader").get("results", {}).get("JPEG files", {}).get("sides of 240 to 420 px")
    ratio = f"×{spread(files['lifted, decode exact']['ratio'])} images/s" if files else NOT_MEASURED
    rows.append((*ADOPTED_FILES, ratio))
    seconds = result("wrappers").get("results", {})
    for name, (written, lifted) in WRAPPED.items():
        found = seconds.get(name)
        cell = f"{found['before']['median']:.1f} → {found['after']['median']:.1f} s ¹" if found else NOT_MEASURED
        rows.append((written, lifted, cell))
    return table(rows)


def wrappers() -> str:
    """Processor seconds of loading before and after, and what runs batched, of each program."""
    found = result("wrappers").get("results", {})
    rows = [("processor s per 1,000 images", "before", "after", "ratio", "runs batched")]
    for name, (written, _) in WRAPPED.items():
        if name in found:
            row = found[name]
            names = ", ".join([*row["lifted"]["device"], *row["lifted"]["folded"]])
            rows.append((written, *(spread(row[key]) for key in ("before", "after", "ratio")), names))
    return table(rows) if len(rows) > 1 else NOT_RUN


def spread(ratio: dict[str, Any]) -> str:
    """Median, minimum and maximum."""
    return f"{ratio['median']:g} ({ratio['min']:g}–{ratio['max']:g})"


def jpeg_files() -> str:
    """JPEG files of unequal size at 224 px: speed and processor time over the original, memory of a worker."""
    tables = result("loader").get("results", {}).get("JPEG files", {})
    rows = [("files", "loader", "images/s", "× the original", "processor s per 1,000", "MiB of a worker")]
    for files, found in tables.items():
        for name, row in found.items() if isinstance(found, dict) else ():
            if isinstance(row, dict):
                speed, cost = row["images_per_second"], row["processor_seconds_per_1000"]
                cells = (f"{speed['median']:,.0f}", spread(row["ratio"]), f"{cost['median']:.2f}", row["worker_mib"])
                rows.append((files, name, *map(str, cells)))
    return table(rows) if tables else NOT_RUN


def regions() -> str:
    """Decoding the part of a JPEG file that is kept: processor time, and the ratio to decoding the whole file."""
    found = result("regions").get("results", {})
    areas = {name: part for name, part in found.items() if name != "loader"}
    heads = (f"parts of {name} of the picture" for name in areas)
    rows: list[tuple[str, ...]] = [("processor ms a file, × simplejpeg", *heads, "largest difference")]
    for name in next(iter(areas.values()), {}):
        cells = [part[name] for part in areas.values()]
        if all(isinstance(cell, dict) for cell in cells):
            most = max(cell["largest difference"] for cell in cells)
            shown = [f"{cell['milliseconds']['median']:g}, ×{spread(cell['ratio'])}" for cell in cells]
            rows.append((name, *shown, str(most)))
    for decode, cell in found.get("loader", {}).items():
        shown = f"{cell['milliseconds']['median']:g}, ×{spread(cell['ratio'])}"
        blank = [""] * (len(areas) - 1)
        rows.append((f'an epoch of a loader, decode="{decode}" (× exact)', shown, *blank, "0"))
    return table(rows) if areas else NOT_RUN


def unequal() -> str:
    """Photographs of unequal size to a batch: milliseconds an image, and the ratio to size by size."""
    found = result("unequal").get("results", {})
    ways = list(dict.fromkeys(way for part in found.values() for way in part["milliseconds_per_image"]))
    rows: list[tuple[str, ...]] = [("ms an image, × size by size", *ways)]
    for name, part in found.items():
        cells = (
            f"{part['milliseconds_per_image'][way]:.2f}, ×{spread(part['ratio_to_size_by_size'][way])}" for way in ways
        )
        rows.append((name, *cells))
    return table(rows) if found else NOT_RUN


def rival_files() -> str:
    """From files to batches by every library: speed with 1, 2 and 4 workers, and without RandAugment."""
    results = result("files").get("results", {})
    crops = {name: row for name, row in results.get("crop and mirror, 224 px", {}).items() if isinstance(row, dict)}
    tables = {name: part for name, part in results.get("workers, 224 px", {}).items() if isinstance(part, dict)}
    if not tables or not crops:
        return NOT_RUN
    heads = [name.replace("1 workers", "1 worker") for name in tables]
    cost = "processor s per 1,000, 2 workers"
    rows: list[tuple[str, ...]] = [("images/s, × the original", *heads, cost, "without RandAugment, 2 workers", cost)]
    for name in dict.fromkeys([*crops, *(name for part in tables.values() for name in part)]):
        cells = [speed_of(part.get(name)) for part in tables.values()]
        two, crop = tables["2 workers"].get(name), crops.get(name)
        rows.append((name, *cells, seconds_of(two), speed_of(crop), seconds_of(crop)))
    return table(rows)


def speed_of(row: dict[str, Any] | None) -> str:
    """Images per second, and the ratio with its minimum and maximum; or why there is none."""
    if not row:
        return ""
    if "missing" in row:
        return str(row["missing"]).partition(":")[0]
    return f"{row['images_per_second']['median']:,.0f}, ×{spread(row['ratio'])}"


def seconds_of(row: dict[str, Any] | None) -> str:
    """Processor seconds per 1,000 images."""
    return f"{row['processor_seconds_per_1000']['median']:.3g}" if row and "missing" not in row else ""


def rival_sizes() -> str:
    """How the gain over the original changes with the size of the result."""
    rows: list[tuple[str, ...]] = []
    for size, found in result("files").get("results", {}).get("sizes", {}).items():
        measured = {name: row for name, row in found.items() if isinstance(row, dict)}
        rows = rows or [("images/s, × the original", "kB a file", *measured)]
        rows.append((size, f"{found['kilobytes_each']:g}", *(speed_of(row) for row in measured.values())))
    return table(rows) if rows else NOT_RUN


def rival_memory() -> str:
    """Images of 32 pixels in memory."""
    rows = [("CIFAR-10 in memory, 2 workers or threads", "images/s, × the original", "processor s per 1,000")]
    for name, row in result("files").get("results", {}).get("32 px in memory", {}).items():
        if isinstance(row, dict):
            rows.append((name, speed_of(row), seconds_of(row)))
    return table(rows) if len(rows) > 1 else NOT_RUN


def few_clean() -> str:
    """What clean samples are best used for beside wrong ones: accuracy, paired difference and cost of each row."""
    found = result("few_clean").get("results", {})
    rows = [("generated and spurious", "generated: accuracy", "paired", "spurious: accuracy", "paired", "cost")]
    for name in found.get("generated", {}):
        cells, cost = [], []
        for regime in ("generated", "spurious"):
            row = found.get(regime, {}).get(name)
            if row is None:
                return NOT_MEASURED
            cells += [percent(row["accuracy"]), paired(row["paired"])]
            cost.append(row["cost"]["median"])
        rows.append((name, *cells, f"×{max(cost):.1f}"))
    return table(rows) if len(rows) > 1 else NOT_MEASURED


TRUSTED = {
    "plain + trusted × 5": "plain training on the same data",
    "trusted alone, label smoothing 0.4": "the trusted labels alone, smoothed",
    "LearningToReweight + trusted × 5": "**`LearningToReweight`**",
    "filtered, 3 rounds, label smoothing 0.4": "three rounds of filtering, smoothed",
    "corrected": "Gold Loss Correction, which assumes that errors go by class",
}


def trusted() -> str:
    """The regime that README names: accuracy and cost of learned weights and of their rivals."""
    half = result("mislabelled").get("results", {}).get("half", {}).get("rows")
    if half is None:
        return NOT_MEASURED
    seeds = half["corrected"]["accuracy"]["n"]
    rows = [("digits: 20 trusted labels beside 900, half of them wrong", f"accuracy, {seeds} seeds", "processor time")]
    for name, written in TRUSTED.items():
        rows.append((written, percent(half[name]["accuracy"]), f"×{half[name]['cost']['median']:.1f}"))
    return table(rows)


def mislabelled() -> str:
    """What trusted labels are best used for beside wrong ones: accuracy in each setting, worst first, and cost."""
    found = result("mislabelled").get("results", {})
    if not {"half", "any", "image"} <= found.keys():
        return NOT_MEASURED
    half, others = found["half"]["rows"], [found[name]["rows"] for name in ("any", "image")]
    rows = [("on the images", "half: accuracy", "paired, to the best rival", "any", "image", "cost")]
    for name, row in half.items():
        shown = f"**{name}**" if name.startswith(("SAFLEX", "LearningToReweight")) else name
        elsewhere = (percent(other[name]["accuracy"]) for other in others)
        cost = f"×{row['cost']['median']:.1f}"
        rows.append((shown, percent(row["accuracy"]), paired(row["paired"]), *elsewhere, cost))
    return table(rows)


SETS = ("german", "pima", "adult", "pneumonia")


def real(regime: str, sets: tuple[str, ...] = SETS) -> str:
    """A regime on the real sets: accuracy and AUC of each row with the paired difference to the row it is beside."""
    return side_by_side(regime, {name: f"{name}, {regime}" for name in sets})


def side_by_side(head: str, columns: dict[str, str]) -> str:
    """Accuracy and AUC of each row with its paired difference, a pair of columns for each part of the results."""
    found = {name: result("real_sets").get("results", {}).get(part) for name, part in columns.items()}
    measured = {name: rows for name, rows in found.items() if rows is not None}
    if not measured:
        return NOT_RUN
    lines = [(head, *[part for name in measured for part in (f"{name}: accuracy", "AUC")], "cost")]
    for way in next(iter(measured.values())):
        cells, cost = [], []
        for rows in measured.values():
            cost.append(f"{rows[way]['cost']['median']:.1f}")
            for name in ("accuracy", "auc"):
                cells.append(f"{percent(rows[way][name])} ({rows[way][name + ', paired']['mean']:+.1f})")
        shown = f"**{way}**" if way.endswith(("judge alone", "train_on_val=k")) else way
        lines.append((shown, *cells, "×" + "; ".join(cost)))
    return table(lines)


VERDICTS = ("SAFLEX, train_on_val=k", "LearningToReweight, train_on_val=k", "(SAFLEX's rule on random benefits)")


def verdict(ways: tuple[str, ...], parts: list[str], rivals: tuple[str, str] = ("plain", "picked")) -> str:
    """Rows beside the one each is compared with and the rival that the choosing samples pick: paired differences."""
    found = result("real_sets").get("results", {})
    lines = [("paired difference", *(f"{way} − {rival}" for way in ways for rival in rivals))]
    for part in (part for part in parts if part in found):
        for figure, word in (("accuracy", "accuracy"), ("auc", "AUC")):
            kinds = (f"{figure}, paired", f"{figure}, paired, to the picked rival")
            cells = (paired(found[part][way][kind]) for way in ways for kind in kinds)
            lines.append((f"{part}: {word}", *cells))
    return table(lines) if len(lines) > 1 else NOT_RUN


def real_verdict() -> str:
    """Learned weights beside plain training and the picked rival, on all real sets but the augmented ones."""
    parts = [f"{name}, {regime}" for regime in ("one way", "either way", "as it is") for name in SETS]
    return verdict(VERDICTS, [*parts, *CIFAR.values()])


CIFAR = {
    "half wrong": "cifar, half wrong",
    "generated, 40 % wrong": "cifar, generated",
    "spurious patch": "cifar, spurious",
}
SMALL_TABLES = ("german", "pima", "breast-cancer")
MIXED = ("SAFLEX, train_on_val=k", "MixUp, SAFLEX, train_on_val=k", "CutMix, SAFLEX, train_on_val=k")


def augmented_verdict() -> str:
    """SAFLEX on rows as they are, on MixUp and on CutMix beside the same rows without it."""
    return verdict(MIXED, [f"{name}, augmented" for name in SMALL_TABLES], ("without it", "picked"))


def pruning() -> str:
    """What pruning saves beside a shorter schedule, with right and with wrong labels."""
    found = result("pruning").get("results", {})
    head, rows = ["rows trained as it says"], dict[str, list[str]]()
    for regime, told in found.items():
        noisy = any("wrong" in row for row in told.values())
        width = len(head)
        head += [f"{regime}: rows", "accuracy", "paired", *(["wrong, of the rows (of the weight)"] if noisy else [])]
        for name, row in told.items():
            cells = rows.setdefault(name, [name])
            cells += [""] * (width - len(cells))
            cells += [f"{row['rows']:.0%}", percent(row["accuracy"]), paired(row["paired"])]
            cells += [f"{row['wrong']:.0%} ({row['wrong, by weight']:.0%})"] if noisy else []
    full = [tuple(cells + [""] * (len(head) - len(cells))) for cells in rows.values()]
    return table([tuple(head), *full]) if full else NOT_MEASURED


def data_efficient() -> str:
    """Augmented copies of a subset beside their rivals at the same cost, the best first."""
    found = result("data_efficient").get("results", {})
    if not found:
        return NOT_RUN
    rows = [("at equal cost", "copies in an epoch", "epochs", "accuracy", "paired", "processor time")]
    for name, row in found.items():
        cells = (f"{row['augmented in an epoch']:,}", str(row["epochs"]), percent(row["accuracy"]))
        rows.append((name, *cells, paired(row["paired"]), f"×{row['seconds']:.1f}"))
    return table(rows)


def paired(apart: dict[str, Any]) -> str:
    """Mean and standard deviation of a difference, and in how many seeds it is positive."""
    return f"{apart['mean']:+.1f} ± {apart['sd']:.1f} ({apart['better']}/{apart['n']})"


def policies() -> str:
    """Sample-aware and learned policies: accuracy, paired difference and cost of each row, by data."""
    found = result("policy").get("results", {})
    rows = [("data", "policy", "accuracy", "paired", "cost")]
    for name in ("digits", "glyphs", "cifar", "harmful digits"):
        for way, row in found.get(name, {}).items():
            apart = "base" if row["base"] else paired(row["paired"])
            shown = (percent(row["accuracy"]), apart, f"×{row['cost']['median']:.1f}")
            rows.append((name, way, *shown))
    return table(rows) if len(rows) > 1 else NOT_RUN


def wrong_pairs() -> str:
    """What clean pairs are best used for beside wrong ones: partners found, paired difference, cost beside plain."""
    found = result("wrong_pairs").get("results", {})
    rows = [("pairs, 40 % wrong", "partners found among ten, %", "paired", "cost of the run", "of a step")]
    for name, row in found.items():
        cost = (
            f"×{row[part]['median']:.1f} ({row[part]['min']:.1f}–{row[part]['max']:.1f})" for part in ("cost", "step")
        )
        rows.append((name, percent(row["found"]), paired(row["paired"]), *cost))
    return table(rows) if found else NOT_MEASURED


ADOPTED = [
    (
        "CIFAR-10 from torchvision, 32 px, RandAugment",
        "everything; batches come from the array whole",
        "torchvision preset, RandAugment, 32 px",
    ),
    ("the same with timm's RandAugment", "everything", "timm rand-m9-mstd0.5-inc1, 32 px"),
    (
        "arrays with an albumentations pipeline, 32 px",
        "all but what makes images of unequal size",
        "albumentations, medical, 32 px",
    ),
]
ADOPTED_FILES = (
    "a folder of JPEGs, 224 px, RandAugment",
    "everything; the workers decode and crop, faster than Pillow",
)
WRAPPED = {  # name in the results -> what people have, and what of it is lifted
    "preset": ("JPEGs of 500×375, the pipeline in an object (torchvision's reference preset)", "all behind the crop"),
    "two views": ("the same, two views of each by a wrapper (SimCLR)", "all behind the crops, a draw for each view"),
    "Hugging Face": ("the same in `datasets`, `with_transform(function)`, `Trainer`", "what the function calls"),
    "table": ("a CSV of these files with 14 labels each, your own `Dataset`", "all behind the crop"),
    "Lightning": ("the same in a Lightning `DataModule`, `random_split`", "all behind the crop"),
}
TABLES = {
    "adopted": adopted,
    "wrappers": wrappers,
    "methods": methods,
    "speeds": speeds,
    "fetch": fetch,
    "lifted": lifted,
    "jpeg_files": jpeg_files,
    "regions": regions,
    "unequal": unequal,
    "rival_files": rival_files,
    "rival_sizes": rival_sizes,
    "rival_memory": rival_memory,
    "dense": dense,
    "weighing": weighing,
    "draws": draws,
    "parts": parts,
    "few_clean": few_clean,
    "mislabelled": mislabelled,
    "trusted": trusted,
    "real_verdict": real_verdict,
    "real_one_way": lambda: real("one way"),
    "real_either_way": lambda: real("either way"),
    "real_as_it_is": lambda: real("as it is"),
    "real_cifar": lambda: side_by_side("CIFAR-10", CIFAR),
    "augmented_verdict": augmented_verdict,
    "real_augmented": lambda: real("augmented", SMALL_TABLES),
    "pruning": pruning,
    "data_efficient": data_efficient,
    "policies": policies,
    "wrong_pairs": wrong_pairs,
}
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs" / "pages").glob("*.md")))
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """``text`` with the tables between its markers made anew."""
    return _MARKED.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[3]}", text)


def main() -> None:
    """Write README and pages, or with --check exit 1 where one differs from the results."""
    before = {path: path.read_text() for path in PAGES}
    missing = set(TABLES) - {match[2] for text in before.values() for match in _MARKED.finditer(text)}
    if missing:
        raise SystemExit(f"no page has the markers of the tables {', '.join(sorted(missing))}")
    differing = [path for path, text in before.items() if filled(text) != text]
    if "--check" in sys.argv:
        names = ", ".join(path.name for path in differing)
        sys.exit(f"{names} differ from the results; run python -m benchmarks.tables" if differing else 0)
    for path in differing:
        path.write_text(filled(before[path]))


if __name__ == "__main__":
    main()
