"""Machine code on disk: what Numba compiled in one process, others load in milliseconds.

Numba's own cache asks the file in which a function stands whether it is still valid, and never keeps what was made by
`exec`. Kernels are made by `exec`, and a function may depend on other files. So a `Kept` function says itself what its
machine code depends on; that and the types of its arguments name the file. What is in a file is right as long as its
digest is, and a damaged one is made anew: damaged machine code may crash the process.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numba import types
from numba.core import serialize, sigutils
from numba.core.caching import _Cache
from numba.core.compiler import CompilerBase, CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".code"


def cache_directory() -> Path | None:
    """Return where machine code is kept: $SANDBOX_CACHE, else the user's cache directory; None when it says "off"."""
    chosen = os.environ.get("SANDBOX_CACHE", "")
    if chosen == "off":
        return None
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else base / "sandbox" / "kernels"


class Kept(CPUDispatcher):
    """A function that Numba compiles, by `passes`, once for all processes that share a cache directory.

    `identity` tells all that its machine code depends on but the types of its arguments; it is asked when first needed.
    A cache that cannot be used means one warning and a compilation for this process, never a failure.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        options: Mapping[str, Any],
        passes: type[CompilerBase],
        identity: Callable[[], str],
    ):
        super().__init__(function, targetoptions={"nopython": True, **options}, pipeline_class=passes)
        self._cache = _Files(function.__name__, identity)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Compile for a call from compiled code: for types, not once more for each value of a literal."""
        return super().get_call_template([types.unliteral(argument) for argument in args], kws)

    def compile(self, sig: Any) -> Any:
        """Compile for a signature, or load; of two processes at once one compiles, and the other finds it made."""
        known = _argument_types(sig) in self.overloads
        # Numba's lock comes first in all threads: else each of two might hold the one that the other waits for.
        with global_compiler_lock, contextlib.nullcontext() if known else self._cache.alone(sig):
            return super().compile(sig)


class _Files(_Cache):
    """What Numba asks for machine code before it compiles, and hands it to afterwards: a file for each signature."""

    def __init__(self, name: str, identity: Callable[[], str]):
        self._name, self._identity = name, identity

    @property
    def cache_path(self) -> str | None:
        directory = cache_directory()
        return None if directory is None else str(directory)

    @contextlib.contextmanager
    def alone(self, sig: Any) -> Iterator[None]:
        """Let one process at a time make the machine code of a signature."""
        with contextlib.ExitStack() as held:
            if (path := self._path(sig)) is not None:
                with _warned():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file = held.enter_context(path.with_suffix(".lock").open("ab"))
                    if fcntl is not None:
                        # Some network drives have no locks. Then two may make it at once, and either's work is whole.
                        with contextlib.suppress(OSError):
                            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function, None where there is none that is whole."""
        path = self._path(sig)
        try:
            seal, content = _parted(path.read_bytes() if path is not None else b"")
        except OSError:
            return None
        if seal != hashlib.sha256(content).digest():
            return None
        # Else its first function would have no types to go by.
        target_context.refresh()
        return CompileResult._rebuild(target_context, *pickle.loads(content))

    def save_overload(self, sig: Any, data: Any) -> None:
        path = self._path(sig)
        # Such machine code holds addresses of this process. And that there is no directory, `alone` has told.
        if path is None or data.library.has_dynamic_globals or not path.parent.is_dir():
            return
        content: bytes = serialize.dumps(data._reduce())
        with _warned():
            _write(path, hashlib.sha256(content).digest() + content)

    def enable(self) -> None:
        """Do nothing: $SANDBOX_CACHE says whether it is enabled."""

    def disable(self) -> None:
        """Do nothing: $SANDBOX_CACHE says whether it is enabled."""

    def flush(self) -> None:
        """Do nothing: what a file is named for does not change."""

    def _path(self, sig: Any) -> Path | None:
        directory = cache_directory()
        if directory is None:
            return None
        depends = f"{self._identity()}\0{_argument_types(sig)}"
        return directory / f"{self._name}-{hashlib.sha256(depends.encode()).hexdigest()[:20]}{SUFFIX}"


def _argument_types(sig: Any) -> tuple[Any, ...]:
    return tuple(sigutils.normalize_signature(sig)[0])


def _parted(sealed: bytes) -> tuple[bytes, bytes]:
    size = hashlib.sha256().digest_size
    return sealed[:size], sealed[size:]


def _write(path: Path, content: bytes) -> None:
    # Another process may be writing the same file: a rename shows a whole file or none.
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)


@contextlib.contextmanager
def _warned() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Without the name of the file it failed on, which is another one for each function.
        _warn_once(f"the kernel cache {cache_directory()} cannot be used ({error.strerror}); compiling anew")


@functools.cache
def _warn_once(message: str) -> None:
    # The filters of `warnings` would show it again: Numba changes them, and that makes Python forget what it has shown.
    warnings.warn(message, stacklevel=2)
