"""Working memory of generated kernels: `scratch(7 * 128, np.float64)` in compiled code.

NumPy arrays would do. But Numba writes a score of instructions for each element of an array (shape, strides, negative
indices), types and optimises them, and most of a kernel's statements are elements: with memory that knows its first
element and its length only, a kernel compiles in four fifths of the time and has the same bits. It lies on the
stack, so that the compiler knows that no two overlap, and is gone when the kernel returns.

Of NumPy's ways there are `a[i]` with 0 <= i, `a[i] = x`, the views `a[i:j]` and `a[i:]` with i <= a.size, `a.size` and
`a.dtype`; lane functions that keep to these work on arrays alike.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.errors import RequireLiteralValue
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, make_attribute_wrapper, overload_attribute, register_model
from numba.np.numpy_support import as_dtype

_ALIGNMENT = 64
"""Bytes of a vector, or of a cache line."""


class Scratch(types.Type):
    """Numba's type of such memory: `dtype` is that of a number in it."""

    def __init__(self, dtype: Any):
        self.dtype = dtype
        super().__init__(name=f"scratch({dtype})")


@register_model(Scratch)
class _Model(models.StructModel):
    def __init__(self, manager: Any, type_: Scratch):
        super().__init__(manager, type_, [("data", types.CPointer(type_.dtype)), ("size", types.intp)])


make_attribute_wrapper(Scratch, "size", "size")


@overload_attribute(Scratch, "dtype")
def _dtype(memory: Any) -> Any:
    dtype = as_dtype(memory.dtype)

    def known(memory: Any) -> Any:
        return dtype

    return known


@intrinsic
def scratch(context: Any, count: Any, dtype: Any) -> Any:
    """Reserve `count` numbers (a literal), once for a call of the kernel. Compiled code only."""
    if not isinstance(count, types.IntegerLiteral):
        raise RequireLiteralValue("how much scratch memory is needed must be a literal")
    memory, size = Scratch(dtype.dtype), count.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_data_type(memory.dtype)
        # In the entry block: elsewhere a loop would take more of the stack each time it comes by.
        with builder.goto_entry_block():
            reserved = builder.alloca(ir.ArrayType(number, size))
        reserved.align = _ALIGNMENT
        data, length = builder.bitcast(reserved, number.as_pointer()), context.get_constant(types.intp, size)
        return _made(context, builder, memory, data, length)

    return memory(count, dtype), generate


def _made(context: Any, builder: Any, memory: Scratch, data: Any, size: Any) -> Any:
    proxy = cgutils.create_struct_proxy(memory)(context, builder)
    proxy.data, proxy.size = data, size
    return proxy._getvalue()


def _index(index: Any) -> Any:
    return types.int64 if index.signed else types.uint64


@infer_global(operator.getitem)
class _Read(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        memory, index = arguments
        if isinstance(memory, Scratch) and isinstance(index, types.Integer):
            return signature(memory.dtype, memory, _index(index))
        if isinstance(memory, Scratch) and isinstance(index, types.SliceType) and not index.has_step:
            return signature(memory, memory, index)
        return None


@infer_global(operator.setitem)
class _Written(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        memory, index, _ = arguments
        if isinstance(memory, Scratch) and isinstance(index, types.Integer):
            return signature(types.none, memory, _index(index), memory.dtype)
        return None


def _place(builder: Any, memory: Any, index: Any) -> Any:
    return builder.gep(builder.extract_value(memory, 0), [index], inbounds=True)


@lower_builtin(operator.getitem, Scratch, types.Integer)
def _read(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.load(_place(builder, *arguments))


@lower_builtin(operator.setitem, Scratch, types.Integer, types.Any)
def _write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    memory, index, value = arguments
    builder.store(value, _place(builder, memory, index))


@lower_builtin(operator.getitem, Scratch, types.SliceType)
def _view(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    memory, bounds = arguments
    found = context.make_helper(builder, signature.args[1], bounds)
    size = builder.extract_value(memory, 1)
    # Without an end it is the largest integer.
    stop = builder.select(builder.icmp_signed("<", found.stop, size), found.stop, size)
    start = _place(builder, memory, found.start)
    return _made(context, builder, signature.return_type, start, builder.sub(stop, found.start))
