"""Rows of a batch shared among threads.

What: `over_rows` runs a function on pieces of the rows, in this thread and in others of this process, as many as
`torch.get_num_threads` says, which is one inside DataLoader workers. When: compiled code and OpenCV, which release the
interpreter's lock. Cost: about 50 µs where there are several threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch


def over_rows(run: Callable[[int, int], None], rows: int) -> None:
    """``run(first, last)`` for pieces first..last − 1 that are all of 0..rows − 1 together; raises what it raises."""
    threads = min(torch.get_num_threads(), rows)
    if threads < 2:
        run(0, rows)
        return
    pieces = min(rows, 4 * threads)
    left = iter([(rows * n // pieces, rows * (n + 1) // pieces) for n in range(pieces)])

    def work() -> None:  # every thread takes the next piece, since samples differ in how much is done to them
        for first, last in left:
            run(first, last)

    pool = _pool(os.getpid(), threads - 1)
    others = [pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:  # whose memory is the caller's
        errors = [other.exception() for other in others]
    for error in errors:
        if error is not None:
            raise error


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process; a forked child makes its own, since threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="smartaug")
