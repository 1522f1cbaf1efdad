"""The table of published learning coefficients, three times: exact, by volumes, by free energies.

Exact values are equal as fractions. Measured ones share no step with them: particles that descend to ever lower loss,
and quadrature of the evidence. The rate of their 95% intervals is checked; seeds are fixed, and other seeds would raise
a false alarm in fewer than 1 of 100 runs (binomial).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from support.published import REDUCED_RANK, ROWS, Row

from sandbox import rlct
from sandbox.commands.rlct import Powers
from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.parsing import parse, symbol
from sandbox.learning_coefficient import of_strata
from sandbox.learning_coefficient.ideals import closed_forms
from sandbox.measurements.loss.free_energy import free_energy
from sandbox.measurements.loss.splitting import Descent, descend
from sandbox.measurements.loss.volume import LEAST_LOG_VOLUME, measure, record
from sandbox.model.loss import Loss
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression
from sandbox.tools.arrays import Array


def names(row: Row) -> list[str]:
    """Return the parameters: every letter but the input x of a model."""
    return sorted({c for c in row.loss or row.model.replace("tanh", "").replace("x", "") if c.isalpha()})


def small(row: Row) -> int:
    return len(names(row))


def population(row: Row) -> Loss:
    inputs = {"x": Distribution.parse("normal(0, 1)")}
    return Regression(tuple(names(row)), (row.model,), ("0",), inputs).population()


def exact(row: Row) -> tuple[Fraction | None, int | None]:
    if row.loss:
        found = rlct(row.loss, at=row.at, prior=row.prior)
        return found.value, found.multiplicity
    answer = of_strata.at_rational(population(row), tuple(Fraction(row.at.get(name, 0)) for name in names(row)))
    assert answer is not None
    return answer.value, answer.multiplicity


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_exact_values_are_those_published(row: Row) -> None:
    assert exact(row) == (row.value, row.multiplicity), row.citation


@pytest.mark.parametrize("widths", REDUCED_RANK, ids=str)
def test_reduced_rank_regression_in_every_branch(widths: tuple[int, int, int, int]) -> None:
    value, multiplicity = REDUCED_RANK[widths]
    found = closed_forms.reduced_rank(*widths)
    assert (found.value, found.multiplicity) == (Fraction(value), multiplicity)


def test_the_table_is_long_enough_and_has_no_row_twice() -> None:
    assert len(ROWS) + len(REDUCED_RANK) >= 60
    assert len({str(row) for row in ROWS}) == len(ROWS)


def energy_of(row: Row) -> Callable[[Array], Array]:
    if row.model:
        return population(row).excess
    evaluate = numpy_function([symbol(n) for n in names(row)], [parse(row.loss, names(row))])
    return lambda points: evaluate(*points.T)[0]


def prior_at(row: Row) -> Powers:
    """Return the row's prior on a box around its point, so small that it contains no zero of another kind."""
    powers = {"x": {"x": 1.0, "x**2": 2.0, "abs(x)": 1.0, "abs(x)**-0.5": -0.5, "abs(x) * abs(y)": 1.0}}
    powers["y"] = {"abs(y)": 1.0, "y**2": 2.0, "abs(x) * abs(y)": 1.0}
    exponents = [powers.get(name, {}).get(row.prior, 0.0) for name in names(row)]
    centre = [float(Fraction(row.at.get(name, 0))) for name in names(row)]
    return Powers(np.array(centre), np.array(exponents), 0.1 if any(centre) else 1.0)


def sunk(row: Row) -> Descent:
    return descend(
        energy_of(row), prior_at(row), seed=5, particles=160, replicas=16, moves=16, lowest=1e-30,
        least_log_volume=LEAST_LOG_VOLUME,
    )  # fmt: skip


@pytest.mark.parametrize("size", [2, 3])
def test_volumes_agree_with_every_exact_value(size: int) -> None:
    """Intervals with m unknown contain λ at their rate; with m given, two-parameter rows are within 2%."""
    rows = [row for row in ROWS if small(row) == size]
    missed, far = [], []
    for row in rows:
        descent = sunk(row)
        unknown = record(descent, measure(descent, range(1, size + 1))).attrs
        missed += [str(row)] * (not unknown["low"] <= row.value <= unknown["high"])
        if size == 2:
            known = record(descent, measure(descent, [row.multiplicity])).attrs
            far += [(str(row), known["estimate"])] * (abs(known["estimate"] / row.value - 1) > 0.02)
    assert len(missed) <= stats.binom.ppf(0.995, len(rows), 0.05), missed
    assert not far


@pytest.mark.parametrize("row", [row for row in ROWS if small(row) == 2], ids=str)
def test_free_energies_agree_with_every_exact_value_in_two_parameters(row: Row) -> None:
    """Within 2%, with m unknown; quadrature is deterministic."""
    found = free_energy(energy_of(row), prior_at(row)).attrs
    assert abs(found["estimate"] / row.value - 1) < 0.02


def test_a_wrong_table_is_noticed() -> None:
    """The naive Newton polygon of (y - x^2)^2 gives 3/4; the exact and the measured value do not."""
    row = next(row for row in ROWS if row.loss == "(y - x**2)**2")
    assert exact(row)[0] != Fraction(3, 4)
    descent = sunk(row)
    assert abs(record(descent, measure(descent, [1])).attrs["estimate"] / 0.75 - 1) > 0.02
