"""The learning coefficient of a loss given as text: exact if a theorem gives it, else measured.

The measurement uses the volume of the points with small loss, in a small box around the given point.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.functions import RESERVED, Absolute
from sandbox.expressions.parsing import MAX_LITERAL, MAX_MAGNITUDE, check_name, parse, symbol
from sandbox.learning_coefficient import at_point
from sandbox.learning_coefficient.at_point import NotAnalyticError
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.learning_coefficient.written import without_powers
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError, RunError, nearest

Number = str | int | float | Fraction

MEASURED_FROM = 1e-8
"""Nothing is measured if floats lose K above this value: too few decades would be left."""
MEASURED_WITHIN = 0.1
"""Half the side of the box around a point in which the volume is measured."""

MEASURED_WITH = 6144
"""The number of particles of a measurement."""
WIDER = 2.0
"""The factor by which an interval of the volume's fit is widened, so that 95% of the intervals cover λ: found on
generated losses with known λ (tests/learning_coefficient/test_generated.py)."""

_LOST = 0.01
"""The relative error of K above which K counts as lost."""
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")


def rlct(
    expression: str,
    *,
    at: Mapping[str, Number] | None = None,
    prior: str | int = 1,
    box: Mapping[str, tuple[Number, Number]] | None = None,
) -> LearningCoefficient:
    """Return λ and m of a loss K(w) >= 0: at a point (by default the origin), or over a box.

    `expression` is text such as "(x**2 - y**3)**2". Its names are the parameters, E too, but for pi; as e looks like a
    parameter, it is refused: exp(1) is Euler's number. `at` gives coordinates, exact if they are written so ("1/3");
    those not named are 0. `prior` is the prior density's behaviour, a product of powers of
    parameters ("x**2 * abs(y)**0.5"). `box` maps every parameter to its interval. If no theorem gives λ, `estimate`
    holds the volume scaling's result. InputError for wrong text, K not 0 there, or both `at` and `box`.
    """
    if at is not None and box is not None:
        raise InputError("choose λ at a point or over a box, not both")
    names = _names(expression, prior, (*(at or {}), *(box or {})))
    symbols = [symbol(name) for name in names]
    loss, weight = _parsed("expression", expression, names), _parsed("prior", prior, names)
    if not loss.free_symbols:
        raise InputError(f"'{expression}' has no parameters: λ needs a loss that varies")
    if box is not None:
        bounds = [_interval(name, box) for name in names]
        return at_point.over_box(loss, symbols, bounds, _exponents(weight, symbols, [Fraction(0)] * len(names)))
    point = [number((at or {}).get(name, 0), f"at {name}") for name in names]
    exponents = _exponents(weight, symbols, point)
    try:
        found = at_point.at(loss, symbols, point, exponents)
    except NotAnalyticError as error:
        found = LearningCoefficient(None, None, "none", str(error))
    if found.value is not None:
        return found
    return _measure(found, loss, symbols, point, exponents)


def describe(found: LearningCoefficient) -> dict[str, Any]:
    """Return the result of `rlct`, ready for JSON: fractions as text."""
    result: dict[str, Any] = {
        "learning_coefficient": str(found.value) if found.value is not None else None,
        "multiplicity": found.multiplicity,
        "bracket": [str(bound) for bound in found.bracket] if found.bracket else None,
        "method": found.method,
        "explanation": found.explanation,
    }
    if found.estimate is not None:
        value, low, high = found.estimate
        result["estimate"] = {"value": value, "low": low, "high": high, "level": 0.95}
    return result


def words(found: LearningCoefficient) -> str:
    """Return the result of `rlct` as lines of text."""
    within = f"; it lies in [{found.bracket[0]}, {found.bracket[1]}]" if found.bracket else ""
    m = found.multiplicity if found.multiplicity is not None else "unknown"
    head = f"λ = {found.value}, m = {m}" if found.value is not None else f"λ is not derived{within}"
    lines = [head, f"method: {found.method}", *found.explanation.replace("; ", "\n").split("\n")]
    if found.estimate is not None:
        value, least, most = found.estimate
        interval = f"λ = {value:.3f}, 95% interval [{least:.3f}, {most:.3f}]"
        lines.append(f"measured instead, by the volume of {{K < e}} around the point: {interval}")
    return "\n".join(lines)


def number(value: Number, where: str) -> Fraction:
    """Return the exact value of a number, a decimal or a fraction such as "1/3". Raises InputError naming `where`."""
    if isinstance(value, Fraction):
        return value
    text = str(value)
    try:
        # Floats come first: exact arithmetic would write out the digits of a huge exponent.
        parts = text.split("/") if len(text) <= MAX_LITERAL else []
        if parts and all(1 / MAX_MAGNITUDE <= abs(float(p)) <= MAX_MAGNITUDE or _is_zero(p) for p in parts):
            return Fraction(text if len(parts) > 1 or not _is_zero(text) else 0)
    except (ValueError, ZeroDivisionError):
        pass
    allowed = f"a number such as 0.5, 1e-3 or 1/3, 0 or of size {1 / MAX_MAGNITUDE:g} to {MAX_MAGNITUDE:g}"
    raise InputError(f"{where}: found '{text[:60]}'; allowed: {allowed}")


def _is_zero(text: str) -> bool:
    """Return whether a decimal is 0, whatever its exponent."""
    return float(text) == 0 and not re.split("[eE]", text)[0].strip().strip("+-0._")


def _names(expression: str, prior: str | int, others: Sequence[str]) -> list[str]:
    """Return the parameters in the order in which they appear in the expression."""
    if "e" in (*_NAME.findall(f"{expression}; {prior}"), *others):
        # Nothing declares the parameters here, so Euler's number and a fifth parameter after a, b, c, d look the same.
        raise InputError(
            "'e' is Euler's number, never a parameter: rename the parameter, or write exp(1) for the number"
        )
    found = dict.fromkeys(name for name in _NAME.findall(str(expression)) if name not in RESERVED)
    for name in found:
        check_name(name)
    for other in (*others, *(n for n in _NAME.findall(str(prior)) if n not in RESERVED)):
        if other not in found:
            hint, known = nearest(other, found), ", ".join(found)
            raise InputError(f"'{other}' is no parameter of the expression{hint}; it has {known}")
    return list(found)


def _parsed(where: str, text: str | int, names: Sequence[str]) -> Any:
    try:
        return parse(text, names)
    except InputError as error:
        raise error.within(where) from None


def _interval(name: str, box: Mapping[str, tuple[Number, Number]]) -> tuple[Fraction, Fraction]:
    if name not in box:
        raise InputError(f"the box has no interval for '{name}'")
    low, high = (number(end, f"box {name}") for end in box[name])
    if not low < high:
        raise InputError(f"box {name}: found [{low}, {high}]; the first number must be the smaller one")
    return low, high


def _exponents(prior: Any, symbols: Sequence[Any], point: Sequence[Fraction]) -> list[Fraction]:
    """Return the powers h_j of |w_j - point_j| in the prior's density near the point."""
    powers = dict.fromkeys(symbols, Fraction(0))
    for factor in sympy.Mul.make_args(sympy.powsimp(sympy.factor(prior))):
        base, power = factor.as_base_exp()
        base = base.args[0] if isinstance(base, Absolute) else base
        if base.is_number and base.is_positive:
            continue
        if base not in powers or not power.is_Rational:
            allowed = "a product of powers of parameters, such as x**2 * abs(y)**0.5"
            raise InputError(f"the prior must be {allowed}; found {factor}")
        powers[base] += Fraction(int(power.p), int(power.q))
    for w, h in powers.items():
        if h <= -1:
            raise InputError(f"the prior has |{w}|^{h}, which has no integral; powers must exceed -1")
    return [powers[w] if c == 0 else Fraction(0) for w, c in zip(symbols, point, strict=True)]


@dataclass(frozen=True)
class Powers:
    """A prior prod |w_j - centre_j|^h_j on the box around the centre with half sides `within`."""

    centre: Array
    exponents: Array
    within: float = MEASURED_WITHIN

    def log_density(self, points: Array, /) -> Array:
        """Return the log density (N,) at points (N, D), -inf outside the box."""
        away = np.abs(points - self.centre)
        with np.errstate(divide="ignore"):
            logs = np.where(self.exponents == 0, 0.0, self.exponents * np.log(away))
        h = self.exponents
        constant = (np.log((h + 1) / 2) - (h + 1) * np.log(self.within)).sum()
        return np.where((away <= self.within).all(axis=1), logs.sum(axis=1) + constant, -np.inf)

    def quantile(self, uniforms: Array, /) -> Array:
        """Return points (N, D) of the prior for uniform random numbers (N, D) in (0, 1)."""
        side = 2 * uniforms - 1
        away: Array = self.centre + np.sign(side) * np.abs(side) ** (1 / (self.exponents + 1)) * self.within
        return away

    @property
    def bounds(self) -> Array:
        """The box, shape (D, 2)."""
        sides: Array = self.centre[:, None] + np.array([-self.within, self.within])
        return sides

    @property
    def scale(self) -> Array:
        """Half the sides of the box, shape (D,)."""
        return np.full(len(self.centre), self.within)

    def window(self) -> Array:
        """Return the box, shape (D, 2)."""
        return self.bounds

    @property
    def kinks(self) -> Array:
        """The value of each parameter at which the density is not smooth, shape (D, 1)."""
        return self.centre[:, None]


def _measure(
    found: LearningCoefficient,
    loss: Any,
    symbols: Sequence[Any],
    point: Sequence[Fraction],
    exponents: Sequence[Fraction],
) -> LearningCoefficient:
    """Return `found` with the estimate from the volume of {K < e} in a small box around the point."""
    move = {w: w + sympy.Rational(c) for w, c in zip(symbols, point, strict=True)}
    # A high power leaves few levels of K above the smallest floats, so its root is measured: λ(K^p) = λ(K) / p.
    loss, power = without_powers(loss.xreplace(move), symbols)
    evaluate = numpy_function(symbols, [loss])
    prior = Powers(np.zeros(len(symbols)), np.array([float(h) for h in exponents]))
    # Imported here, so that the exact path does not wait for this import.
    from sandbox.measurements.loss.volume import volume

    level = _resolved(loss, symbols)
    if level > MEASURED_FROM:
        reason = f"floats do not resolve K below {level:.1g}"
        return replace(found, explanation=f"{found.explanation}; it could not be measured either: {reason}")
    decades = min(60.0, -float(np.log10(max(level, 1e-60))))
    try:
        scaling = volume(lambda points: evaluate(*points.T)[0], prior, seed=0, decades=decades, particles=MEASURED_WITH)
    except (InputError, RunError) as error:
        return replace(found, explanation=f"{found.explanation}; it could not be measured either: {error}")
    value, low, high = (float(scaling.attrs[name]) / power for name in ("estimate", "low", "high"))
    return reconciled(replace(found, estimate=(value, value - WIDER * (value - low), value + WIDER * (high - value))))


def reconciled(found: LearningCoefficient) -> LearningCoefficient:
    """Return the result with its measured interval cut to the proven bracket; one outside it is left out and told."""
    if found.estimate is None or found.bracket is None:
        return found
    value, low, high = found.estimate
    least, most = map(float, found.bracket)
    if high < least or low > most:
        said = f"measured was {value:.3g}, interval [{low:.3g}, {high:.3g}], outside the proven bracket"
        return replace(found, estimate=None, explanation=f"{found.explanation}; {said}: the measurement failed")
    return replace(found, estimate=(min(max(value, least), most), max(low, least), min(high, most)))


def _resolved(loss: Any, symbols: Sequence[Any]) -> float:
    """Return the value below which floats lose K to cancellation near the origin, as in exp(x) - 1; 0 if none."""
    evaluate = numpy_function(symbols, [loss])
    rng = np.random.default_rng(0)
    lost = 0.0
    for scale in 10.0 ** -np.arange(1, 31):
        points = scale * rng.uniform(-1, 1, (4, len(symbols)))
        for point, found in zip(points, evaluate(*points.T)[0], strict=True):
            exact = loss.evalf(60, subs={w: sympy.Float(float(x), 60) for w, x in zip(symbols, point, strict=True)})
            if abs(float(exact) - found) > _LOST * abs(float(exact)):
                lost = max(lost, abs(float(exact)))
    return lost / _LOST
