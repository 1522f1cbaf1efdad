"""Integrals over boxes of one to three dimensions as lines of lines, each adaptive (Fubini's theorem).

The true parameters W0 are curves and surfaces, their tubes n^(-1/2) wide. Boxes that follow a curved tube number
n^(1/2) in the plane and n in space. On a line the tube is an interval, found in a few steps; the line's integral is a
smooth function of where the line stands, except at isolated places (a tangent line, a crossing), to which the next
outer line refines in the same way. So the cost is a power of log n for every smooth W0, and a jump (the edge of a
level set, of the tube of a stratum) is a point on a line, found by bracketing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sandbox.posterior.integrand import Integrand
from sandbox.posterior.lines import (
    Intervals,
    Lines,
    Rule,
    Sample,
    children,
    collect,
    halves,
    join,
    label_lines,
    least_of_neighbours,
    profiles,
    take,
)
from sandbox.posterior.panel import (
    GAUSS,
    NODES,
    ORDER,
    PLACES,
    Bools,
    Floats,
    Ints,
    Reach,
    at_ends,
    group_log_sum,
    label_bracket,
    level_bracket,
    log_rule,
    log_rule_error,
    nodes_in,
    reach,
    safe_log,
    tails,
)

_MARGIN = 45.0  # nats above the lowest guide met where nothing can matter, as long as the evidence is unknown
_PANEL_SHARE = 0.05  # of a line's tolerance that one panel may use: the panels of a line number some tens
_CHUNK = {1: 1024, 2: 512}  # lines taken together, by the dimensions still to integrate: bounds the memory
_FIRST_PANELS = {1: 64, 2: 12, 3: 6}  # per axis; with ten nodes each, finer than the features of an energy
_SEEN = 3.0  # nats from the lowest node down to the bound within which a panel's values can be trusted
_NARROWEST = 1e-13  # of the window: below it the nodes of a panel coincide in float64
_SMOOTH = 1e-3  # roughness below which values are near enough to the truth to reckon with
_STALLED = 1e-5  # roughness that, when splitting twice has not halved it, is rounding error of the energy
_INNER_SHARE = 0.1  # of an outer panel's share for an inner one: errors of inner lines are noise to the outer rule
_END_SAFETY = 4.0  # times the roughness that the polynomials of two panels may disagree by where they meet


@dataclass
class Fubini:
    """Integrates over the box `window` (D, 2), axis 0 outermost.

    `breaks` and `cuts` hold sorted coordinates per axis where panels begin: at the former always, at the latter once
    a panel is good and carries mass. `labels` maps points (N, D) to integers 0..channels - 1. `log_evidence` is what
    a coarser pass found; it turns "matters to this line" into "matters to the whole". `spent` counts innermost
    panels; from `max_panels` on everything is accepted as it is, with the error it has. `lowest` is the least guide
    met so far, `log_prior_peak` a bound of the prior's density (for level sets).
    """

    integrand: Integrand
    window: Floats
    breaks: Sequence[Floats]
    cuts: Sequence[Floats]
    tolerance: float
    share_tolerance: float
    max_panels: int
    labels: Callable[[Floats], Ints] | None = None
    channels: int = 0
    log_evidence: float = -np.inf
    log_prior_peak: float = 0.0
    lowest: float = np.inf
    spent: int = 0

    def __post_init__(self) -> None:
        self.dimension = len(self.window)
        self.kept: dict[float, tuple[float, Floats, Floats]] = {}
        self.log_volume = np.concatenate([[0.0], np.cumsum(np.log(np.diff(self.window, axis=1)[:, 0]))])

    @property
    def exhausted(self) -> bool:
        """Whether the panels allowed are used up."""
        return self.spent >= self.max_panels

    @property
    def ceiling(self) -> float:
        """The guide above which nothing matters: all that lies there holds 1e-3 of the tolerated mass together."""
        if self.integrand.level is not None:
            return self.integrand.level
        if not np.isfinite(self.log_evidence):
            return self.lowest + _MARGIN
        return float(self.log_volume[-1] - self.log_evidence - np.log(1e-3 * self.tolerance))

    def integrate(self, prefix: Floats, *, profiled: bool = True) -> Lines:
        """Integrate along axis d and all axes inside it, for each of the M given outer coordinates (M, d).

        Unless `profiled`, the lines come without their bins, which only a line further out has a use for.
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

    def _sample(self, prefix: Floats, at: Intervals) -> tuple[Sample, Floats]:
        """Evaluate density, guides and labels at the nodes: on the innermost axis from the integrand, on the others
        from the lines that stand on the nodes. Also return the guides (P, ORDER, ...), one for each inner part."""
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
        if inner is None and self.labels is not None:
            shares, mixed, bracket = self._label_points(prefix, at, scaled, rough[:, 0], bracket)
            error[mixed, 1] = value[mixed]
        elif inner is not None and self.channels:
            parts = scaled[:, :, None] * inner.shares.reshape(*shape, self.channels)
            shares, worst, bracket = label_lines(parts)
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

    def _inner(self, points: Floats) -> Lines:
        """Integrate the lines that stand on the points (N, d), some at a time; their panels are not kept."""
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

    def _keep(self, at: Floats, lines: Lines) -> None:
        order = np.argsort(lines.owner, kind="stable")
        ends = np.cumsum(np.bincount(lines.owner, minlength=len(at)))[:-1]
        pieces = zip(np.split(lines.lo[order], ends), np.split(lines.hi[order], ends), strict=True)
        for key, value, (lo, hi) in zip(at.tolist(), lines.value.tolist(), pieces, strict=True):
            self.kept[key] = (value, lo, hi)

    def rule(self, prefix: Floats) -> Rule:
        """Return the final rule of the lines (M, d), from memory for d = 1 if they have been integrated."""
        if prefix.shape[1] != 1:
            lines = self.integrate(prefix, profiled=False)
            return Rule(lines.value, lines.owner, lines.lo, lines.hi)
        values, lo, hi = zip(*(self.kept[key] for key in prefix[:, 0].tolist()), strict=True)
        owner = np.repeat(np.arange(len(lo)), [len(piece) for piece in lo])
        return Rule(np.array(values), owner, np.concatenate(lo), np.concatenate(hi))

    def _survey(self, axis: int, guides: Floats, found: Reach) -> tuple[Reach, Floats]:
        """Ask the guides of all inner parts (P, ORDER, ...) what the least one alone does not tell.

        A valley that all lines cross hides an isolated minimum beside it: the least guide of every line is that of
        the valley. Return where any part may matter, and what may be unseen (P,) in parts that no node shows, nor
        shows any neighbour of (a valley may cross the corner of a part between two nodes).
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

    def _log_unseen(self, axis: int, shown: Floats, bound: Floats) -> Floats:
        """Return log of the mean density that a panel may hold although none of its nodes shows it (-inf: trusted)."""
        inside = self.log_volume[-1] - self.log_volume[axis + 1]
        level = self.integrand.level
        if level is None:
            return np.where((shown <= bound + _SEEN) | (bound > self.ceiling), -np.inf, inside - bound)
        return np.where((shown <= level) | (bound > level), -np.inf, inside + self.log_prior_peak)

    def _label_points(
        self, prefix: Floats, at: Intervals, scaled: Floats, rough: Floats, bracket: Floats
    ) -> tuple[Floats, Bools, Floats]:
        """Return shares (P, C), whether the label is doubtful (P,), and brackets (P, 2), for innermost panels.

        Panels too rough to be accepted are not worth a look; they count as doubtful.
        """
        look = rough < _SMOOTH
        shares, mixed, bracket = np.zeros((len(rough), self.channels)), np.ones(len(rough), dtype=bool), bracket.copy()
        if self.labels is None or not look.any():
            return shares, mixed, bracket
        places = nodes_in(at.lo[look], at.hi[look], PLACES)
        points = np.column_stack([np.repeat(prefix[at.owner[look]], len(PLACES), axis=0), places.ravel()])
        marks = self.labels(points).reshape(places.shape)
        mass = scaled[look] * GAUSS
        mass = mass / np.maximum(mass.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        flat = (np.arange(len(marks))[:, None] * self.channels + marks[:, 1:-1]).ravel()
        shares[look] = np.bincount(flat, mass.ravel(), len(marks) * self.channels).reshape(-1, self.channels)
        found = label_bracket(marks)
        mixed[look] = ~np.isnan(found[:, 0])
        bracket[look] = np.where(np.isnan(bracket[look]), found, bracket[look])
        return shares, mixed, bracket

    def _judge(self, axis: int, at: Intervals, sample: Sample, matters: Floats) -> tuple[Bools, Floats]:
        """Return which panels are good (P,), and the cut to split each at (P,), nan where there is none."""
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
        """Return log of the integral over `axis` and those inside it of a density that is as small as the ceiling."""
        return (
            -np.inf
            if self.integrand.level is not None
            else float(np.diff(self.log_volume[[axis, -1]])[0]) - self.ceiling
        )

    def _allowed(self, axis: int) -> Floats:
        """Return the logs of the errors (2,) that one panel may have, relative to what matters."""
        share = np.array([_PANEL_SHARE, _PANEL_SHARE]) * [_INNER_SHARE**axis, 1.0]
        return np.asarray(np.log(share * [self.tolerance, self.share_tolerance]))

    def _narrowest(self, axis: int) -> float:
        return _NARROWEST * float(self.window[axis, 1] - self.window[axis, 0])

    def _reopen(
        self, axis: int, at: Intervals, sample: Sample, matters: Floats, done: list[tuple[Intervals, Sample]]
    ) -> Intervals:
        """Return halves of the panels that do not continue the ones they meet, and leave them out of `done`.

        Between its last node and its end a panel sees nothing. A line that becomes tangent to W0 just there changes
        the integral within a width of n^(-1/2), on one side of the end or the other; then the polynomials of the two
        panels disagree at the end they share. What they disagree by, over the stretch without nodes, is an error.
        So they do where a kink of the energy hides there. The ends of level sets have been found already.
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


def _disagreement(at: Intervals, sample: Sample, known: Floats, gap: float, negligible: float) -> Floats:
    """Return logs of the errors (P, 2) of panels that do not continue the ones within `gap` of their ends.

    At the `known` coordinates a jump is in order. Where nothing is met, the log density should be `negligible`.
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
