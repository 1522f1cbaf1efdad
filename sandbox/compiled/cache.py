"""Machine code on disk: one process compiles a function, and others load it in milliseconds.

Numba keeps compiled functions in files (`cache=True`), but it sees only a part of the things that a function depends
on, and it loads a damaged file, which may crash the process. So the caller gives a function a name that hashes all its
dependencies. The cache has a folder of that name with Numba's files and their digest. A folder appears there complete,
and a folder that no longer fits its digest is made anew.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numba

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SEAL = "digest"
"""The file in a function's folder that holds the digest of the other files."""

_CONFIG: Any = numba.config
_DECORATING = threading.Lock()


def cache_directory() -> Path | None:
    """Return the folder for machine code: $SANDBOX_CACHE, else one in the user's cache; None for "off"."""
    chosen = os.environ.get("SANDBOX_CACHE", "")
    if chosen == "off":
        return None
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen).absolute() if chosen else base / "sandbox" / "kernels"


def source_file(name: str, text: str) -> str:
    """Write the text of a module into the cache and return the path, because Numba keeps only functions from files.

    Without a usable cache, return a name in angle brackets that is no path.
    """
    with _warned():
        if (directory := _directory()) is not None:
            path = directory / f"{name}.py"
            if not path.is_file() or path.read_bytes() != text.encode():
                # Another process may be reading it: a rename shows the old file or the new one.
                with tempfile.TemporaryDirectory(prefix="text.", dir=directory) as temporary:
                    Path(temporary, path.name).write_bytes(text.encode())
                    Path(temporary, path.name).replace(path)
            return str(path)
    return f"<{name}>"


def compiled(function: Callable[..., Any], name: str, signature: Any, options: Mapping[str, Any]) -> Any:
    """Return the function compiled for one signature, from the cache if it holds that name.

    If two processes ask at once, one compiles and the other loads. An unusable cache costs a warning and a compilation
    for this process; it is never a failure.
    """
    with _warned():
        if (directory := _directory()) is not None and Path(function.__code__.co_filename).is_file():
            with _alone(directory / f"{name}.lock"):
                return _kept(function, directory / name, signature, options)
    return _for_one(numba.njit(**options)(function), signature)


def _kept(function: Callable[..., Any], folder: Path, signature: Any, options: Mapping[str, Any]) -> Any:
    """Return the function loaded from its folder; make the folder first if it is missing or damaged."""
    if _is_whole(folder):
        result = _for_one(_keeping(function, folder, options), signature)
        if not result.stats.cache_hits:
            # Numba looks at the path of the source as well: from another path it has added to the folder.
            _seal(folder)
        return result
    for left in folder.parent.glob(f"{folder.name}.*/"):
        # A process was killed while it compiled.
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as temporary:
        part = Path(temporary, folder.name)
        part.mkdir()
        result = _for_one(_keeping(function, part, options), signature)
        _seal(part)
        if folder.exists():
            # A rename replaces no folder that holds files.
            folder.rename(Path(temporary, "damaged"))
        # Without locks another process may have made it meanwhile, and its folder is as good.
        with contextlib.suppress(OSError):
            part.rename(folder)
    return result


def _keeping(function: Callable[..., Any], folder: Path, options: Mapping[str, Any]) -> Any:
    """Return a function of Numba's that keeps its machine code in a folder, whatever NUMBA_CACHE_DIR says."""
    with _DECORATING:
        chosen, _CONFIG.CACHE_DIR = _CONFIG.CACHE_DIR, str(folder)
        try:
            result = numba.njit(cache=True, **options)(function)
        finally:
            _CONFIG.CACHE_DIR = chosen
    if folder not in Path(result.stats.cache_path).parents:
        # Numba takes another folder if it cannot write to this one, and that has no digest.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return result


def _for_one(function: Any, signature: Any) -> Any:
    """Let Numba compile or load for a signature, and forbid all others: a folder holds one."""
    function.compile(signature)
    function.disable_compile()
    return function


def _seal(folder: Path) -> None:
    (folder / SEAL).write_bytes(_digest(folder))


def _is_whole(folder: Path) -> bool:
    seal = folder / SEAL
    return seal.is_file() and seal.read_bytes() == _digest(folder)


def _digest(folder: Path) -> bytes:
    """Return a digest of the names and contents of all files in a folder except the seal."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SEAL:
            content = path.read_bytes()
            found.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return found.hexdigest().encode()


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let one process at a time compile or load a function."""
    with lock.open("ab") as file:
        if fcntl is not None:
            # Some network drives have no locks. Then two processes may make the same folder, and both are whole.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _directory() -> Path | None:
    """Return the cache directory, made if it is missing, or None for "off"; raise OSError if it is not safe."""
    directory = cache_directory()
    if directory is not None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
        # This process would run the code that others put there. (Windows keeps such rights elsewhere.)
        if fcntl is not None and (found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid())):
            raise PermissionError(errno.EPERM, "others may write to it")
    return directory


@contextlib.contextmanager
def _warned() -> Iterator[None]:
    """Turn an OSError into a warning."""
    try:
        yield
    except OSError as error:
        # The message names the directory only: with the name of the file, each function would have its own warning.
        _warn_once(f"the kernel cache {cache_directory()} cannot be used ({error.strerror}); compiling anew")


@functools.cache
def _warn_once(message: str) -> None:
    # The filters of `warnings` would show it again: Numba changes them, and then Python forgets the shown ones.
    warnings.warn(message, stacklevel=2)
