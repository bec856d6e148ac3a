"""`Clock`: a sampling profiler, which reads the stack of a thread some hundred times a second.

What: the time between two readings is attributed to the part of the work to which the innermost known frame belongs.
When: measuring shares of a loop's time for any dataset and loader, without hooks in them.
Cost: about 1 % of one core. Shares are estimates, accurate to a few percent after some hundred readings.
"""

from __future__ import annotations

import sys
import threading
import time
from functools import lru_cache
from pathlib import Path
from types import FrameType

PARTS = {  # in the order of the flow
    "fetch": "the dataset's own code: reading files, looking up arrays",
    "decode": "files to pixels",
    "transform": "transforms that run sample by sample",
    "collate": "samples to a batch",
    "plan": "drawing what every sample receives",
    "execute": "augmentation of the batch",
    "weights": "weights and soft labels",
    "select": "choosing the subset",
    "hand-over": "sampler, labels, bookkeeping",
    "transfer": "to the device, and waiting for it",
    "wait": "waiting for workers",
    "loop": "the training loop: the model and everything else",
}
_ROOT = str(Path(__file__).parents[1]) + "/"
_OWN = (  # the start of a path below the package -> part
    ("augment/backends/", "execute"),
    ("augment/foreign", "execute"),
    ("augment/", "plan"),
    ("draws", "plan"),
    ("lift/", "plan"),
    ("reweight/", "weights"),
    ("grads/", "weights"),
    ("coreset/", "select"),
    ("loading/whole_batches", "fetch"),
    ("loading/", "hand-over"),
    ("pipeline/", "hand-over"),
)
_TRANSFORMS = ("/torchvision/transforms/", "/albumentations/", "/albucore/", "/timm/data/", "/kornia/")
_DECODERS = ("/torchvision/io/", "/imageio/", "/tifffile/", "/PIL/ImageFile.py")


@lru_cache(maxsize=4096)
def _part(path: str, function: str) -> str | None:
    """The part of the work to which a function belongs, by its file; None: not known, its caller decides."""
    if path.startswith(_ROOT):
        below = path[len(_ROOT) :]
        if (below, function) == ("cli/bench/measurement.py", "to_device"):
            return "transfer"
        return next((part for start, part in _OWN if below.startswith(start)), None)
    if any(place in path for place in _DECODERS) or function in ("pil_loader", "default_loader", "accimage_loader"):
        return "decode"
    if "/PIL/" in path and (path.endswith("ImagePlugin.py") or function == "open"):
        return "decode"
    if any(place in path for place in _TRANSFORMS):
        return "transform"
    if "/torch/utils/data/" not in path:
        return None
    if path.endswith("_utils/collate.py"):
        return "collate"
    if path.endswith("_utils/fetch.py"):
        return "fetch"
    if function in ("_get_data", "_try_get_data", "_shutdown_workers"):
        return "wait"
    return "hand-over" if path.endswith(("dataloader.py", "sampler.py")) else None


def part_of(frame: FrameType | None) -> str:
    """The part of the work, one of `PARTS`, to which a stack belongs."""
    found, fetching = None, False
    while frame is not None:
        code = frame.f_code
        part = _part(code.co_filename, code.co_name)
        fetching = fetching or (part == "fetch" and "_utils/fetch.py" in code.co_filename)
        found = found or part
        frame = frame.f_back
    if fetching and found in ("plan", "execute", "hand-over"):
        return "transform"  # transforms that lift=True leaves in the workers, or `AugmentedDataset`
    return found or "loop"


class Clock:
    """``with Clock() as clock: ...``, then ``clock.seconds``: part -> seconds, of the thread that made it."""

    def __init__(self, every: float = 0.004) -> None:
        self.seconds: dict[str, float] = {}
        self._every, self._thread = every, threading.get_ident()
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="smartaug-clock")

    def _watch(self) -> None:
        last = time.perf_counter()
        while not self._stopped.wait(self._every):
            part = part_of(sys._current_frames().get(self._thread))
            now = time.perf_counter()
            self.seconds[part] = self.seconds.get(part, 0.0) + now - last
            last = now

    def start(self) -> Clock:
        """Start the thread that reads the stack."""
        self._watcher.start()
        return self

    def stop(self) -> None:
        """Stop it. `seconds` is kept."""
        self._stopped.set()
        if self._watcher.is_alive():
            self._watcher.join()

    def shares(self) -> dict[str, float]:
        """Part -> share of the time, summing to 1, in the order of the flow; empty before the first reading."""
        total = sum(self.seconds.values())
        return {part: self.seconds[part] / total for part in PARTS if part in self.seconds} if total else {}

    def __enter__(self) -> Clock:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
