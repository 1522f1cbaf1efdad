"""The package's names: listed, imported only on first use, the same for people and type checkers."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import sandbox

HEAVY = ("numpy", "numba", "xarray", "sympy", "matplotlib", "pydantic")


def test_type_checkers_see_the_names_that_are_imported_lazily() -> None:
    (block,) = (node for node in ast.parse(Path(str(sandbox.__file__)).read_text()).body if isinstance(node, ast.If))
    told = {
        alias.asname or alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == {name: f"sandbox.{module}" for name, module in sandbox._MODULE.items()}


def test_dir_lists_the_names_and_each_has_a_docstring() -> None:
    assert set(dir(sandbox)) == {*sandbox.__all__, "__version__"}
    for name in sandbox.__all__:
        assert getattr(sandbox, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'answers'"):
        _ = sandbox.answers  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", ["import sandbox; dir(sandbox)", "from sandbox.commands.cli import main"])
def test_nothing_heavy_is_imported_before_it_is_used(code: str) -> None:
    program = f"import sys\n{code}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("function", ["run", "simulate"])
def test_the_examples_of_docstrings_hold(function: str) -> None:
    found = doctest.DocTestFinder(recurse=False).find(getattr(sandbox, function), function, globs={})
    results = [doctest.DocTestRunner(verbose=False).run(test) for test in found]
    assert sum(result.attempted for result in results) >= 3
    assert not any(result.failed for result in results)
