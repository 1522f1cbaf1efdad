"""Work done meanwhile by a copy of this process, so that a second processor has something to do.

Numba compiles, SymPy derives and Matplotlib draws on one processor only, whatever the number of threads. A forked copy
has everything in its memory that the work needs, where a fresh process would first import it all for seconds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def meanwhile(
    work: Callable[[], T], *, forks: bool, first: Callable[[], object] | None = None
) -> Iterator[Callable[[], T]]:
    """Let a copy of this process do `work` while the block runs; what comes with the block waits for its result.

    A copy does `first` before it, which only saves this process time: without a copy nobody does it. Without `forks`, where a system has no safe fork (all but Linux), or where the copy failed or had anything to say,
    this process does the work when its result is asked for. A result must be something that can be pickled. With the
    block the copy ends, whether or not it was asked. It knows nothing of other threads' locks: ask for `forks` only
    where no other thread may hold one that the work wants.
    """
    if not (forks and sys.platform == "linux"):
        yield work
        return
    copy, receiver = _copied(work, first)

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


def _copied(work: Callable[[], Any], first: Callable[[], object] | None) -> tuple[Any, Connection]:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    copy = multiprocessing.get_context("fork").Process(target=_quietly, args=(work, first, sender), daemon=True)
    with warnings.catch_warnings():
        # Since 3.12 Python warns of every fork beside threads, those of the linear algebra's library included.
        warnings.simplefilter("ignore", DeprecationWarning)
        copy.start()
    # Now the copy alone can write: if it ends without a result, that is the end of what can be read.
    sender.close()
    return copy, receiver


def _quietly(work: Callable[[], Any], first: Callable[[], object] | None, sender: Connection) -> None:
    """Work without a word: what there is to say, the original says when it does the work itself."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    warnings.simplefilter("error")
    try:
        if first is not None:
            first()
        sender.send(work())
    except BaseException:
        os._exit(1)
