"""Posterior, tempered posterior and level sets of the prior, by quadrature, without any particle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sandbox.posterior.measure import Measure
from sandbox.posterior.quadrature.integrand import Integrand
from sandbox.posterior.quadrature.lines import Channels, Lines, Rule
from sandbox.posterior.quadrature.nested import Fubini
from sandbox.posterior.quadrature.panel import GAUSS, ORDER, nodes_in, safe_log
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

MOST_PARAMETERS = 3
"""The most parameters that quadrature takes."""

_ROUGH = 1e-3  # tolerance of the first pass, which only finds the scale, the strata and the window
_NEGLIGIBLE = 40.0  # points with a mass more than this many nats below the evidence are left out
_EXPAND = 4096  # lines that are expanded into points at once
_EDGE = 0.05  # share of the window's width, on each open side, that must have no mass
_WIDENINGS = 60
_LOOSER = 100.0  # factor on the tolerance of the masses of the strata if the intervals allowed do not suffice

Energy = Callable[[Array], Array]
Strata = Callable[[Array], NDArray[np.integer]]


class Prior(Protocol):
    """The methods of a prior on D parameters that quadrature needs."""

    def log_density(self, points: Array, /) -> Array:
        """Return the normalised log density at the points (N, D), -inf outside the support."""

    def window(self) -> Array:
        """Return a finite box (D, 2) that holds all but about 1e-18 of the mass; the support if it is bounded."""

    @property
    def bounds(self) -> Array:
        """The support (D, 2), infinite on open sides."""

    @property
    def kinks(self) -> Sequence[ArrayLike]:
        """Per parameter, the coordinates at which the density is not smooth."""


@dataclass(frozen=True)
class _Problem:
    """A measure to compute, and its tolerances."""

    integrand: Integrand
    prior: Prior
    strata: Strata | None
    cuts: Sequence[Array]
    tolerance: float
    share_tolerance: float
    max_cells: int

    def fubini(self, window: Array) -> Fubini:
        """Return a coarse integrator over the window (D, 2)."""
        breaks = [np.sort(np.asarray(kinks, dtype=np.float64)) for kinks in self.prior.kinks]
        whole = [np.empty(0)] * len(window)
        fubini = Fubini(self.integrand, window, breaks, whole, _ROUGH, self.share_tolerance, self.max_cells)
        if self.integrand.level is not None:
            fubini.log_prior_peak = _peak(self.prior, window, breaks)
        return fubini


def posterior(
    energy: Energy,
    prior: Prior,
    nbeta: float,
    *,
    strata: Strata | None = None,
    cuts: Sequence[ArrayLike] = (),
    tolerance: float | None = None,
    share_tolerance: float = 1e-4,
    max_cells: int = 10_000_000,
) -> Measure:
    """Return the measure with density proportional to exp(-nbeta K_n) times the prior, in 1 to 3 dimensions.

    energy: points (N, D) -> K_n (N,), may be slightly negative, may be +inf.
    nbeta: n times the inverse temperature, finite, >= 0.
    strata: points (N, D) -> integers (N,), for instance the stratum whose tube a point is in. The masses of the strata
        then have an absolute error of at most `share_tolerance`. The set of each stratum should contain nodes of some
        panel: if it is much thinner than the scale on which the posterior is smooth, give its edges as cuts.
    cuts: per parameter, coordinates at which intervals of the rule end if they carry mass: edges of tubes that are
        aligned with an axis, edges of histogram bins. Cuts of different parameters multiply the work.
    tolerance: relative error of the evidence; by default 1e-8, in three dimensions 1e-5.
    max_cells: most intervals of ten nodes to evaluate; if they are used up the measure has `converged` false and the
        error reached by then.

    The energy may have kinks (the error is then known up to a factor of ten), but must not have features narrower than
    about a hundredth of the window: sizes are of order 1 for any n. An isolated minimum whose distance from a
    valley is below a fiftieth of the window (a twenty-fifth, in three dimensions) may be missed if n is very large.

    Raises InputError for a dimension other than 1..3, an unusable nbeta or tolerance, or an energy that is nan, or
    +inf everywhere.
    """
    if not (np.isfinite(nbeta) and nbeta >= 0):
        raise InputError(f"nbeta is {nbeta}; it must be finite and at least 0")
    integrand = Integrand(energy, prior.log_density, float(nbeta))
    return _solve(_problem(integrand, prior, strata, cuts, tolerance, share_tolerance, max_cells))


def level_set(
    energy: Energy,
    prior: Prior,
    level: float,
    *,
    strata: Strata | None = None,
    cuts: Sequence[ArrayLike] = (),
    share_tolerance: float = 1e-4,
    max_cells: int = 10_000_000,
) -> Measure:
    """Return the prior restricted to {K_n <= level}; `log_evidence` is the log of the prior mass of that set.

    The relative error of the mass and the absolute error of the masses of the strata are at most `share_tolerance`;
    the rest is as for `posterior`. Raises InputError also if no point with K_n <= level is found.
    """
    if not np.isfinite(level):
        raise InputError(f"the level is {level}; it must be finite")
    integrand = Integrand(energy, prior.log_density, level=float(level))
    return _solve(_problem(integrand, prior, strata, cuts, share_tolerance, share_tolerance, max_cells))


def tempered(
    energy: Energy,
    prior: Prior,
    mean_energy: float,
    *,
    strata: Strata | None = None,
    cuts: Sequence[ArrayLike] = (),
    tolerance: float | None = None,
    share_tolerance: float = 1e-4,
    max_cells: int = 10_000_000,
    nbeta_max: float = 1e10,
) -> Measure:
    """Return the posterior at the nbeta for which the mean of K_n is `mean_energy`.

    It is the prior (nbeta 0) if the prior's mean is not above `mean_energy`, and the posterior at `nbeta_max`, marked
    `capped`, if the mean is still above `mean_energy` there. The mean is matched to 1e-6 of its distance from the
    least energy. The rest is as for `posterior`. Raises InputError also for a mean energy that is not finite.
    """
    if not np.isfinite(mean_energy):
        raise InputError(f"the mean energy is {mean_energy}; it must be finite")
    problem = _problem(Integrand(energy, prior.log_density), prior, None, (), tolerance, share_tolerance, max_cells)
    nbeta = _match(problem, mean_energy, nbeta_max)
    measure = posterior(
        energy,
        prior,
        nbeta,
        strata=strata,
        cuts=cuts,
        tolerance=tolerance,
        share_tolerance=share_tolerance,
        max_cells=max_cells,
    )
    return replace(measure, capped=nbeta >= nbeta_max)


def _problem(
    integrand: Integrand,
    prior: Prior,
    strata: Strata | None,
    cuts: Sequence[ArrayLike],
    tolerance: float | None,
    share_tolerance: float,
    max_cells: int,
) -> _Problem:
    dimension = len(prior.bounds)
    tolerance = (1e-5 if dimension == 3 else 1e-8) if tolerance is None else tolerance
    if not 1 <= dimension <= MOST_PARAMETERS:
        raise InputError(f"quadrature takes 1 to {MOST_PARAMETERS} parameters, here are {dimension}")
    if not (0 < tolerance < 1 and 0 < share_tolerance < 1):
        raise InputError(f"tolerances must be between 0 and 1, here are {tolerance} and {share_tolerance}")
    if len(cuts) not in (0, dimension):
        raise InputError(f"cuts are given for {len(cuts)} parameters, there are {dimension}")
    edges = [np.unique(np.asarray(c, dtype=np.float64)) for c in cuts] or [np.empty(0)] * dimension
    return _Problem(integrand, prior, strata, edges, tolerance, share_tolerance, max_cells)


def _solve(problem: _Problem) -> Measure:
    """Return the measure: find window, scale and strata with a coarse pass, then integrate to the tolerances."""
    window = np.array(problem.prior.window(), dtype=np.float64)
    for _ in range(_WIDENINGS):
        coarse = problem.fubini(window)
        lines = coarse.integrate(np.zeros((1, 0)))
        if not np.isfinite(lines.value[0]):
            raise InputError(_nothing_found(problem, coarse))
        points, logs = _rule(coarse, lines)
        wider = _widened(window, np.asarray(problem.prior.bounds), points, np.exp(logs - lines.value[0]))
        if np.array_equal(wider, window):
            break
        window = wider
    known = np.unique(problem.strata(points)) if problem.strata is not None else np.empty(0, dtype=np.int64)
    tolerance = problem.tolerance
    for _ in range(2):
        fine = problem.fubini(window)
        fine = replace(
            fine,
            cuts=problem.cuts,
            tolerance=tolerance,
            strata=None if problem.strata is None else Channels(problem.strata, known),
            channels=0 if problem.strata is None else len(known) + 1,
            # an evidence that is still uncertain must not decide which masses are negligible
            log_evidence=lines.value[0] if coarse.spent < coarse.max_panels else -np.inf,
            lowest=coarse.lowest,
        )
        finest = fine.integrate(np.zeros((1, 0)))
        error, share_error = np.exp(finest.error[0] - finest.value[0])
        if error <= problem.tolerance or fine.spent >= fine.max_panels:
            break
        tolerance *= 0.1
    found = _measure(problem, fine, finest, float(error), float(share_error))
    return _looser(problem, found) if found.cells >= problem.max_cells else found


def _looser(problem: _Problem, exhausted: Measure) -> Measure:
    """Return the measure with a looser tolerance of the masses of the strata if its error of them is smaller.

    Where the intervals run out, all panels left are accepted as they are and the bound of their errors says little.
    A coarser rule that ends by itself knows its error.
    """
    tolerance = problem.share_tolerance * _LOOSER
    if not exhausted.share_error > problem.share_tolerance or tolerance >= 1:
        return exhausted
    found = _solve(replace(problem, share_tolerance=tolerance))
    return replace(found, converged=False) if found.share_error < exhausted.share_error else exhausted


def _measure(problem: _Problem, fine: Fubini, lines: Lines, error: float, share_error: float) -> Measure:
    cells = fine.spent
    fine.spent = 0
    points, logs = _rule(fine, lines)
    weights = np.exp(logs - logs.max())
    within = error <= problem.tolerance and (problem.strata is None or share_error <= problem.share_tolerance)
    return Measure(
        points=points,
        weights=weights / weights.sum(),
        log_evidence=float(lines.value[0]),
        error=error,
        share_error=share_error if problem.strata is not None else float("nan"),
        nbeta=problem.integrand.nbeta if problem.integrand.level is None else float("nan"),
        converged=bool(within),
        cells=cells,
    )


def _rule(fubini: Fubini, lines: Lines) -> tuple[Array, Array]:
    """Return the nodes (N, D) of the final rule and the logs (N,) of weight times density, without negligible ones."""
    rule = Rule(lines.value, lines.owner, lines.lo, lines.hi)
    found = list(_expand(fubini, np.zeros((1, 0)), np.zeros(1), rule, float(lines.value[0]) - _NEGLIGIBLE))
    return np.concatenate([points for points, _ in found]), np.concatenate([logs for _, logs in found])


def _expand(fubini: Fubini, prefix: Array, logs: Array, rule: Rule, least: float) -> Iterator[tuple[Array, Array]]:
    """Yield nodes (N, D) and log weights (N,): the nodes of the given lines, each extended along all axes inside."""
    carries = (logs + rule.value)[rule.owner] > least
    owner, lo, hi = rule.owner[carries], rule.lo[carries], rule.hi[carries]
    points = np.column_stack([np.repeat(prefix[owner], ORDER, axis=0), nodes_in(lo, hi).ravel()])
    logs = ((logs[owner] + np.log(0.5 * (hi - lo)))[:, None] + np.log(GAUSS)).ravel()
    if points.shape[1] == fubini.dimension:
        logs = logs + fubini.integrand(points)[0]
        keep = logs > least
        yield points[keep], logs[keep]
        return
    for start in range(0, len(points), _EXPAND):
        part = slice(start, start + _EXPAND)
        yield from _expand(fubini, points[part], logs[part], fubini.rule(points[part]), least)


def _widened(window: Array, bounds: Array, points: Array, mass: Array) -> Array:
    """Return the window (D, 2), doubled on each open side on which the posterior has mass near the edge.

    The window holds the prior; data can pull the posterior far out into the prior's tail.
    """
    wider, width = window.copy(), window[:, 1] - window[:, 0]
    low = points < window[:, 0] + _EDGE * width
    high = points > window[:, 1] - _EDGE * width
    wider[:, 0] -= width * ((mass @ low > 1e-15) & np.isneginf(bounds[:, 0]))
    wider[:, 1] += width * ((mass @ high > 1e-15) & np.isposinf(bounds[:, 1]))
    return wider


def _nothing_found(problem: _Problem, coarse: Fubini) -> str:
    if problem.integrand.level is not None:
        return f"no point has an energy of at most {problem.integrand.level}; the least one found is {coarse.lowest}"
    return "the energy is infinite, or the prior zero, at all points evaluated"


def _peak(prior: Prior, window: Array, breaks: Sequence[Array]) -> float:
    """Return the log of about the largest prior density, from a grid that includes the kinks `breaks`."""
    axes = [
        np.concatenate([np.linspace(side[0], side[1], 18)[1:-1], [side.mean()], b])
        for side, b in zip(window, breaks, strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(window))
    return float(np.max(prior.log_density(grid)))


def _match(problem: _Problem, target: float, nbeta_max: float) -> float:
    """Return the nbeta in [0, nbeta_max] at which the mean energy is `target`, by a bracketed Newton iteration.

    The mean above the least energy falls like a power of nbeta, so the step is taken in log-log coordinates; its
    slope is -nbeta Var(K_n) / mean.
    """
    problem = replace(problem, tolerance=max(problem.tolerance, 1e-6))
    least, low, high, sure = np.inf, -np.inf, float(np.log(nbeta_max)), False

    def moments(nbeta: float) -> tuple[float, float]:
        nonlocal least
        measure = _solve(replace(problem, integrand=replace(problem.integrand, nbeta=nbeta)))
        energy = problem.integrand.energy(measure.points)
        least = min(least, float(energy.min()))
        mean = measure.mean(energy)
        return mean, measure.mean((energy - mean) ** 2)

    if moments(0.0)[0] <= target:
        return 0.0
    at = min(high, -float(safe_log(np.array(max(target - least, 0.0)))))
    for _ in range(100):
        mean, variance = moments(float(np.exp(at)))
        if abs(mean - target) <= 1e-6 * (target - least):
            break
        if mean > target:
            low = at
        else:
            high, sure = at, True
        if low >= high:
            return nbeta_max
        ahead = np.inf
        if target > least and variance > 0:
            ahead = np.log((mean - least) / (target - least)) * (mean - least) / (np.exp(at) * variance)
        following = at + ahead
        if not low < following < high:
            following = 0.5 * (low + high) if sure and np.isfinite(low) else (high if following >= high else at - 3.0)
        at = following
    return float(np.exp(at))
