"""Counts of the files that a loader decoded itself, and of those that it left to the dataset's own code."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from .._base import leaves
from .._base.background import Turn, allowed
from ..lift.decode import on_device, region
from ..lift.decode.encoded import DAMAGED
from ..lift.decode.opening import Files
from ..lift.deferred.collecting import Unfinished


class DecodedFiles:
    """The files of one pipeline.

    by: the library that decodes, with its version; empty: all files are left to the dataset's own code. where: in which
    processes. why: the reason, where ``by`` is empty; empty, too: the dataset is not known to open files. partly:
    how files may be decoded for a crop: "scaled", at less than their size, "region", only that part, "batch", with
    their batch; empty: as a whole.
    """

    def __init__(self, by: str = "", where: str = "", why: str = "", partly: str = "") -> None:
        self.by, self.where, self.why, self.partly = by, where, why, partly
        self.decoded = self.fewer = 0  # and those of which fewer pixels were decoded
        self.by_dataset: Counter[str] = Counter()
        self.device: torch.device | None = None  # on which batches were decoded last

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "scales" in state:  # as pickles of earlier versions have it
            state = {**state, "partly": "scaled" if state["scales"] else "", "fewer": state["scaled"]}
        self.__dict__.update({"device": None, **state})

    def add(self, files: Files) -> None:
        """Count the files of a batch."""
        self.decoded += files.decoded
        self.fewer += files.partly
        self.by_dataset.update(files.by_dataset)

    def stats(self) -> dict[str, Any]:
        """How many files were decoded here, how many of them smaller or in part, and by the dataset, by reason."""
        if not self.by:
            return {}
        fewer = {f"decoded_{self.partly}": self.fewer} if self.partly else {}
        return {"decoded": self.decoded, **fewer, "decoded_by_dataset": dict(self.by_dataset)}

    def explain(self) -> list[tuple[str, str, str]]:
        """A row for the table of stages; none where the dataset is not known to open files."""
        if not self.by:
            return [("decode", self.where, f"by the dataset's own code: {self.why}")] if self.why else []
        what = "JPEG files that the dataset opens with Pillow"
        if self.decoded or self.by_dataset:
            what = f"{self.decoded} JPEG files so far"
        pixels = "pixels as Pillow's"
        if self.partly == "scaled":
            pixels = f"{self.fewer} of them smaller, as asked for; the others' pixels as Pillow's"
        elif self.partly == "batch" and self.device is not None:
            pixels = f"{self.fewer} of them with their batch, {on_device.told(self.device)}"
        elif self.partly == "batch":
            pixels = "with their batch where that may be"
        elif self.partly:
            pixels = f"{self.fewer} of them only the part that is kept, by {region.told()}; pixels as Pillow's"
        what = f"{what}, {pixels}"
        for why, count in self.by_dataset.most_common():
            what += f"; {count} by the dataset's own code: {why}"
        return [(f"decode: {self.by}", self.where, what)]


NO_FILES = DecodedFiles()  # of a pipeline that decodes nothing; it is never added to


def with_pixels(
    data: leaves.Structure, unfinished: Unfinished | None, device: torch.device, files: DecodedFiles = NO_FILES
) -> tuple[leaves.Structure, Unfinished | None]:
    """A batch whose images that are still parts of files are decoded on ``device``, and its `Unfinished` part.

    files: counts those that Pillow had to decode.
    """
    if unfinished is None or not unfinished.encoded:
        return data, unfinished
    by_pillow: set[int] = set()
    for path in unfinished.encoded:
        with allowed(Turn()):
            made = on_device.decoded(leaves.get(data, path), device)
        data = leaves.put(data, path, made.images)
        by_pillow |= made.by_pillow
    if files is not NO_FILES:
        files.device = device
        files.add(Files(-len(by_pillow), -len(by_pillow), {DAMAGED: len(by_pillow)} if by_pillow else {}))
    return data, unfinished._replace(encoded=())
