"""The door to Numba: compiler flags, the width of a block, and the on-disk cache of generated kernels.

Numba never caches code made by `exec`, and compiles a function again in every process when another jitted
function is passed to it or captured by it. So a kernel is written as a small module whose text names all that
it uses as globals, under a name that hashes all that it depends on; a second process then loads the machine
code in milliseconds. Parameters are arguments, never captured: two values, one compilation.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic, overload

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

F = TypeVar("F", bound=Callable[..., Any])

LANES = 128
"""Particles in a block. A block's arrays (positions, gradient, draws) are meant to stay in the L1 cache."""

FLAGS: dict[str, Any] = {
    "nogil": True,
    # Under Numba's default a division may raise, and that branch alone keeps LLVM from vectorising the loop.
    "error_model": "numpy",
    # Neither nnan nor ninf: diverged particles must stay visible.
    "fastmath": {"nsz", "contract"},
}


def lane_function(function: F) -> F:
    """Make a function that works on one block of lanes a part of each kernel that calls it.

    Numba copies its statements into the kernel before it infers types: compiled for itself, it would take longer.
    """
    compiled: F = numba.njit(inline="always", **FLAGS)(function)
    return compiled


def shared_lane_function(function: F) -> F:
    """Compile a longer function that works on one block of lanes, once for all kernels of a process."""
    compiled: F = numba.njit(**FLAGS)(function)
    return compiled


def scalar_function(function: F) -> F:
    """Compile a function of single numbers that must become part of the loop over lanes in which it is called.

    By itself LLVM leaves a long one, or one called several times, outside, and then that loop is not vectorised.
    """
    compiled: F = numba.njit(forceinline=True, **FLAGS)(function)
    return compiled


def cached_kernel(function: F) -> F:
    """Compile the entry point of a generated module and keep its machine code on disk."""
    compiled: F = numba.njit(cache=True, **FLAGS)(function)
    return compiled


def uncached_kernel(function: F) -> F:
    """Compile an entry point for this process only."""
    compiled: F = numba.njit(**FLAGS)(function)
    return compiled


def _bitcast(integer: Any, floating: Any, to_float: bool) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(floating if to_float else integer))

    return (floating(integer) if to_float else integer(floating)), generate


_INTEGER = {types.float64: types.int64, types.float32: types.int32}
_FLOATING = {integer: floating for floating, integer in _INTEGER.items()}


@intrinsic
def _bits_of(context: Any, x: Any) -> Any:
    return _bitcast(_INTEGER[x], x, to_float=False)


@intrinsic
def _number_of(context: Any, bits: Any) -> Any:
    return _bitcast(bits, _FLOATING[bits], to_float=True)


def exponent_and_mantissa(x: Any) -> tuple[Any, Any]:
    """Split a positive normal number: x = 2^e m with m in [sqrt(1/2), sqrt(2)). Compiled code only."""
    raise NotImplementedError("for compiled code")


@overload(exponent_and_mantissa, jit_options=FLAGS)  # type: ignore[arg-type]
def _exponent_and_mantissa(x: Any) -> Any:
    real, integer = (np.float64, np.int64) if x == types.float64 else (np.float32, np.int32)
    width = integer(np.finfo(real).nmant)
    mantissa = integer((1 << int(width)) - 1)
    root = np.sqrt(real(0.5)).view(integer)

    def split(x: Any) -> Any:
        # Numba widens 32-bit integer arithmetic to 64 bits: each step is narrowed back.
        shifted = integer(_bits_of(x) - root)  # type: ignore[call-arg]
        return real(integer(shifted >> width)), _number_of(integer((shifted & mantissa) + root))

    return split


def cache_directory() -> Path | None:
    """Return where kernels are kept: $SANDBOX_CACHE, else the user's cache directory; None when it says "off"."""
    chosen = os.environ.get("SANDBOX_CACHE", "")
    if chosen == "off":
        return None
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else base / "sandbox" / "kernels"


def compile_module(text: str, modules: Iterable[str], entry: str, signature: Any) -> Any:
    """Return the compiled function `entry` of the module that `text` spells, from disk where it was compiled before.

    `modules` names the modules whose functions the text imports: their sources are part of the kernel's identity.
    A cache that cannot be used means one warning and a compilation for this process, never a failure; one that was
    damaged is made anew.
    """
    name = f"sandbox_kernel_{_identity(text, modules)}"
    if name in sys.modules:
        return getattr(sys.modules[name], entry)
    directory = cache_directory()
    if directory is not None:
        try:
            return _kept(directory, name, text, entry, signature)
        except OSError as error:
            sys.modules.pop(name, None)
            # Without the name of the file it failed on, which is another one for each kernel.
            _warn_once(f"the kernel cache {directory} cannot be used ({error.strerror}); compiling anew")
    module = _executed(name, text.replace("cached_kernel", "uncached_kernel"), f"<{name}>")
    return _compiled(module, entry, signature)


@functools.cache
def _warn_once(message: str) -> None:
    # The filters of `warnings` would show it again: Numba changes them, and that makes Python forget what it has shown.
    warnings.warn(message, stacklevel=3)


def _identity(text: str, modules: Iterable[str]) -> str:
    sources = [inspect.getsource(importlib.import_module(module)) for module in _reached(modules)]
    versions = (sys.version, np.__version__, numba.__version__, llvmlite.__version__, platform.machine())
    cpu = (llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())
    return hashlib.sha256("\0".join([text, *sources, *versions, *cpu]).encode()).hexdigest()[:20]


def _reached(modules: Iterable[str]) -> list[str]:
    """Return these modules, this one, and those from which they import compiled functions, sorted."""
    found, waiting = {__name__}, set(modules)
    while waiting:
        found |= waiting
        values = [value for module in waiting for value in vars(importlib.import_module(module)).values()]
        waiting = {value.py_func.__module__ for value in values if isinstance(value, Dispatcher)} - found
    return sorted(found)


def _kept(directory: Path, name: str, text: str, entry: str, signature: Any) -> Any:
    """Compile with the machine code kept on disk. Raises OSError where it cannot be."""
    machine_code = directory / "__pycache__"
    machine_code.mkdir(parents=True, exist_ok=True)
    # Numba would quietly write elsewhere, or raise RuntimeError, where this directory does not take files.
    tempfile.TemporaryFile(dir=machine_code).close()
    with _alone(machine_code / f"{name}.lock"):
        return _found_or_made(directory, machine_code, name, text, entry, signature)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time make a kernel: who comes second waits, and finds it made."""
    with path.open("ab") as file:
        if fcntl is not None:
            # Some network drives have no locks. Then two may make it at once, and either's work is whole.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _found_or_made(directory: Path, machine_code: Path, name: str, text: str, entry: str, signature: Any) -> Any:
    path = directory / f"{name}.py"
    if not path.exists() or path.read_bytes() != text.encode():
        _write(path, text)
    # Damaged machine code may crash the process, and a damaged index raises whatever pickle raises.
    seal = machine_code / f"{name}.sha256"
    if not seal.exists() or seal.read_bytes() != _digest(machine_code, name).encode():
        for file in machine_code.glob(f"{name}.*.nb[ic]"):
            file.unlink(missing_ok=True)
    function = _compiled(_executed(name, text, str(path)), entry, signature)
    if function.stats.cache_misses:
        _write(seal, _digest(machine_code, name))
    return function


def _digest(machine_code: Path, name: str) -> str:
    digest = hashlib.sha256()
    for file in sorted(machine_code.glob(f"{name}.*.nb[ic]")):
        # Another process may have found the entry unsealed, and removed it.
        with contextlib.suppress(FileNotFoundError):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode())
    # Another process may be writing the same file: a rename shows a whole file or none.
    Path(part).replace(path)


def _executed(name: str, text: str, path: str) -> ModuleType:
    module = ModuleType(name)
    # Registered before it runs: otherwise the cached code names a module that the next process cannot import.
    sys.modules[name] = module
    exec(compile(text, path, "exec"), module.__dict__)
    return module


def _compiled(module: ModuleType, entry: str, signature: Any) -> Any:
    function = getattr(module, entry)
    function.compile(signature)
    return function
