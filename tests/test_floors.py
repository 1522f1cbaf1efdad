"""The house stands: a file imports from floors below only, few doors open, nothing is evaluated, files stay short."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "sandbox"
FILES = sorted(HOUSE.rglob("*.py"))

FLOORS = (
    {"errors", "settings", "progress", "machine_code", "fork", "process"},
    {"jit", "scratch"},
    {"draws", "elementary", "expression"},
    {"inline", "block", "prior", "quantity", "search"},
    {"cumulative"},
    {"loss", "projection"},
    {"zero_set", "descent", "gradients", "rules"},
    {"exact", "coverage"},
    {"kernel", "posterior"},
    {"measured"},
    {"scenario", "singularity"},
    {"observer", "start"},
    {"simulate"},
    {"stability", "reference"},
    {"compare"},
    {"verdict", "result", "decomposition"},
    {"report"},
    {"scene"},
    {"picture"},
    {"drawing"},
    {"particle_figures"},
    {"figures", "animation", "measurement_figures", "plan", "precompile", "bench"},
    {"pipeline"},
    {"cli", ""},
    {"__main__"},
)
"""From the ground up; "" is the package's own `__init__`."""

WITNESS_USES = {"posterior", "errors", "fork"}
"""All that the posterior may import: what judges the particles shares no code with them, beyond that which computes
nothing. The loss is handed to it."""

DOORS: dict[str, set[str]] = {
    # kernel spells the type of the compiled entry point; bench holds a plain Numba competitor.
    "numba": {"machine_code", "jit", "scratch", "kernel", "bench"},
    "llvmlite": {"jit", "scratch"},
    "yaml": {"scenario"},
    "matplotlib": {"scene", "picture", "drawing", "figures", "animation", "measurement_figures", "particle_figures"},
    "PIL": {"animation"},
    "rich": {"progress"},
    "click": {"cli"},
    "jax": {"bench"},
}
"""Which modules may import a library at all."""

EVALUATORS = {"eval", "exec", "sympify", "parse_expr", "__import__"}
LONGEST = 350


def module_of(file: Path) -> str:
    """Return the part of the house that a file belongs to: a module, or a package."""
    first = file.relative_to(HOUSE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def floor_of(module: str) -> int:
    return next(k for k, floor in enumerate(FLOORS) if module in floor)


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of everything that is imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides where it leads"
            # `from sandbox import kernel` names a module, not something inside `__init__`.
            yield from (f"sandbox.{a.name}" for a in node.names) if node.module == "sandbox" else [str(node.module)]


def parts_used(tree: ast.AST) -> set[str]:
    """Return the parts of the house that a file imports from."""
    return {name.split(".")[1] for name in imported(tree) if name.startswith("sandbox.")}


def check_floors(module: str, text: str) -> None:
    for other in parts_used(ast.parse(text)):
        assert other == module or floor_of(other) < floor_of(module), f"{module} imports {other}, which is not below it"
        assert module != "posterior" or other in WITNESS_USES, f"the witness imports {other}"


def check_doors(module: str, text: str) -> None:
    for name in imported(ast.parse(text)):
        library = name.split(".")[0]
        assert module in DOORS.get(library, {module}), f"{module} imports {library}"


def check_evaluates_nothing(module: str, text: str) -> None:
    allowed = 1 if module == "jit" else 0
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            function = node.func
            # SymPy's classes have a method `eval` of their own: only the bare names evaluate text.
            name = function.id if isinstance(function, ast.Name) else ""
            if isinstance(function, ast.Attribute) and function.attr in ("sympify", "parse_expr", "import_string"):
                name = function.attr
            found += [name] * (name in EVALUATORS)
    assert len(found) <= allowed, f"{module} calls {found}"
    assert set(found) <= {"exec"}, f"{module} calls {found}"


def check_length(module: str, text: str) -> None:
    lines = text.count("\n")
    assert lines <= LONGEST, f"{module} has {lines} lines"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_a_file_keeps_the_rules_of_the_house(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for check in (check_floors, check_doors, check_evaluates_nothing, check_length):
        check(module_of(file), text)


@pytest.mark.parametrize(
    ("module", "text", "check"),
    [
        ("loss", "from sandbox.kernel import build", check_floors),
        ("loss", "def late():\n    from sandbox import simulate", check_floors),
        ("zero_set", "import sandbox.exact", check_floors),
        ("rules", "from sandbox.gradients import Full", check_floors),
        ("posterior", "from sandbox.rules import Sgd", check_floors),
        ("posterior", "import sandbox.draws", check_floors),
        ("verdict", "from sandbox.figures import figure", check_floors),
        ("loss", "from ..kernel import build", check_floors),
        ("rules", "import numba", check_doors),
        ("result", "import yaml", check_doors),
        ("compare", "from matplotlib.figure import Figure", check_doors),
        ("expression", "x = eval('1')", check_evaluates_nothing),
        ("expression", "import sympy\nx = sympy.sympify('1')", check_evaluates_nothing),
        ("jit", "exec('1')\nexec('2')", check_evaluates_nothing),
        ("draws", "x = 1\n" * (LONGEST + 1), check_length),
    ],
)
def test_broken_specimens_are_caught(module: str, text: str, check: Callable[[str, str], None]) -> None:
    with pytest.raises(AssertionError):
        check(module, text)


def test_every_part_of_the_house_stands_on_one_floor() -> None:
    rooms = [room for floor in FLOORS for room in floor]
    assert len(rooms) == len(set(rooms))
    assert {module_of(file) for file in FILES} == set(rooms)


def test_architecture_names_every_part_with_its_floor() -> None:
    """The table that people read and the one that is enforced agree in their order."""
    text = (HOUSE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    told = {name.strip(" `/"): int(floor) for floor, names in rows for name in names.split(",")}
    assert set(told) == {room for floor in FLOORS for room in floor} - {"", "__main__"}
    for one, floor in told.items():
        for other, other_floor in told.items():
            assert floor >= other_floor or floor_of(one) <= floor_of(other), f"{one} and {other}"


def test_every_law_in_the_table_has_its_test() -> None:
    tests = Path(__file__).parent
    named = re.findall(r"`(\w+)::(test_\w+)`", (tests / "README.md").read_text(encoding="utf-8"))
    assert len(named) >= 40
    for file, name in named:
        assert f"\ndef {name}(" in (tests / f"test_{file}.py").read_text(encoding="utf-8"), f"{file}::{name}"
