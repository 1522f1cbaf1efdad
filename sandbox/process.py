"""What a command sets for its own process; a library's caller keeps their own settings.

Each line is there because it was measured: of the processor time of a two-neuron net's sampled witness, threads of
linear algebra took half and fresh pages a quarter, without making it any faster.
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
"""Bytes that may lie free at the end of the heap before they go back to the system."""

_OF_THE_HEAP = 32 * 2**20
"""Bytes up to which an array comes from the heap; the library allows no more."""


def set_up() -> None:
    """Set up the process of one command. It counts only if NumPy is not imported yet."""
    _one_thread_for_small_products()
    _keep_memory()
    # Expressions and pictures are many objects that stay: to look for dead cycles among them every 700 new ones (as
    # Python does) takes a tenth of a short run, and finds few.
    gc.set_threshold(3_000_000, 50, 50)
    # The end of the process frees their memory: Python would look through them all again, for more than a second.
    atexit.register(gc.freeze)


def _one_thread_for_small_products() -> None:
    """Let OpenBLAS compute in the thread that asks, unless the user says otherwise.

    All our matrices are small: its other threads do nothing but wait, on the processors that kernels and copies want.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _keep_memory() -> None:
    """Let arrays of up to some megabytes use the same pages again, where the C library is GNU's.

    By default it gives each array above 128 KB back to the system, which fills every page anew with zeros.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _OF_THE_HEAP)
        set_option(_TRIM_THRESHOLD, _KEPT)
