"""The processors that this process may use, and the threads that share work on them.

Threads are enough, because most time goes into kernels and NumPy's loops, which release Python's lock. A forked process
may hang beside threads and outlive its parent; a fresh one imports the package first, which takes two seconds.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_LIMIT: ContextVar[int | None] = ContextVar("_LIMIT", default=None)
"""The number of threads that the user allows; None for all processors."""

_STOP: ContextVar[threading.Event | None] = ContextVar("_STOP", default=None)
"""In a thread of `in_threads`: set once the results are not wanted any more."""


def processors() -> int:
    """Return the number of processors that this process may use, or the limit that `limited` sets."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _LIMIT.get() or available


@contextlib.contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Make `processors` return this number inside the block; None changes nothing."""
    before = _LIMIT.set(threads or _LIMIT.get())
    try:
        yield
    finally:
        _LIMIT.reset(before)


def in_threads(works: Sequence[Callable[[], T]]) -> list[T]:
    """Return the result of each work, in order, computed by as many threads as there are processors.

    The first error of a work, or Ctrl-C, is raised here. Works that have not begun then never begin, and the others end
    when they next call `end_if_stopped`.
    """
    count = min(processors(), len(works))
    if count < 2:
        return [work() for work in works]
    stop = threading.Event()

    def begin(work: Callable[[], T]) -> T:
        _STOP.set(stop)
        return work()

    with ThreadPoolExecutor(count) as pool:
        try:
            return list(pool.map(begin, works))
        except BaseException:
            stop.set()
            raise


def end_if_stopped() -> None:
    """Raise CancelledError in a thread of `in_threads` whose result is not wanted any more. Call it in long loops."""
    stop = _STOP.get()
    if stop is not None and stop.is_set():
        raise CancelledError
