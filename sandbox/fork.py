"""Work done meanwhile by copies of this process, so that other processors have something to do.

Numba's compiler, SymPy, Matplotlib and NumPy with small arrays keep to one processor, whatever the number of threads. A
forked copy has everything in its memory that the work needs, where a fresh process would first import it for seconds.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")

_PROCESSES: ContextVar[int] = ContextVar("_PROCESSES", default=1)
"""How many processes may share the work here; see `processes`."""

_IS_COPY: ContextVar[bool] = ContextVar("_IS_COPY", default=False)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_copy() -> bool:
    """Return whether this process is a copy that works meanwhile."""
    return _IS_COPY.get()


@contextlib.contextmanager
def processes(most: int) -> Iterator[None]:
    """Allow that inside the block work is shared by so many processes, copies of this one (on Linux, else by none).

    A copy knows nothing of other threads' locks: allow copies only where no other thread may hold one that the work
    wants. Unless allowed there are none, nor are there in other threads, nor copies of copies.
    """
    before = _PROCESSES.set(most if sys.platform == "linux" else 1)
    try:
        yield
    finally:
        _PROCESSES.reset(before)


@contextlib.contextmanager
def meanwhile(work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Let a copy of this process do `work` while the block runs; what comes with the block waits for its result.

    Where copies are not allowed, or where one failed or had anything to say, this process does the work when its result
    is asked for. A result must be something that can be pickled. With the block the copy ends, whether or not it was
    asked.
    """
    if _PROCESSES.get() < 2:
        yield work
        return
    copy, receiver = _copied(work)

    def result() -> T:
        with contextlib.suppress(EOFError):
            value: T = receiver.recv()
            return value
        return work()

    try:
        yield result
    finally:
        copy.kill()
        copy.join()
        receiver.close()


def together(works: Sequence[Callable[[], T]]) -> list[T]:
    """Return what each of the works returns, done by as many processes as are allowed; see `meanwhile`."""
    count = max(1, min(_PROCESSES.get(), len(works)))
    with contextlib.ExitStack() as copies:
        others = [copies.enter_context(meanwhile(functools.partial(_done, works[k::count]))) for k in range(1, count)]
        found = [_done(works[::count]), *(other() for other in others)]
    return [found[k % count][k // count] for k in range(len(works))]


def _done(works: Iterable[Callable[[], T]]) -> list[T]:
    return [work() for work in works]


def _copied(work: Callable[[], Any]) -> tuple[Any, Connection]:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    copy = multiprocessing.get_context("fork").Process(target=_quietly, args=(work, sender), daemon=True)
    with warnings.catch_warnings():
        # Since 3.12 Python warns of every fork beside threads, those of the linear algebra's library included.
        warnings.simplefilter("ignore", DeprecationWarning)
        copy.start()
    # Now the copy alone can write: if it ends without a result, that is the end of what can be read.
    sender.close()
    return copy, receiver


def _quietly(work: Callable[[], Any], sender: Connection) -> None:
    """Work without a word: what there is to say, the original says when it does the work itself."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _PROCESSES.set(1)
    _IS_COPY.set(True)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    warnings.simplefilter("error")
    try:
        sender.send(work())
    except BaseException:
        os._exit(1)
