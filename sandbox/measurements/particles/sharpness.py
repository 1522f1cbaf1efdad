"""Sharpness along the tracks: loss, gradient, trace and largest eigenvalue of the Hessian, with the posterior's.

On a quadratic, gradient descent is stable if step size times sharpness is below 2, and the heavy ball method if it is
below 2 (1 + momentum). On neural networks the product rises to that edge and stays there (Cohen, Kaur, Li, Kolter and
Talwalkar 2021, 2103.00065).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import xarray as xr
from pydantic import Field

from sandbox.expressions.quantity import QUANTILES
from sandbox.measurements.base import OfParticles
from sandbox.measurements.tracks import Track, quantiles
from sandbox.model.labelled import coordinates, labelled, texts
from sandbox.model.loss import Loss
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array


def local_shape(loss: Loss, points: Array) -> dict[str, Array]:
    """Return excess, gradient norm, trace of the Hessian and its largest eigenvalue at points (N, D): each (N,).

    They are nan if the point or its Hessian is not finite.
    """
    found = {name: np.full(len(points), np.nan) for name in ("excess", "gradient_norm", "trace", "sharpness")}
    with np.errstate(all="ignore"):
        hessian = loss.hessian(points)
        usable = np.isfinite(points).all(axis=1) & np.isfinite(hessian).all(axis=(1, 2))
        here, hessian = points[usable], hessian[usable]
        found["excess"][usable] = loss.excess(here)
        found["gradient_norm"][usable] = np.linalg.norm(loss.gradient(here), axis=1)
    found["trace"][usable] = np.trace(hessian, axis1=1, axis2=2)
    found["sharpness"][usable] = np.linalg.eigvalsh(hessian)[:, -1]
    return found


class Sharpness(OfParticles):
    """Loss, gradient, trace and sharpness of the particles over time, and step size times sharpness with its edge."""

    name: ClassVar[str] = "sharpness"
    quick: ClassVar[dict[str, int]] = {"frames": 6, "particles": 50}
    needs_motion: ClassVar[bool] = False
    frames: int = Field(default=20, ge=2, le=10_000, description="frames used, of those that are recorded")
    particles: int = Field(default=200, ge=1, le=10**6, description="particles used, and posterior samples")

    def measure_particles(self, problem: Problem, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return quantiles of each number over (source, step, level); the posterior's are repeated at every step."""
        chosen = {
            name: track.first_particles(self.particles).spread_frames(self.frames) for name, track in tracks.items()
        }
        times = next((track.times for track in chosen.values() if track.times is not None), np.zeros(1))
        rows = [self._of(problem, track, len(times)) for track in chosen.values()]
        variables = {
            name: labelled(("source", "step", "level"), np.array([row[name] for row in rows]), *words)
            for name, words in _WORDS.items()
            if rows
        }
        if rows:
            edges = np.array([np.nan if track.edge is None else track.edge for track in chosen.values()])
            variables["edge"] = labelled("source", edges, "step_times_sharpness at which the rule diverges")
        coords = coordinates(source=texts(chosen), step=times, level=QUANTILES)
        found = xr.Dataset(variables, coords if rows else None)
        return found.assign_attrs(
            summary="; ".join(map(_said, chosen, rows, chosen.values())) or "no particles to measure"
        )

    def _of(self, problem: Problem, track: Track, frames: int) -> dict[str, Array]:
        """Return the quantiles of each number, shape (frames, quantiles)."""
        shape = track.positions.shape
        found = local_shape(problem.loss, track.positions.reshape(-1, shape[2]))
        # If steps do not scale with the gradient, the rule has no edge to compare their size with.
        rate = np.full(shape[0], np.nan) if track.rate is None or track.edge is None else track.rate
        rows = {name: values.reshape(shape[:2]) for name, values in found.items()}
        rows["step_times_sharpness"] = rate[:, None] * rows["sharpness"]
        return {name: np.broadcast_to(quantiles(values), (frames, len(QUANTILES))) for name, values in rows.items()}


def _said(source: str, row: Mapping[str, Array], track: Track) -> str:
    middle = QUANTILES.index(0.5)
    sharpness, product = row["sharpness"][-1, middle], row["step_times_sharpness"][-1, middle]
    beside = "" if np.isnan(product) else f", times the step size {product:.3g} (edge {track.edge:g})"
    return f"{source}: median sharpness {sharpness:.3g} at the end{beside}"


_WORDS = {
    "excess": ("K_n = L_n - S_n", "nat per sample"),
    "gradient_norm": ("norm of the gradient of L_n", "nat per sample"),
    "trace": ("trace of the Hessian of L_n", "nat per sample"),
    "sharpness": ("largest eigenvalue of the Hessian of L_n", "nat per sample"),
    "step_times_sharpness": ("step size, times nbeta if the rule follows the posterior, times sharpness", "1"),
}
