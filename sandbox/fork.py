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
from typing import Any


@contextlib.contextmanager
def meanwhile(work: Callable[[], None], *, forks: bool, needed: bool = True) -> Iterator[None]:
    """Do `work`, which leaves its results in files, in a copy of this process while the block runs.

    Without `forks`, where a system has no safe fork (all but Linux), or where the copy failed or had anything to say,
    this process does it after the block, unless it is not `needed`. A copy knows nothing of other threads' locks: ask
    for `forks` only where no other thread holds one that the work may want. What the block raises ends the copy.
    """
    copy = _copy(work) if forks and sys.platform == "linux" else None
    try:
        yield
    except BaseException:
        if copy is not None:
            copy.kill()
            copy.join()
        raise
    if copy is not None:
        copy.join()
    if needed and (copy is None or copy.exitcode != 0):
        work()


def _copy(work: Callable[[], None]) -> Any:
    copy = multiprocessing.get_context("fork").Process(target=_quietly, args=(work,), daemon=True)
    with warnings.catch_warnings():
        # Since 3.12 Python warns of every fork beside threads, those of the linear algebra's library included.
        warnings.simplefilter("ignore", DeprecationWarning)
        copy.start()
    return copy


def _quietly(work: Callable[[], None]) -> None:
    """Work without a word: what there is to say, the original says when it does the work itself."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    warnings.simplefilter("error")
    try:
        work()
    except BaseException:
        os._exit(1)
