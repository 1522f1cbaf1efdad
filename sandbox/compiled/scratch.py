"""Working memory of generated kernels: `scratch(7 * 128, np.float64)` in compiled code.

NumPy arrays would also work. But for each use of an array element, Numba writes, types and optimises about twenty
instructions (shape, strides, negative indices), and most of a kernel's statements use elements. Scratch memory has only
an address and a length. With it a kernel compiles in four fifths of the time and gives the same bits. It is on the
stack, so that the compiler knows that no two arrays overlap, and it is freed when the kernel returns.

As in NumPy, there are `a[i]` with 0 <= i, `a[i] = x`, the views `a[i:j]` and `a[i:]` with i <= a.size, `a.size` and
`a.dtype`. Lane functions that use only these work on arrays too.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import RequireLiteralValue, types
from numba.extending import (
    intrinsic,
    lower_builtin,
    make_attribute_wrapper,
    models,
    overload_attribute,
    register_model,
    type_callable,
)

_ALIGNMENT = 64
"""The size of a vector, and of a cache line, in bytes."""


class Scratch(types.Type):
    """Numba's type of scratch memory; `dtype` is the type of its numbers."""

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
    dtype = np.dtype(memory.dtype.name)

    def known(memory: Any) -> Any:
        return dtype

    return known


@intrinsic
def scratch(context: Any, count: Any, dtype: Any) -> Any:
    """Reserve `count` numbers (a literal), once in a call of the kernel. This works in compiled code only."""
    if not isinstance(count, types.IntegerLiteral):
        raise RequireLiteralValue("the amount of scratch memory must be a literal")
    memory, size = Scratch(dtype.dtype), count.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_data_type(memory.dtype)
        # The entry block is right: elsewhere, a loop would take more of the stack at each pass.
        with builder.goto_entry_block():
            reserved = builder.alloca(ir.ArrayType(number, size))
        reserved.align = _ALIGNMENT
        data, length = builder.bitcast(reserved, number.as_pointer()), context.get_constant(types.intp, size)
        return _made(context, builder, memory, data, length)

    return memory(count, dtype), generate


def _made(context: Any, builder: Any, memory: Scratch, data: Any, size: Any) -> Any:
    made = context.make_helper(builder, memory)
    made.data, made.size = data, size
    return made._getvalue()


def _index(index: Any) -> Any:
    return types.int64 if index.signed else types.uint64


@type_callable(operator.getitem)
def _type_of_read(context: Any) -> Any:
    def typed(memory: Any, index: Any) -> Any:
        if isinstance(memory, Scratch) and isinstance(index, types.Integer):
            return memory.dtype(memory, _index(index))
        if isinstance(memory, Scratch) and isinstance(index, types.SliceType) and not index.has_step:
            return memory(memory, index)
        return None

    return typed


@type_callable(operator.setitem)
def _type_of_write(context: Any) -> Any:
    def typed(memory: Any, index: Any, value: Any) -> Any:
        if isinstance(memory, Scratch) and isinstance(index, types.Integer):
            return types.none(memory, _index(index), memory.dtype)
        return None

    return typed


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
    # A slice without an end has the largest integer as its stop.
    stop = builder.select(builder.icmp_signed("<", found.stop, size), found.stop, size)
    start = _place(builder, memory, found.start)
    return _made(context, builder, signature.return_type, start, builder.sub(stop, found.start))
