"""The numbers, colours and texts of a run that the pictures show. No Matplotlib artist is made here."""

from __future__ import annotations

import functools
import itertools
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.colors import to_hex, to_rgb
from matplotlib.font_manager import findfont, get_font

from sandbox.expressions.parsing import symbol
from sandbox.expressions.quantity import Quantity
from sandbox.model.loss import Loss
from sandbox.model.prior import Distribution, Prior
from sandbox.model.strata import DIVERGED
from sandbox.scenario.scenario import Scenario, loads
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Colours that colour-blind readers can tell apart: M. Okabe, K. Ito, "Color universal design", 2008; black is for the
posterior."""
INK, GREY, PALE = "#000000", "#8c8c8c", "#d0d0d0"
"""The colours of the posterior's lines, of W0, and of the posterior's filled histograms."""
FONT = "DejaVu Sans"
"""The font of every picture; Matplotlib contains it."""

_EVALUATIONS = 20_000_000
"""The most (point, sample) pairs evaluated for a contour plot."""
_DRAWN_PARAMETERS = 3
"""The most parameters for which the loss is drawn: over two, with the minimum over a third."""
_GRID, _REFINEMENTS = 25, 18
"""How the loss is minimised over a third parameter: points of the grid, and steps that refine the best of them."""
_GOLDEN = (math.sqrt(5) - 1) / 2
_STRATUM_POINTS = 3000
_TAIL = 1e-3
"""The prior mass left out of the view on each side on which the prior is unbounded."""


def colour(k: int) -> str:
    """Return the colour of population number k as hex; after seven populations the palette repeats, darker."""
    shade = 0.6 ** (k // len(PALETTE))
    red, green, blue = to_rgb(PALETTE[k % len(PALETTE)])
    return to_hex((red * shade, green * shade, blue * shade))


def printable(text: str) -> str:
    """Return a text as one line, with "?" for each character that is missing in the pictures' font."""
    known = _characters()
    return "".join(c if ord(c) in known else "?" for c in " ".join(text.split()))


def wrapped(text: str, width: int) -> str:
    """Return a printable text in lines of at most `width` characters. Nothing is cut off."""
    return "\n".join(textwrap.wrap(printable(text), width))


@functools.cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def _reach(values: Array) -> Array:
    """Return the 2% and 98% quantiles of finite values (N, axes), shape (axes, 2); nan if there are none."""
    known = values[np.isfinite(values).all(axis=1)]
    return np.quantile(known, [0.02, 0.98], axis=0).T if len(known) else np.full((values.shape[1], 2), np.nan)


def density(count: npt.ArrayLike, edges: Array) -> Array:
    """Return the density of counts (or masses) in bins, shape (bins,): its integral is 1, or 0 if all counts are 0."""
    masses = np.asarray(count, dtype=np.float64)
    return masses / max(float(masses.sum()), np.finfo(float).tiny) / np.diff(edges)


def least(function: Callable[[Array], Array], grid: Array, columns: int) -> Array:
    """Return the least of a function of `columns` numbers, one at a time; all functions are minimised at once.

    The best point of the grid comes first, then a golden-section search in the two cells beside it. A grid alone would
    draw stripes: the minimum over a narrow valley would depend on the distance to the nearest point.
    """
    values = np.stack([np.nan_to_num(function(np.full(columns, z)), nan=np.inf) for z in grid])
    best = values.argmin(axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    near, far = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_near, at_far = function(near), function(far)
    result = np.fmin(values.min(axis=0), np.fmin(at_near, at_far))
    for _ in range(_REFINEMENTS):
        left = at_near < at_far
        low, high = np.where(left, low, near), np.where(left, far, high)
        tried = np.where(left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_tried = function(tried)
        near, far = np.where(left, tried, far), np.where(left, near, tried)
        at_near, at_far = np.where(left, at_tried, at_far), np.where(left, at_near, at_tried)
        result = np.fmin(result, at_tried)
    return np.where(np.isfinite(result), result, np.nan)


@dataclass(frozen=True)
class Scene:
    """A run to be drawn: the scenario and the groups of the record, with populations by name."""

    scenario: Scenario
    populations: dict[str, xr.Dataset]
    posterior: xr.Dataset
    comparison: xr.Dataset

    @classmethod
    def of(cls, tree: xr.DataTree) -> Scene:
        """Return the scene of a run's record. Raises InputError if a group is missing or the scenario is not valid."""
        for group in ("populations", "posterior", "comparison"):
            if group not in tree.children:
                raise InputError(f"the result has no group '{group}'; found: {', '.join(tree.children) or 'none'}")
        scenario = loads(tree.attrs["scenario"], tree.attrs["scenario_file"])
        return cls(
            scenario,
            # In the scenario's order, which sets the colours: a store does not keep the order of its groups.
            {p.name: tree[f"populations/{p.name}"].to_dataset() for p in scenario.populations},
            tree["posterior"].to_dataset(),
            tree["comparison"].to_dataset(),
        )

    @functools.cached_property
    def colours(self) -> dict[str, str]:
        """Each population's colour, the same in every panel."""
        return {name: colour(k) for k, name in enumerate(self.populations)}

    @functools.cached_property
    def times(self) -> npt.NDArray[np.int64]:
        """The recorded steps, shape (T,)."""
        return np.asarray(next(iter(self.populations.values())).time.values)

    @functools.cached_property
    def along_strata(self) -> tuple[str, ...]:
        """The names of the strata that have a position along them."""
        return tuple(map(str, self.posterior.along_stratum.values))

    @functools.cached_property
    def strata(self) -> tuple[str, ...]:
        """The names to show: the strata, `elsewhere`, and `diverged` if any particle diverged."""
        names = map(str, self.posterior.stratum.values)
        return tuple(name for name in names if name != DIVERGED or any(map(self.diverged, self.populations)))

    def diverged(self, name: str) -> int:
        """Return the number of diverged particles, among all of a population, at the last time."""
        return int(self.populations[name]["count"].sel(stratum=DIVERGED).values[-1])

    def positions(self, name: str, frame: int) -> Array:
        """Return the kept positions of a population at a recorded time, shape (N, D); nan for diverged particles."""
        points: Array = self.populations[name].position.values[frame].astype(np.float64)
        points[self.scenario.problem.prior.diverged(points)] = np.nan
        return points

    @property
    def samples(self) -> Array:
        """The posterior samples, shape (N, D)."""
        samples: Array = self.posterior.position.values.reshape(-1, self.posterior.sizes["parameter"])
        return samples

    def occupancy(self, name: str, bound: str = "estimate") -> Array:
        """Return the share of a population in each entry of `strata` over time, shape (T, strata).

        `bound` is "estimate", or "low" or "high" for the ends of the interval.
        """
        return self._occupancies[name, bound]

    @functools.cached_property
    def _occupancies(self) -> dict[tuple[str, str], Array]:
        # All are looked up at once: panels need them often, and a selection by name takes longer than to draw the line.
        shown = self.comparison.occupancy.sel(stratum=list(self.strata))
        shown = shown.transpose("population", "bound", "time", "stratum")
        names = itertools.product(map(str, shown.population.values), map(str, shown.bound.values))
        return dict(zip(names, shown.values.reshape(-1, *shown.shape[2:]), strict=True))

    @functools.cached_property
    def axes(self) -> tuple[Quantity, ...]:
        """The quantities on the axes: the scenario's view, else the first two parameters, or the only one."""
        names = self.scenario.problem.prior.names
        return self.scenario.view or tuple(Quantity(n, symbol(n), names) for n in names[:2])

    @property
    def shows_loss(self) -> bool:
        """Whether the loss can be drawn: the axes are parameters, of which there are at most three."""
        return self.scenario.view is None and len(self.scenario.problem.prior.names) <= _DRAWN_PARAMETERS

    def seen(self, points: Array) -> Array:
        """Return the coordinates on the axes of points (N, D), shape (N, axes)."""
        with np.errstate(all="ignore"):
            return np.stack([quantity(points) for quantity in self.axes], axis=1)

    @functools.cached_property
    def view(self) -> Array:
        """The range of the axes, shape (axes, 2): the box, or for other axes the range of posterior and particles."""
        if self.shows_loss:
            return self.box[: len(self.axes)]
        points = [self.positions(name, frame) for name in self.populations for frame in (0, -1)]
        groups = [self.seen(group) for group in (self.samples, *points)]
        ends = np.array([_reach(group) for group in groups])
        low, high = np.nanmin(ends[:, :, 0], axis=0), np.nanmax(ends[:, :, 1], axis=0)
        # A start or a population that is spread wide must not shrink the posterior to a dot.
        width = np.maximum(np.diff(ends[0], axis=1)[:, 0], 1e-9)
        low, high = np.maximum(low, ends[0, :, 0] - width), np.minimum(high, ends[0, :, 1] + width)
        return np.stack([low - 0.05 * (high - low), high + 0.05 * (high - low)], axis=1)

    @functools.cached_property
    def box(self) -> Array:
        """The range of the parameters, shape (D, 2): the prior's box, extended by up to half its width to particles."""
        prior = self.scenario.problem.prior
        ends = prior.quantile(np.tile([[_TAIL], [1 - _TAIL]], len(prior.names))).T
        box = np.where(np.isfinite(prior.bounds), prior.bounds, ends)
        width = np.diff(box, axis=1)[:, 0]
        points = np.concatenate([self.positions(name, frame) for name in self.populations for frame in (0, -1)])
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            low, high = np.quantile(points, [0.01, 0.99], axis=0)
            box[:, 0] = np.clip(low, box[:, 0] - width / 2, box[:, 0])
            box[:, 1] = np.clip(high, box[:, 1], box[:, 1] + width / 2)
        return box

    def outside(self, name: str) -> float:
        """Return the share of a population's kept, finite positions at the last time that lie outside the view."""
        points = self.seen(self.positions(name, -1))
        points = points[np.isfinite(points).all(axis=1)]
        out = (points < self.view[:, 0]) | (points > self.view[:, 1])
        return float(out.any(axis=1).mean()) if len(points) else 0.0

    def caption(self, name: str, *, view: bool = True) -> str:
        """Return a population's name, with its diverged count and, if `view`, the share outside the view."""
        gone, outside = self.diverged(name), self.outside(name) if view else 0.0
        notes = [f"{gone:,} diverged"] * bool(gone) + [f"{outside:.0%} out of view"] * (outside >= 0.005)
        return name + (f" ({', '.join(notes)})" if notes else "")

    @functools.cached_property
    def _drawn(self) -> tuple[Loss, str]:
        """The loss to draw and its symbol: L_n; the population loss if L_n has many samples and no moments."""
        loss = self.scenario.problem.loss
        if loss.samples is None:
            return loss, "K"
        is_cheap = loss.is_affine or loss.pieces is not None or loss.samples <= 5000
        return (loss, "K_n") if is_cheap else (self.scenario.problem.population_loss, "K")

    @property
    def excess_name(self) -> str:
        """The symbol of the excess loss that `excess` returns."""
        return self._drawn[1]

    def excess(self, points: Array) -> Array:
        """Return the excess loss to draw at points (N, D), shape (N,); nan where it is not finite."""
        with np.errstate(all="ignore"):
            values = self._drawn[0].excess(points)
        return np.where(np.isfinite(values), values, np.nan)

    def least_excess(self) -> tuple[Array, Array, Array]:
        """Return x (G,), y (G,) and the excess loss (G, G), rows along y, minimised over a third parameter."""
        loss = self._drawn[0]
        depth = _GRID + _REFINEMENTS + 2 if len(self.box) == 3 else 1
        cost = (10 if loss.pieces else 1 if loss.is_affine else len(loss.weights)) * depth
        side = int(np.clip(math.sqrt(_EVALUATIONS / cost), 41, 161))
        x, y = (np.linspace(low, high, side) for low, high in self.box[:2])
        plane = np.stack([axis.ravel() for axis in np.meshgrid(x, y)], axis=1)
        if len(self.box) == 2:
            return x, y, self.excess(plane).reshape(side, side)
        grid = np.linspace(self.box[2, 0], self.box[2, 1], _GRID)
        return x, y, least(lambda z: self.excess(np.column_stack([plane, z])), grid, len(plane)).reshape(side, side)

    def stratum_points(self, k: int) -> Array:
        """Return up to _STRATUM_POINTS points of stratum k within the box, shape (M, D)."""
        ends = [(float(low), float(high)) for low, high in self.box]
        flat = Prior(self.scenario.problem.prior.names, tuple(Distribution("uniform", (a, b), a, b) for a, b in ends))
        return self.scenario.problem.zero_set.sample(flat, k, _STRATUM_POINTS)

    def posterior_shares(self, side: int) -> tuple[Array, Array, Array]:
        """Return x edges and y edges (side + 1,) and the share of the posterior samples in each cell, rows along y."""
        samples = self.seen(self.samples)
        samples = samples[np.isfinite(samples).all(axis=1)]
        edges = [np.linspace(low, high, side + 1) for low, high in self.view]
        count = np.histogram2d(samples[:, 0], samples[:, 1], edges)[0].T
        return edges[0], edges[1], count / max(len(samples), 1)

    def posterior_bins(self, edges: Array) -> Array:
        """Return the posterior density of a single parameter, averaged over each bin, shape (bins,)."""
        fine = np.linspace(edges[:-1], edges[1:], 26, axis=1)
        middle = ((fine[:, :-1] + fine[:, 1:]) / 2).reshape(-1, 1)
        with np.errstate(all="ignore"):
            excess = self.scenario.problem.loss.excess(middle)
        exponent = self.scenario.problem.prior.log_density(middle) - float(self.posterior.nbeta) * excess
        exponent = np.where(np.isnan(exponent), -np.inf, exponent)
        return density(np.exp(exponent - exponent.max()).reshape(len(edges) - 1, -1).sum(axis=1), edges)

    def position_along(self, name: str) -> str:
        """Return the position along a stratum, as the text of an expression in the parameters."""
        return str(next(stratum.along for stratum in self.scenario.problem.zero_set.strata if stratum.name == name))
