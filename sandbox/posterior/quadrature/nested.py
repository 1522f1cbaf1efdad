"""Integrals over boxes of one to three dimensions as lines of lines, each adaptive (Fubini's theorem).

The zero set W0 consists of curves and surfaces, and its tubes are n^(-1/2) wide. To cover a curved tube takes n^(1/2)
boxes in the plane and n in space. On a line the tube is an interval, found in a few steps. The line's integral is a
smooth function of the line's position, except at isolated positions (a tangent line, a crossing), near which the next
outer line is refined in the same way. So the cost is a power of log n for every smooth W0. A jump (the edge of a level
set or of a stratum's tube) is a point on a line, found by bracketing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sandbox.posterior.quadrature.integrand import Integrand
from sandbox.posterior.quadrature.lines import (
    Intervals,
    Lines,
    Rule,
    Sample,
    children,
    collect,
    halves,
    join,
    least_of_neighbours,
    profiles,
    stratum_lines,
    take,
)
from sandbox.posterior.quadrature.panel import (
    GAUSS,
    NODES,
    ORDER,
    PLACES,
    Bools,
    Ints,
    Reach,
    at_ends,
    group_log_sum,
    level_bracket,
    log_rule,
    log_rule_error,
    nodes_in,
    reach,
    safe_log,
    stratum_bracket,
    tails,
)
from sandbox.tools.arrays import Array

_MARGIN = 45.0  # while the evidence is unknown, guides this many nats above the lowest one met do not matter
_PANEL_SHARE = 0.05  # share of a line's tolerance that one panel may use: a line has some tens of panels
_CHUNK = {1: 1024, 2: 512}  # lines integrated together, by the number of dimensions left: bounds the memory
_FIRST_PANELS = {1: 64, 2: 12, 3: 6}  # per axis, by dimension; their ten nodes each are finer than an energy's features
_SEEN = 3.0  # a panel is trusted if its lowest node is at most this many nats above the bound
_NARROWEST = 1e-13  # width of a panel, over the window's, below which its nodes coincide in float64
_SMOOTH = 1e-3  # roughness below which values are accurate enough to be used
_STALLED = 1e-5  # a smaller roughness that two splits have not halved is rounding error of the energy
_INNER_SHARE = 0.1  # inner over outer panel's share: errors of inner lines are noise to the outer rule
_END_SAFETY = 4.0  # the polynomials of two panels may differ by this times the roughness at their common end


@dataclass
class Fubini:
    """An adaptive integrator over the box `window` (D, 2), axis 0 outermost.

    `breaks` and `cuts` hold, per axis, sorted coordinates at which panels are split: at breaks always, at cuts unless
    a good panel carries no mass. `strata` maps points (N, D) to integers 0..channels - 1. `log_evidence` is that of a
    coarser pass; with it, errors are compared with the whole integral, not only with the line's. `spent` counts panels
    of the innermost axis; once there are `max_panels`, every panel is accepted with the error it has. `lowest` is the
    least guide met so far, `log_prior_peak` the log of a bound of the prior's density (for level sets).
    """

    integrand: Integrand
    window: Array
    breaks: Sequence[Array]
    cuts: Sequence[Array]
    tolerance: float
    share_tolerance: float
    max_panels: int
    strata: Callable[[Array], Ints] | None = None
    channels: int = 0
    log_evidence: float = -np.inf
    log_prior_peak: float = 0.0
    lowest: float = np.inf
    spent: int = 0

    def __post_init__(self) -> None:
        self.dimension = len(self.window)
        self.kept: dict[float, tuple[float, Array, Array]] = {}
        self.log_volume = np.concatenate([[0.0], np.cumsum(np.log(np.diff(self.window, axis=1)[:, 0]))])

    @property
    def exhausted(self) -> bool:
        """Whether all panels allowed are used up."""
        return self.spent >= self.max_panels

    @property
    def ceiling(self) -> float:
        """The guide above which points do not matter: together they hold at most 1e-3 of the tolerated mass."""
        if self.integrand.level is not None:
            return self.integrand.level
        if not np.isfinite(self.log_evidence):
            return self.lowest + _MARGIN
        return float(self.log_volume[-1] - self.log_evidence - np.log(1e-3 * self.tolerance))

    def integrate(self, prefix: Array, *, profiled: bool = True) -> Lines:
        """Return the integrals along axis d and all axes inside it, for M outer coordinates `prefix` (M, d).

        Only if `profiled`, the lines have bins, which the next outer line uses.
        """
        axis, count = prefix.shape[1], len(prefix)
        floor = max(float(self.log_evidence - self.log_volume[axis]), self._negligible(axis))
        queue = self._start(axis, count)
        total, low, bins = np.full(count, -np.inf), np.full(count, np.inf), np.empty((count, 0))
        done: list[tuple[Intervals, Sample]] = []
        while queue.owner.size:
            sample, guides = self._sample(prefix, queue)
            if profiled and not bins.size:
                bins = profiles(guides, count)
            smooth = sample.rough[:, 0] < _SMOOTH
            hoped = group_log_sum(queue.owner[smooth], sample.value[smooth], count)
            matters = np.maximum(np.logaddexp(total, hoped), floor)
            good, cut = self._judge(axis, queue, sample, matters[queue.owner])
            final = good | ~sample.reach.alive
            np.minimum.at(low, queue.owner[final], sample.reach.low[final])
            total = np.logaddexp(total, group_log_sum(queue.owner[good], sample.value[good], count))
            done.append((take(queue, good), take(sample, good)))
            queue = children(take(queue, ~final), take(sample, ~final), cut[~final])
            if not queue.owner.size:
                at, sample = join([a for a, _ in done]), join([s for _, s in done])
                queue = self._reopen(axis, at, sample, np.maximum(total, floor), done)
        return collect(at, sample, low, bins)

    def _start(self, axis: int, count: int) -> Intervals:
        lo, hi = self.window[axis]
        kinks = self.breaks[axis]
        grid = np.linspace(lo, hi, _FIRST_PANELS[self.dimension] + 1)
        edges = np.unique(np.concatenate([grid, kinks[(kinks > lo) & (kinks < hi)]]))
        owner = np.repeat(np.arange(count), len(edges) - 1)
        return Intervals(owner, np.tile(edges[:-1], count), np.tile(edges[1:], count), np.full((len(owner), 2), np.inf))

    def _sample(self, prefix: Array, at: Intervals) -> tuple[Sample, Array]:
        """Return the sample of P intervals, and the guides (P, ORDER, ...) at their nodes, one for each inner part.
        Values come from the integrand on the innermost axis, and from the inner lines at the nodes on the others."""
        axis, shape = prefix.shape[1], (len(at.owner), ORDER)
        points = np.column_stack([np.repeat(prefix[at.owner], ORDER, axis=0), nodes_in(at.lo, at.hi).ravel()])
        half = np.log(0.5 * (at.hi - at.lo))
        inner = self._inner(points) if axis < self.dimension - 1 else None
        if inner is None:
            self.spent += shape[0]
            density, guide = (a.reshape(shape) for a in self.integrand(points))
            inherited, guides = np.full((shape[0], 2), -np.inf), guide
        else:
            density, guide = inner.value.reshape(shape), inner.low.reshape(shape)
            inherited = half[:, None] + log_rule(inner.error.reshape(*shape, 2))
            guides = inner.bins.reshape(*shape, *inner.bins.shape[1:])
        self.lowest = min(self.lowest, float(guide.min()))
        top = density.max(axis=1)
        scaled = np.exp(density - np.where(np.isfinite(top), top, 0.0)[:, None])
        tail = tails(scaled)
        value, error = half + log_rule(density), np.full((shape[0], 2), -np.inf)
        error[:, 0] = log_rule_error(top + half, tail)
        rough = np.column_stack([tail[:, 0], np.zeros(shape[0])])
        parts, shares = np.zeros((*shape, 0)), np.zeros((shape[0], self.channels))
        bracket = np.full((shape[0], 2), np.nan)
        if inner is None and self.integrand.level is not None:
            bracket = level_bracket(guide, self.integrand.level)
            crossed = ~np.isnan(bracket[:, 0])
            error[crossed, 0] = (half + np.log(2.0) + self.log_prior_peak)[crossed]
        if inner is None and self.strata is not None:
            shares, mixed, bracket = self._stratum_points(prefix, at, scaled, rough[:, 0], bracket)
            error[mixed, 1] = value[mixed]
        elif inner is not None and self.channels:
            parts = scaled[:, :, None] * inner.shares.reshape(*shape, self.channels)
            shares, worst, bracket = stratum_lines(parts)
            rough[:, 1] = worst[:, 0]
            error[:, 1] = log_rule_error(top + half, worst)
        ends = at_ends(np.concatenate([scaled[:, :, None], parts], axis=2))
        found = reach(guide, self.ceiling)
        unseen = self._log_unseen(axis, guide.min(axis=1), found.bound)
        if inner is not None:
            found, passed_by = self._survey(axis, guides, found)
            unseen = np.maximum(unseen, passed_by)
        unseen += half + np.log(2.0)
        return Sample(value, error, inherited, unseen, top, rough, ends, found, shares, bracket), guides

    def _inner(self, points: Array) -> Lines:
        """Return the integrals of the inner lines at the points (N, d), without their panels, computed in chunks."""
        size = _CHUNK[self.dimension - points.shape[1]]
        parts = []
        for start in range(0, len(points), size):
            lines = self.integrate(points[start : start + size])
            if points.shape[1] == 1:
                self._keep(points[start : start + size, 0], lines)
            parts.append(lines)
        kept = ("value", "error", "low", "bins", "shares")
        value, error, low, bins, shares = (np.concatenate([getattr(part, k) for part in parts]) for k in kept)
        none = np.empty(0)
        return Lines(value, error, low, bins, shares, np.empty(0, dtype=np.int64), none, none)

    def _keep(self, at: Array, lines: Lines) -> None:
        order = np.argsort(lines.owner, kind="stable")
        ends = np.cumsum(np.bincount(lines.owner, minlength=len(at)))[:-1]
        pieces = zip(np.split(lines.lo[order], ends), np.split(lines.hi[order], ends), strict=True)
        for key, value, (lo, hi) in zip(at.tolist(), lines.value.tolist(), pieces, strict=True):
            self.kept[key] = (value, lo, hi)

    def rule(self, prefix: Array) -> Rule:
        """Return the final rule of the lines at `prefix` (M, d); for d = 1 from memory, after they were integrated."""
        if prefix.shape[1] != 1:
            lines = self.integrate(prefix, profiled=False)
            return Rule(lines.value, lines.owner, lines.lo, lines.hi)
        values, lo, hi = zip(*(self.kept[key] for key in prefix[:, 0].tolist()), strict=True)
        owner = np.repeat(np.arange(len(lo)), [len(piece) for piece in lo])
        return Rule(np.array(values), owner, np.concatenate(lo), np.concatenate(hi))

    def _survey(self, axis: int, guides: Array, found: Reach) -> tuple[Reach, Array]:
        """Return the reach over all inner parts, and the log (P,) of their unseen density, from guides (P, ORDER, ...).

        The least guide of a line is not enough: a valley that all lines cross hides an isolated minimum beside it,
        because the least guide of every line is that of the valley. A part is unseen if no node shows it or a
        neighbour of it (a valley may cross the corner of a part between two nodes).
        """
        shape = (len(guides), *guides.shape[2:])
        rows = np.moveaxis(guides.reshape(shape[0], ORDER, -1), 2, 1).reshape(-1, ORDER)
        each = reach(rows, self.ceiling)
        shown = rows.min(axis=1).reshape(shape)
        for inner in range(1, len(shape)):
            shown = least_of_neighbours(shown, inner)
        unseen = self._log_unseen(axis, shown.ravel(), np.maximum(each.bound, self.lowest)).reshape(shape[0], -1)
        alive = each.alive.reshape(shape[0], -1)
        first = np.where(alive, each.first.reshape(shape[0], -1), 1.0).min(axis=1)
        last = np.where(alive, each.last.reshape(shape[0], -1), -1.0).max(axis=1)
        first = np.minimum(first, np.where(found.alive, found.first, 1.0))
        last = np.maximum(last, np.where(found.alive, found.last, -1.0))
        anywhere = Reach(found.low, found.bound, found.alive | alive.any(axis=1), first, last)
        return anywhere, unseen.max(axis=1) - np.log(unseen.shape[1])

    def _log_unseen(self, axis: int, shown: Array, bound: Array) -> Array:
        """Return the log of the mean density that a panel may have without any node showing it (-inf: trusted)."""
        inside = self.log_volume[-1] - self.log_volume[axis + 1]
        level = self.integrand.level
        if level is None:
            return np.where((shown <= bound + _SEEN) | (bound > self.ceiling), -np.inf, inside - bound)
        return np.where((shown <= level) | (bound > level), -np.inf, inside + self.log_prior_peak)

    def _stratum_points(
        self, prefix: Array, at: Intervals, scaled: Array, rough: Array, bracket: Array
    ) -> tuple[Array, Bools, Array]:
        """Return shares (P, C), whether the stratum is doubtful (P,), and brackets (P, 2), for innermost panels.

        Panels too rough to be accepted are skipped and count as doubtful.
        """
        look = rough < _SMOOTH
        shares, mixed, bracket = np.zeros((len(rough), self.channels)), np.ones(len(rough), dtype=bool), bracket.copy()
        if self.strata is None or not look.any():
            return shares, mixed, bracket
        places = nodes_in(at.lo[look], at.hi[look], PLACES)
        points = np.column_stack([np.repeat(prefix[at.owner[look]], len(PLACES), axis=0), places.ravel()])
        marks = self.strata(points).reshape(places.shape)
        mass = scaled[look] * GAUSS
        mass = mass / np.maximum(mass.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        flat = (np.arange(len(marks))[:, None] * self.channels + marks[:, 1:-1]).ravel()
        shares[look] = np.bincount(flat, mass.ravel(), len(marks) * self.channels).reshape(-1, self.channels)
        found = stratum_bracket(marks)
        mixed[look] = ~np.isnan(found[:, 0])
        bracket[look] = np.where(np.isnan(bracket[look]), found, bracket[look])
        return shares, mixed, bracket

    def _judge(self, axis: int, at: Intervals, sample: Sample, matters: Array) -> tuple[Bools, Array]:
        """Return whether each panel is good (P,), and the cut at which to split it (P,), nan if there is none."""
        allowed = self._allowed(axis) + matters[:, None]
        stalled = (sample.rough[:, 0] > 0.5 * at.stale[:, 1]) & (sample.rough[:, 0] < _STALLED)
        small = sample.error <= allowed
        good = (small[:, 0] | stalled) & small[:, 1] & (sample.unseen <= allowed[:, 0])
        cuts, cut = self.cuts[axis], np.full(len(good), np.nan)
        after, before = np.searchsorted(cuts, at.lo, side="right"), np.searchsorted(cuts, at.hi, side="left")
        inside = after < before
        cut[inside] = cuts[(after[inside] + before[inside]) // 2]
        good &= ~inside | (sample.value <= np.log(0.01 * self.share_tolerance) + matters)
        good |= (at.hi - at.lo <= self._narrowest(axis)) | self.exhausted
        return good & sample.reach.alive, cut

    def _negligible(self, axis: int) -> float:
        """Return the log of the integral, over `axis` and all axes inside it, of the density exp(-ceiling)."""
        return (
            -np.inf
            if self.integrand.level is not None
            else float(np.diff(self.log_volume[[axis, -1]])[0]) - self.ceiling
        )

    def _allowed(self, axis: int) -> Array:
        """Return the logs of the errors (2,) that one panel may have, relative to the mass that matters."""
        share = np.array([_PANEL_SHARE, _PANEL_SHARE]) * [_INNER_SHARE**axis, 1.0]
        return np.asarray(np.log(share * [self.tolerance, self.share_tolerance]))

    def _narrowest(self, axis: int) -> float:
        return _NARROWEST * float(self.window[axis, 1] - self.window[axis, 0])

    def _reopen(
        self, axis: int, at: Intervals, sample: Sample, matters: Array, done: list[tuple[Intervals, Sample]]
    ) -> Intervals:
        """Return the halves of panels whose polynomials do not continue the adjacent ones; remove these from `done`.

        A panel has no values between its last node and its end. If a line becomes tangent to W0 just there, the
        integral changes within a width of n^(-1/2), on one side of the end or the other; then the polynomials of the
        two panels disagree at their common end. The difference, over the stretch without nodes, is an error. A kink of
        the energy near the end has the same effect. The ends of level sets have been found already.
        """
        if axis == self.dimension - 1 and self.integrand.level is not None:
            return take(at, np.zeros(len(at.lo), dtype=bool))
        known = np.append(self.window[axis], self.breaks[axis])
        error = _disagreement(at, sample, known, self._narrowest(axis), self._negligible(axis + 1) + _SEEN)
        wide = at.hi - at.lo > self._narrowest(axis)
        again = wide & (error > self._allowed(axis) + matters[at.owner, None]).any(axis=1)
        again = np.zeros_like(wide) if self.exhausted else np.asarray(again)
        if not again.any():
            sample.error[:] = np.logaddexp(sample.error, error)
        done[:] = [(take(at, ~again), take(sample, ~again))]
        return halves(take(at, again))


def _disagreement(at: Intervals, sample: Sample, known: Array, gap: float, negligible: float) -> Array:
    """Return the logs of the errors (P, 2) of panels that do not continue the ones within `gap` of their ends.

    At the `known` coordinates a jump is no error. At an end without a neighbour the log density must be `negligible`.
    """
    order = np.lexsort((at.lo, at.owner))
    owner, lo, hi = at.owner[order], at.lo[order], at.hi[order]
    top, rough, ends = sample.top[order], sample.rough[order], sample.ends[order]
    meet = (owner[1:] == owner[:-1]) & (np.abs(hi[:-1] - lo[1:]) <= gap)
    total = np.full((len(owner), 2), -np.inf)
    for side, met, step, edge in ((0, np.insert(meet, 0, False), 1, lo), (1, np.append(meet, False), -1, hi)):
        other = np.where(met, np.roll(top, step), -np.inf)
        most = np.maximum(top, other)
        most = np.where(np.isfinite(most), most, 0.0)
        mine, theirs = np.exp(top - most)[:, None], np.exp(other - most)[:, None]
        jumps = np.abs(mine * ends[:, :, side] - theirs * np.roll(ends[:, :, 1 - side], step, axis=0))
        jump = np.column_stack([jumps[:, 0], jumps[:, 1:].max(axis=1, initial=0.0)])
        blind = _END_SAFETY * (mine * rough + theirs * np.roll(rough, step, axis=0))
        expected = np.asarray((np.abs(edge[:, None] - known) <= gap).any(axis=1))[:, None]
        differ = np.where(expected, -np.inf, most[:, None] + safe_log(np.maximum(jump - blind, 0.0)))
        faded = ~met[:, None] & (differ <= negligible)
        total = np.logaddexp(total, np.where(faded, -np.inf, differ))
    error = np.empty_like(total)
    error[order] = total + np.log(0.5 * (1.0 - NODES[-1]) * (hi - lo))[:, None]
    return error
