"""Compiles one part of the backend: ``python -m smartaug.augment.backends.numba.ahead common``, or ``rare``.

What: the process that `_base.background` starts, at low priority, to fill the cache on the disk; of several on one
machine one compiles, and the others load what it made. When: for users, before many jobs start on one machine: "common"
is what most plans need, "rare" holds CLAHE, noise and padded rotations, too, "unequal" crops and resizes of images of
unequal size. Cost: 10 to 40 s of one core, once.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from ...plan import Noise, Plan, Tone
from .. import execute, unequal

PARTS = ("common", "rare", "unequal")


def compile_part(part: str) -> None:
    """Compile ``part``, or load it where it is compiled already. Raises CannotCompile if numba cannot."""
    if part == "unequal":
        unequal.load()
        return
    one = torch.ones(1)
    segment = Noise(torch.zeros(1, dtype=torch.int64), one, one) if part == "rare" else Tone(one.long(), one)
    execute(Plan((1, 1, 2, 2), (segment,)), torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "numba")


@contextmanager
def _alone() -> Iterator[None]:
    """A context that one process of this user on this machine is in at a time, where files can be locked."""
    with ExitStack() as held:
        with suppress(ImportError, OSError):  # without a lock several compile the same, which costs time only
            import fcntl

            path = Path(tempfile.gettempdir()) / f"smartaug-compiles-{os.getuid()}"
            fcntl.flock(held.enter_context(open(path, "w")), fcntl.LOCK_EX)
        yield


def main() -> None:
    """Compile the part that the command line names."""
    part = sys.argv[1] if len(sys.argv) == 2 else ""
    if part not in PARTS:
        raise SystemExit(f"name one of {', '.join(PARTS)}, got {' '.join(sys.argv[1:])!r}")
    if hasattr(os, "nice"):
        os.nice(10)
    torch.set_num_threads(1)
    with _alone():
        compile_part(part)


if __name__ == "__main__":
    main()
