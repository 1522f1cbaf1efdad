"""SymPy expressions from text, through a whitelist over Python's `ast`; the text is never executed.

Allowed are decimal numbers, names, + - * / **, signs, parentheses and calls of `FUNCTIONS` with positional arguments;
every other node of the syntax tree is rejected. A scan of the characters first rejects text that Python's own parser
should not see, or would describe in a less clear message.
"""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any, NoReturn

import sympy

from sandbox.expressions.functions import CONSTANTS, FUNCTIONS, KNOWN_CLASSES, RESERVED, settled
from sandbox.tools.errors import InputError, InputProblem, nearest

MAX_LENGTH = 2_000
"""The longest text, in characters."""
MAX_DEPTH = 50
"""The deepest nesting of parentheses and calls, and the longest run of signs."""
MAX_EXPONENT = 64
"""The largest |exponent| that a user may write; powers of powers may reach its square."""
MAX_DENOMINATOR = 1_000
"""The largest denominator of an exponent: exact arithmetic takes roots of this order."""
MAX_MAGNITUDE = 1e250
"""Constants other than 0 lie in [1 / MAX_MAGNITUDE, MAX_MAGNITUDE], so that their products stay finite."""
MAX_LITERAL = 100
"""The largest number of characters in one number or name."""
_MAX_BITS = 1 << 15

_RANGE = f"out of range: allowed are 0 and {1 / MAX_MAGNITUDE:g} to {MAX_MAGNITUDE:g}"
_ALLOWED = f"allowed are numbers, names, + - * / **, parentheses and the functions {', '.join(FUNCTIONS)}"
_DECIMALS = "numbers are plain decimals such as 2, 0.5 or 1e-3: no leading 0 and no letters (is a * missing?)"
_DECIMAL = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SIGNS = re.compile(rf"(?:[+-]\s*){{{MAX_DEPTH + 1}}}", re.ASCII)
_NOTABLE = re.compile(rf"\b(?:{'|'.join(keyword.kwlist)})\b|//|[^\w\s.,*/+-]", re.ASCII)
_MEANING = {
    "^": "'^' is not a power here: write **",
    "//": "'//' is not allowed: write / for division",
    "!": "'!' is not allowed: a factorial is no function here",
    "[": "subscripts ('[') are not allowed",
    "=": "'=' (a comparison, an assignment or a keyword argument) is not allowed",
    **dict.fromkeys("<>", "comparisons are not allowed"),
    **dict.fromkeys("'\"", "text in quotes is not allowed"),
}


def _fail(message: str, column: int | None = None) -> NoReturn:
    raise InputError(InputProblem(message, column=column))


def check_name(name: str) -> None:
    """Raise InputError unless `name` may name a parameter or an input."""
    if not isinstance(name, str):
        _fail(f"a name must be text, found {name!r}")
    if len(name) > MAX_LITERAL or not (name.isascii() and name.isidentifier()) or name.startswith("_"):
        shown = name if len(name) <= MAX_LITERAL else name[:20] + "..."
        _fail(f"'{shown}' is not a name: allowed are at most {MAX_LITERAL} ASCII letters, digits and _, a letter first")
    if keyword.iskeyword(name):
        _fail(f"'{name}' is a keyword of Python and cannot be a name")
    if name in RESERVED:
        kind = "function" if name in FUNCTIONS else "constant"
        _fail(f"'{name}' is a {kind} and cannot be a name; taken are {', '.join(sorted(RESERVED))}")


def symbol(name: str) -> Any:
    """Return the real symbol that stands for `name`; all code makes symbols of users' names by this function."""
    return sympy.Symbol(name, real=True)


def parse(text: str | int | float, names: Collection[str]) -> Any:
    """Return the SymPy expression that `text` spells over the variables `names`.

    Decimals become exact rationals (0.1 is 1/10). Raises InputError, with the column in the text if there is one, for
    all but numbers, `names`, + - * / **, parentheses and calls of `FUNCTIONS`; for constants that are not real, or too
    large or small; and for text that is too long, or nested too deep (the depth of the caller's stack counts too).
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        _fail(f"an expression is text or a number, found {text!r}")
    if not isinstance(text, str):
        if not abs(text) <= MAX_MAGNITUDE:
            _fail(f"a number must be finite and at most {MAX_MAGNITUDE:g} in magnitude")
        # A float would lose the digits of a whole number beyond the 17th.
        if isinstance(text, int):
            return sympy.Integer(text)
        text = repr(float(text))
    if len(text) > MAX_LENGTH:
        _fail(f"the expression has {len(text)} characters; allowed are {MAX_LENGTH}")
    _scan(text)
    try:
        expression = _Reader(text, names).read(_tree(text))
        _check_nodes(expression)
    except (RecursionError, MemoryError):
        _fail("the expression is nested too deep, or too long for the caller's stack")
    return expression


def written_out(expression: Any, sizes: Mapping[Any, tuple[int, int]]) -> tuple[int, int]:
    """Return the number of operations and the depth of an expression once the symbols in `sizes` are written out."""
    known: dict[Any, tuple[int, int]] = dict(sizes)

    def of(node: Any) -> tuple[int, int]:
        if node not in known:
            parts = [of(part) for part in node.args]
            known[node] = 1 + sum(size for size, _ in parts), 1 + max((depth for _, depth in parts), default=0)
        return known[node]

    return of(expression)


def _scan(text: str) -> None:
    """Raise InputError for empty text, wrong or deep brackets, long runs of signs, keywords, and other characters."""
    if not text.strip():
        _fail("the expression is empty", 0)
    if run := _SIGNS.search(text):
        _fail(f"more than {MAX_DEPTH} signs in a row", run.start())
    opened: list[int] = []
    for found in _NOTABLE.finditer(text):
        piece, column = found[0], found.start()
        if piece == "(":
            opened.append(column)
            if len(opened) > MAX_DEPTH:
                _fail(f"the expression is nested more than {MAX_DEPTH} deep", column)
        elif piece == ")":
            if not opened:
                _fail("found a closing ')' without its '('", column)
            if text[:column].rstrip().endswith(","):
                _fail("found ')' where another argument was expected", column)
            opened.pop()
        elif not piece.isascii() or not piece.isprintable():
            _fail(f"the character {piece!r} (U+{ord(piece):04X}) is not allowed: only plain ASCII is read", column)
        else:
            _fail(_MEANING.get(piece, f"'{piece}' is not allowed") + f"; {_ALLOWED}", column)
    if opened:
        _fail(f"found the end where the ')' for column {opened[-1]} was expected", len(text))


def _tree(text: str) -> ast.expr:
    # Python's lexer skips a form feed like a space, but does not end the line there or take it for an indent.
    line = re.sub(r"\s", "\f", text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(line, mode="eval").body
    except SyntaxError as error:
        column = (error.offset or 0) - 1
        if not 0 <= column < len(text):
            _fail("the expression ends where a number, a name or '(' was expected", len(text.rstrip()))
        if "literal" in error.msg:
            # Python's column is that of the last character that still fits.
            _fail(_DECIMALS, column + 1)
        found = text[column : max(column + 1, (error.end_offset or 0) - 1)]
        _fail(f"'{_short(found)}' cannot be read here (is an operator or an operand missing?)", column)
    except ValueError as error:
        _fail(f"the expression cannot be read: {error}")


def _chain(node: ast.expr, forward: type[ast.operator], inverse: type[ast.operator]) -> list[tuple[bool, ast.expr]]:
    """Return the operands of a left-nested chain from left to right, each with whether `inverse` precedes it."""
    links: list[tuple[bool, ast.expr]] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, forward | inverse):
        links.append((isinstance(node.op, inverse), node.right))
        node = node.left
    return [(False, node), *reversed(links)]


class _Reader:
    """A reader that turns the syntax tree of one text into an expression; it is the whitelist."""

    def __init__(self, text: str, names: Collection[str]):
        self.text = text
        self.names = frozenset(names)

    def read(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return self.number(node)
            case ast.Name():
                return self.variable(node.id, node.col_offset)
            case ast.Call():
                return self.call(node)
            case ast.UnaryOp(op=ast.UAdd()):
                return self.read(node.operand)
            case ast.UnaryOp(op=ast.USub()):
                return -self.read(node.operand)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return self.sum(node)
            case ast.BinOp(op=ast.Mult() | ast.Div()):
                return self.product(node)
            case ast.BinOp(op=ast.Pow()):
                return self.power(node)
        spelling = _short(self.text[node.col_offset : node.end_col_offset])
        # The error begins at the end of the first part: at the dot of an attribute, or the comma of a tuple.
        column = getattr(next(ast.iter_child_nodes(node)), "end_col_offset", node.col_offset + 1)
        _fail(f"{type(node).__name__.lower()} '{spelling}' is not allowed; {_ALLOWED}", column)

    def number(self, node: ast.Constant) -> Any:
        """Return the exact rational value of a decimal, not the float nearest to it."""
        text, column = self.text[node.col_offset : node.end_col_offset], node.col_offset
        decimal = _DECIMAL.match(text)
        if type(node.value) not in (int, float) or decimal is None or decimal[0] != text:
            _fail(_DECIMALS, column + (decimal.end() if decimal else 0))
        if len(text) > MAX_LITERAL:
            _fail(f"a number of {len(text)} characters; allowed are {MAX_LITERAL}", column)
        value = float(text)
        mantissa = re.split("[eE]", text)[0]
        if value > MAX_MAGNITUDE or (value < 1 / MAX_MAGNITUDE and mantissa.strip("0.")):
            _fail(f"the number {text} is {_RANGE}", column)
        # A zero mantissa may have a huge exponent, which Fraction would write out digit by digit.
        return sympy.Rational(Fraction(text) if value else 0)

    def sum(self, node: ast.BinOp) -> Any:
        terms = [-self.read(term) if minus else self.read(term) for minus, term in _chain(node, ast.Add, ast.Sub)]
        return _checked(sympy.Add(*terms), node.col_offset)

    def product(self, node: ast.BinOp) -> Any:
        factors = []
        for divides, operand in _chain(node, ast.Mult, ast.Div):
            factor = self.read(operand)
            if divides and factor.is_zero:
                _fail("division by zero", operand.col_offset)
            factors.append(_checked(settled(1 / factor), operand.col_offset) if divides else factor)
        return _checked(settled(sympy.Mul(*factors)), node.col_offset)

    def power(self, node: ast.BinOp) -> Any:
        base, exponent = self.read(node.left), self.read(node.right)
        if not exponent.is_Rational or abs(exponent) > MAX_EXPONENT or exponent.q > MAX_DENOMINATOR:
            allowed = (
                f"a fraction between -{MAX_EXPONENT} and {MAX_EXPONENT} with a denominator up to {MAX_DENOMINATOR}"
            )
            _fail(f"an exponent must be {allowed}, found {_short(exponent)}", node.right.col_offset)
        if base.is_zero and exponent < 0:
            _fail("division by zero: 0 to a negative power", node.col_offset)
        return _checked(settled(base**exponent), node.col_offset)

    def variable(self, name: str, column: int) -> Any:
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in FUNCTIONS:
            _fail(f"'{name}' is a function: write {name}(...)", column)
        if name not in self.names:
            known = [*sorted(self.names), *CONSTANTS]
            hint = nearest(name[:50], known)
            _fail(f"unknown name '{_short(name)}'{hint}; known are {_short(', '.join(known))}", column)
        return symbol(name)

    def call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name):
            _fail("only a function can be called (is a * missing?)", node.func.end_col_offset)
        name, column = node.func.id, node.col_offset
        if name in self.names or name in CONSTANTS:
            _fail(f"'{name}' is not a function (is a * missing?)", column)
        if name not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            _fail(f"unknown function '{_short(name)}'{nearest(name[:50], FUNCTIONS)}; known are {known}", column)
        if node.keywords:
            _fail(f"{name} takes plain arguments only", node.keywords[0].col_offset)
        arguments = [self.read(argument) for argument in node.args]
        builder = FUNCTIONS[name]
        if not builder.least <= len(arguments) <= (builder.most or len(arguments)):
            wanted = str(builder.least) if builder.most == builder.least else f"{builder.least} to {builder.most}"
            _fail(f"{name} takes {wanted} argument(s), found {len(arguments)}", column)
        return _checked(settled(builder.build(*arguments)), column)


def _checked(expression: Any, column: int) -> Any:
    """Return the expression if its leading constants are real and not too large or small, else raise InputError.

    This is called at each step of the parse, so that the next step never works on a huge number.
    """
    if expression.is_number:
        _check_constant(expression, column)
        return expression
    for constant in (expression.as_coeff_Mul()[0], expression.as_coeff_Add()[0]):
        _check_constant(constant, column)
    for factor in sympy.Mul.make_args(expression):
        exponent = factor.as_base_exp()[1]
        if exponent.is_Rational and abs(exponent) > MAX_EXPONENT**2:
            _fail(f"a power of powers reaches the exponent {_short(exponent)}; allowed is {MAX_EXPONENT**2}", column)
        if exponent.is_Rational and exponent.q > MAX_DENOMINATOR:
            allowed = f"a denominator up to {MAX_DENOMINATOR}"
            _fail(f"a power of powers reaches the exponent {_short(exponent)}; allowed is {allowed}", column)
    return expression


def _check_constant(constant: Any, column: int | None) -> None:
    if constant.is_Rational:
        if max(constant.p.bit_length(), constant.q.bit_length()) > _MAX_BITS:
            _fail("a constant has too many digits", column)
        low, high = Fraction(1 / MAX_MAGNITUDE), Fraction(MAX_MAGNITUDE)
        fine = constant == 0 or low <= abs(Fraction(constant.p, constant.q)) <= high
    else:
        value = constant.evalf(15)
        if value.is_finite is False or not value.is_Number:
            _fail("a constant is not a finite real number (division by zero, or outside a function's domain)", column)
        fine = value.is_zero or 1 / MAX_MAGNITUDE <= abs(value) <= MAX_MAGNITUDE
    if not fine:
        _fail(f"a constant is {_RANGE}", column)


def _check_nodes(expression: Any) -> None:
    """Raise InputError unless every constant is allowed, and SymPy's simplifications left only `KNOWN_CLASSES`."""
    walk = sympy.preorder_traversal(expression)
    for node in walk:
        if node.is_number:
            _check_constant(node, None)
            walk.skip()
        elif not isinstance(node, KNOWN_CLASSES):
            _fail("the expression is not a real number for any value of its variables", 0)


def _short(thing: Any) -> str:
    # Python refuses to print integers of more than a few thousand digits.
    huge = isinstance(thing, sympy.Rational) and max(thing.p.bit_length(), thing.q.bit_length()) > 100
    text = "a number of many digits" if huge else str(thing)
    return text if len(text) <= 200 else text[:200] + "..."
