"""The memory of this machine, to refuse a run that cannot fit before it allocates anything."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from sandbox.tools.errors import InputError

_CGROUP = Path("/sys/fs/cgroup/memory.max")
"""The limit of a container, a number or `max`, where there is one."""


def most() -> float:
    """Return the bytes that this process may use: the machine's memory, or less by a limit of a container or shell."""
    limits = [float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")]
    if _CGROUP.is_file() and (text := _CGROUP.read_text().strip()).isdigit():
        limits.append(float(text))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(float(soft))
    return min(limits)


def check_fits(needed: float, advice: str) -> None:
    """Raise InputError if `needed` bytes are more than this process may use."""
    if needed > (limit := most()):
        found, allowed = (f"{size / 2**30:,.1f} GiB" for size in (needed, limit))
        raise InputError(f"this needs about {found} of memory; this machine allows {allowed}: {advice}")
