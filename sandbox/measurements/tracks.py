"""Tracks: the recorded positions of a population over frames, for measurements of its motion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.dynamics.rules.base import Rule
from sandbox.dynamics.stability.edge import edge
from sandbox.dynamics.stability.step import NotLinearError
from sandbox.expressions.parsing import symbol
from sandbox.expressions.quantity import QUANTILES, Quantity
from sandbox.model.prior import Prior
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError, nearest

POSTERIOR = "posterior"
"""The name of the posterior samples among the tracks of populations."""

_EVEN = 1
"""The number of steps by which equal gaps between frames may differ: frames are at whole steps."""


@dataclass(frozen=True)
class Track:
    """Positions (T, P, D) of particles at `times` (T,), in steps.

    Posterior samples are a track without time: one frame, `times` None. `rate` (T,) is the step size of the next step,
    times `nbeta` if that is given. `edge` is the product of rate and curvature beyond which the rule diverges on a
    quadratic. `rate` and `edge` are None if not known. `nbeta` belongs to the posterior that the particles follow, or
    are samples of; it is None if they follow the loss alone, without the prior.
    """

    positions: Array
    times: Array | None = None
    rate: Array | None = None
    edge: float | None = None
    nbeta: float | None = None

    @classmethod
    def recorded(cls, data: xr.Dataset, rule: Rule, nbeta: float) -> Track:
        """Return the track in a population's record `data`, from first to last step; `nbeta` is the scenario's."""
        times, positions, moves = data["time"].to_numpy(), data["position"].to_numpy(), rule.moves_per_step
        steps = int(times[-1])
        # No step follows the last frame: it gets the rate of the step before it.
        rates = rule.rates(moves * np.minimum(times, steps - 1), moves * steps)
        followed = rule.nbeta_or(nbeta) if rule.follows == "posterior" else None
        rates = rates if followed is None else followed * rates
        try:
            limit: float | None = edge(rule, moves * steps)
        except NotLinearError:
            limit = None
        return cls(positions.astype(np.float64), times.astype(np.float64), rates, limit, followed)

    @property
    def last(self) -> Array:
        """The last positions, (P, D)."""
        last: Array = self.positions[-1]
        return last

    def first_particles(self, count: int) -> Track:
        """Return the track of the first `count` particles, or of all if there are fewer; the particles are alike."""
        return replace(self, positions=self.positions[:, :count])

    def gone(self, prior: Prior) -> npt.NDArray[np.bool_]:
        """Return whether each particle has diverged at each frame, shape (T, P)."""
        frames, particles, size = self.positions.shape
        return prior.diverged(self.positions.reshape(-1, size)).reshape(frames, particles)

    def lasting(self, prior: Prior) -> Track:
        """Return the track without the particles that have diverged in any frame."""
        kept = ~self.gone(prior).any(axis=0)
        return replace(self, positions=self.positions[:, kept])

    def frames(self, chosen: npt.NDArray[np.intp]) -> Track:
        """Return the track at the frames with the indices `chosen`."""
        return replace(
            self,
            positions=self.positions[chosen],
            times=None if self.times is None else self.times[chosen],
            rate=None if self.rate is None else self.rate[chosen],
        )

    def second_half(self) -> Track:
        """Return the track from half its time on: most of the start is forgotten then. Posterior samples stay as is."""
        if self.times is None:
            return self
        return self.frames(np.flatnonzero(self.times >= (self.times[0] + self.times[-1]) / 2))

    def spread_frames(self, count: int) -> Track:
        """Return the track at up to `count` of its frames, evenly chosen, with the first and the last."""
        return self.frames(np.unique(np.linspace(0, len(self.positions) - 1, count).round().astype(np.intp)))

    def gap(self) -> float:
        """Return the mean number of steps between frames. Raises InputError if the gaps are not equal."""
        gaps = np.diff(self.times) if self.times is not None else np.zeros(0)
        if not len(gaps) or np.ptp(gaps) > _EVEN:
            found = f"gaps from {gaps.min():g} to {gaps.max():g} steps" if len(gaps) else "no two frames"
            raise InputError(f"this needs frames at even distances; found {found}; allowed is record.spacing: linear")
        return float(gaps.mean())


def left_out(tracks: Mapping[str, Track], prior: Prior) -> str:
    """Return as text how many particles `lasting` removes from each track, after semicolons; empty if it is none."""
    gone = {name: int(track.gone(prior).any(axis=0).sum()) for name, track in tracks.items()}
    return "".join(
        f"; {name}: without {count} of {tracks[name].positions.shape[1]} particles, which diverged"
        for name, count in gone.items()
        if count
    )


def along(track: Track, quantity: Quantity) -> Array:
    """Return the value of a quantity along a track, shape (T, P)."""
    frames, particles, size = track.positions.shape
    with np.errstate(all="ignore"):
        return quantity(track.positions.reshape(-1, size)).reshape(frames, particles)


def named(chosen: Sequence[str], derived: Sequence[Quantity], parameters: Sequence[str]) -> list[Quantity]:
    """Return the derived quantities and parameters of these names. Raises InputError for an unknown name."""
    known = {name: Quantity(name, symbol(name), tuple(parameters)) for name in parameters}
    known |= {quantity.name: quantity for quantity in derived}
    for name in chosen:
        if name not in known:
            raise InputError(f"unknown '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return [known[name] for name in chosen]


def quantiles(values: Array) -> Array:
    """Return QUANTILES of the finite values over the last axis, shape (..., quantiles); nan if no value is finite."""
    rows = values.reshape(-1, values.shape[-1])
    found = np.full((len(rows), len(QUANTILES)), np.nan)
    for row, here in zip(found, rows, strict=True):
        known = here[np.isfinite(here)]
        if len(known):
            row[:] = np.quantile(known, QUANTILES)
    return found.reshape(*values.shape[:-1], len(QUANTILES))
