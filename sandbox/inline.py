"""Lane functions written out where a kernel calls them, so that Numba is handed one function.

Numba copies them in by itself (`lane_function`), but at the price of a compilation for each call: bytecode, control
flow and all that is known of the whole kernel, anew. Written out in the source they save a fifth of a net's
compilation, and constants they are given become constants of the text.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import importlib
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox import jit


@dataclass(frozen=True)
class _Lane:
    """A lane function: its tree, and the module whose names it uses, None for the kernel's own."""

    tree: ast.FunctionDef
    module: str | None


def inlined(text: str, entry: str) -> str:
    """Return the source of a module with the lane functions that function `entry` calls written out in it.

    A call must be a statement of its own, by position, and a lane function must not return.
    """
    tree = ast.parse(text)
    modules = {alias.asname or alias.name for part in tree.body if isinstance(part, ast.Import) for alias in part.names}
    functions = {part.name: part for part in tree.body if isinstance(part, ast.FunctionDef)}
    writer = _Writer(dict(_lanes(tree)), modules, _stored(functions[entry]))
    written = writer.visit(functions[entry])
    others = [part for part in tree.body if not isinstance(part, ast.FunctionDef)]
    tree.body = [*others, *writer.imports(), written]
    return ast.unparse(ast.fix_missing_locations(tree))


def _lanes(tree: ast.Module) -> Iterator[tuple[str, _Lane]]:
    """Yield the lane functions that a module has, or imports by their names."""
    for part in tree.body:
        if isinstance(part, ast.FunctionDef):
            yield part.name, _Lane(part, None)
        elif isinstance(part, ast.ImportFrom) and part.module:
            for name in (alias.name for alias in part.names):
                if (lane := _imported(part.module, name)) is not None:
                    yield name, lane


@functools.cache
def _imported(module: str, name: str) -> _Lane | None:
    source = jit.lane_source(getattr(importlib.import_module(module), name))
    if source is None:
        return None
    tree = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(tree, ast.FunctionDef)
    return _Lane(tree, module)


class _Writer(ast.NodeTransformer):
    """Writes calls of lane functions out; each call's local names are its own."""

    def __init__(self, lanes: dict[str, _Lane], modules: set[str], taken: set[str]):
        self._lanes, self._modules, self._taken = lanes, modules, taken
        self._calls = itertools.count()
        self._needed: dict[str, str] = {}

    def visit_Expr(self, node: ast.Expr) -> Any:
        """Replace a statement that calls a lane function by its statements."""
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in self._lanes:
            return self._written_out(call, self._lanes[call.func.id])
        return node

    def imports(self) -> list[ast.stmt]:
        """Return the imports of what the functions written out use of their modules."""
        return [ast.ImportFrom(module, [ast.alias(name)], 0) for name, module in sorted(self._needed.items())]

    def _written_out(self, call: ast.Call, lane: _Lane) -> list[Any]:
        number = next(self._calls)
        parameters = [argument.arg for argument in lane.tree.args.args]
        stored = _stored(lane.tree)
        names: dict[str, ast.expr] = {name: ast.Name(f"{name}_{number}") for name in (*parameters, *stored)}
        first: list[ast.stmt] = []
        for name, given in zip(parameters, call.args, strict=True):
            if isinstance(given, ast.Name | ast.Constant) and name not in stored:
                names[name] = given
            else:
                first.append(ast.Assign([ast.Name(f"{name}_{number}", ast.Store())], given))
        if lane.module is not None:
            names |= self._of_module(lane, names)
        body = [_Renamed(names).visit(copy.deepcopy(statement)) for statement in _statements(lane.tree)]
        return [*first, *itertools.chain.from_iterable(_listed(self.visit(statement)) for statement in body)]

    def _of_module(self, lane: _Lane, known: dict[str, ast.expr]) -> dict[str, ast.expr]:
        """Return what stands for the names of its module that a function uses; note what must be imported for them."""
        assert lane.module is not None
        found: dict[str, ast.expr] = {}
        nodes = itertools.chain.from_iterable(map(ast.walk, _statements(lane.tree)))
        for name in {node.id for node in nodes if isinstance(node, ast.Name)}:
            if name in known or name in self._modules or hasattr(builtins, name):
                continue
            value = getattr(importlib.import_module(lane.module), name)
            if isinstance(value, int):
                found[name] = ast.Constant(value)
            elif (inner := _imported(lane.module, name)) is not None:
                self._lanes[name] = inner
            elif name in self._taken or self._needed.setdefault(name, lane.module) != lane.module:
                raise AssertionError(
                    f"'{name}', which a lane function of {lane.module} uses, is another's name as well"
                )
        return found


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, ast.expr]):
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Put what stands for a name."""
        found = self._names.get(node.id)
        return ast.Name(found.id, node.ctx) if isinstance(found, ast.Name) else found or node


def _stored(function: ast.FunctionDef) -> set[str]:
    """Return the names that statements of a function give values to."""
    return {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _statements(function: ast.FunctionDef) -> list[ast.stmt]:
    return function.body[1:] if ast.get_docstring(function) is not None else function.body


def _listed(found: Any) -> Sequence[Any]:
    return found if isinstance(found, list) else [found]
