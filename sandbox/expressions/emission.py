"""Expressions as lines of code for both plain Python and Numba, which compute one number at a time.

The text uses the name `real` (the floating type: every constant is written real(...), so that nothing widens float32)
and the functions of `functions_used`; the caller must put these into the module's globals. Integer powers become
products by repeated squaring, and a part that occurs twice is computed once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, NamedTuple

import sympy

from sandbox.expressions.evaluation import common
from sandbox.expressions.functions import Absolute, Maximum, Minimum, Relu, Sigmoid, Sign, Softplus, Step, value_of
from sandbox.tools.errors import InputError

_SPELLINGS: Mapping[Any, str] = {
    Absolute: "abs_",
    Maximum: "max_",
    Minimum: "min_",
    Relu: "relu",
    Sigmoid: "sigmoid",
    Sign: "sign",
    Softplus: "softplus",
    Step: "step",
    sympy.cos: "cos",
    sympy.erf: "erf",
    sympy.exp: "exp",
    sympy.log: "log",
    sympy.sin: "sin",
    sympy.tanh: "tanh",
}

EMITTED_FUNCTIONS = frozenset(_SPELLINGS.values()) | {"sqrt", "pow"}
"""The name of every function that emitted code may call."""

_CALL = re.compile(rf"(?<![\w.])({'|'.join(sorted(EMITTED_FUNCTIONS))})\(")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


def emit(outputs: Mapping[str, Any], names: Mapping[Any, str], indent: str) -> list[str]:
    """Return the lines that compute every output.

    `outputs` maps the source text of a target ("g[0 * LANES + i]") to its expression, `names` each symbol to its
    source text. Temporaries t0, t1, ... come first, skipping names that occur in those texts; then `target = value`
    in the given order. A target must not be a place that a symbol is read from. Raises KeyError for a symbol without a
    name, InputError for a constant too large for a float.
    """
    writer = _Writer(names, outputs)
    assignments, expressions = _cheapest(list(outputs.values()))
    for symbol, value in assignments:
        writer.bind(symbol, value)
    results = [writer.text(expression) for expression in expressions]
    lines = [*writer.lines, *(f"{target} = {text.code}" for target, text in zip(outputs, results, strict=True))]
    return [indent + line for line in lines]


def _cheapest(expressions: list[Any]) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Return the result of `common` for the expressions as given or factored, the one with fewer operations.

    Factoring undoes an expanded chain rule: s w1 w2^2 - t w2 and s w1^2 w2 - t w1 become one residual times two slopes.
    """
    forms = [common(expressions), common([sympy.factor_terms(expression) for expression in expressions])]
    return min(forms, key=lambda form: sum(sympy.count_ops(e) for e in (*(v for _, v in form[0]), *form[1])))


def functions_used(lines: Iterable[str]) -> set[str]:
    """Return the names of the functions that emitted lines call (`real` is always needed and not among them)."""
    return {name for line in lines for name in _CALL.findall(line)}


class _Text(NamedTuple):
    """Source text, and how tightly it binds: one of the four constants below."""

    code: str
    binding: int


_SUM, _PRODUCT, _SIGN, _ATOM = range(4)
"""As in Python, a leading minus binds tighter than a product, so that `-a * b` is written only for (-a) * b."""


def _wrapped(text: _Text, least: int) -> str:
    return text.code if text.binding >= least else f"({text.code})"


def _constant(value: float) -> _Text:
    if not math.isfinite(value):
        raise InputError("a constant of this expression is too large for a floating point number")
    return _Text(f"-real({-value!r})", _SIGN) if value < 0 else _Text(f"real({value!r})", _ATOM)


def _joined(factors: list[_Text]) -> _Text:
    return factors[0] if len(factors) == 1 else _Text(" * ".join(_wrapped(f, _ATOM) for f in factors), _PRODUCT)


class _Writer:
    """A writer of expressions as text, with a temporary for each value that is needed more than once."""

    def __init__(self, names: Mapping[Any, str], targets: Iterable[str]):
        self.names = dict(names)
        self.lines: list[str] = []
        self.powers: dict[tuple[str, int], _Text] = {}
        taken = {word for source in (*names.values(), *targets) for word in _IDENTIFIER.findall(source)}
        self.fresh = (name for name in (f"t{i}" for i in count()) if name not in taken)

    def temporary(self, text: _Text) -> _Text:
        """Add a line that computes `text`, and return the name of its value."""
        name = next(self.fresh)
        self.lines.append(f"{name} = {text.code}")
        return _Text(name, _ATOM)

    def bind(self, symbol: Any, value: Any) -> None:
        """Add a line that computes `value`, and write its name for `symbol` from here on."""
        self.names[symbol] = self.temporary(self.text(value)).code

    def text(self, expression: Any) -> _Text:
        """Return the text of an expression."""
        if expression.is_Symbol:
            return _Text(self.names[expression], _ATOM)
        if not expression.free_symbols:
            return _constant(value_of(expression))
        if expression.is_Add:
            return self.sum(expression)
        if expression.is_Mul or expression.is_Pow:
            negative, size = self.product(expression)
            return _Text(f"-{_wrapped(size, _SIGN)}", _SIGN) if negative else size
        arguments = ", ".join(self.text(argument).code for argument in expression.args)
        return _Text(f"{_SPELLINGS[expression.func]}({arguments})", _ATOM)

    def sum(self, expression: Any) -> _Text:
        """Return the text of a sum: positive terms first, then subtracted ones; all constants are added into one."""
        constants = [term for term in expression.args if not term.free_symbols]
        moving = [term for term in expression.args if term.free_symbols]
        terms = [self.product(term) if term.is_Mul or term.is_Pow else (False, self.text(term)) for term in moving]
        if constants:
            value = value_of(sympy.Add(*constants))
            terms.append((value < 0, _constant(abs(value))))
        terms.sort(key=lambda term: term[0])
        negative, first = terms[0]
        code = f"-{_wrapped(first, _SIGN)}" if negative else first.code
        for negative, term in terms[1:]:
            code += f" {'-' if negative else '+'} {_wrapped(term, _PRODUCT)}"
        return _Text(code, _SUM)

    def product(self, expression: Any) -> tuple[bool, _Text]:
        """Return whether the product has a minus sign, and |coefficient| * numerator / denominator."""
        factors = sympy.Mul.make_args(expression)
        gates = [factor for factor in factors if isinstance(factor, Step)]
        if len(gates) == 1 and len(factors) > 1:
            return self.gated(gates[0].args[0], sympy.Mul(*(factor for factor in factors if factor != gates[0])))
        coefficient = value_of(sympy.Mul(*(factor for factor in factors if not factor.free_symbols)))
        above: list[_Text] = []
        below: list[_Text] = []
        for factor in (factor for factor in factors if factor.free_symbols):
            base, exponent = factor.args if factor.is_Pow else (factor, sympy.S.One)
            inverted = exponent.is_Rational and exponent < 0
            (below if inverted else above).append(self.power(base, -exponent if inverted else exponent))
        size = abs(coefficient)
        if above and size == 1:
            text = _joined(above)
        elif above:
            text = _Text(f"{_constant(size).code} * {_wrapped(_joined(above), _ATOM)}", _PRODUCT)
        else:
            text = _constant(size)
        if below:
            text = _Text(f"{_wrapped(text, _PRODUCT)} / {_wrapped(_joined(below), _ATOM)}", _PRODUCT)
        return coefficient < 0, text

    def gated(self, argument: Any, rest: Any) -> tuple[bool, _Text]:
        """Return whether step(argument) * rest has a minus sign, and its text: a choice, cheaper than a product.

        If the step is 0, the text evaluates relu(argument), which is the needed 0 or a nan that must stay visible.
        """
        minus, text = self.product(rest)
        u = _wrapped(self.text(argument), _ATOM)
        return minus, _Text(f"({text.code} if {u} > {_constant(0.0).code} else relu({u}))", _ATOM)

    def power(self, base: Any, exponent: Any) -> _Text:
        """Return the text of base ** exponent; the exponent must not be a negative number."""
        if exponent.is_Integer:
            return self.chain(self.text(base), int(exponent))
        if not exponent.is_Rational:
            # SymPy folds exp(x log y) into y**x; the two agree if the user's text has a value.
            if base == sympy.E:
                return _Text(f"exp({self.text(exponent).code})", _ATOM)
            return _Text(f"exp({_wrapped(self.text(exponent), _ATOM)} * log({self.text(base).code}))", _ATOM)
        text = self.text(base)
        if exponent.q != 2:
            return _Text(f"pow({text.code}, {_constant(float(exponent)).code})", _ATOM)
        root = self.temporary(text) if exponent.p > 1 and not _is_name(text) else text
        whole = [self.chain(root, int(exponent.p) // 2)] if exponent.p > 1 else []
        return _joined([*whole, _Text(f"sqrt({root.code})", _ATOM)])

    def chain(self, base: _Text, exponent: int) -> _Text:
        """Return base ** exponent (a positive integer) as products; all but the shortest are shared."""
        if exponent == 1:
            return base
        if not _is_name(base):
            base = self.temporary(base)
        known = self.powers.get((base.code, exponent))
        if known is None and exponent <= 3:
            return _joined([base] * exponent)
        if known is None:
            half = self.chain(base, exponent // 2)
            half = half if _is_name(half) else self.shared(base.code, exponent // 2, half)
            known = _joined([half, half, base] if exponent % 2 else [half, half])
            known = self.powers[base.code, exponent] = self.temporary(known)
        return known

    def shared(self, base: str, exponent: int, text: _Text) -> _Text:
        """Return the temporary that holds base ** exponent; the first call makes it from `text`."""
        if (base, exponent) not in self.powers:
            self.powers[base, exponent] = self.temporary(text)
        return self.powers[base, exponent]


def _is_name(text: _Text) -> bool:
    """Return whether the text costs nothing to repeat, because it is a variable or an array element."""
    return text.binding == _ATOM and "(" not in text.code
