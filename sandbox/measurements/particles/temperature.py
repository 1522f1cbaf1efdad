"""Effective temperature: the T of a population if the density of its particles is exp(-L/T).

Then integration by parts gives, for every vector field F that vanishes at the walls,

    T = E[F . grad L] / E[div F + F . grad log φ]

(Jepps, Ayton and Evans 2000, Phys. Rev. E 62, 4757; the prior φ enters for rules that follow the posterior). Two
fields are used: w - c, which gives equipartition, E[(w - c) . grad L] = D T, and grad L, which gives
E|grad L|^2 = T E[lap L] (Rugh 1997). The first depends on the whole density, the second on the directions in which the
loss rises: so the two differ if particles have not spread along W0 yet, or circulate. With reflecting walls both fields
are multiplied by a factor that falls to zero at the walls, so that the flux through the walls does not count. On a data
set, a kink of the model adds a term to the Laplacian when it passes a sample: this term is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from pydantic import Field

from sandbox.measurements.base import OfParticles
from sandbox.measurements.tracks import Track, left_out
from sandbox.model.labelled import coordinates, labelled, texts
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array

FIELDS = ("equipartition", "gradient")
"""The vector fields: w - c, and the gradient of the loss."""

SEEN = 4.0
"""The denominator must exceed this many of its standard errors: else no temperature is given."""

_NEAREST = 1e-12
"""The least distance of a particle from a wall, in prior scales: recorded positions may round onto the wall."""


@dataclass(frozen=True)
class Terms:
    """The terms at each point, both (N,): F . grad L, and div F + F . grad log φ."""

    virial: Array
    divergence: Array


def cutoff(points: Array, bounds: Array, scales: Array) -> tuple[Array, Array]:
    """Return a factor (N,) at points (N, D) that vanishes at the walls, and the gradient of its logarithm (N, D).

    The factor is the product of d / (d + scale) over the distances d to all finite `bounds` (D, 2), with `scales` (D,).
    """
    factor, slope = np.ones(len(points)), np.zeros_like(points)
    for k, scale in enumerate(scales):
        for wall, sign in zip(bounds[k], (1.0, -1.0), strict=True):
            if np.isfinite(wall):
                away = np.maximum(sign * (points[:, k] - wall), _NEAREST * scale)
                factor *= away / (away + scale)
                slope[:, k] += sign * scale / (away * (away + scale))
    return factor, slope


def terms(points: Array, loss: Loss, prior: Prior, *, walls: bool, follows_prior: bool) -> dict[str, Terms]:
    """Return the terms of each of FIELDS at points (N, D), with or without the walls and the prior."""
    gradient, laplacian = loss.gradient(points), np.trace(loss.hessian(points), axis1=1, axis2=2)
    away = points - np.median(points, axis=0)
    factor, slope = np.ones(len(points)), np.zeros_like(points)
    if walls:
        factor, slope = cutoff(points, prior.bounds, prior.scale)
    pull = slope + prior.log_density_gradient(points) if follows_prior else slope
    size = np.full(len(points), float(points.shape[1]))
    return {
        name: Terms(factor * (field * gradient).sum(axis=1), factor * (divergence + (field * pull).sum(axis=1)))
        for name, field, divergence in zip(FIELDS, (away, gradient), (size, laplacian), strict=True)
    }


def ratio(virial: Array, divergence: Array) -> tuple[float, float]:
    """Return the mean of `virial` over the mean of `divergence`, both (P,), and its standard error over particles.

    The results are nan if the denominator is not above zero by SEEN standard errors, or P is below 2.
    """
    below = float(divergence.mean())
    if len(divergence) < 2 or not below > SEEN * float(divergence.std(ddof=1)) / math.sqrt(len(divergence)):
        return math.nan, math.nan
    value = float(virial.mean()) / below
    residual = virial - value * divergence
    return value, float(residual.std(ddof=1)) / (below * math.sqrt(len(residual)))


class Temperature(OfParticles):
    """The effective temperature of each population, by two identities; the posterior's is 1/nbeta."""

    name: ClassVar[str] = "temperature"
    quick: ClassVar[dict[str, int]] = {"frames": 2}
    needs_motion: ClassVar[bool] = False
    frames: int = Field(default=5, ge=1, le=1000, description="frames of the second half that are averaged")
    particles: int = Field(default=2000, ge=2, le=10**6, description="particles used, of those that are recorded")
    expected: float | None = Field(
        default=None, gt=0, description="T that theory predicts for rules that follow the loss, to compare with"
    )

    def measure_particles(self, problem: Problem, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return `temperature`, its error and `nbeta_temperature` over (source, field), and `expected` (source)."""
        used = {name: track.first_particles(self.particles) for name, track in tracks.items()}
        found = np.array([self._of(problem, track) for track in used.values()]).reshape(-1, len(FIELDS), 2)
        expected = np.array([1 / t.nbeta if t.nbeta else self.expected or math.nan for t in tracks.values()])
        words, said = "effective temperature", "; ".join(map(_said, tracks, found, expected))
        return xr.Dataset(
            {
                "temperature": labelled(("source", "field"), found[..., 0], words, "nat per sample"),
                "temperature_error": labelled(
                    ("source", "field"), found[..., 1], "standard error of temperature", "nat per sample"
                ),
                "nbeta_temperature": labelled(("source", "field"), problem.nbeta * found[..., 0], f"nbeta x {words}"),
                "expected": labelled("source", expected, "temperature predicted by theory", "nat per sample"),
            },
            coordinates(source=texts(tracks), field=texts(FIELDS)),
            {"summary": said + left_out(used, problem.prior) if tracks else "no particles to measure"},
        )  # fmt: skip

    def _of(self, problem: Problem, track: Track) -> list[tuple[float, float]]:
        """Return the temperature and its error for each of FIELDS."""
        used = track.lasting(problem.prior).second_half().spread_frames(self.frames)
        frames, particles, size = used.positions.shape
        if particles < 2:
            return [(math.nan, math.nan)] * len(FIELDS)
        # The prior is cut to the box, so walls limit posterior samples even if they are open for particles.
        walls = problem.walls == "reflecting" or track.times is None
        found = terms(
            used.positions.reshape(-1, size),
            problem.loss,
            problem.prior,
            walls=walls,
            follows_prior=track.nbeta is not None,
        )
        result = []
        for row in found.values():
            # The frames of one particle are not independent: only their mean counts, once.
            virial, divergence = (v.reshape(frames, particles).mean(axis=0) for v in (row.virial, row.divergence))
            finite = np.isfinite(virial) & np.isfinite(divergence)
            result.append(ratio(virial[finite], divergence[finite]))
        return result


def _said(source: str, row: Array, expected: float) -> str:
    if np.isnan(row[:, 0]).all():
        return f"{source}: no temperature can be measured"
    parts = ["none" if math.isnan(value) else f"{value:.3g} ± {1.96 * error:.2g}" for value, error in row]
    apart = abs(row[0, 0] - row[1, 0]) > SEEN * math.hypot(*row[:, 1])
    verdict = ", which disagree" if apart else ""
    beside = f"; expected {expected:.3g}" if math.isfinite(expected) else ""
    return f"{source}: T = {parts[0]} by equipartition, {parts[1]} by gradient and Laplacian{verdict}{beside}"
