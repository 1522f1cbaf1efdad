"""How well particles mix: autocorrelation time, effective sample size and R-hat, each particle a chain.

Chains are split in halves, so that a trend shows as a difference between them. With W the mean of the variances within
and V = (N - 1)/N W + var(chain means) that of all, R-hat = sqrt(V / W), the larger of two: of the rank-normalised
values, and of those folded about the median, which see a difference of scale (Vehtari, Gelman, Simpson, Carpenter and
Bürkner 2021, Bayesian Analysis 16, 667). With many chains R-hat^2 - 1 is about one over the effective draws in half a
chain (Vats and Knudson 2021, Statistical Science 36, 518).

The autocorrelation is about the mean of all chains, so that chains that never meet do not count as independent: that
is what equation 10 of Vehtari et al. is for, whose bias where a chain is not many autocorrelation times long is half
the time itself. Its sum ends by Geyer's initial monotone positive sequence (1992, Statistical Science 7, 473).
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

from sandbox.errors import InputError
from sandbox.measured.base import OfParticles, Subject
from sandbox.measured.labelled import labelled
from sandbox.measured.tracks import Array, Track, along, left_out, named, names_of

FEWEST = 8
"""Frames of a run below which its second half, split in two, is too short to say anything."""

GOOD = 1.1
"""Below this R-hat chains are called mixed (Gelman and Rubin 1992): half a chain has five effective draws. The 1.01 of
Vehtari et al. is for a few chains, which must have all the draws between them."""

_EXCESS = "excess K_n"
"""No parameter has a space in its name."""
_LAGS = 200
"""Lags, at most, at which the autocorrelation is recorded."""
_CHAINS = 256
"""Chains transformed together: bounds the memory."""


def split(chains: Array) -> Array:
    """Return chains (T, P) cut in halves, shape (T // 2, 2 P); of an odd number the middle value is left out."""
    half = len(chains) // 2
    return np.concatenate([chains[:half], chains[-half:]], axis=1)


def r_hat(chains: Array) -> float:
    """Return the rank-normalised, folded R-hat of chains (T, P), T at least 4; nan where all values are the same."""
    halves = split(chains)
    return max(_plain_r_hat(_normalised(halves)), _plain_r_hat(_normalised(np.abs(halves - np.median(halves)))))


def autocorrelation(chains: Array) -> Array:
    """Return the autocorrelation of chains (T, P) at lags 0 to T - 1, shape (T,); nan where all values are the same."""
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
    """Return 1 + 2 sum of the autocorrelation (T,) over lags up to where Geyer's sequence ends, in lags."""
    pairs = correlation[: len(correlation) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(~(pairs > 0))
    positive = pairs[: negative[0]] if len(negative) else pairs
    return math.nan if np.isnan(correlation[0]) else max(float(2 * np.minimum.accumulate(positive).sum() - 1), 0.0)


def _plain_r_hat(halves: Array) -> float:
    size = len(halves)
    # Rounding would make a variance even of equal values.
    if not np.ptp(halves, axis=0).any():
        return math.inf if np.ptp(halves) > 0 else math.nan
    within, between = float(halves.var(axis=0, ddof=1).mean()), float(halves.mean(axis=0).var(ddof=1))
    return math.sqrt((size - 1) / size + between / within)


def _normalised(values: Array) -> Array:
    """Return the normal scores of all values' ranks (Vehtari et al. 2021, equation 14)."""
    ranks = scipy.stats.rankdata(values).reshape(values.shape)
    scores: Array = special.ndtri((ranks - 3 / 8) / (values.size + 1 / 4))
    return scores


class Mixing(OfParticles):
    """Autocorrelation time, effective sample size and R-hat over the second half of the run: has a sampler mixed?"""

    name: ClassVar[str] = "mixing"
    quick: ClassVar[dict[str, int]] = {"particles": 200}
    particles: int = Field(default=1000, ge=2, le=10**6, description="particles used, of those that are recorded")

    def check(self, subject: Subject) -> None:
        """Refuse frames that are too few, or not at even distances."""
        super().check(subject)
        if subject.record.spacing != "linear":
            raise InputError(
                f"autocorrelation needs frames at even distances; found record.spacing: {subject.record.spacing}; "
                "allowed is linear"
            )
        if subject.record.frames < FEWEST:
            raise InputError(
                f"the second half of {subject.record.frames} frames is too short; allowed is record.frames: {FEWEST} "
                "or more"
            )

    def measure_particles(self, subject: Subject, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return the record of `mixing` of parameters, derived quantities and K_n, along `source`."""
        names = [*subject.prior.names, *(quantity.name for quantity in subject.derived)]
        quantities = named(names, subject.derived, subject.prior.names)
        rows, said = [], []
        moving = {k: t.first_particles(self.particles) for k, t in tracks.items() if t.times is not None}
        for source, track in moving.items():
            used = track.lasting(subject.prior).second_half()
            if used.positions.shape[1] < 2:
                continue
            values = {name: along(used, quantity) for name, quantity in zip(names, quantities, strict=True)}
            flat = used.positions.reshape(-1, used.positions.shape[2])
            values[_EXCESS] = subject.loss.excess(flat).reshape(used.positions.shape[:2])
            found = mixing(values, used.gap())
            rows.append(found.assign_coords(source=source))
            said.append(f"{source}: {_said(found)}")
        gone = left_out(moving, subject.prior)
        if not rows:
            return xr.Dataset(attrs={"summary": f"fewer than two particles are left to compare{gone}"})
        joined = xr.concat(rows, "source", join="outer", combine_attrs="drop_conflicts")
        sources = names_of([str(row.source.values) for row in rows])
        return joined.assign_coords(source=sources).assign_attrs(summary="; ".join(said) + gone)


def mixing(values: Mapping[str, Array], gap: float) -> xr.Dataset:
    """Return over `quantity` the mixing of values (T, P), T at least 4, that were taken every `gap` steps.

    `autocorrelation_time` in steps, at least about the gap, as frames do not show what is shorter;
    `effective_sample_size` of all T P values; `r_hat`; and the `autocorrelation` over `lag`. A chain with a value that
    is not finite is left out; what is left of fewer than two chains has nan.
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
        {"quantity": names_of(list(values)), "lag": labelled("lag", lags, "lag", "step")},
        {"gap": gap},
    )


def _said(found: xr.Dataset) -> str:
    """Return the worst of all quantities in words."""
    worst = float(found["r_hat"].max())
    if math.isnan(worst):
        return "nothing moves"
    name = str(found["quantity"].values[int(np.nanargmax(found["r_hat"].to_numpy()))])
    time, size = float(found["autocorrelation_time"].max()), float(found["effective_sample_size"].min())
    shown = f"τ at most {time:.3g} steps (frames every {found.attrs['gap']:.3g}), at least {size:.3g} effective draws"
    return f"{'mixed' if worst < GOOD else 'not mixed'}, R-hat up to {worst:.3f} ({name}), {shown}"
