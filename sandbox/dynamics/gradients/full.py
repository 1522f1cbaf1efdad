"""The full gradient of L_n (of K for the population or a potential): no noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import sympy

from sandbox.dynamics.codegen.lane_code import lane_code, planes
from sandbox.dynamics.gradients.base import GRADIENT, SAMPLE_GRADIENT, Estimator, Formula, Stage
from sandbox.expressions.calculus import gradient
from sandbox.expressions.pieces import Pieces
from sandbox.model.loss import Loss
from sandbox.model.piecewise import Density, Measure, cumulative
from sandbox.tools.arrays import Array


class Full(Estimator):
    """The estimator `gradient: full`."""

    name: ClassVar[str] = "full"

    def stage(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return one evaluation at the column means if they are sufficient, else a pass over intervals or samples."""
        if loss.pieces is not None and loss.measure is not None:
            slopes = gradient(loss.pieces.expression, loss.symbols)
            return _by_pieces(loss.symbols, loss.pieces, loss.measure, constant, slopes)
        if loss.is_affine:
            return Stage(
                imports=("sandbox.compiled.lanes.spread_row",),
                allocate=("spread_row(s, table, 0)",),
                estimate=(GRADIENT,),
            )
        return Stage(
            imports=(
                "sandbox.compiled.lanes.spread_row",
                "sandbox.compiled.lanes.fill",
                "sandbox.compiled.lanes.accumulate",
            ),
            allocate=(SAMPLE_GRADIENT,),
            estimate=(
                "fill(g, 0)",
                "for row in range(weights.size):",
                "    spread_row(s, table, row)",
                "    gradient(w, s, h)",
                "    accumulate(g, h, weights[row])",
            ),
        )

    def stage_with_energy(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return the stage with one more output after the derivatives, the excess loss up to a constant."""
        if loss.pieces is not None and loss.measure is not None:
            excess = loss.pieces.expression
            outputs = (*gradient(excess, loss.symbols), excess)
            return _by_pieces(loss.symbols, loss.pieces, loss.measure, constant, outputs)
        formula = Formula((*loss.gradient_expressions, loss.sample_loss), loss.columns)
        return replace(self.stage(loss, constant), formula=formula)

    def rows(self, loss: Loss) -> tuple[Array, Array]:
        """Return the column means as one row if these are sufficient; for pieces, prefix sums and sorted inputs."""
        if isinstance(loss.measure, Density):
            return np.zeros((1, 0)), np.ones(1)
        if loss.measure is not None:
            return loss.measure.high + loss.measure.low, loss.measure.inputs
        if loss.is_affine:
            return loss.moments[None, :], loss.weights[:1] * 0 + 1
        return loss.table, loss.weights


def _by_pieces(
    symbols: Sequence[Any], pieces: Pieces, measure: Measure, constant: Callable[[float], str], outputs: Sequence[Any]
) -> Stage:
    """Return the stage that goes through the intervals and evaluates the outputs at the moments of each."""
    moving, kinks, moments = pieces.moving, len(pieces.kinks), len(pieces.moments)
    if isinstance(measure, Density):
        kind, (low, high) = "real", (constant(end) for end in measure.support)
        find, arguments = "find_crossings", f"bounds, slopes, offsets, {low}, {high}"
        below, imports, functions = "cumulate({0}, {1}, constants)", [], [_cumulate(measure, constant)]
    else:
        kind, low, high = "np.uint32", "0", "weights.size"
        find, arguments = "find_ranks", "bounds, slopes, offsets, weights, probed"
        below, imports, functions = "gather_sums({0}, table, {1})", ["sandbox.compiled.intervals.gather_sums"], []
    walk = ("next_interval", "take_moments", "take_steps")
    each = below.format(f"levels[kink * {moments} * LANES :]", "bounds[kink * LANES :]")

    def place(lines: str, which: range) -> tuple[str, ...]:
        span = f"{which.start}, {which.stop}"
        found = (f"{lines}(w, slopes, offsets)", f"{find}({arguments}, {span})", f"for kink in range({span}):")
        return (*found, f"    {each}") if which else ()

    return Stage(
        imports=(
            *(f"sandbox.compiled.intervals.{name}" for name in (find, *walk)),
            "sandbox.compiled.lanes.copy",
            "sandbox.compiled.lanes.fill",
            *imports,
        ),
        functions=(
            *functions,
            *_lines("fix_lines", symbols, pieces.kinks, range(moving, kinks)),
            *_lines("move_lines", symbols, pieces.kinks, range(moving)),
            _add_interval(symbols, pieces, outputs),
        ),
        allocate=(
            *(f"{name} = scratch({kinks} * LANES, real)" for name in ("slopes", "offsets")),
            f"lower = scratch({moments} * LANES, real)",
            f"levels = scratch({(kinks + 2) * moments} * LANES, real)",
            f"interval = scratch({moments + kinks} * LANES, real)",
            f"moments, steps = interval[: {moments} * LANES], interval[{moments} * LANES :]",
            f"bounds = scratch({kinks} * LANES, {kind})",
            *(f"{name} = scratch(LANES, {kind})" for name in ("start", "end")),
            "probed, which = scratch(LANES, real), scratch(LANES, np.uint32)",
            # The moments below the upper and the lower end depend on no parameter and are computed once.
            "for outer in range(2):",
            f"    fill(end, {low} if outer else {high})",
            f"    {below.format(f'levels[({kinks} + outer) * {moments} * LANES :]', 'end')}",
            f"lowest = levels[{(kinks + 1) * moments} * LANES :]",
            *place("fix_lines", range(moving, kinks)),
        ),
        estimate=(
            "fill(g, 0)",
            *place("move_lines", range(moving)),
            f"fill(end, {low})",
            "copy(lower, lowest)",
            f"for crossed in range({kinks + 1}):",
            f"    next_interval(start, end, which, bounds, {high})",
            "    take_moments(moments, lower, levels, which)",
            "    take_steps(steps, start, bounds, slopes)",
            "    add_interval(w, interval, g)",
        ),
    )


def _lines(name: str, symbols: Sequence[Any], kinks: Sequence[tuple[Any, Any]], which: range) -> list[str]:
    """Return the source of a lane function that sets slopes and offsets of some lines; [] for no lines."""
    outputs = {
        f"{array}[{k} * LANES + i]": part
        for k in which
        for array, part in zip(("slopes", "offsets"), kinks[k], strict=True)
    }
    return [lane_code(name, ("w", "slopes", "offsets"), outputs, planes("w", symbols))] if outputs else []


def _add_interval(symbols: Sequence[Any], pieces: Pieces, outputs: Sequence[Any]) -> str:
    totals = [sympy.Symbol(f"_g{j}", real=True) for j in range(len(outputs))]
    sums = {f"g[{j} * LANES + i]": total + outputs[j] for j, total in enumerate(totals)}
    names = planes("w", symbols) | planes("s", pieces.columns) | planes("g", totals)
    return lane_code("add_interval", ("w", "s", "g"), sums, names)


def _cumulate(measure: Density, constant: Callable[[float], str]) -> str:
    """Return the source of a lane function that leaves the moments below x in `level`."""
    numbers = (1 / measure.mass, *measure.distribution.arguments)
    x, share, *arguments = (sympy.Symbol(f"_x{k}", real=True) for k in range(len(numbers) + 1))
    primitives = cumulative(measure.distribution.family, x, arguments, measure.degrees)
    outputs = {f"level[{c} * LANES + i]": share * primitive for c, primitive in enumerate(primitives)}
    scalars = {symbol: constant(value) for symbol, value in zip((share, *arguments), numbers, strict=True)}
    return lane_code("cumulate", ("level", "x", "constants"), outputs, {x: "x[i]"}, scalars)
