"""The results of `smartaug.bench` as text, as plain values and as a picture."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..._base.text_tables import figures_table
from ..clock import PARTS
from .parity import Parity

Axis = Any  # a `matplotlib.axes.Axes`; matplotlib is optional
_WORTH = 1.1  # below this ratio, changing a loader is not worth it
_AS_FAST = 0.95  # settings this close to the best count as equal, and the one with fewer workers is taken
_COLOURS = {
    "fetch": "#4e79a7",
    "decode": "#76b7b2",
    "transform": "#e15759",
    "collate": "#b07aa1",
    "plan": "#f1ce63",
    "execute": "#59a14f",
    "weights": "#9c755f",
    "select": "#d7b5a6",
    "hand-over": "#bab0ac",
    "transfer": "#a0cbe8",
    "wait": "#d3d3d3",
    "loop": "#eeeeee",
}


def name_of(kind: str, workers: int) -> str:
    """The name of a contestant."""
    return f"{kind}, {workers} worker{'' if workers == 1 else 's'}"


@dataclass
class Contestant:
    """A loader of one kind, "torch" or "smartaug", with one number of workers.

    turns: round -> images per second; round 0 is the warm-up. memory: bytes of all its processes; None: not known.
    """

    name: str
    kind: str
    workers: int
    turns: dict[int, float] = field(default_factory=dict)
    memory: int | None = None

    @property
    def median(self) -> float:
        """Images per second; 0 before a turn."""
        return statistics.median(self.turns.values()) if self.turns else 0.0


@dataclass
class Report:
    """The results: ``print(report)``, ``report.as_dict()`` for JSON, ``report.plot("bench.png")`` for a picture.

    own: the name of the contestant that is the loader as it was given. shares: kind -> part of the work -> share of the
    time of a pass in one process. waits: contestant -> share of the time that the main process waits for workers.
    backends: backend -> milliseconds for the augmentation of a batch. training: contestant -> images per second of a
    training loop. refused: why smartaug's loader could not be measured; empty where it was.
    """

    machine: dict[str, str | int | float | None]
    versions: dict[str, str]
    seed: int
    device: str
    dataset: str
    batch_size: int | None
    own: str
    contestants: list[Contestant] = field(default_factory=list)
    turn_batches: int = 0
    turn_images: int = 0
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)
    backends: dict[str, float] = field(default_factory=dict)
    parity: Parity | None = None
    model_turns: list[float] = field(default_factory=list)
    training: dict[str, list[float]] = field(default_factory=dict)
    refused: str = ""
    stays: str = ""
    explain: str = ""
    line: str = ""
    seconds: float = 0.0
    interrupted: bool = False

    # --- figures -----------------------------------------------------------------------------------------------------

    def best(self, kind: str) -> Contestant | None:
        """Of the contestants of a kind within 5 % of the fastest, the one with the fewest workers; None without any."""
        own = [one for one in self.contestants if one.kind == kind and one.turns]
        top = max((one.median for one in own), default=0.0)
        return min((one for one in own if one.median >= _AS_FAST * top), key=lambda one: one.workers, default=None)

    def contestant(self, name: str) -> Contestant | None:
        """The contestant of that name, if it was measured."""
        return next((one for one in self.contestants if one.name == name and one.turns), None)

    @property
    def gain(self) -> float:
        """How many times faster smartaug at its best loads than the loader as it was given; 0: not known."""
        return _median_ratio(self.best("smartaug"), self.contestant(self.own))

    @property
    def gain_over_best_torch(self) -> float:
        """How many times faster smartaug at its best loads than torch at its best; 0: not known."""
        return _median_ratio(self.best("smartaug"), self.best("torch"))

    @property
    def bottleneck(self) -> str:
        """ "loader" or "model", by which of the two is slower alone; "" without a model."""
        given = self.contestant(self.own)
        if not self.model_turns or given is None:
            return ""
        return "loader" if given.median < statistics.median(self.model_turns) else "model"

    # --- words -------------------------------------------------------------------------------------------------------

    def verdict(self) -> list[str]:
        """The answer in sentences: whether smartaug makes loading faster, training faster, and why not."""
        given, ours, theirs = self.contestant(self.own), self.best("smartaug"), self.best("torch")
        if given is None or theirs is None:
            return ["interrupted before the loader as it is was measured"]
        words = []
        if self.refused:
            words.append(f"smartaug will not help here as it stands. {self.refused}")
        elif ours is None:
            words.append("interrupted before smartaug was measured")
        elif self.gain_over_best_torch >= _WORTH:
            words.append(
                f"smartaug loads ×{self.gain:.2g} as fast as your loader does now, ×{self.gain_over_best_torch:.2g} as "
                f"fast as torch's at its best ({theirs.name})"
            )
        else:
            words.append(
                f"smartaug will not make loading faster here: ×{self.gain_over_best_torch:.2g} of torch's best"
            )
            words += [self._why_not()] if self._why_not() else []
        if theirs.name != self.own and _median_ratio(theirs, given) >= _WORTH:
            words.append(f"{theirs.name} alone is ×{_median_ratio(theirs, given):.2g} of your loader's setting")
        words.append(self._about_the_model(given))
        return words

    def _why_not(self) -> str:
        shares = self.shares.get("smartaug", {})
        largest = max(shares, key=lambda part: shares[part], default="")
        if largest in ("fetch", "decode", "collate", "transform"):
            why = f": {self.stays}" if largest == "transform" and self.stays else ""
            what = (
                f"{100 * shares[largest]:.0f} % of its work is {largest} ({PARTS[largest]}), which is not lifted{why}"
            )
            return what[0].upper() + what[1:]
        return ""

    def _about_the_model(self, given: Contestant) -> str:
        size = self.batch_size or self.turn_images / max(1, self.turn_batches)
        if not self.model_turns:
            return (
                f"A training step of more than {1000 * size / given.median:.3g} ms a batch hides your loader's work as "
                "it is: then nothing about loading makes training faster (pass the model to know)"
            )
        alone = statistics.median(self.model_turns)
        sentence = (
            f"The {self.bottleneck} is the bottleneck: the model alone takes {alone:.4g} images/s, your loader gives "
            f"{given.median:.4g}"
        )
        if len(self.training) > 1:
            rates = [statistics.median(turns) for turns in self.training.values()]
            sentence += f"; training went from {rates[0]:.4g} to {rates[1]:.4g} images/s (×{rates[1] / rates[0]:.2g})"
            if rates[1] < _WORTH * rates[0]:
                sentence += ", so that changing the loader will not help"
            elif self.bottleneck == "model" and self.device == "cpu":
                sentence += ", since both share the processor"
        return sentence

    def text(self) -> str:
        """All of it, for a terminal."""
        where = f"{self.machine['processor']}, {self.machine['cores']} cores, {self.device}"
        lines = [
            f"{self.dataset}, batches of {self.batch_size}; {where}",
            f"each turn: {self.turn_batches} batches, {self.turn_images:,} images; taken in turns, seed {self.seed}"
            + ("; INTERRUPTED, what follows was measured before" if self.interrupted else ""),
            "",
            self._speeds(),
        ]
        for kind, shares in self.shares.items():
            parts = ", ".join(f"{part} {100 * share:.0f} %" for part, share in shares.items() if share >= 0.005)
            lines += ["", f"where the time goes in one process, {kind}: {parts}"]
        for name, share in self.waits.items():
            lines.append(f"{name}: the main process waits for workers {100 * share:.0f} % of the time")
        if self.backends:
            times = ", ".join(f"{name} {ms:.3g} ms" for name, ms in self.backends.items())
            lines.append(f"augmentation of one batch by backend: {times}{self._install()}")
        if self.parity is not None:
            lines += ["", f"parity: {self.parity.text()}"]
        if self.stays and not self.refused:
            lines += ["", f"stays as it is: {self.stays}"]
        lines += ["", *self.verdict()]
        if self.line:
            lines += ["", "to paste:", f"    {self.line}"]
        return "\n".join(lines)

    __str__ = text

    def _install(self) -> str:
        return "" if "numba" in self.backends else '; pip install "smartaug[fast]" brings a faster one'

    def _speeds(self) -> str:
        rows = [("", "images/s", "min", "max", "n", "of yours", "memory")]
        given = self.contestant(self.own)
        for one in self.contestants:
            if not one.turns:
                continue
            ratio = _median_ratio(one, given)
            rows.append(
                (
                    one.name + (" (yours)" if one.name == self.own else ""),
                    f"{one.median:,.0f}",
                    f"{min(one.turns.values()):,.0f}",
                    f"{max(one.turns.values()):,.0f}",
                    str(len(one.turns)),
                    f"×{ratio:.2f}" if ratio else "",
                    "" if one.memory is None else f"{one.memory / 2**20:,.0f} MiB",
                )
            )
        return figures_table(rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = dataclasses.asdict(self)
        for one, written in zip(self.contestants, plain["contestants"], strict=True):
            written["turns"] = list(one.turns.values())
            written["images_per_second"] = one.median
        found = {"gain": self.gain, "gain_over_best_torch": self.gain_over_best_torch, "bottleneck": self.bottleneck}
        return {**plain, **found, "verdict": self.verdict()}

    # --- a picture ---------------------------------------------------------------------------------------------------

    def plot(self, path: str | Path) -> Path:
        """Write speeds and shares of time as a picture; returns its path. Raises ImportError without matplotlib."""
        from ...loading.pictures.grid import new_figure

        measured = [one for one in self.contestants if one.turns]
        height = 0.36 * len(measured) + 0.5 * max(1, len(self.shares))
        figure = new_figure(figsize=(9, height + 2.2), layout="constrained")
        figure.suptitle(f"{self.dataset}; {self.machine['processor']}, {self.machine['cores']} cores", fontsize=10)
        above, below = figure.subplots(2, 1, height_ratios=[0.36 * len(measured) + 0.5, 0.5 * len(self.shares) + 0.6])
        self._plot_speeds(above, measured)
        self._plot_shares(below)
        figure.savefig(path, dpi=130)
        return Path(path)

    def _plot_speeds(self, axis: Axis, measured: list[Contestant]) -> None:
        most = max(max(one.turns.values()) for one in measured)
        for place, one in enumerate(reversed(measured)):
            low, high = min(one.turns.values()), max(one.turns.values())
            colour = "#59a14f" if one.kind == "smartaug" else "#4e79a7"
            span = [[one.median - low], [high - one.median]]
            axis.barh(place, one.median, color=colour, height=0.7, xerr=span, capsize=3, ecolor="#333333")
            ratio = _median_ratio(one, self.contestant(self.own))
            said = f"{one.median:,.0f}" + (f"  ×{ratio:.2g}" if ratio else "")
            axis.text(high + 0.015 * most, place, said, va="center", fontsize=9)
        names = [one.name + (" (yours)" if one.name == self.own else "") for one in reversed(measured)]
        axis.set_yticks(range(len(measured)), names)
        axis.set_xlim(0, 1.2 * most)
        axis.set_title("images per second: median, and from the slowest to the fastest turn", fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)

    def _plot_shares(self, axis: Axis) -> None:
        shown = {part for shares in self.shares.values() for part, share in shares.items() if share >= 0.01}
        for place, kind in enumerate(reversed(self.shares)):
            left = 0.0
            for part in PARTS:
                share = 100 * self.shares[kind].get(part, 0.0)
                if part not in shown:
                    continue
                axis.barh(place, share, left=left, color=_COLOURS[part], height=0.65, label=part if not place else None)
                if share >= 5:
                    axis.text(left + share / 2, place, f"{share:.0f}", ha="center", va="center", fontsize=8)
                left += share
        axis.set_yticks(range(len(self.shares)), list(reversed(self.shares)))
        axis.set_xlim(0, 100)
        axis.set_title("share of the time in one process, in %", fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        if shown:
            axis.legend(ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.25), fontsize=8, frameon=False)


def _median_ratio(one: Contestant | None, base: Contestant | None) -> float:
    """The median of the ratios of the rounds that both took part in, else the ratio of the medians; 0: not known."""
    if one is None or base is None:
        return 0.0
    shared = [number for number in one.turns if number in base.turns]
    if shared:
        return statistics.median(one.turns[n] / base.turns[n] for n in shared)
    return one.median / base.median if one.turns and base.turns else 0.0
