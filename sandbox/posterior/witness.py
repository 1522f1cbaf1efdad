"""The witness: posterior, tempered posterior and level sets of the prior, by quadrature, without any particle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sandbox.errors import InputError
from sandbox.posterior.fubini import Fubini
from sandbox.posterior.integrand import Integrand
from sandbox.posterior.lines import Lines, Rule
from sandbox.posterior.measure import Measure
from sandbox.posterior.panel import GAUSS, ORDER, Floats, Ints, nodes_in, safe_log

_ROUGH = 1e-3  # tolerance of the first pass, which only finds the scale, the labels and the window
_NEGLIGIBLE = 40.0  # nats below the evidence at which points are left out
_EXPAND = 4096  # lines expanded into points together
_EDGE = 0.05  # of the window's width on each open side that must be empty of mass
_WIDENINGS = 60

Energy = Callable[[Floats], Floats]
Labels = Callable[[Floats], NDArray[np.integer]]


class Prior(Protocol):
    """What the witness asks of a prior on D parameters."""

    def log_density(self, points: Floats, /) -> Floats:
        """Return the normalised log density at the points (N, D), -inf outside the support."""

    def window(self) -> Floats:
        """Return a finite box (D, 2) that holds all but about 1e-18 of the mass; the support where it is bounded."""

    @property
    def bounds(self) -> Floats:
        """The support (D, 2), infinite where it is open."""

    @property
    def kinks(self) -> Sequence[ArrayLike]:
        """Per parameter, the coordinates where the density is not smooth."""


@dataclass(frozen=True)
class _Problem:
    """One measure that is wanted, and how well."""

    integrand: Integrand
    prior: Prior
    labels: Labels | None
    cuts: Sequence[Floats]
    tolerance: float
    share_tolerance: float
    max_cells: int

    def fubini(self, window: Floats) -> Fubini:
        """Return a coarse integrator over the window."""
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
    labels: Labels | None = None,
    cuts: Sequence[ArrayLike] = (),
    tolerance: float | None = None,
    share_tolerance: float = 1e-4,
    max_cells: int = 10_000_000,
) -> Measure:
    """Return the measure with density proportional to exp(-nbeta K_n) times the prior, in 1 to 3 dimensions.

    energy: points (N, D) -> K_n (N,), may be slightly negative, may be +inf.
    nbeta: n times the inverse temperature, finite, >= 0.
    labels: points (N, D) -> integers (N,), for instance the stratum whose tube a point is in. The masses of the labels
        are then right to `share_tolerance`, absolutely. A set with a label should be met by the nodes of some panel:
        where one is much thinner than the posterior is smooth, give its edges as cuts.
    cuts: per parameter, coordinates that no interval of the rule straddles where there is mass: edges of tubes that
        are aligned with an axis, edges of histogram bins. Cuts of different parameters multiply the work.
    tolerance: relative error of the evidence; unless given 1e-8, in three dimensions 1e-5.
    max_cells: intervals of ten nodes that may be evaluated; when they are used up the measure comes back with
        `converged` false and the error it has.

    The energy may have kinks (the error is then known up to a factor of ten), but must not have features narrower than
    some hundredth of the window: sizes are of order 1, whatever n is. An isolated minimum less than a fiftieth of the
    window (a twenty-fifth, in three dimensions) beside a valley may be overlooked when n is very large.

    Raises InputError for a dimension other than 1..3, an unusable nbeta or tolerance, or an energy that is nan, or
    +inf everywhere.
    """
    if not (np.isfinite(nbeta) and nbeta >= 0):
        raise InputError(f"nbeta is {nbeta}; it must be finite and at least 0")
    integrand = Integrand(energy, prior.log_density, float(nbeta))
    return _solve(_problem(integrand, prior, labels, cuts, tolerance, share_tolerance, max_cells))


def level_set(
    energy: Energy,
    prior: Prior,
    level: float,
    *,
    labels: Labels | None = None,
    cuts: Sequence[ArrayLike] = (),
    share_tolerance: float = 1e-4,
    max_cells: int = 10_000_000,
) -> Measure:
    """Return the prior restricted to {K_n <= level}; `log_evidence` is the log of the prior mass of that set.

    The relative error of the mass and the absolute error of the masses of the labels are at most `share_tolerance`;
    the rest is as for `posterior`. Raises InputError also when no point with K_n <= level is found.
    """
    if not np.isfinite(level):
        raise InputError(f"the level is {level}; it must be finite")
    integrand = Integrand(energy, prior.log_density, level=float(level))
    return _solve(_problem(integrand, prior, labels, cuts, share_tolerance, share_tolerance, max_cells))


def tempered(
    energy: Energy,
    prior: Prior,
    mean_energy: float,
    *,
    labels: Labels | None = None,
    cuts: Sequence[ArrayLike] = (),
    tolerance: float | None = None,
    share_tolerance: float = 1e-4,
    max_cells: int = 10_000_000,
    nbeta_max: float = 1e10,
) -> Measure:
    """Return the posterior at the nbeta for which the mean of K_n is `mean_energy`.

    It is the prior (nbeta 0) if the prior's mean is not above `mean_energy`, and the posterior at `nbeta_max`, marked
    `capped`, if the mean is still above `mean_energy` there. The mean is matched to 1e-6 of its distance from the
    least energy. The rest is as for `posterior`.
    """
    if not np.isfinite(mean_energy):
        raise InputError(f"the mean energy is {mean_energy}; it must be finite")
    problem = _problem(Integrand(energy, prior.log_density), prior, None, (), tolerance, share_tolerance, max_cells)
    nbeta = _match(problem, mean_energy, nbeta_max)
    measure = posterior(
        energy,
        prior,
        nbeta,
        labels=labels,
        cuts=cuts,
        tolerance=tolerance,
        share_tolerance=share_tolerance,
        max_cells=max_cells,
    )
    return replace(measure, capped=nbeta >= nbeta_max)


def _problem(
    integrand: Integrand,
    prior: Prior,
    labels: Labels | None,
    cuts: Sequence[ArrayLike],
    tolerance: float | None,
    share_tolerance: float,
    max_cells: int,
) -> _Problem:
    dimension = len(prior.bounds)
    tolerance = (1e-5 if dimension == 3 else 1e-8) if tolerance is None else tolerance
    if not 1 <= dimension <= 3:
        raise InputError(f"the witness by quadrature takes 1 to 3 parameters, here are {dimension}")
    if not (0 < tolerance < 1 and 0 < share_tolerance < 1):
        raise InputError(f"tolerances must be between 0 and 1, here are {tolerance} and {share_tolerance}")
    if len(cuts) not in (0, dimension):
        raise InputError(f"cuts are given for {len(cuts)} parameters, there are {dimension}")
    edges = [np.unique(np.asarray(c, dtype=np.float64)) for c in cuts] or [np.empty(0)] * dimension
    return _Problem(integrand, prior, labels, edges, tolerance, share_tolerance, max_cells)


def _solve(problem: _Problem) -> Measure:
    """Find window, scale and labels with a coarse pass, then integrate as finely as asked."""
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
    known = np.unique(problem.labels(points)) if problem.labels is not None else np.empty(0, dtype=np.int64)
    tolerance = problem.tolerance
    for _ in range(2):
        fine = problem.fubini(window)
        fine = replace(
            fine,
            cuts=problem.cuts,
            tolerance=tolerance,
            labels=None if problem.labels is None else _Channels(problem.labels, known),
            channels=0 if problem.labels is None else len(known) + 1,
            # an evidence that is not yet certain must not decide what is negligible
            log_evidence=lines.value[0] if coarse.spent < coarse.max_panels else -np.inf,
            lowest=coarse.lowest,
        )
        finest = fine.integrate(np.zeros((1, 0)))
        error, share_error = np.exp(finest.error[0] - finest.value[0])
        if error <= problem.tolerance or fine.spent >= fine.max_panels:
            break
        tolerance *= 0.1
    return _measure(problem, fine, finest, float(error), float(share_error))


def _measure(problem: _Problem, fine: Fubini, lines: Lines, error: float, share_error: float) -> Measure:
    cells = fine.spent
    fine.spent = 0
    points, logs = _rule(fine, lines)
    weights = np.exp(logs - logs.max())
    within = error <= problem.tolerance and (problem.labels is None or share_error <= problem.share_tolerance)
    return Measure(
        points=points,
        weights=weights / weights.sum(),
        log_evidence=float(lines.value[0]),
        error=error,
        share_error=share_error if problem.labels is not None else float("nan"),
        nbeta=problem.integrand.nbeta if problem.integrand.level is None else float("nan"),
        converged=bool(within),
        cells=cells,
    )


@dataclass(frozen=True)
class _Channels:
    """Labels of any values as 0..C: the place among the known ones, C for a label not met by the coarse pass."""

    labels: Labels
    known: NDArray[np.integer]

    def __call__(self, points: Floats) -> Ints:
        """Return the channel (N,) of each point (N, D)."""
        values = np.asarray(self.labels(points))
        place = np.minimum(np.searchsorted(self.known, values), len(self.known) - 1)
        return np.where(self.known[place] == values, place, len(self.known)).astype(np.int64)


def _rule(fubini: Fubini, lines: Lines) -> tuple[Floats, Floats]:
    """Return the nodes (N, D) of the final rule and the logs (N,) of weight times density, negligible ones left out."""
    rule = Rule(lines.value, lines.owner, lines.lo, lines.hi)
    found = list(_expand(fubini, np.zeros((1, 0)), np.zeros(1), rule, float(lines.value[0]) - _NEGLIGIBLE))
    return np.concatenate([points for points, _ in found]), np.concatenate([logs for _, logs in found])


def _expand(fubini: Fubini, prefix: Floats, logs: Floats, rule: Rule, least: float) -> Iterator[tuple[Floats, Floats]]:
    """Yield the nodes on the given lines and, through the lines that stand on them, on all axes inside."""
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


def _widened(window: Floats, bounds: Floats, points: Floats, mass: Floats) -> Floats:
    """Double the window on each open side where the posterior has mass near the edge.

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
    return "the energy is infinite, or the prior zero, wherever they were evaluated"


def _peak(prior: Prior, window: Floats, breaks: Sequence[Floats]) -> float:
    """Return log of about the largest prior density, from a grid through the places where it is not smooth."""
    axes = [
        np.concatenate([np.linspace(side[0], side[1], 18)[1:-1], [side.mean()], b])
        for side, b in zip(window, breaks, strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(window))
    return float(np.max(prior.log_density(grid)))


def _match(problem: _Problem, target: float, nbeta_max: float) -> float:
    """Return the nbeta in [0, nbeta_max] at which the mean energy is `target`, by a Newton iteration kept in brackets.

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
