"""What trusted labels are best used for on real sets: among wrong labels, as the sets are, and beside mixed rows.

Sets (``--data FOLDER``): "pneumonia": pneumoniamnist.npz (MedMNIST, halved to 14×14), {images} of its training split
beside its own validation and test splits; "cifar": CIFAR-10 as JPEG files, cifar/train/CLASS/NAME and
cifar/test/CLASS/NAME, {pictures} training and {seen} test images, equally many a class; both a small CNN, SGD 0.05.
"adult": adult-train.csv, {rows} rows beside {tested} for the test; "german": german.csv, "pima":
pima-indians-diabetes.csv and "breast-cancer": breast-cancer.csv, all rows but 250, 200 and 85 for the test; tables are
standardised, words are one column each, MLP of two hidden layers of 64, SGD 0.02. Momentum 0.9, batch 64. A seed draws
the parts, the wrong labels, the order and the network.

Regimes: "one way": 50 trusted samples, and half of the others' positives (pneumonia, income over 50,000, bad credit,
diabetes) are labelled negative. "either way": 50 trusted, and 40 % of the others have the other label. "as it is": 150
trusted samples, no label made wrong. Of CIFAR-10, "half wrong": 100 trusted images, and half of the others carry the
label of the next class; "generated": 200 trusted images, and {made} made from them (moved by up to 4 pixels, mirrored,
with noise of half a standard deviation), 40 % under the label of the next class; "spurious": 100 trusted images, and a
bright patch in the others tells the class in 95 % of them by its place, no label is wrong, and the trusted, choosing
and test images have no patch. "augmented": tables as they are, 15 % of the rows trusted; see below. Trusted samples are
the validation data of learned weights.

Tuning, the same for each row: further samples with right labels (50; 100 in "as it is", 200 of CIFAR-10, 10 % of the
rows in "augmented") only choose; no row trains on them or judges by them. Each row is run with its trusted samples once
and 5 times in an epoch ("trusted × k"), each run is stopped after 2, 5 and 12 epochs ("augmented": 4, 12 and 36), and
the one of these six whose accuracy and AUC on the choosing samples have the highest mean is the row's result. "no
trusted labels" and "judge alone" have three to choose from, and "trusted alone", which takes as many steps, has label
smoothing 0 and 0.4 in place of the repeats. Test data choose nothing.

Rivals, in a plain loop: "plain + trusted × k"; with label smoothing; with class weights (of the labels that are given);
"many epochs": 10 times as many (pneumonia: 5, CIFAR-10: 4 times), stopped at as many times 2, 5 and 12, which is about
what SAFLEX costs, see the column; "filtered": the others whose label the model before gives, that of the trusted
samples being the first, three rounds, label smoothing 0.4; "corrected": Gold Loss Correction (Hendrycks et al., NeurIPS
2018), through the matrix that a first model tells on the trusted samples. "(picked rival)": on each seed the rival
whose result is best on the choosing samples.

Learned weights: `smartaug.SAFLEX` and `smartaug.LearningToReweight` at their defaults with ``train_on_val=k``. In
brackets controls, the same rules on random benefits, and a bound, the others' right labels.

"augmented": each row trains on the rows as they are, on `smartaug.MixUp` or on `smartaug.CutMix` (some columns of
another row, the label mixed by their share; the columns of a word are not kept together), each at its defaults, without
and with SAFLEX; in "trusted judge alone" the trusted rows do not train. The rivals are the rows without SAFLEX.

Accuracy and AUC in percent (of ten classes, the mean AUC of each against the rest): mean and standard deviation over
seeds. Paired: the difference on the same seed to "plain + trusted × k" (with MixUp and CutMix: to the same augmentation
"+ trusted × k") and to the picked rival, and in how many seeds it is positive. Cost: processor time of all runs of a
row over that of "plain + trusted × k", taken on a machine with other work, so that it is rough. Run: ``python -m
benchmarks.real_sets --data FOLDER``; ``--only "german, one way"``, or a part of such a name, runs what is so named.
5 seeds, in "either way" and "augmented" 10, or ``--seeds``.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import smartaug

try:
    from benchmarks import harness, real_data, real_ways
    from benchmarks.real_ways import BASE, Result
except ImportError:  # run as a file
    import harness  # type: ignore[no-redef]
    import real_data  # type: ignore[no-redef]
    import real_ways  # type: ignore[no-redef]
    from real_ways import BASE, Result  # type: ignore[no-redef]

PICKED = "(picked rival)"


def table(source: real_data.Set, regime: str, seeds: int) -> dict[str, Any]:
    """A row a way, seeds in turn."""
    rivals, methods = real_ways.ways(regime)
    ways = {**rivals, **methods}
    chosen: dict[str, list[Result]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(seeds):
        data = real_data.drawn(source, real_data.REGIMES[regime], seed)
        for name, way in ways.items():
            started = time.process_time()
            chosen[name].append(real_ways.best([one for setting in way.settings for one in way.run(data, setting)]))
            seconds[name].append(time.process_time() - started)
        print(f"seed {seed} of {seeds}", flush=True)
    picked = [max((chosen[name][seed] for name in rivals), key=lambda result: result.score) for seed in range(seeds)]
    chosen[PICKED] = picked
    seconds[PICKED] = [sum(seconds[name][seed] for name in rivals) for seed in range(seeds)]
    order = [*rivals, PICKED, *methods]
    beside = {name: chosen[way.beside] for name, way in ways.items()} | {PICKED: chosen[BASE]}
    return {name: row(chosen[name], beside[name], picked, seconds[name], seconds[BASE]) for name in order}


def row(
    mine: list[Result], base: list[Result], picked: list[Result], seconds: list[float], plain_seconds: list[float]
) -> dict[str, Any]:
    """Figures of a row."""
    figure: dict[str, Any] = {"cost": harness.summary([a / b for a, b in zip(seconds, plain_seconds, strict=True)], 3)}
    for name in ("accuracy", "auc"):
        values = [getattr(one, name) for one in mine]
        figure[name] = harness.spread(values)
        for rival, others in (("paired", base), ("paired, to the picked rival", picked)):
            apart = [value - getattr(one, name) for value, one in zip(values, others, strict=True)]
            figure[f"{name}, {rival}"] = {**harness.spread(apart), "better": sum(one > 0 for one in apart)}
    return figure


def shown(figure: dict[str, Any]) -> str:
    """A row in one line."""
    told = (
        f"{name} {figure[name]['mean']:.1f} ± {figure[name]['sd']:.1f}, to the picked rival "
        f"{figure[name + ', paired, to the picked rival']['mean']:+.1f} "
        f"± {figure[name + ', paired, to the picked rival']['sd']:.1f}"
        for name in ("accuracy", "auc")
    )
    return "   ".join((*told, f"cost {figure['cost']['median']:.1f}"))


def main() -> None:
    options = harness.arguments(__doc__, seeds=0, data=None, only="")
    if options.data is None:
        raise SystemExit("--data FOLDER names the folder of german.csv and the other sets")
    counts = {"images": real_data.IMAGES, "rows": real_data.ROWS, "tested": real_data.TESTED}
    counts |= {"pictures": real_data.PICTURES, "made": real_data.PICTURES_MADE, "seen": real_data.PICTURES_TESTED}
    path = harness.RESULTS / "real_sets.json"
    found = real_data.sets(Path(options.data))
    for regime, told in real_data.REGIMES.items():
        for name in (name for name in told.sets if name in found and options.only in f"{name}, {regime}"):
            print(f"{name}, {regime}", flush=True)
            with warnings.catch_warnings():
                warnings.simplefilter("default", smartaug.NoEffectWarning)
                made = table(found[name], regime, options.seeds or told.seeds)
            for way, figure in made.items():
                print(f"{way:48} {shown(figure)}", flush=True)
            kept = json.loads(path.read_text())["results"] if path.exists() else {}
            kept[f"{name}, {regime}"] = made
            harness.write("real_sets", (__doc__ or "").format(**counts), kept, packages=("scikit-learn",))


if __name__ == "__main__":
    main()
