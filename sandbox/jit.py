"""The door to Numba: compiler flags, the width of a block, and what compiled code depends on.

A kernel is a small generated module whose text names all that it uses as globals, under a name that hashes all that
it depends on; a second process loads its machine code in milliseconds (`machine_code`). Parameters are arguments, never
captured: two values, one compilation.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import platform
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.core import typed_passes, untyped_passes
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic, overload

from sandbox.machine_code import Kept

F = TypeVar("F", bound=Callable[..., Any])

LANES = 128
"""Particles in a block. A block's arrays (positions, gradient, draws) are meant to stay in the L1 cache."""

FLAGS: dict[str, Any] = {
    "nogil": True,
    # Under Numba's default a division may raise, and that branch alone keeps LLVM from vectorising the loop.
    "error_model": "numpy",
    # Neither nnan nor ninf: diverged particles must stay visible.
    "fastmath": {"nsz", "contract"},
    # Compiled code is called from compiled code or from Python, never from C.
    "no_cfunc_wrapper": True,
}


class _Remembering:
    """A typing context of Numba that remembers what a call of known types is.

    To find it a dozen templates are tried, and the hundreds of operations of a kernel are of a few kinds.
    """

    def __init__(self, context: Any):
        self._context = context
        self._known: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, function: Any, types_of: tuple[Any, ...], named: Any) -> Any:
        """Return the signature of a call; see Numba's `BaseContext`."""
        if named:
            return self._context.resolve_function_type(function, types_of, named)
        return self._remembered(self._context.resolve_function_type, (function, types_of, named), (function, types_of))

    def resolve_setitem(self, *types_of: Any) -> Any:
        """Return the signature of an assignment to an item; see Numba's `BaseContext`."""
        return self._remembered(self._context.resolve_setitem, types_of, types_of)

    def _remembered(self, resolve: Any, arguments: tuple[Any, ...], key: tuple[Any, ...]) -> Any:
        if key not in self._known:
            self._known[key] = resolve(*arguments)
        return self._known[key]


class _FewerPasses(CompilerBase):
    """Numba's passes, less those that look for what lane functions and kernels never have.

    They have no closures, comprehensions or `with`, raise nothing, take no literals or absent arguments, index no
    tuples of several types, and do not compute with whole arrays. To look for all that is a tenth of a compilation.
    """

    def __init__(self, context: Any, *others: Any):
        super().__init__(_Remembering(context), *others)  # type: ignore[no-untyped-call]

    def define_pipelines(self) -> list[PassManager]:
        passes = PassManager("fewer")
        for each in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.ReconstructSSA,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            typed_passes.NoPythonSupportedFeatureValidation,
            typed_passes.IRLegalization,
            typed_passes.AnnotateTypes,
            typed_passes.NativeLowering,
            typed_passes.NoPythonBackend,
        ):
            passes.add_pass(each, each.__name__)
        passes.finalize()
        return [passes]


def lane_function(function: F) -> F:
    """Make a function that works on one block of lanes a part of each kernel that calls it.

    Its statements are written out in a kernel (`inline`), and elsewhere copied by Numba: compiled for itself, it would
    take longer.
    """
    compiled: F = numba.njit(inline="always", **FLAGS)(function)
    return compiled


def lane_source(value: Any) -> str | None:
    """Return the source of a lane function that is copied into kernels, None for anything else."""
    copied = isinstance(value, Dispatcher) and value.targetoptions.get("inline") == "always"
    return inspect.getsource(value.py_func) if copied else None


def shared_lane_function(function: F) -> F:
    """Compile a longer function that works on one block of lanes by itself, once for all kernels."""
    compiled: Any = Kept(function, FLAGS, _FewerPasses, lambda: _sources([function.__module__]))
    return cast(F, compiled)


def scalar_function(function: F) -> F:
    """Compile a function of single numbers that must become part of the loop over lanes in which it is called.

    By itself LLVM leaves a long one, or one called several times, outside, and then that loop is not vectorised.
    """
    compiled: F = numba.njit(forceinline=True, **FLAGS)(function)
    return compiled


def kernel(function: F) -> F:
    """Compile the entry point of a generated module, whose name hashes all that it depends on."""
    compiled: Any = Kept(function, FLAGS, _FewerPasses, lambda: function.__module__)
    return cast(F, compiled)


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
    """Return the compiled function `entry` of the module that `text` spells, from disk where it was compiled before.

    `modules` names the modules whose functions the text imports: their sources are part of the kernel's identity.
    """
    name = f"sandbox_kernel_{_hash(text, _sources(modules))}"
    if name not in sys.modules:
        module = ModuleType(name)
        # Registered before it runs: otherwise the kept code names a module that the next process cannot import.
        sys.modules[name] = module
        exec(compile(text, f"<{name}>", "exec"), module.__dict__)
    function = getattr(sys.modules[name], entry)
    function.compile(signature)
    return function


def _sources(modules: Iterable[str]) -> str:
    """Return a hash of all that functions of these modules depend on when compiled on this machine."""
    return _hash(*(inspect.getsource(importlib.import_module(module)) for module in _reached(modules)), *_compilers())


def _compilers() -> tuple[str, ...]:
    versions = (sys.version, np.__version__, numba.__version__, llvmlite.__version__, platform.machine())
    return (*versions, llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


def _reached(modules: Iterable[str]) -> list[str]:
    """Return these modules, those that compile, and those from which they import compiled functions, sorted."""
    found, waiting = {__name__, Kept.__module__}, set(modules)
    while waiting:
        found |= waiting
        values = [value for module in waiting for value in vars(importlib.import_module(module)).values()]
        waiting = {value.py_func.__module__ for value in values if isinstance(value, Dispatcher)} - found
    return sorted(found)
