"""Settings of the process that a command runs in; importing the package as a library changes none of them.

Each setting is justified by a measurement: of the processor time of sampling a two-neuron net's posterior, linear
algebra's threads took half and fresh memory pages a quarter, without any gain in speed.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""The numbers of these options in the GNU C library's `malloc.h`."""

_KEPT = 256 * 2**20
"""Free bytes at the end of the heap above which memory is returned to the system."""

_OF_THE_HEAP = 32 * 2**20
"""Size in bytes up to which an array is allocated from the heap; the C library allows no larger value."""


def set_up() -> None:
    """Set up the process of one command. Call it before NumPy is imported: the number of threads is fixed then."""
    _one_thread_for_small_products()
    _keep_memory()
    # Expressions and pictures are many long-lived objects. Python searches them for dead cycles after every 700 new
    # objects; this takes a tenth of a short run, and finds few.
    gc.set_threshold(3_000_000, 50, 50)
    # The end of the process frees the memory anyway; Python's last search would take more than a second.
    atexit.register(gc.freeze)


def _one_thread_for_small_products() -> None:
    """Make OpenBLAS compute in the calling thread, unless the user has set OPENBLAS_NUM_THREADS.

    All matrices here are small: its other threads only wait, on processors that kernels and samplers need.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _keep_memory() -> None:
    """Let arrays of up to some megabytes reuse memory pages, if the C library is GNU's.

    By default this library returns each array above 128 KB to the system, which then fills every new page with zeros.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _OF_THE_HEAP)
        set_option(_TRIM_THRESHOLD, _KEPT)
