"""The structure holds: imports go down the floors of ARCHITECTURE.md, few modules import a library, files are short."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "sandbox"
FILES = sorted(HOUSE.rglob("*.py"))

ROW = re.compile(r"^\| (\d+) \| `sandbox/(\w+)/` \|", re.MULTILINE)
FLOORS = {room: int(floor) for floor, room in ROW.findall((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))}
"""The floor of each package, read from the table that people read."""

API = {"__init__", "__main__"}
"""The files that stand above all packages."""

POSTERIOR_USES = {"sandbox/posterior", "sandbox/tools/errors", "sandbox/tools/parallel", "sandbox/tools/arrays"}
"""All that the posterior may import: it shares no code with the particles. The loss is handed to it."""

DOORS: dict[str, set[str]] = {
    # kernel names the type of the compiled entry point; bench has a competitor in plain Numba.
    "numba": {"compiled", "dynamics/kernel", "commands/bench"},
    "llvmlite": {"compiled"},
    "yaml": {"scenario"},
    "matplotlib": {"pictures"},
    "PIL": {"pictures"},
    "rich": {"tools/progress"},
    "click": {"commands/cli"},
    "jax": {"commands/bench"},
}
"""The packages and modules that may import a library."""

EVALUATORS = {"eval", "exec", "sympify", "parse_expr", "__import__"}
EXECUTES = "compiled/functions"
"""The only module that executes text: the source of generated kernels."""
LONGEST = 350

MODULE = re.compile(r"\bsandbox(?:\.[a-z_]\w*)+")
"""A dotted name in a text: generated code imports by such names."""


def path_of(file: Path) -> str:
    """Return a file's path below `sandbox/`, without its suffix."""
    return file.relative_to(HOUSE).with_suffix("").as_posix()


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of each import, anywhere in the file, and of each module named in a string."""
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides its target"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from MODULE.findall(node.value)


def targets(text: str) -> set[str]:
    """Return the paths of the modules of this package that a file imports: `sandbox/tools/errors`."""
    found = set()
    for name in imported(ast.parse(text)):
        parts = name.split(".")
        if parts[0] == "sandbox" and len(parts) > 1 and parts[1] in FLOORS:
            while len(parts) > 2 and not (ROOT / "/".join(parts)).with_suffix(".py").is_file():
                parts.pop()
            found.add("/".join(parts))
    return found


def check_floors(path: str, text: str) -> None:
    room = path.split("/")[0]
    for target in targets(text) if path not in API else ():
        other = target.split("/")[1]
        assert other == room or FLOORS[other] < FLOORS[room], f"{path} imports {target}, which is not on a lower floor"
        if room == "posterior":
            assert any(f"{target}/".startswith(f"{used}/") for used in POSTERIOR_USES), f"{path} imports {target}"


def check_init(path: str, text: str) -> None:
    if path.endswith("/__init__"):
        body = ast.parse(text).body
        assert all(isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) for n in body), f"{path} holds code"


def check_doors(path: str, text: str) -> None:
    for name in imported(ast.parse(text)):
        doors = DOORS.get(name.split(".")[0], {path})
        assert any(f"{path}/".startswith(f"{door}/") for door in doors), f"{path} imports {name}"


def check_evaluates_nothing(path: str, text: str) -> None:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            function = node.func
            # SymPy's classes have a method `eval` of their own: only the bare names evaluate text.
            name = function.id if isinstance(function, ast.Name) else ""
            if isinstance(function, ast.Attribute) and function.attr in ("sympify", "parse_expr", "import_string"):
                name = function.attr
            found += [name] * (name in EVALUATORS)
    assert found in ([], ["exec"] if path == EXECUTES else []), f"{path} calls {found}"


def check_length(path: str, text: str) -> None:
    assert text.count("\n") <= LONGEST, f"{path} has {text.count(chr(10))} lines"


@pytest.mark.parametrize("file", FILES, ids=path_of)
def test_a_file_keeps_the_rules_of_the_house(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for check in (check_floors, check_init, check_doors, check_evaluates_nothing, check_length):
        check(path_of(file), text)


@pytest.mark.parametrize(
    ("path", "text", "check"),
    [
        ("model/loss", "from sandbox.dynamics.kernel import build", check_floors),
        ("model/loss", "def late():\n    from sandbox.dynamics import simulate", check_floors),
        ("model/strata", "import sandbox.learning_coefficient.at_point", check_floors),
        ("dynamics/start", "from sandbox.scenario.scenario import Scenario", check_floors),
        ("comparison/verdict", "from sandbox.pictures.figure import figure", check_floors),
        ("compiled/lanes", 'imports = ("sandbox.dynamics.codegen.step_lanes.accept",)', check_floors),
        ("compiled/lanes", 'TEXT = """\nfrom sandbox.model.prior import Prior\n"""', check_floors),
        ("posterior/method", "from sandbox.dynamics.rules.sgd import Sgd", check_floors),
        ("posterior/method", "import sandbox.compiled.random_numbers", check_floors),
        ("posterior/method", "from sandbox.tools.progress import Progress", check_floors),
        ("posterior/method", 'NAME = "sandbox.tools.progress"', check_floors),
        ("model/loss", "from ..dynamics.kernel import build", check_floors),
        ("model/__init__", "from sandbox.model.loss import Loss", check_init),
        ("model/__init__", "import numba", check_init),
        ("dynamics/rules/sgd", "import numba", check_doors),
        ("comparison/record", "import yaml", check_doors),
        ("comparison/occupancy", "from matplotlib.figure import Figure", check_doors),
        ("commands/run", "import click", check_doors),
        ("expressions/parsing", "x = eval('1')", check_evaluates_nothing),
        ("expressions/parsing", "import sympy\nx = sympy.sympify('1')", check_evaluates_nothing),
        ("compiled/functions", "exec('1')\nexec('2')", check_evaluates_nothing),
        ("compiled/lanes", "exec('1')", check_evaluates_nothing),
        ("compiled/lanes", "x = 1\n" * (LONGEST + 1), check_length),
    ],
)
def test_broken_specimens_are_caught(path: str, text: str, check: Callable[[str, str], None]) -> None:
    with pytest.raises(AssertionError):
        check(path, text)


def test_the_house_is_the_packages_of_the_table_and_three_files() -> None:
    inside = {entry.name for entry in HOUSE.iterdir() if entry.name != "__pycache__"}
    assert inside == {*FLOORS, "__init__.py", "__main__.py", "py.typed"}
    assert len(FLOORS) == 12


def test_tests_mirror_the_house() -> None:
    tests = {f.parent.relative_to(ROOT / "tests") for f in (ROOT / "tests").rglob("test_*.py")} - {Path(), Path("laws")}
    assert all((HOUSE / folder).is_dir() for folder in tests)


def test_every_law_in_the_table_has_its_test() -> None:
    tests = ROOT / "tests"
    named = re.findall(r"`(\w+)::(test_\w+)`", (tests / "README.md").read_text(encoding="utf-8"))
    assert len(named) >= 40
    for file, name in named:
        (found,) = tests.rglob(f"test_{file}.py")
        assert f"\ndef {name}(" in found.read_text(encoding="utf-8"), f"{file}::{name}"
