"""Files and folders that appear whole or not at all, and replace others only where they may.

A folder is written under a temporary name beside its place and then takes it in one step of the file system. While its
process lives, it holds a lock on the folder itself. The system releases the lock when the process ends, in whichever
way: so a leftover is a temporary name without a lock. The number of a process would not tell, because in a container
every process may have the number 1.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox.tools.errors import InputError, UnwrittenError, reason_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_UNFINISHED: set[Path] = set()
"""The temporary folders of this process; a process that must end at once removes them."""

_NOREPLACE, _EXCHANGE = 1, 2
"""The flags of Linux's renameat2, in its `fcntl.h`."""
_HERE = -100
"""AT_FDCWD there: a relative path begins in the current folder."""
_UNKNOWN = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
"""The errors of a system, or of a file system, that does not know renameat2 or a flag."""


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file under a temporary name, then rename it, so that it is never half-written. Raises OSError."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def folder_beside(target: Path, may_replace: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield an empty folder beside `target`, which takes its place if the body succeeds.

    At the end it replaces a folder only if `may_replace` allows that, also one that has appeared there meanwhile. If it
    cannot take the place, or if the body raises OSError, all that it holds is kept under another name, which
    UnwrittenError tells. After any other error nothing is left. Raises InputError at once if nothing can be written
    beside `target`.
    """
    # A relative path such as `.` has no name of its own.
    target = target.resolve()
    part = _beside(target, "part")
    _UNFINISHED.add(part)
    try:
        lock = _started(part, target)
        try:
            yield part
            _put(part, target, may_replace)
        except OSError as error:
            raise UnwrittenError(_rescued(part, target, error)) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
            _release(lock)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        _UNFINISHED.discard(part)


def remove_unfinished() -> None:
    """Remove the temporary folders of this process, which must end at once, whatever its threads are doing."""
    for part in list(_UNFINISHED):
        # Under another name no thread can put it in its place while it is being removed.
        gone = part.with_name(f"{part.name.rpartition('-')[0]}-{os.urandom(8).hex()}")
        with suppress(OSError):
            part.rename(gone)
            shutil.rmtree(gone)


def _started(part: Path, target: Path) -> int | None:
    """Make a temporary folder after the leftovers of others are gone, and return its lock. Raises InputError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear(target)
        while True:
            part.mkdir()
            lock = _locked(part)
            # Before the lock another process may have taken it for a leftover.
            if part.is_dir():
                return lock
            _release(lock)
    except OSError as error:
        raise InputError(f"cannot write to {target.parent}: {reason_of(error)}") from None


def _put(part: Path, target: Path, may_replace: Callable[[Path], bool]) -> None:
    """Move a finished folder to its place. Raises FileExistsError if there is something that it may not replace."""
    try:
        return _rename_new(part, target)
    except FileExistsError:
        if not may_replace(target):
            raise
    # The old one gets the temporary name: until it is removed or put back, it needs the lock that goes with it.
    lock = _locked(target)
    try:
        _exchange(part, target)
        if not may_replace(part):
            # It has appeared since the question above.
            _exchange(part, target)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        shutil.rmtree(part, ignore_errors=True)
    finally:
        _release(lock)


def _rescued(part: Path, target: Path, error: OSError) -> str:
    """Give an unfinished folder a name of its own, unless it is empty; return the words that say so."""
    cause = "something has appeared there meanwhile" if isinstance(error, FileExistsError) else reason_of(error)
    words = f"{target} could not be written: {cause}"
    if not part.is_dir() or not any(part.iterdir()):
        return f"{words}; nothing was written"
    held = ", ".join(sorted(path.name for path in part.iterdir()))
    for k in itertools.count(2):
        kept = target.with_name(f"{target.name}-{k}")
        with suppress(FileExistsError):
            _rename_new(part, kept)
            return f"{words}; kept in {kept}: {held}"
    raise AssertionError("unreachable")


def _rename_new(part: Path, target: Path) -> None:
    """Rename a folder; raise FileExistsError if the new name is taken. Raises OSError."""
    if not _renamed(part, target, _NOREPLACE):
        # Without that call an empty folder could be replaced, and nothing else.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        part.rename(target)


def _exchange(part: Path, target: Path) -> None:
    """Let two paths exchange their names: in one step where the system can, else put the old one back on failure."""
    if _renamed(part, target, _EXCHANGE):
        return
    old = _beside(target, "old")
    try:
        target.rename(old)
        part.rename(target)
    finally:
        if os.path.lexists(old):
            old.rename(part if os.path.lexists(target) else target)


def _renamed(source: Path, target: Path, flag: int) -> bool:
    """Rename by Linux's renameat2 and return True, or False where there is none. Raises OSError."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if call is None:
        return False
    if call(_HERE, os.fsencode(source), _HERE, os.fsencode(target), ctypes.c_uint(flag)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), str(target))


def _clear(target: Path) -> None:
    """Remove the leftovers of dead processes beside `target`; put an old folder back that they moved away."""
    name = re.compile(rf"{re.escape(target.name)}\.(part|old)-[0-9a-f]{{16}}")
    for left in list(target.parent.iterdir()):
        found = name.fullmatch(left.name)
        if not found or (lock := _locked(left, wait=False)) is None:
            continue
        try:
            if found[1] == "old" and not os.path.lexists(target):
                left.rename(target)
            else:
                shutil.rmtree(left, ignore_errors=True)
        finally:
            _release(lock)


def _beside(target: Path, kind: str) -> Path:
    """Return a new temporary name beside `target`."""
    return target.with_name(f"{target.name}.{kind}-{os.urandom(8).hex()}")


def _release(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _locked(folder: Path, *, wait: bool = True) -> int | None:
    """Return the open lock of a folder, or None if another process holds it or there are no locks here."""
    if fcntl is None:
        return None
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:
        # Its process has just removed it, or it belongs to somebody else.
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        # Another process holds it; or this is one of the network drives that have no locks.
        os.close(lock)
        return None
    return lock
