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
from collections.abc import Callable, Iterator, Sequence
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
def meanwhile(*works: Callable[[], T], copies: int = 1) -> Iterator[Callable[[], list[T]]]:
    """Let a copy of this process (or more of them) do `works` in turn while the block runs.

    What comes with the block returns what each of them returned. Works that nobody has begun when it is called, this
    process begins too; where copies are not allowed it does all, and what a copy failed to do, or had anything to say
    of, it does again. A result must be something that can be pickled. With the block the copies end, whether or not
    they were asked.
    """
    count = min(copies, _PROCESSES.get() - 1, len(works))
    if count < 1:
        yield lambda: [work() for work in works]
        return
    with _tickets(len(works)) as tickets, contextlib.ExitStack() as ending:
        work_through = functools.partial(_attempted, works, tickets)
        receivers = [ending.enter_context(_copy(work_through)) for _ in range(count)]

        def results() -> list[T]:
            found = {k: works[k]() for k in _drawn(tickets)}
            for receiver in receivers:
                # No result: the copy has ended without a word.
                with contextlib.suppress(EOFError):
                    found |= receiver.recv()
            return [found[k] if k in found else work() for k, work in enumerate(works)]

        yield results


def together(works: Sequence[Callable[[], T]]) -> list[T]:
    """Return what each of the works returns, done by as many processes as are allowed; see `meanwhile`."""
    with meanwhile(*works, copies=len(works) - 1) as done:
        return done()


_TICKET = 2
"""Bytes of a ticket."""


@contextlib.contextmanager
def _tickets(count: int) -> Iterator[int]:
    """Open a pipe that holds the numbers below `count`: each is read once, by whichever process comes first."""
    reading, writing = os.pipe()
    # Its end is where it is empty, not where nobody can write: another thread's fork may hold what is closed here.
    os.set_blocking(reading, False)
    try:
        os.write(writing, b"".join(k.to_bytes(_TICKET, "big") for k in range(count)))
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def _drawn(tickets: int) -> Iterator[int]:
    """Yield the numbers of works to do as long as there are any."""
    with contextlib.suppress(BlockingIOError):
        while ticket := os.read(tickets, _TICKET):
            yield int.from_bytes(ticket, "big")


def _attempted(works: Sequence[Callable[[], T]], tickets: int) -> dict[int, T]:
    """Do works and return what came of each; what fails is left out, as the original will see why when it does it."""
    found = {}
    for k in _drawn(tickets):
        with contextlib.suppress(Exception):
            found[k] = works[k]()
    return found


@contextlib.contextmanager
def _copy(work: Callable[[], Any]) -> Iterator[Connection]:
    """Start a copy that does `work` and yield where its result is received; the copy ends with the block."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    copy = multiprocessing.get_context("fork").Process(target=_quietly, args=(work, sender), daemon=True)
    with warnings.catch_warnings():
        # Since 3.12 Python warns of every fork beside threads, those of the linear algebra's library included.
        warnings.simplefilter("ignore", DeprecationWarning)
        copy.start()
    # Now the copy alone can write: if it ends without a result, that is the end of what can be read.
    sender.close()
    try:
        yield receiver
    finally:
        copy.kill()
        copy.join()
        receiver.close()


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
