"""Compiling in a process of its own, so that a loader's first batches need not wait for it.

What: numba holds Python's lock while it compiles, so a thread would stop the training. A process at low priority fills
the cache on the disk instead, which this process then loads in about a second; until then `NotYet` tells the caller to
use torch. When: inside `allowed`, that is for the batches of a loader; direct calls wait, as all do where the
environment has SMARTAUG_COMPILE=wait. Cost: one core for as long as it compiles, once on a machine; without a cache on
the disk to fill, nothing is started.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .compiled import CannotCompile

SWITCH = "SMARTAUG_COMPILE"
WHY = "numba is being compiled in the background; torch until then"
_ROOT = Path(os.path.abspath(__file__)).parents[2]  # the folder that smartaug is imported from
_here = threading.local()


class NotYet(Exception):
    """The compiled code is being made in another process."""


class Turn:
    """One `allowed` block. meanwhile: whether torch ran in numba's place in it."""

    meanwhile = False


@contextmanager
def allowed(turn: Turn) -> Iterator[None]:
    """A context in which `NotYet` may be raised, except inside `waiting`; ``turn`` notes whether torch ran."""
    earlier = getattr(_here, "turn", None)
    _here.turn = turn
    try:
        yield
    finally:
        _here.turn = earlier


@contextmanager
def waiting() -> Iterator[None]:
    """A context in which this thread waits for compiled code, as with SMARTAUG_COMPILE=wait."""
    earlier = getattr(_here, "waits", False)
    _here.waits = True
    try:
        yield
    finally:
        _here.waits = earlier


def is_allowed() -> bool:
    """Whether the caller may be told `NotYet`."""
    waits = getattr(_here, "waits", False) or os.environ.get(SWITCH) == "wait"
    return not waits and getattr(_here, "turn", None) is not None


def used_torch() -> None:
    """Note that torch runs in numba's place."""
    _here.turn.meanwhile = True


class Background:
    """The process that compiles; at most one at a time.

    module: run with the name of a part, it compiles that part into the cache on the disk.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._part, self._done = "", dict[str, str | None]()  # part -> why it failed; None: it did not

    def running(self) -> bool:
        """Whether it compiles now."""
        with self._lock:
            return self._runs()

    def join(self) -> None:
        """Wait until it has ended."""
        if self._process is not None:
            self._process.wait()

    def ensure(self, part: str, what: str, is_kept: Callable[[], bool], environment: dict[str, str]) -> None:
        """Return if ``part`` can be loaded from the disk, or must be compiled here; else start, and raise `NotYet`.

        what: name of the part in messages. Raises CannotCompile, with the reason, if the process failed.
        """
        with self._lock:
            if self._runs():
                raise NotYet
            if part in self._done:
                if (why := self._done[part]) is not None:
                    raise CannotCompile(f"numba could not compile {what} in the background: {why}")
                return
            if is_kept() or not sys.executable:
                return
            self._start(part, environment)
        if sys.stderr is not None and os.environ.get("LOCAL_RANK", "0") == "0":
            print(
                f"smartaug: compiling {what} in the background, once on this machine; batches run on the torch backend "
                f"until then ({SWITCH}=wait waits instead)",
                file=sys.stderr,
                flush=True,
            )
        raise NotYet

    def _start(self, part: str, environment: dict[str, str]) -> None:
        command: Sequence[str] = [sys.executable, "-m", self.module, part]
        settings: dict[str, Any] = {"cwd": _ROOT, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        self._part, self._errors = part, tempfile.TemporaryFile()  # noqa: SIM115 (closed when the process has ended)
        own = {**os.environ, "CUDA_VISIBLE_DEVICES": "", SWITCH: "wait", **environment}
        try:
            self._process = subprocess.Popen(command, env=own, stderr=self._errors, **settings)
        except OSError as error:
            self._done[part] = f"{type(error).__name__}: {error}"
            raise CannotCompile(f"the process that compiles cannot be started ({self._done[part]})") from error

    def _runs(self) -> bool:
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        assert self._errors is not None
        with self._errors:
            self._errors.seek(0)
            told = self._errors.read().decode(errors="replace").strip().splitlines()
        self._done[self._part] = None if code == 0 else f"exit status {code}, {told[-1] if told else 'no message'}"
        self._process = self._errors = None
        return False
