"""A run made ready to draw: what the pictures show, as numbers, colours and texts. No artist is made here."""

from __future__ import annotations

import functools
import itertools
import math
import textwrap
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.colors import to_hex, to_rgb
from matplotlib.font_manager import findfont, get_font

from sandbox.errors import InputError
from sandbox.expression import symbol
from sandbox.loss import Loss
from sandbox.measured.tracks import diverged
from sandbox.prior import Distribution, Prior
from sandbox.quantity import Quantity
from sandbox.scenario import Scenario, loads
from sandbox.zero_set import DIVERGED

Array = npt.NDArray[np.float64]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Colours that differ also for colour-blind readers: M. Okabe, K. Ito, "Color universal design", 2008; black is the
posterior's."""
FONT = "DejaVu Sans"
"""The font of every picture; it comes with Matplotlib."""

_EVALUATIONS = 20_000_000
"""Most (point, sample) pairs that a contour plot may cost."""
_DRAWN_PARAMETERS = 3
"""Most parameters over which the loss is drawn: two, and the least over a third."""
_OUTLINE_POINTS = 3000
_TAIL = 1e-3
"""Prior mass that the view may leave out on a side where the prior is unbounded."""


def colour(k: int) -> str:
    """Return the colour of population number k; after seven the palette comes again, darker."""
    shade = 0.6 ** (k // len(PALETTE))
    red, green, blue = to_rgb(PALETTE[k % len(PALETTE)])
    return to_hex((red * shade, green * shade, blue * shade))


def printable(text: str) -> str:
    """Return a text in one line, with "?" for each character that the pictures' font does not have."""
    known = _characters()
    return "".join(c if ord(c) in known else "?" for c in " ".join(text.split()))


def wrapped(text: str, width: int, lines: int) -> str:
    """Return a printable text broken into at most `lines` lines of `width` characters, with "..." where it is cut."""
    return "\n".join(textwrap.wrap(printable(text), width, max_lines=lines, placeholder=" ..."))


def shortened(name: str, width: int) -> str:
    """Return a name cut to `width` characters, with "..." where it is cut."""
    return name if len(name) <= width else f"{name[: width - 3]}..."


@functools.cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def _reach(values: Array) -> Array:
    """Return where all but the outermost values (N, axes) lie, shape (axes, 2)."""
    known = values[np.isfinite(values).all(axis=1)]
    return np.quantile(known, [0.02, 0.98], axis=0).T if len(known) else np.full((values.shape[1], 2), np.nan)


def density(count: npt.ArrayLike, edges: Array) -> Array:
    """Return the density of counts (or masses) in bins, shape (bins,): its integral is 1, or 0 where all are 0."""
    masses = np.asarray(count, dtype=np.float64)
    return masses / max(float(masses.sum()), np.finfo(float).tiny) / np.diff(edges)


@dataclass(frozen=True)
class Scene:
    """A run with all that is needed to draw it: the scenario and the tree's groups, populations by their name."""

    scenario: Scenario
    populations: dict[str, xr.Dataset]
    posterior: xr.Dataset
    comparison: xr.Dataset

    @classmethod
    def of(cls, tree: xr.DataTree) -> Scene:
        """Read a run's tree. Raises InputError where a group is missing or the scenario is not valid."""
        for group in ("populations", "posterior", "comparison"):
            if group not in tree.children:
                raise InputError(f"the result has no group '{group}'; found: {', '.join(tree.children) or 'none'}")
        scenario = loads(tree.attrs["scenario"], tree.attrs["scenario_file"])
        return cls(
            scenario,
            # In the scenario's order: a store does not keep that of its groups, and colours follow it.
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
    def arms(self) -> tuple[str, ...]:
        """The strata with a position along them."""
        return tuple(map(str, self.posterior.arm.values))

    @functools.cached_property
    def strata(self) -> tuple[str, ...]:
        """The labels to show: the strata, `elsewhere`, and `diverged` where any particle did."""
        labels = map(str, self.posterior.stratum.values)
        return tuple(label for label in labels if label != DIVERGED or any(map(self.diverged, self.populations)))

    def diverged(self, name: str) -> int:
        """Return how many of all particles of a population have diverged at the last time."""
        return int(self.populations[name]["count"].sel(stratum=DIVERGED).values[-1])

    def positions(self, name: str, frame: int) -> Array:
        """Return the kept positions of a population at a recorded time, shape (N, D); nan where diverged."""
        points: Array = self.populations[name].position.values[frame].astype(np.float64)
        points[diverged(self.scenario.prior, points)] = np.nan
        return points

    def occupancy(self, name: str, bound: str = "estimate") -> Array:
        """Return the share of a population in each label of `strata` over time, shape (T, labels).

        `bound` may also be "low" or "high": the ends of its interval.
        """
        return self._occupancies[name, bound]

    @functools.cached_property
    def _occupancies(self) -> dict[tuple[str, str], Array]:
        # All at once: panels ask often, and to find one by its names takes longer than to draw it.
        shown = self.comparison.occupancy.sel(stratum=list(self.strata))
        shown = shown.transpose("population", "bound", "time", "stratum")
        names = itertools.product(map(str, shown.population.values), map(str, shown.bound.values))
        return dict(zip(names, shown.values.reshape(-1, *shown.shape[2:]), strict=True))

    @functools.cached_property
    def axes(self) -> tuple[Quantity, ...]:
        """What is drawn across and, unless there is a single parameter, up: the scenario's view, or parameters."""
        names = self.scenario.prior.names
        return self.scenario.view or tuple(Quantity(n, symbol(n), names) for n in names[:2])

    @property
    def shows_loss(self) -> bool:
        """Whether the axes are parameters, and so few that the loss can be drawn over them."""
        return self.scenario.view is None and len(self.scenario.prior.names) <= _DRAWN_PARAMETERS

    def seen(self, points: Array) -> Array:
        """Return where points (N, D) are drawn, shape (N, axes)."""
        with np.errstate(all="ignore"):
            return np.stack([quantity(points) for quantity in self.axes], axis=1)

    @functools.cached_property
    def view(self) -> Array:
        """What the axes show, shape (axes, 2): the box, or where posterior and particles are for other axes."""
        if self.shows_loss:
            return self.box[: len(self.axes)]
        points = [self.positions(name, frame) for name in self.populations for frame in (0, -1)]
        groups = [self.seen(group) for group in (self.posterior.draws.values, *points)]
        ends = np.array([_reach(group) for group in groups])
        low, high = np.nanmin(ends[:, :, 0], axis=0), np.nanmax(ends[:, :, 1], axis=0)
        # The start, or a population that is spread wide, must not make the posterior a dot.
        width = np.maximum(np.diff(ends[0], axis=1)[:, 0], 1e-9)
        low, high = np.maximum(low, ends[0, :, 0] - width), np.minimum(high, ends[0, :, 1] + width)
        return np.stack([low - 0.05 * (high - low), high + 0.05 * (high - low)], axis=1)

    @functools.cached_property
    def box(self) -> Array:
        """The parameters' box, shape (D, 2): the prior's, and up to half its width more where particles are."""
        prior = self.scenario.prior
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
        """Return the share of a population's kept, finite positions at the last time that the view leaves out."""
        points = self.seen(self.positions(name, -1))
        points = points[np.isfinite(points).all(axis=1)]
        out = (points < self.view[:, 0]) | (points > self.view[:, 1])
        return float(out.any(axis=1).mean()) if len(points) else 0.0

    def caption(self, name: str, width: int = 50, *, view: bool = True) -> str:
        """Return a population's name, cut to `width` characters; how many diverged; if `view`, what is out of it."""
        gone, outside = self.diverged(name), self.outside(name) if view else 0.0
        notes = [f"{gone:,} diverged"] * bool(gone) + [f"{outside:.0%} out of view"] * (outside >= 0.005)
        return shortened(name, width) + (f" ({', '.join(notes)})" if notes else "")

    @functools.cached_property
    def _drawn(self) -> tuple[Loss, str]:
        """The loss whose contours are drawn: the population's where many samples do not reduce to moments."""
        loss = self.scenario.loss
        if loss.samples is None:
            return loss, "K"
        is_cheap = loss.is_affine or loss.pieces is not None or loss.samples <= 5000
        return (loss, "K_n") if is_cheap else (self.scenario.population_loss, "K")

    @property
    def excess_name(self) -> str:
        """What `excess` returns, in symbols."""
        return self._drawn[1]

    def excess(self, points: Array) -> Array:
        """Return the excess loss that is drawn at points (N, D), shape (N,); nan where it has no value."""
        with np.errstate(all="ignore"):
            values = self._drawn[0].excess(points)
        return np.where(np.isfinite(values), values, np.nan)

    def field(self) -> tuple[Array, Array, Array]:
        """Return x (G,), y (G,) and the excess loss there (G, G), rows along y; the least over a third parameter."""
        loss = self._drawn[0]
        depth = 25 if len(self.box) == 3 else 1
        cost = (10 if loss.pieces else 1 if loss.is_affine else len(loss.weights)) * depth
        side = int(np.clip(math.sqrt(_EVALUATIONS / cost), 41, 161))
        x, y = (np.linspace(low, high, side) for low, high in self.box[:2])
        plane = np.stack([axis.ravel() for axis in np.meshgrid(x, y)], axis=1)
        if len(self.box) == 2:
            return x, y, self.excess(plane).reshape(side, side)
        least = np.full(len(plane), np.nan)
        for third in np.linspace(self.box[2, 0], self.box[2, 1], depth):
            least = np.fmin(least, self.excess(np.column_stack([plane, np.full(len(plane), third)])))
        return x, y, least.reshape(side, side)

    def outline(self, k: int) -> Array:
        """Return many points of stratum k within the box, shape (M, D)."""
        ends = [(float(low), float(high)) for low, high in self.box]
        flat = Prior(self.scenario.prior.names, tuple(Distribution("uniform", (a, b), a, b) for a, b in ends))
        return self.scenario.zero_set.sample(flat, k, _OUTLINE_POINTS)

    def haze(self, side: int) -> tuple[Array, Array, Array]:
        """Return edges across and up, and the share of the posterior's draws in each cell (side, side), rows up."""
        draws = self.seen(self.posterior.draws.values)
        draws = draws[np.isfinite(draws).all(axis=1)]
        edges = [np.linspace(low, high, side + 1) for low, high in self.view]
        count = np.histogram2d(draws[:, 0], draws[:, 1], edges)[0].T
        return edges[0], edges[1], count / max(len(draws), 1)

    def posterior_bins(self, edges: Array) -> Array:
        """Return the posterior density of a single parameter, its mean in each bin, shape (bins,)."""
        fine = np.linspace(edges[:-1], edges[1:], 26, axis=1)
        middle = ((fine[:, :-1] + fine[:, 1:]) / 2).reshape(-1, 1)
        with np.errstate(all="ignore"):
            excess = self.scenario.loss.excess(middle)
        exponent = self.scenario.prior.log_density(middle) - float(self.posterior.attrs["nbeta"]) * excess
        exponent = np.where(np.isnan(exponent), -np.inf, exponent)
        return density(np.exp(exponent - exponent.max()).reshape(len(edges) - 1, -1).sum(axis=1), edges)

    def along(self, arm: str) -> str:
        """Return the position along an arm, as an expression in the parameters."""
        return str(next(stratum.along for stratum in self.scenario.zero_set.strata if stratum.name == arm))
