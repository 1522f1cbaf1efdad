"""The only door to Numba: compiler flags, the width of a block, and the on-disk cache of generated kernels.

Numba never caches code made by `exec`, and compiles a function again in every process when another jitted
function is passed to it or captured by it. So a kernel is written as a small module whose text names all that
it uses as globals, under a name that hashes all that it depends on; a second process then loads the machine
code in milliseconds. Parameters are arguments, never captured: two values, one compilation.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.extending import intrinsic, overload

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
    """Compile a function that works on one block of lanes or on one number; called from kernels only."""
    return numba.njit(**FLAGS)(function)


def cached_kernel(function: F) -> F:
    """Compile the entry point of a generated module and keep its machine code on disk."""
    return numba.njit(cache=True, **FLAGS)(function)


def uncached_kernel(function: F) -> F:
    """Compile an entry point for this process only."""
    return numba.njit(**FLAGS)(function)


def _bitcast(integer: Any, floating: Any, to_float: bool) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(floating if to_float else integer))

    return (floating(integer) if to_float else integer(floating)), generate


_INTEGER = {types.float64: types.int64, types.float32: types.int32}
_FLOATING = {integer: floating for floating, integer in _INTEGER.items()}


@intrinsic  # type: ignore[untyped-decorator]
def _bits_of(context: Any, x: Any) -> Any:
    return _bitcast(_INTEGER[x], x, to_float=False)


@intrinsic  # type: ignore[untyped-decorator]
def _number_of(context: Any, bits: Any) -> Any:
    return _bitcast(bits, _FLOATING[bits], to_float=True)


def exponent_and_mantissa(x: float) -> tuple[float, float]:
    """Split a positive normal number: x = 2^e m with m in [sqrt(1/2), sqrt(2)). Compiled code only."""
    raise NotImplementedError("for compiled code")


@overload(exponent_and_mantissa, jit_options=FLAGS)  # type: ignore[untyped-decorator]
def _exponent_and_mantissa(x: Any) -> Any:
    real, integer = (np.float64, np.int64) if x == types.float64 else (np.float32, np.int32)
    width = integer(np.finfo(real).nmant)
    mantissa = integer((1 << int(width)) - 1)
    root = np.sqrt(real(0.5)).view(integer)

    def split(x: Any) -> Any:
        # Numba widens 32-bit integer arithmetic to 64 bits: each step is narrowed back.
        shifted = integer(_bits_of(x) - root)
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
    A cache that cannot be used means one warning and a compilation for this process, never a failure.
    """
    name = f"sandbox_kernel_{_identity(text, modules)}"
    if name in sys.modules:
        return getattr(sys.modules[name], entry)
    directory = cache_directory()
    if directory is not None:
        try:
            return _compiled(_load(_written(directory, name, text), name), entry, signature)
        except OSError as error:
            sys.modules.pop(name, None)
            warnings.warn(f"the kernel cache {directory} cannot be used ({error}); compiling anew", stacklevel=2)
    module = ModuleType(name)
    exec(compile(text.replace("@cached_kernel", "@uncached_kernel"), f"<{name}>", "exec"), module.__dict__)
    sys.modules[name] = module
    return _compiled(module, entry, signature)


def _identity(text: str, modules: Iterable[str]) -> str:
    sources = [inspect.getsource(importlib.import_module(module)) for module in sorted({*modules, __name__})]
    versions = (sys.version, np.__version__, numba.__version__, llvmlite.__version__, platform.machine())
    cpu = (llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())
    return hashlib.sha256("\0".join([text, *sources, *versions, *cpu]).encode()).hexdigest()[:20]


def _written(directory: Path, name: str, text: str) -> Path:
    path = directory / f"{name}.py"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=directory, suffix=".part")
        with os.fdopen(handle, "w") as file:
            file.write(text)
        # Another process may be writing the same kernel: a rename shows a whole file or none.
        Path(part).replace(path)
    return path


def _load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise OSError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: otherwise the cached code names a module that the next process cannot import.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _compiled(module: ModuleType, entry: str, signature: Any) -> Any:
    function = getattr(module, entry)
    function.compile(signature)
    return function
