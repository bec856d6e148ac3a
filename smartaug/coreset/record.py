"""A table of what the training loop's own forward passes gave for each sample, in at most 128 bytes a sample.

What: the residual r = p − y of the last time that each sample was seen, its loss, label and epoch. Up to 29 classes r
is kept whole in float32. Beyond, its 29 largest entries are kept in float16; as Σ_k r_k = 0, the sum of the others is
known, and is spread evenly over the other classes. Of rows that MixUp or CutMix made, sample j gets Σ_i s_ij r_i / Σ_i
s_ij, with s_ij the share of j in row i, r_i = p − y against the mixed label, if Σ_i s_ij ≥ 1/4 (else the sample is not
recorded this time); a row that is sample j unmixed counts alone. The loss is then KL(y ‖ p), the loss less the entropy
of the mixed label, which no model can go below. Of a map of classes r is the mean of p − y over the positions that are
not ignored, which is the gradient in the bias of a last 1×1 convolution, and the loss the mean over these positions;
mixed maps are not recorded. When: `Coreset` with embed="observed". Cost: a softmax and a few writes of B rows per
batch; outputs on an accelerator are copied asynchronously and read once they have arrived. Reference: the last-layer
gradient bound of Katharopoulos & Fleuret, "Not All Samples Are Created Equal", ICML 2018; the table is ours.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._base import ranks
from .._base.row_extras.mixed import Mixed
from ..batch import Embedding
from ..grads.logits import columns, distributions
from ..grads.positions import map_residuals

ENTRIES = 29  # of the residual
_FEW = 19  # entries where the number of a class takes four bytes
_PIECE = 1 << 24  # bytes written at a time
LEAST = 0.25  # of a sample that mixed rows must hold for it to be recorded
_SEEN, _MIXED, _UNUSABLE, _NOT_FINITE = range(4)


class Packed(NamedTuple):
    """What is kept of B outputs.

    values (B, w), classes (B, w) or None: the residual's entries and their classes. loss (B,) float32, label (B,)
    int32. status (B,) int8: whether the row is recorded, or why not.
    """

    values: Tensor
    classes: Tensor | None
    loss: Tensor
    label: Tensor
    status: Tensor


def pack(
    output: Tensor, target: Tensor, unmixed: Tensor | None = None, mixed: tuple[Tensor, Mixed] | None = None
) -> Packed:
    """The residuals of logits (B, K), (B, 1) or (B,), without waiting for the device; of maps (B, K, ...) the mean.

    target: (B,) class indices, (B, K) distributions, or (B,) probabilities for a single logit; of a map see
    `map_residuals`. unmixed: (B,) bool rows whose labels are their own; the others are marked. mixed: the samples (B,)
    of the rows and what the rows are mixed of; then each row of the result is about its own sample, whatever rows it
    came from. Samples with other labels (ignored ones, rows that sum to something else), with too small a share of any
    row, and those whose outputs are not finite are marked. Raises TypeError for outputs and targets of other shapes.
    """
    if output.ndim < 3:
        log_p, residual, loss, label, usable = _of_samples(output, target)
    else:
        residual, loss, usable = map_residuals(output, target)
        log_p, label = residual, torch.zeros(len(residual), dtype=torch.int64, device=residual.device)
        mixed, unmixed = None, unmixed if mixed is None else mixed[1].whole  # a map is recorded where it is its own
    wide = residual.shape[1]
    finite = torch.isfinite(loss) & torch.isfinite(residual).all(1)
    status = torch.where(finite, _SEEN, _NOT_FINITE)
    residual = torch.where(finite[:, None], residual, 0.0)
    if mixed is not None:
        residual, loss, status = _unmixed(log_p, *mixed, own=(residual, loss, status))
    status = torch.where(usable, status, _UNUSABLE)
    if unmixed is not None:
        status = torch.where(unmixed.to(residual.device, non_blocking=True), status, _MIXED)
    classes = None
    if wide > ENTRIES:
        keep, kind = entries(wide)
        chosen = residual.abs().topk(keep, 1, sorted=False).indices
        residual, classes = residual.gather(1, chosen).half(), chosen.to(kind)
    return Packed(
        residual.to(torch.float16 if wide > ENTRIES else torch.float32),
        classes,
        loss.float(),
        label.int(),
        status.to(torch.int8),
    )


def _of_samples(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """log p (B, K), residual (B, K), loss, label and whether the label is usable (B,), of one label a sample."""
    if output.ndim == 0 or not output.is_floating_point() or len(output) != len(target):
        raise TypeError(
            f"recording needs logits (B, K) with one row a target, got {output.dtype} {tuple(output.shape)} for "
            f'{len(target)} targets; use embed="pass" or select=smartaug.coreset.RandomSubset()'
        )
    single = output.ndim == 1 or output.shape[1] == 1
    z = columns(output)
    wide, target = z.shape[1], target.to(z.device, non_blocking=True)
    log_p = z.log_softmax(1)
    if not target.is_floating_point() and target.numel() == len(target):
        label = target.reshape(-1).long()
        usable = (label >= 0) & (label < wide)
        label = label.clamp(0, wide - 1)
        residual = log_p.exp().scatter_add_(1, label[:, None], log_p.new_full((len(label), 1), -1.0))
        loss = -log_p.gather(1, label[:, None])[:, 0]
    elif target.is_floating_point() and ((single and target.numel() == len(target)) or target.shape[1:] == (wide,)):
        y = target.to(z.dtype)
        y = torch.stack([1 - y.reshape(-1), y.reshape(-1)], 1) if single and target.numel() == len(target) else y
        usable = ((y.sum(1) - 1).abs() < 1e-3) & (y >= 0).all(1)
        label, residual = y.argmax(1), log_p.exp() - y
        loss = -torch.where(y > 0, y * log_p, 0.0).sum(1)
    else:
        raise TypeError(
            f"recording needs class indices (B,) or distributions (B, {wide}), got a target {target.dtype} "
            f"{tuple(target.shape)}; use select=smartaug.coreset.RandomSubset()"
        )
    return log_p, residual, loss, label, usable


def _unmixed(
    log_p: Tensor, index: Tensor, mixed: Mixed, own: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Residual (B, K), loss (B,) and status (B,) of the samples index (B,) from rows that were mixed of them.

    own: the same for rows that are their own sample alone. Where a sample has several rows the first is about it.
    """
    index, parts, shares, soft = (part.to(log_p.device, non_blocking=True) for part in (index, *mixed))
    y = distributions(soft, log_p.shape[1]).to(log_p.dtype)
    residual = log_p.exp() - y
    loss = torch.where(y > 0, y * (y.log() - log_p), 0.0).sum(1).clamp_min(0)  # rounding may give −1e-8
    finite = torch.isfinite(loss) & torch.isfinite(residual).all(1)
    residual, loss = torch.where(finite[:, None], residual, 0.0), torch.where(finite, loss, 0.0)
    order = index.argsort(stable=True)
    place = torch.searchsorted(index[order], parts.contiguous()).clamp_max(len(index) - 1)
    row = order[place]  # (B, C): the first row of each part's sample
    # parts may be samples of another piece of the batch; rows that are not finite do not count
    share = torch.where((index[row] == parts) & finite[:, None], shares, 0.0).to(log_p.dtype)
    total, sums, losses = torch.zeros_like(loss), torch.zeros_like(residual), torch.zeros_like(loss)
    for part in range(parts.shape[1]):
        total.index_add_(0, row[:, part], share[:, part])
        sums.index_add_(0, row[:, part], share[:, part, None] * residual)
        losses.index_add_(0, row[:, part], share[:, part] * loss)
    scale = total.clamp_min(LEAST)
    status = torch.where(total >= LEAST, _SEEN, torch.where(finite, _MIXED, _NOT_FINITE))
    made = (sums / scale[:, None], losses / scale, status)
    alone = mixed.whole.to(log_p.device, non_blocking=True)
    return (
        torch.where(alone[:, None], own[0], made[0]),
        torch.where(alone, own[1], made[1]),
        torch.where(alone, own[2], made[2]),
    )


def entries(classes: int) -> tuple[int, torch.dtype]:
    """(entries kept, type of their class numbers) for that many classes."""
    return (ENTRIES, torch.int16) if classes <= 1 << 15 else (_FEW, torch.int32)


def unpack(values: Tensor, classes: Tensor | None, width: int) -> Tensor:
    """Residuals (B, K = width) float32 from what `pack` kept."""
    if classes is None:
        return values.float()
    values = values.float()
    rest = -values.sum(1, keepdim=True) / (width - values.shape[1])
    return rest.expand(-1, width).scatter(1, classes.long(), values)


class OutputRecord:
    """The table of ``size`` samples and ``classes`` classes; rows never seen have the epoch −1.

    memory: bytes above which the table lies in an unnamed temporary file in ``folder`` (None: the system's own) and is
    mapped into memory. numbered: whether it also has the number of the batch in which each sample was last seen.
    """

    numbered = False  # of pickles of earlier versions, as is the next
    _added = 0

    def __init__(
        self, size: int, classes: int, *, memory: int = 1 << 28, folder: str | None = None, numbered: bool = False
    ) -> None:
        self.size, self.classes, self.numbered = size, classes, numbered
        dense = classes <= ENTRIES
        keep, kind = entries(classes)
        fields: list[tuple[Any, ...]] = [("values", np.float32, (classes,))] if dense else [
            ("values", np.float16, (keep,)), ("classes", {torch.int16: np.int16, torch.int32: np.int32}[kind], (keep,))
        ]  # fmt: skip
        fields += [("loss", np.float32), ("label", np.int32), ("seen", np.int32)]
        layout = np.dtype([*fields, ("batch", np.int32)] if numbered else fields)
        self.bytes, self.mapped = layout.itemsize, size * layout.itemsize > memory
        if self.mapped:
            with tempfile.TemporaryFile(dir=folder) as file:
                _allocate(file, size, layout.itemsize)
                self._table: np.ndarray = np.memmap(file, layout, "r+", shape=(size,))
        else:
            self._table = np.zeros(size, layout)
        self._table["seen"], self._table["label"] = -1, -1
        self.skipped = {"mixed": 0, "unusable": 0, "nonfinite": 0}
        self._added = 0  # batches so far
        self._arriving: deque[tuple[Any, Tensor, Packed, int, int]] = deque()

    @property
    def seen(self) -> np.ndarray:
        """(n,) int32: the epoch of each sample's row, −1 where there is none."""
        return np.array(self._table["seen"])

    @property
    def labels(self) -> np.ndarray:
        """(n,) int32: the label that each sample was seen with, −1 where it was not."""
        return np.array(self._table["label"])

    @property
    def losses(self) -> Tensor:
        """(n,) float32: the loss that each sample was last seen with, 0 where it was not."""
        return torch.from_numpy(np.array(self._table["loss"]))

    @property
    def batches(self) -> np.ndarray:
        """(n,) int32: the number of the batch in which each sample was last seen, of a numbered record."""
        return np.array(self._table["batch"])

    def add(self, index: Tensor, packed: Packed, epoch: int) -> None:
        """Keep B rows of the samples index (B,), seen in ``epoch``; those on a device are written once they arrive."""
        device, number = packed.values.device, self._added
        self._added += 1
        if device.type not in ("cuda", "xpu"):
            moved = [None if part is None else part.cpu() for part in (index, *packed)]
            self._write(moved[0], Packed(*moved[1:]), epoch, number)  # type: ignore[arg-type]
            return
        # a copy to the CPU that is not waited for lands in pinned memory
        parts = [None if part is None else part.to("cpu", non_blocking=True) for part in (index, *packed)]
        arrived = torch.get_device_module(device).Event()
        arrived.record()
        self._arriving.append((arrived, parts[0], Packed(*parts[1:]), epoch, number))  # type: ignore[arg-type]
        while self._arriving and self._arriving[0][0].query():
            self._write(*self._arriving.popleft()[1:])

    def flush(self) -> None:
        """Wait for the rows that are still on their way."""
        while self._arriving:
            self._arriving[0][0].synchronize()
            self._write(*self._arriving.popleft()[1:])

    def _write(self, index: Tensor, packed: Packed, epoch: int, number: int) -> None:
        rows, status = index.numpy(), packed.status.numpy()
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.size:
            raise ValueError(f"sample {rows.max()} was observed, but the coreset selects from {self.size} samples")
        for name, code in (("mixed", _MIXED), ("unusable", _UNUSABLE), ("nonfinite", _NOT_FINITE)):
            self.skipped[name] += int((status == code).sum())
        kept = np.flatnonzero(status == _SEEN)[::-1]  # of a sample's rows the first is written last, and stays
        rows = rows[kept]
        self._table["values"][rows] = packed.values.numpy()[kept]
        if packed.classes is not None:
            self._table["classes"][rows] = packed.classes.numpy()[kept]
        self._table["loss"][rows] = packed.loss.numpy()[kept]
        self._table["label"][rows] = packed.label.numpy()[kept]
        self._table["seen"][rows] = epoch
        if self.numbered:
            self._table["batch"][rows] = number

    def embedding(self, rows: np.ndarray) -> Embedding:
        """Residuals (m, K) float32 and losses (m,) of the samples ``rows``; zeros for those never seen."""
        part = self._table[rows]
        classes = None if "classes" not in (part.dtype.names or ()) else torch.from_numpy(part["classes"].copy())
        residual = unpack(torch.from_numpy(part["values"].copy()), classes, self.classes)
        return Embedding(residual, None, torch.from_numpy(part["loss"].copy()))

    def merge(self) -> None:
        """Give every rank, for each sample, the row of the rank that saw it last (of equal ones the lowest rank's)."""
        rank, world = ranks.here()
        if world == 1:
            return
        seen = torch.from_numpy(self.seen).long()
        score = torch.where(seen < 0, -1, seen * world + (world - 1 - rank))
        best = ranks.largest(score)
        raw = self._raw()
        for start in range(0, self.size, 1 << 18):
            piece = slice(start, start + (1 << 18))
            mine = ((score == best) & (best >= 0))[piece, None]
            whole = ranks.summed(torch.where(mine, raw[piece], 0))
            raw[piece] = torch.where(best[piece, None] >= 0, whole, raw[piece])

    def _raw(self) -> Tensor:
        """The table as bytes (n, bytes per sample), sharing its memory."""
        return torch.from_numpy(self._table.view(np.uint8).reshape(self.size, self.bytes))

    def state_dict(self) -> dict[str, Any]:
        """The table as a tensor of bytes, and the counts."""
        numbers = {"batches": self._added} if self.numbered else {}
        return {"classes": self.classes, "table": self._raw().clone(), **numbers, **self.skipped}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], *, memory: int = 1 << 28, folder: str | None = None) -> OutputRecord:
        """The record whose `state_dict` was ``state``; memory, folder: as for a new one."""
        numbered = "batches" in state
        made = cls(len(state["table"]), state["classes"], memory=memory, folder=folder, numbered=numbered)
        made._added = state.get("batches", 0)
        made._raw().copy_(state["table"])
        made.skipped = {name: state[name] for name in made.skipped}
        return made

    def __getstate__(self) -> dict[str, object]:
        self.flush()
        return {**self.__dict__, "_table": np.array(self._table), "mapped": False}


def _allocate(file: IO[bytes], size: int, each: int) -> None:
    """Give the file its blocks on the disk now: writing to a mapped page that finds no room kills the process.

    Raises OSError where there is too little room.
    """
    wanted = size * each
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, wanted)
        else:
            for start in range(0, wanted, _PIECE):
                file.write(bytes(min(_PIECE, wanted - start)))
            file.flush()
    except OSError as error:
        free = os.fstatvfs(file.fileno()) if hasattr(os, "fstatvfs") else None
        left = "" if free is None else f", of which {free.f_bavail * free.f_frsize:,} are free"
        raise OSError(
            error.errno,
            f"the coreset's record of {size} samples needs {wanted:,} bytes on the disk of its folder{left} "
            f"({error.strerror}); write folder= with a path that has room, or memory={wanted} to keep it in memory: "
            "smartaug.Coreset(..., folder='/path')",
        ) from error


Record = OutputRecord  # its name in pickles of earlier versions
