"""The disk cache of code that numba compiles, and the fallback to torch where numba cannot run.

What: `kept` is numba's ``njit(cache=True)`` with its own cache files: one for each function, signature and source,
written atomically, with a digest that is verified before the code is loaded. numba's own cache can mix up the code
of two functions when two processes compile at once, and it loads truncated files. When: every compiled function that is
called from outside its module. Cost: hashing a few hundred kilobytes in each process.

numba has no public interface for this: only this module uses `Dispatcher._cache` and its `load_overload`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import pickle
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..warnings import warn

_log = logging.getLogger("smartaug")
_DIGEST = 32  # bytes in front of the code
_QUIET = 2.0  # seconds that loading may take before anything is shown


class CannotCompile(RuntimeError):
    """numba is installed, but its code cannot be compiled or run here; the message says why."""


def refused() -> str | None:
    """Why compiled code is not used in this process, or None. Does not import numba."""
    if not installed():
        return 'numba is not installed: pip install "smartaug[fast]"'
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        say_once("NUMBA_DISABLE_JIT is set, so nothing is compiled and torch runs in numba's place; unset it")
        return "NUMBA_DISABLE_JIT is set"
    return _given_up[0] if _given_up else None


_given_up: list[str] = []  # at most one reason


def give_up(error: CannotCompile) -> None:
    """Use torch in place of numba for the rest of the process, and warn once."""
    if not _given_up:
        _given_up.append(str(error))
    say_once(f"{error}; torch runs in numba's place, which is slower")


@lru_cache(maxsize=1)
def installed() -> bool:
    """Whether numba can be imported, without importing it."""
    return importlib.util.find_spec("numba") is not None


@lru_cache(maxsize=32)
def say_once(message: str) -> None:
    """Warn, once in a process."""
    warn(f"smartaug: {message}")


@contextmanager
def compiling(what: str, seconds: int) -> Iterator[None]:
    """Context for compiling: errors inside become `CannotCompile`; on a terminal a line shows the elapsed time.

    what: name of what is compiled. seconds: expected duration of the first compilation on a machine.
    """
    _log.info(f"smartaug: loading compiled {what}; the first time on a machine this compiles (≈ {seconds} s)")
    done = threading.Event()
    shown = threading.Thread(target=_show, args=(what, seconds, done), name="smartaug-compiling", daemon=True)
    if sys.stderr is not None and sys.stderr.isatty():
        shown.start()
    try:
        yield
    except Exception as error:
        raise CannotCompile(f"numba could not compile {what} ({type(error).__name__}: {error})") from error
    finally:
        done.set()
        if shown.is_alive():
            shown.join()


def _show(what: str, seconds: int, done: threading.Event) -> None:
    """A line on the terminal, from when loading takes longer than code that was compiled before."""
    started = time.monotonic()
    if done.wait(_QUIET):
        return
    while not done.wait(0.5):
        passed = time.monotonic() - started
        print(
            f"\rsmartaug: compiling {what}, once on this machine: {passed:.0f} of ≈ {seconds} s",
            end="",
            file=sys.stderr,
            flush=True,
        )
    print(file=sys.stderr)


def kept(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``njit(**options)`` whose code is kept on disk for later processes, where some folder can be written to."""
    from numba import njit

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        try:
            dispatcher._cache = _cache_of(function)
        except RuntimeError as error:  # no folder that numba may use is writable
            say_once(
                f"compiled code cannot be kept ({error}), so every process compiles it anew; set NUMBA_CACHE_DIR to a "
                "folder that can be written to"
            )
        return dispatcher

    return decorate


def is_kept(function: Any, arguments: Sequence[Any]) -> bool:
    """Whether a call of a `kept` function compiles nothing, or must compile since nothing can be kept on the disk."""
    cache = function._cache
    holds = getattr(cache, "holds", None)
    return holds is None or bool(holds(tuple(map(function.typeof_pyval, arguments)), function.targetctx))


def _cache_of(function: Callable[..., Any]) -> Any:
    import numba
    from numba.core.caching import FunctionCache

    class Mending(FunctionCache):
        """numba's cache of one function, over `Files`; what goes wrong with a file is said, and costs a compilation."""

        def __init__(self, py_func: Callable[..., Any]) -> None:
            super().__init__(py_func)
            locator = self._impl.locator
            stamp = repr((locator.get_source_stamp(), numba.__version__))
            self._cache_file: Any = Files(Path(locator.get_cache_path()), self._impl.filename_base, stamp)

        def holds(self, sig: Any, target_context: Any) -> bool:
            return self._cache_file.path(self._index_key(sig, target_context.codegen())).exists()

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)
            except Exception as error:
                say_once(
                    f"compiled code in {self.cache_path} cannot be read ({type(error).__name__}: {error}) and is "
                    "compiled anew"
                )
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except Exception as error:
                say_once(
                    f"compiled code cannot be kept in {self.cache_path} ({type(error).__name__}: {error}), so every "
                    "process compiles it anew; set NUMBA_CACHE_DIR to a folder with room that can be written to"
                )

    return Mending(function)


class Files:
    """Compiled code in files of ``folder``: one for each key, named by it, so that none can be taken for another."""

    def __init__(self, folder: Path, name: str, stamp: str) -> None:
        self.folder, self.name, self.stamp = folder, name, stamp

    def path(self, key: Any) -> Path:
        """The file of a key: the signature, the machine and the function's own code."""
        digest = hashlib.blake2b(repr((self.stamp, key)).encode(), digest_size=16).hexdigest()
        return self.folder / f"{self.name}.{digest}.smartaug"

    def load(self, key: Any) -> Any:
        """What was saved under the key; None without a file. Raises ValueError for a file that is not whole."""
        try:
            data = self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        code = data[_DIGEST:]
        if hashlib.blake2b(code, digest_size=_DIGEST).digest() != data[:_DIGEST]:
            raise ValueError(f"{self.path(key).name} is damaged or half-written")
        return pickle.loads(code)  # the cache of the user's own numba, in a folder of theirs: as trusted as its code

    def save(self, key: Any, data: Any) -> None:
        """Write the file whole, or not at all."""
        from numba.core.serialize import dumps

        code = dumps(data)
        path = self.path(key)
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}")
        try:
            temporary.write_bytes(hashlib.blake2b(code, digest_size=_DIGEST).digest() + code)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def flush(self) -> None:
        """Forget what was saved."""
        for path in self.folder.glob(f"{self.name}.*.smartaug"):
            path.unlink(missing_ok=True)
