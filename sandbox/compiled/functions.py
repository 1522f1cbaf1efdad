"""The only door to Numba: compiler flags, the width of a block, and the dependencies of compiled code.

A kernel is a small generated module. Its text imports the functions that it calls, and its name hashes the text and all
other dependencies, so a second process loads its machine code in milliseconds (`cache`). Parameters are arguments and
never captured: two values need one compilation.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import platform
import sys
import threading
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.extending import intrinsic, lower_builtin, overload, type_callable

from sandbox.compiled.cache import compiled, source_file
from sandbox.tools.errors import RunError

F = TypeVar("F", bound=Callable[..., Any])

LANES = 128
"""Particles in a block. A block's arrays (positions, gradient, random numbers) should stay in the L1 cache."""

FLAGS: dict[str, Any] = {
    "nogil": True,
    # Under Numba's default a division may raise, and that branch alone keeps LLVM from vectorising the loop.
    "error_model": "numpy",
    # Neither nnan nor ninf: diverged particles must stay visible.
    "fastmath": {"nsz", "contract"},
    # Compiled code is called from compiled code or from Python, never from C.
    "no_cfunc_wrapper": True,
}

_CONFIG: Any = numba.config

_ONE_AT_A_TIME = threading.Lock()
"""Taken before the lock of a file and Numba's own, except inside a compilation: there Numba's own is taken already."""


def lane_function(function: F) -> F:
    """Make a function of one block of lanes a part of each kernel that calls it.

    Numba copies its statements into the kernel, which takes less time than a compilation of its own.
    """
    copied: F = numba.njit(inline="always", **FLAGS)(function)
    return copied


def scalar_function(function: F) -> F:
    """Compile a function of single numbers into the loop over lanes that calls it.

    LLVM would leave a long function, or one with several calls, outside the loop, and would not vectorise the loop.
    """
    copied: F = numba.njit(forceinline=True, **FLAGS)(function)
    return copied


def shared_lane_function(function: F) -> F:
    """Compile a longer function of one block of lanes by itself, once for all kernels."""
    return cast(F, _Shared(function))


class _Shared:
    """A function that is compiled, or loaded from the cache, for the types of a call from compiled code.

    Numba itself would compile it anew for each value of a literal, and would load it without checking the digest.
    """

    def __init__(self, function: Callable[..., Any]):
        functools.update_wrapper(self, function)
        self.py_func = function
        self.compiled: dict[Any, Any] = {}
        """Numba's function for each tuple of types."""
        self._from_python = numba.njit(**FLAGS)(function)
        # Numba reads the names of the arguments from this one.
        signature = functools.wraps(function)(lambda *of: self._signature(of))
        type_callable(self)(lambda context: signature)
        lower_builtin(self, types.VarArg(types.Any))(self._call)

    def __call__(self, *arguments: Any) -> Any:
        return self._from_python(*arguments)

    def _signature(self, of: tuple[Any, ...]) -> Any:
        if of not in self.compiled:
            self.compiled[of] = _compiled(self.py_func, _name(self.py_func, of), of)
        return self.compiled[of].nopython_signatures[0]

    def _call(self, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = types.Dispatcher(self.compiled[signature.args])
        return context.get_function(function, signature)(builder, arguments)


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


def compile_module(text: str, modules: Iterable[str], entry: str, signature: Any) -> Any:
    """Return the compiled function `entry` of the module with this text, from disk if it was compiled before.

    `modules` names the modules whose functions the text imports: their sources are part of the kernel's identity.
    Raises RunError if NUMBA_DISABLE_JIT is set.
    """
    name = f"sandbox_kernel_{_hash(text, str(signature), _sources(modules))}"
    with _ONE_AT_A_TIME:
        if name not in sys.modules:
            # Registered before it runs: otherwise the kept code names a module that the next process cannot import.
            module = sys.modules[name] = ModuleType(name)
            try:
                exec(compile(text, source_file(name, text), "exec"), module.__dict__)
                setattr(module, entry, _compiled(getattr(module, entry), name, signature))
            except BaseException:
                del sys.modules[name]
                raise
    return getattr(sys.modules[name], entry)


def _compiled(function: Callable[..., Any], name: str, signature: Any) -> Any:
    if _CONFIG.DISABLE_JIT:
        raise RunError("particles are moved by compiled code only: NUMBA_DISABLE_JIT must not be set")
    return compiled(function, name, signature, FLAGS)


def _name(function: Callable[..., Any], of: tuple[Any, ...]) -> str:
    """Return a name for the machine code of a function for arguments of some types."""
    ours = {type(each).__module__ for each in of if not type(each).__module__.startswith("numba.")}
    return f"{function.__name__}-{_hash(function.__qualname__, str(of), _sources({function.__module__, *ours}))}"


def _sources(modules: Iterable[str]) -> str:
    """Return a hash of all dependencies of the functions of these modules, compiled on this machine."""
    return _hash(*(inspect.getsource(importlib.import_module(module)) for module in _reached(modules)), *_compilers())


def _compilers() -> tuple[str, ...]:
    versions = (sys.version, np.__version__, numba.__version__, llvmlite.__version__, platform.machine())
    return (*versions, llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


def _reached(modules: Iterable[str]) -> list[str]:
    """Return these modules, those that compile, and those from which they import compiled functions, sorted."""
    found, waiting = {__name__, compiled.__module__}, set(modules)
    while waiting:
        found |= waiting
        # A compiled function, whether Numba's or ours, knows the function that it wraps.
        values = [value for module in waiting for value in vars(importlib.import_module(module)).values()]
        waiting = {value.__module__ for value in values if hasattr(value, "__wrapped__")} - found
    return sorted(found)
