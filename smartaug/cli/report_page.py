"""The page that `smartaug.plots.report` writes: one HTML file with everything in it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..loading.pictures.grid import AnyFigure, new_figure, shown_as_picture
from ..loading.pictures.words import amount
from .clock import PARTS
from .recorder import QUANTILES, Recorder

_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:#222}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}h1{font-size:1.6rem;margin:0 0 .2rem}
h2{font-size:1.15rem;margin:2.2rem 0 .4rem;border-bottom:1px solid #ddd;padding-bottom:.2rem}
p{margin:.4rem 0}p.note{color:#666}table{border-collapse:collapse;margin:.6rem 0}
th,td{padding:.15rem .9rem .15rem 0;text-align:right;font-variant-numeric:tabular-nums}
th:first-child,td:first-child,table.words td:last-child,table.words th:last-child{text-align:left}
th{border-bottom:1px solid #bbb;font-weight:600}img.plot{max-width:100%}
pre{background:#f6f6f6;padding:.7rem;overflow-x:auto;font-size:12px;line-height:1.4}
div.row{display:flex;flex-wrap:wrap;gap:.7rem}figure{margin:0;width:6.6rem}
figure img{width:6.6rem;height:6.6rem;object-fit:contain;background:#f2f2f2;image-rendering:auto}
figure img.small{image-rendering:pixelated}figcaption{font-size:11.5px;line-height:1.3;color:#333}
"""

Axis = Any  # a `matplotlib.axes.Axes`; matplotlib is optional


def page(recorder: Recorder, samples: int) -> str:
    """The whole page; ``samples`` most trusted and as many most doubted samples are shown."""
    epochs = recorder.epochs
    name = type(getattr(recorder.loader, "dataset", recorder.loader)).__name__
    said = f"{name}; {len(epochs)} epochs, {recorder.samples:,} samples handed out"
    parts = [
        f"<h1>What the stages did</h1><p>{html.escape(said)}</p>",
        _section("Weights over the epochs", _weights(recorder)),
        _section("Labels moved", _labels(recorder)),
        _section("Most trusted and most doubted samples", _trusted(recorder, samples)),
        _section("Operations applied", _operations(recorder)),
        _section("Samples met", _coverage(recorder)),
        _section("Seconds by part of the work", _seconds(recorder)),
        _section("Stages", f"<pre>{html.escape(recorder.loader.explain())}</pre>"),
        _section("Figures (stats)", _stats(recorder.loader.stats())),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width"><title>smartaug report</title><style>' + _STYLE + "</style></head><body>"
        f"{''.join(parts)}</body></html>"
    )


def _section(title: str, body: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{body}"


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = ["".join(f"<{'td' if n else 'th'}>{html.escape(cell)}</{'td' if n else 'th'}>" for cell in row)
                   for n, row in enumerate(rows)]  # fmt: skip
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table>"


def _png(figure: AnyFigure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return f'<img class="plot" alt="" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _axis(height: float = 2.6) -> tuple[AnyFigure, Axis]:
    figure = new_figure(figsize=(8, height), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _weights(recorder: Recorder) -> str:
    epochs = [epoch for epoch in recorder.epochs if epoch.weights is not None]
    if not epochs:
        return _note("No stage made weights.")
    figure, axis = _axis()
    numbers = [epoch.number for epoch in epochs]
    at = {q: [(epoch.weights or [])[n] for epoch in epochs] for n, q in enumerate(QUANTILES)}
    axis.fill_between(numbers, at[0.05], at[0.95], color="#59a14f", alpha=0.2, label="5 % to 95 % of the samples")
    axis.fill_between(numbers, at[0.25], at[0.75], color="#59a14f", alpha=0.4, label="middle half")
    axis.plot(numbers, at[0.5], color="#2f6b28", marker="o", markersize=3, label="median")
    axis.plot(numbers, [epoch.zero for epoch in epochs], color="#e15759", marker="o", markersize=3, label="share at 0")
    _by_epoch(axis, numbers, "weight (mean 1 in a batch)")
    return _png(figure)


def _by_epoch(axis: Axis, numbers: list[int], label: str) -> None:
    axis.set_xlabel("epoch")
    axis.set_ylabel(label)
    axis.set_ylim(bottom=0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    if len(numbers) == 1:
        axis.set_xlim(numbers[0] - 0.5, numbers[0] + 0.5)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _labels(recorder: Recorder) -> str:
    epochs = [epoch for epoch in recorder.epochs if epoch.moved is not None]
    if not epochs:
        return _note("No stage made soft labels.")
    figure, axis = _axis()
    numbers = [epoch.number for epoch in epochs]
    moved, changed = ([100 * (getattr(epoch, name) or 0.0) for epoch in epochs] for name in ("moved", "changed"))
    axis.plot(numbers, moved, color="#4e79a7", marker="o", markersize=3, label="mass on other classes")
    axis.plot(numbers, changed, color="#e15759", marker="o", markersize=3, label="likeliest class another")
    _by_epoch(axis, numbers, "% of the labels")
    return _png(figure) + _note("Against the stored labels: by mixing and by reweighting together.")


def _trusted(recorder: Recorder, count: int) -> str:
    known = (recorder.weight_count > 0).nonzero()[:, 0]
    if not len(known):
        return _note("No stage made weights of samples with an index.")
    mean = recorder.weight_sum[known] / recorder.weight_count[known]
    order = mean.argsort(stable=True)
    count = min(count, len(known) // 2 or 1)
    lowest, highest = known[order[:count]], known[order.flip(0)[:count]]
    parts = []
    for title, rows in (("Most trusted: the highest mean weight", highest), ("Most doubted: the lowest", lowest)):
        shown = "".join(_sample(recorder, int(row)) for row in rows)
        parts.append(f'<p>{title}</p><div class="row">{shown}</div>')
    return "".join(parts)


def _sample(recorder: Recorder, row: int) -> str:
    item = recorder.loader.dataset[row]
    picture, label = picture_of(item), _label_of(item)
    classes = getattr(recorder.loader.dataset, "classes", None)

    def named(number: int) -> str:
        known = isinstance(classes, (list, tuple)) and 0 <= number < len(classes)
        return str(classes[number]) if known and classes is not None else str(number)

    lines = [f"sample {row}", f"weight {float(recorder.weight_sum[row] / recorder.weight_count[row]):.2f}"]
    lines[1] += f" ({int(recorder.weight_count[row])}×)"
    if label is not None:
        lines.append(f"stored as {named(label)}")
    if int(recorder.label_now[row]) >= 0 and (label is None or int(recorder.label_now[row]) != label):
        lines.append(f"last moved to {named(int(recorder.label_now[row]))}")
    said = "<br>".join(html.escape(line) for line in lines)
    return f"<figure>{_thumbnail(picture)}<figcaption>{said}</figcaption></figure>"


def picture_of(item: object) -> Tensor | None:
    """The image (C, H, W) of a sample as its dataset gives it, floats in [0, 1]; None: it has none."""
    for leaf in pytree.tree_leaves(item):
        if isinstance(leaf, Tensor) and leaf.ndim == 3 and leaf.shape[0] in (1, 3):
            return shown_as_picture(leaf[None])[0]
        if hasattr(leaf, "__array_interface__") and not isinstance(leaf, Tensor):  # a PIL image or an array
            pixels = torch.from_numpy(np.array(leaf))
            if pixels.ndim in (2, 3):
                pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
                return shown_as_picture(pixels[None])[0]
    return None


def _label_of(item: object) -> int | None:
    """The label of a sample, where it is an integer of its own."""
    for leaf in pytree.tree_leaves(item):
        if isinstance(leaf, int) and not isinstance(leaf, bool):
            return leaf
        if isinstance(leaf, Tensor) and leaf.ndim == 0 and not leaf.is_floating_point():
            return int(leaf)
    return None


def _thumbnail(picture: Tensor | None) -> str:
    if picture is None:
        return ""
    from matplotlib.image import imsave

    longest = max(picture.shape[1:])
    if longest > 224:
        picture = torch.nn.functional.interpolate(
            picture[None], scale_factor=224 / longest, mode="bilinear", antialias=True
        )[0]
    file = io.BytesIO()
    pixels = picture.clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    imsave(file, pixels, format="png")
    small = ' class="small"' if longest < 64 else ""
    return f'<img{small} alt="" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _operations(recorder: Recorder) -> str:
    if not recorder.operations:
        return _note("No stage draws operations.")
    rows = [("operation", "times", "per 100 samples", "mean magnitude")]
    for name, operation in sorted(recorder.operations.items(), key=lambda pair: -pair[1].count):
        shown = "as it is" if name.startswith("Identity") else name
        magnitude = amount(name, operation.total / operation.count) if operation.total else ""
        share = 100 * operation.count / max(1, recorder.samples)
        rows.append((shown, f"{operation.count:,}", f"{share:.1f}", magnitude))
    return _table(rows) + _pairs(recorder.loader.stats().get("reweight", {}))


def _pairs(stats: dict[str, Any]) -> str:
    """The most and the least likely sequences of operations of a learned policy."""
    if "probabilities" not in stats:
        return ""
    table, names = torch.as_tensor(stats["probabilities"]), stats["operations"]
    flat = table.flatten()
    order = flat.argsort(descending=True, stable=True).tolist()
    rows = [("sequence of operations", "probability", "of an equal one")]
    for place in [*order[:8], *order[-4:]]:
        where = torch.unravel_index(torch.tensor(place), table.shape)
        words = ", then ".join(names[int(n)] for n in where)
        rows.append((words, f"{float(flat[place]):.4f}", f"×{float(flat[place]) * len(flat):.2f}"))
    return "<p>The learned policy: its eight likeliest and four least likely sequences.</p>" + _table(rows)


def _coverage(recorder: Recorder) -> str:
    size = len(recorder.seen)
    if not size or not int((recorder.seen >= 0).sum()):
        return _note("The batches carried no dataset indices.")
    last = recorder.epochs[-1].number
    figure, axis = _axis(2.4)
    numbers = [epoch.number for epoch in recorder.epochs]
    covered = [100 * epoch.covered / size for epoch in recorder.epochs]
    axis.plot(numbers, covered, color="#4e79a7", marker="o", markersize=3, label="met so far")
    drawn = [100 * epoch.drawn / size for epoch in recorder.epochs]
    axis.plot(numbers, drawn, color="#f28e2b", marker="o", markersize=3, label="drawn in the epoch")
    _by_epoch(axis, numbers, "% of the dataset")
    ages = last - recorder.seen[recorder.seen >= 0]
    rows = [("last drawn", "samples")]
    for low, high in ((0, 0), (1, 1), (2, 4), (5, 9), (10, None)):
        count = int(((ages >= low) & (ages <= (last if high is None else high))).sum())
        when = (
            "in the last epoch"
            if not low
            else f"{low} epoch{'s' * (low > 1)} before"
            if low == high
            else f"{low} to {high} before"
        )
        rows += [(when if high is not None else f"{low} or more before", f"{count:,}")] if count else []
    rows.append(("never", f"{int((recorder.seen < 0).sum()):,}"))
    return _png(figure) + _table(rows)


def _seconds(recorder: Recorder) -> str:
    seconds = {part: recorder.seconds[part] for part in PARTS if part in recorder.seconds}
    total = sum(seconds.values())
    if not total:
        return _note("Nothing was measured: training was over too soon.")
    figure, axis = _axis(0.5 + 0.27 * len(seconds))
    names = list(reversed(seconds))
    axis.barh(names, [seconds[name] for name in names], color="#76b7b2")
    axis.set_xlabel("seconds, from the first batch to the last")
    rows = [("part", "seconds", "share", "what it is")]
    rows += [(part, f"{spent:.2f}", f"{100 * spent / total:.1f} %", PARTS[part]) for part, spent in seconds.items()]
    note = "Of the main process; what workers do shows only as waiting for them."
    return _png(figure) + _table(rows).replace("<table>", '<table class="words">') + _note(note)


def _stats(stats: Mapping[str, object], before: str = "") -> str:
    rows = [("figure", "value")]

    def add(part: Mapping[str, object], before: str) -> None:
        for name, value in part.items():
            if isinstance(value, dict):
                add(value, f"{before}{name}.")
            elif isinstance(value, (int, float, str)):
                rows.append((f"{before}{name}", f"{value:.6g}" if isinstance(value, float) else str(value)))

    add(stats, before)
    return _table(rows)
