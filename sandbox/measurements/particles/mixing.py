"""Mixing of particles: autocorrelation time, effective sample size and R-hat, with each particle as a chain.

Chains are split in halves of N values: a trend shows as a difference between halves. With W the mean variance within
halves and V = (N - 1)/N W + var(means), R-hat = sqrt(V / W). The larger of two counts: that of the rank-normalised
values, and that of the values folded about the median, which detects a difference of scale (Vehtari, Gelman, Simpson,
Carpenter and Bürkner 2021, Bayesian Analysis 16, 667). With many chains R-hat^2 - 1 is about one over the effective
sample size of half a chain (Vats and Knudson 2021, Statistical Science 36, 518).

The autocorrelation is about the mean of all chains, so that chains that never meet do not count as independent.
Equation 10 of Vehtari et al. has the same purpose, but if a chain is not many autocorrelation times long its bias is
half the time itself. The sum ends by Geyer's initial monotone positive sequence (1992, Statistical Science 7, 473).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import scipy
import xarray as xr
from pydantic import Field
from scipy import special

from sandbox.dynamics.frames import Record
from sandbox.measurements.base import OfParticles, recorded
from sandbox.measurements.tracks import Track, along, left_out, named
from sandbox.model.labelled import coordinates, labelled, texts
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

FEWEST = 8
"""The fewest frames of a run: with fewer, its second half is too short to be split in two."""

GOOD = 1.1
"""Chains with an R-hat below this are called mixed (Gelman and Rubin 1992): half a chain has five effective draws. The
1.01 of Vehtari et al. is for a few chains, which must hold all the effective draws together."""

_EXCESS = "excess K_n"
"""The name of the excess: it has a space, which no parameter has in its name."""
_LAGS = 200
"""The largest number of lags at which the autocorrelation is recorded."""
_CHAINS = 256
"""The number of chains transformed together: it bounds the memory."""


def split(chains: Array) -> Array:
    """Return chains (T, P) cut in halves, shape (T // 2, 2 P); if T is odd the middle value is left out."""
    half = len(chains) // 2
    return np.concatenate([chains[:half], chains[-half:]], axis=1)


def r_hat(chains: Array) -> float:
    """Return the larger of rank-normalised and folded R-hat of chains (T, P), T at least 4; nan if all are equal."""
    halves = split(chains)
    return max(_plain_r_hat(_normalised(halves)), _plain_r_hat(_normalised(np.abs(halves - np.median(halves)))))


def autocorrelation(chains: Array) -> Array:
    """Return the autocorrelation of chains (T, P) at lags 0 to T - 1, shape (T,); nan if all values are the same."""
    if np.ptp(chains) == 0:
        return np.full(len(chains), np.nan)
    size, count = chains.shape
    away = chains - chains.mean()
    length = scipy.fft.next_fast_len(2 * size, real=True)
    power = np.zeros(length // 2 + 1)
    for first in range(0, count, _CHAINS):
        power += (np.abs(scipy.fft.rfft(away[:, first : first + _CHAINS], length, axis=0)) ** 2).sum(axis=1)
    covariance = scipy.fft.irfft(power, length)[:size] / np.arange(size, 0, -1)
    result: Array = covariance / covariance[0]
    return result


def autocorrelation_time(correlation: Array) -> float:
    """Return 1 + 2 sum of the autocorrelation (T,), in lags; the sum stops at the end of Geyer's sequence."""
    pairs = correlation[: len(correlation) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(~(pairs > 0))
    positive = pairs[: negative[0]] if len(negative) else pairs
    return math.nan if np.isnan(correlation[0]) else max(float(2 * np.minimum.accumulate(positive).sum() - 1), 0.0)


def _plain_r_hat(halves: Array) -> float:
    size = len(halves)
    # Equal values, too, can get a variance above 0 by rounding.
    if not np.ptp(halves, axis=0).any():
        return math.inf if np.ptp(halves) > 0 else math.nan
    within, between = float(halves.var(axis=0, ddof=1).mean()), float(halves.mean(axis=0).var(ddof=1))
    return math.sqrt((size - 1) / size + between / within)


def _normalised(values: Array) -> Array:
    """Return the normal scores of the ranks of all values (Vehtari et al. 2021, equation 14)."""
    ranks = scipy.stats.rankdata(values).reshape(values.shape)
    scores: Array = special.ndtri((ranks - 3 / 8) / (values.size + 1 / 4))
    return scores


class Mixing(OfParticles):
    """Autocorrelation time, effective sample size and R-hat over the second half of the run: do the particles mix?"""

    name: ClassVar[str] = "mixing"
    quick: ClassVar[dict[str, int]] = {"particles": 200}
    particles: int = Field(default=1000, ge=2, le=10**6, description="particles used, of those that are recorded")

    def check(self, problem: Problem, record: Record | None) -> None:
        """Raise InputError if there are no particles, too few frames, or frames at uneven distances."""
        kept = recorded(record)
        if kept.spacing != "linear":
            raise InputError(
                f"autocorrelation needs frames at even distances; found record.spacing: {kept.spacing}; "
                "allowed is linear"
            )
        if kept.frames < FEWEST:
            raise InputError(
                f"the second half of {kept.frames} frames is too short; allowed is record.frames: {FEWEST} or more"
            )

    def measure_particles(self, problem: Problem, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return the record of `mixing` of parameters, derived quantities and K_n, along the dimension `source`."""
        names = [*problem.prior.names, *(quantity.name for quantity in problem.derived)]
        quantities = named(names, problem.derived, problem.prior.names)
        rows, said = [], []
        moving = {k: t.first_particles(self.particles) for k, t in tracks.items() if t.times is not None}
        for source, track in moving.items():
            used = track.lasting(problem.prior).second_half()
            if used.positions.shape[1] < 2:
                continue
            values = {name: along(used, quantity) for name, quantity in zip(names, quantities, strict=True)}
            flat = used.positions.reshape(-1, used.positions.shape[2])
            values[_EXCESS] = problem.loss.excess(flat).reshape(used.positions.shape[:2])
            found = mixing(values, used.gap())
            rows.append(found.assign_coords(source=source))
            said.append(f"{source}: {_said(found)}")
        gone = left_out(moving, problem.prior)
        if not rows:
            return xr.Dataset(attrs={"summary": f"fewer than two particles are left to compare{gone}"})
        joined = xr.concat(rows, "source", join="outer", combine_attrs="drop_conflicts")
        sources = coordinates(source=texts(str(row.source.values) for row in rows))
        return joined.assign_coords(sources).assign_attrs(summary="; ".join(said) + gone)


def mixing(values: Mapping[str, Array], gap: float) -> xr.Dataset:
    """Return the mixing, over `quantity`, of values (T, P), T at least 4, that were recorded every `gap` steps.

    `autocorrelation_time` is in steps: unless values alternate, a shorter time than the gap shows as about the gap.
    `effective_sample_size` is that of all T P values; `autocorrelation` is over `lag` too; `r_hat`. A chain with a
    value that is not finite is left out; if fewer than two chains are left, the results are nan.
    """
    rows, curves = np.full((3, len(values)), np.nan), []
    for k, chains in enumerate(values.values()):
        kept = chains[:, np.isfinite(chains).all(axis=0)]
        correlation = autocorrelation(kept) if kept.shape[1] > 1 else np.full(len(chains), np.nan)
        curves.append(correlation[:_LAGS])
        if kept.shape[1] > 1:
            time = autocorrelation_time(correlation)
            rows[:, k] = gap * time, kept.size / max(time, 1 / math.log10(kept.size)), r_hat(kept)
    lags = gap * np.arange(len(curves[0]))
    return xr.Dataset(
        {
            "autocorrelation_time": labelled("quantity", rows[0], "integrated autocorrelation time", "step"),
            "effective_sample_size": labelled("quantity", rows[1], "effective sample size", "draws"),
            "r_hat": labelled("quantity", rows[2], "rank-normalised, folded, split R-hat"),
            "autocorrelation": labelled(("quantity", "lag"), np.array(curves), "autocorrelation"),
        },
        coordinates(quantity=texts(values)) | {"lag": labelled("lag", lags, "lag", "step")},
        {"gap": gap},
    )


def _said(found: xr.Dataset) -> str:
    """Return as text the worst values over all quantities."""
    worst = float(found["r_hat"].max())
    if math.isnan(worst):
        return "nothing moves"
    name = str(found["quantity"].values[int(np.nanargmax(found["r_hat"].to_numpy()))])
    time, size = float(found["autocorrelation_time"].max()), float(found["effective_sample_size"].min())
    shown = f"τ at most {time:.3g} steps (frames every {found.attrs['gap']:.3g}), at least {size:.3g} effective draws"
    return f"{'mixed' if worst < GOOD else 'not mixed'}, R-hat up to {worst:.3f} ({name}), {shown}"
