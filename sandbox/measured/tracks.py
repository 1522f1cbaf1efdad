"""Where particles were: what is left of a population for measurements that look at its motion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.errors import InputError, nearest
from sandbox.expression import symbol
from sandbox.prior import Prior
from sandbox.quantity import Quantity
from sandbox.rules import Rule

Array = npt.NDArray[np.float64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Which quantiles over particles are recorded."""

FAR = 1e6
"""A particle has run away when it is further than this many prior scales from the prior's centre, or not a number."""

_EVEN = 1
"""Steps by which two gaps between frames may differ and count as equal: frames fall on whole steps."""


@dataclass(frozen=True)
class Track:
    """Positions (T, P, D) of particles at `times` (T,), in steps.

    The posterior's draws are a track without time: one frame, `times` None. `rate` (T,) is the step size with which
    the next step follows the loss (times `nbeta`, where that is given), and `edge` its product with the curvature
    beyond which the rule diverges on a quadratic; None where none is known. `nbeta` is that of the posterior which the
    particles follow, or are draws of; None where they follow the loss alone, without the prior.
    """

    positions: Array
    times: Array | None = None
    rate: Array | None = None
    edge: float | None = None
    nbeta: float | None = None

    @classmethod
    def recorded(cls, data: xr.Dataset, rule: Rule, nbeta: float) -> Track:
        """Return the track in a population's record, from the first step to the last; `nbeta` is the scenario's."""
        times, positions, moves = data["time"].to_numpy(), data["position"].to_numpy(), rule.moves_per_step
        steps = int(times[-1])
        # The last frame has no step after it: it gets the rate of the step before.
        rates = rule.rates(moves * np.minimum(times, steps - 1), moves * steps)
        followed = rule.nbeta_or(nbeta) if rule.follows == "posterior" else None
        rates = rates if followed is None else followed * rates
        return cls(positions.astype(np.float64), times.astype(np.float64), rates, rule.edge(), followed)

    @property
    def last(self) -> Array:
        """The last positions, (P, D)."""
        last: Array = self.positions[-1]
        return last

    def first_particles(self, count: int) -> Track:
        """Return the track of at most `count` particles, which are alike."""
        return replace(self, positions=self.positions[:, :count])

    def gone(self, prior: Prior) -> npt.NDArray[np.bool_]:
        """Return which particles have run away at each frame, (T, P)."""
        frames, particles, size = self.positions.shape
        return diverged(prior, self.positions.reshape(-1, size)).reshape(frames, particles)

    def lasting(self, prior: Prior) -> Track:
        """Return the track without the particles that ran away in some frame."""
        kept = ~self.gone(prior).any(axis=0)
        return replace(self, positions=self.positions[:, kept])

    def frames(self, chosen: npt.NDArray[np.intp]) -> Track:
        """Return the track at some of its frames."""
        return replace(
            self,
            positions=self.positions[chosen],
            times=None if self.times is None else self.times[chosen],
            rate=None if self.rate is None else self.rate[chosen],
        )

    def second_half(self) -> Track:
        """Return the track from half its time on, when most of the start is forgotten; draws as they are."""
        if self.times is None:
            return self
        return self.frames(np.flatnonzero(self.times >= (self.times[0] + self.times[-1]) / 2))

    def spread_frames(self, count: int) -> Track:
        """Return the track at up to `count` of its frames, evenly chosen, the first and the last among them."""
        return self.frames(np.unique(np.linspace(0, len(self.positions) - 1, count).round().astype(np.intp)))

    def gap(self) -> float:
        """Return the mean number of steps between frames. Raises InputError where the gaps are not equal."""
        gaps = np.diff(self.times) if self.times is not None else np.zeros(0)
        if not len(gaps) or np.ptp(gaps) > _EVEN:
            found = f"gaps from {gaps.min():g} to {gaps.max():g} steps" if len(gaps) else "no two frames"
            raise InputError(f"this needs frames at even distances; found {found}; allowed is record.spacing: linear")
        return float(gaps.mean())


def diverged(prior: Prior, points: Array) -> npt.NDArray[np.bool_]:
    """Return which of the points (N, D) have run away: shape (N,)."""
    near = np.ones(len(points), np.bool_)
    # Parameter by parameter: a reduction over so short an axis costs several times as much.
    for values, centre, scale in zip(points.T, prior.centre, prior.scale, strict=True):
        near &= np.abs(values - centre) <= FAR * scale
    return ~near


def left_out(tracks: Mapping[str, Track], prior: Prior) -> str:
    """Return in words, with a semicolon before each, how many particles `lasting` leaves out; empty for none."""
    gone = {name: int(track.gone(prior).any(axis=0).sum()) for name, track in tracks.items()}
    return "".join(
        f"; {name}: without {count} of {tracks[name].positions.shape[1]} particles, which ran away"
        for name, count in gone.items()
        if count
    )


def along(track: Track, quantity: Quantity) -> Array:
    """Return a quantity's value along a track, shape (T, P)."""
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
    """Return QUANTILES over the last axis, on the last axis of the result; nan where no value is finite."""
    rows = values.reshape(-1, values.shape[-1])
    found = np.full((len(rows), len(QUANTILES)), np.nan)
    for row, here in zip(found, rows, strict=True):
        known = here[np.isfinite(here)]
        if len(known):
            row[:] = np.quantile(known, QUANTILES)
    return found.reshape(*values.shape[:-1], len(QUANTILES))


def names_of(values: Sequence[str]) -> npt.NDArray[np.object_]:
    """Return names as a coordinate that every store takes."""
    return np.array(list(values), dtype=object)
