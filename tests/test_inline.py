"""Lane functions written out in the source of a kernel: the same numbers as when they are called."""

from __future__ import annotations

import ast
import sys
from types import ModuleType

import numpy as np
import pytest
from kernel_cases import CASES, kernel

from sandbox import inline, jit
from sandbox.inline import inlined

HELPERS = '''
import numpy as np
from sandbox.jit import LANES, lane_function

_STEP = np.float64(3)

@lane_function
def inner(block, value):
    """Called by another."""
    for i in range(block.size):
        block[i] = block[i] * value + _STEP

@lane_function
def halved(block, count):
    """Changes what it is given by value, which the caller must not notice."""
    total = 0.0
    while count > 0:
        total += count
        count -= LANES // 64
    inner(block, total)
'''

TEXT = """
import numpy as np
from sandbox.jit import kernel, lane_function
from helpers_of_a_kernel import halved

@lane_function
def add(one, other):
    total = other[0]
    for i in range(one.size):
        total = total + other[i]
        one[i] = one[i] + total

@kernel
def advance(w, count):
    total = 5.0
    add(w[1:], w)
    for i in range(3):
        halved(w[i:], count)
        add(w[2:], w)
    halved(w, 4)
    w[0] = total + count
"""


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """A module with lane functions of its own."""
    (tmp_path / "helpers_of_a_kernel.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("helpers_of_a_kernel", None)


def moved(text):
    """What `advance` makes of six numbers, as plain Python: the functions that are called, not compiled."""
    module = ModuleType("kernel_as_python")
    with pytest.MonkeyPatch.context() as patch:
        for decorator in ("lane_function", "kernel"):
            patch.setattr(jit, decorator, lambda function: function)
        patch.delitem(sys.modules, "helpers_of_a_kernel")
        exec(compile(text, "<text>", "exec"), module.__dict__)
    numbers = np.array([1.0, -2.0, 3.0, 0.5, 7.0, 11.0])
    module.advance(numbers, 6)
    return numbers


def calls(text, names):
    """Those of the names that a statement of the text calls."""
    found = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr))
    functions = (call.func for call in found if isinstance(call, ast.Call))
    return {function.id for function in functions if isinstance(function, ast.Name)} & set(names)


@pytest.mark.usefixtures("helpers")
def test_what_is_written_out_does_what_calls_do():
    """Names of caller and called that are alike, slices, numbers, a call within, what is changed inside."""
    text = inlined(TEXT, "advance")
    assert not calls(text, ("add", "halved", "inner"))
    assert np.array_equal(moved(text), moved(TEXT))


@pytest.mark.usefixtures("helpers")
@pytest.mark.parametrize(("wrong", "right"), [("count_", "count"), ("total_", "total")])
def test_a_name_that_is_not_its_own_is_caught(wrong, right):
    """The broken specimen: local names that run into the caller's."""
    text = inlined(TEXT, "advance")
    mixed = ast.unparse(_Mixed(wrong, right).visit(ast.parse(text)))
    assert not np.array_equal(moved(mixed), moved(TEXT))


class _Mixed(ast.NodeTransformer):
    def __init__(self, wrong, right):
        self._wrong, self._right = wrong, right

    def visit_Name(self, node):
        return ast.Name(self._right if node.id.startswith(self._wrong) else node.id, node.ctx)


@pytest.mark.usefixtures("helpers")
def test_one_name_for_two_things_is_refused(tmp_path):
    (tmp_path / "other_helpers.py").write_text(HELPERS.replace("halved", "other").replace("inner", "within"))
    text = TEXT.replace("import halved", "import halved\nfrom other_helpers import other").replace(
        "    halved(w, 4)", "    other(w, 4)"
    )
    with pytest.raises(AssertionError, match="'_STEP', which a lane function of other_helpers uses"):
        inlined(text, "advance")
    del sys.modules["other_helpers"]


@pytest.mark.parametrize("name", sorted(CASES))
def test_no_lane_function_is_left_to_numba(name):
    """In the kernels of all cases: a statement calls what is compiled by itself, or nothing."""
    text = kernel(name).text
    lanes = dict(inline._lanes(ast.parse(text)))
    assert calls(text, lanes)
    assert not calls(inlined(text, "advance"), lanes)
