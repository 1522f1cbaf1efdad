"""The verdict: does a population reach simpler solutions than a reference would, and how sure is that?"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import xarray as xr

from sandbox import stability
from sandbox.reference import REFERENCES
from sandbox.scenario import Population, Scenario
from sandbox.zero_set import DIVERGED, ELSEWHERE

SIMPLER, SAME, LESS_SIMPLE, UNDECIDED = "simpler", "same", "less simple", "undecided"

LEAST_EDGE = 0.01
"""Where mean squares grow at less than this part of the step size, it is not the step's length that drives particles
off but that noise does not die out there as the slope does. The table says so; a warning would miss the point."""

MEANING = {
    SIMPLER: "reaches simpler solutions than",
    SAME: "is as simple as",
    LESS_SIMPLE: "reaches less simple solutions than",
    UNDECIDED: "is undecided against",
}


def decide(
    scenario: Scenario, population: Population, comparison: xr.Dataset, posterior: xr.Dataset, near: xr.Dataset
) -> xr.Dataset:
    """Return a comparison with a verdict and its reason for every reference, and warnings, added.

    `near` is what `stability.mapped` says of the population.
    """
    verdicts = [_verdict(scenario, comparison, posterior, k) for k in range(len(REFERENCES))]
    said = {
        "unstable": _unstable(near),
        "no_linearisation": near.attrs["reason"],
        "verdicts": {name: verdict for name, (verdict, _) in zip(REFERENCES, verdicts, strict=True)},
        "reasons": {name: reason for name, (_, reason) in zip(REFERENCES, verdicts, strict=True)},
        "warnings": _warnings(scenario, population, comparison),
    }
    return comparison.assign(
        stability=_measures(near).reindex(stratum=comparison.stratum),
        words=((), np.array(json.dumps(said), dtype=object)),
    )


def _measures(near: xr.Dataset) -> xr.DataArray:
    """Return the stability map as one table (stratum, measure): a folder of many small arrays is slow to copy."""
    products = near.step_times_sharpness
    named = {f"step_times_sharpness, {name}": products.sel(statistic=name).values for name in near.statistic.values}
    named |= {
        f"{key}, {notion}": near[key].sel(notion=notion).values
        for key in stability.NUMBERS
        for notion in stability.NOTIONS
    }
    coordinates = {"stratum": near.stratum.values, "measure": np.array(list(named), dtype=object)}
    return xr.DataArray(np.stack(list(named.values()), axis=1), coordinates, ("stratum", "measure"))


def _verdict(scenario: Scenario, comparison: xr.Dataset, posterior: xr.Dataset, k: int) -> tuple[str, str]:
    """Return the verdict against the k-th reference and why it is that."""
    row = comparison.isel(reference=k)
    hindrance = _hindrance(scenario, comparison, row, posterior)
    if hindrance:
        return UNDECIDED, hindrance
    if len(_kinds(posterior)) == 1:
        return SAME, f"all strata have the same λ and m: none is simpler, whatever the shares{_shifts(row)}"
    if not float(row.reference_fact.sel(fact="converged")) > 0:
        return UNDECIDED, f"the witness did not converge ({posterior.attrs['witness']})"
    rules = scenario.verdict
    value, low, high = (float(bound) for bound in row.preference)
    interval = f"preference {value:+.3f}, {rules.level:.0%} interval [{low:+.3f}, {high:+.3f}]"
    if -rules.margin <= low and high <= rules.margin:
        return SAME, f"{interval} lies within the margin of {rules.margin:g}"
    if low <= 0 <= high:
        return UNDECIDED, f"{interval} holds 0 and exceeds the margin of {rules.margin:g}; {_power(scenario, row)}"
    signs = np.sign(row.preference_by_tube.values)
    if not (signs == np.sign(value)).all():
        return UNDECIDED, f"{interval}, but its sign changes with the tubes' radius halved or doubled"
    return (SIMPLER, f"{interval} lies above 0") if value > 0 else (LESS_SIMPLE, f"{interval} lies below 0")


def _hindrance(scenario: Scenario, comparison: xr.Dataset, row: xr.Dataset, posterior: xr.Dataset) -> str:
    """Return what stands in the way of any verdict; empty for nothing."""
    rules, last = scenario.verdict, comparison.isel(time=-1).occupancy.sel(bound="estimate")
    gone, away = float(last.sel(stratum=DIVERGED)), float(last.sel(stratum=ELSEWHERE))
    if gone > rules.diverged:
        return f"{gone:.2%} of the particles diverged; at most {rules.diverged:.2%} may"
    if not np.isfinite(row.reference_mass).all():
        return "no such law exists: the prior has no weights to make up so small, or so large, a mean loss"
    if not math.isfinite(float(row.preference.sel(bound="estimate"))):
        return "nothing of the population or of the reference lies on W0 at this loss"
    expected = float(row.reference_mass.sel(stratum=ELSEWHERE))
    if away > expected + rules.elsewhere:
        share = f"{away:.1%} of the particles but {expected:.1%} of the reference are in no stratum's tube"
        return f"{share}; at most {rules.elsewhere:.0%} more may"
    unknown = [name for name, (value, _) in _coefficients(posterior).items() if not math.isfinite(value)]
    return f"λ is neither known nor stated for {', '.join(unknown)}" if unknown else ""


def _coefficients(posterior: xr.Dataset) -> dict[str, tuple[float, float]]:
    """Return (λ, m) of each stratum."""
    pairs = zip(posterior.learning_coefficient.values, posterior.multiplicity.values, strict=True)
    named = dict(zip(map(str, posterior.stratum.values), pairs, strict=True))
    return {name: (float(a), float(m)) for name, (a, m) in named.items() if name not in (ELSEWHERE, DIVERGED)}


def _kinds(posterior: xr.Dataset) -> set[tuple[float, float]]:
    return set(_coefficients(posterior).values())


def _shifts(row: xr.Dataset) -> str:
    """Say how far the positions along each stratum are from the reference's: what differs where λ does not."""
    said = [
        f"{name} {distance:.3g}"
        for name, distance in zip(row.arm.values, row.distance_along.values, strict=True)
        if math.isfinite(distance)
    ]
    return f"; mean distance of positions along {', '.join(said)}" if said else ""


def _power(scenario: Scenario, row: xr.Dataset) -> str:
    """Say how many particles would decide it, were the preference what it is estimated to be.

    The interval must either leave out 0 or lie within the margin. Its half-width is the particles' part, which shrinks
    like 1 / sqrt(particles), and twice the reference's own error.
    """
    value, low, high = (float(bound) for bound in row.preference)
    wanted = max(abs(value), scenario.verdict.margin - abs(value))
    fixed = float(row.reference_slack)
    have = max(value - low, high - value) - fixed
    if wanted <= fixed:
        return "more particles would not decide it, as the reference's own error is too large"
    return f"about {_rounded_up(scenario.particles * (have / (wanted - fixed)) ** 2):,} particles would decide it"


def _rounded_up(number: float) -> int:
    """Return the number with two digits, rounded up."""
    unit = 10 ** max(math.floor(math.log10(max(number, 1))) - 1, 0)
    return int(math.ceil(number / unit) * unit)


def _unstable(near: xr.Dataset) -> list[str]:
    """Say on which strata the population's step is above a threshold of stability: what ends there is its doing."""
    said = []
    for name in near.stratum.values:
        share, growth, threshold = (
            dict(zip(stability.NOTIONS, near[key].sel(stratum=name).values.tolist(), strict=True))
            for key in ("stable_share", "growth", "threshold")
        )
        typical = f"a typical particle {'is driven away' if growth['almost sure'] > 0 else 'is not'}"
        for notion, least, meaning in (
            # At an edge of 0 any step leads away: the loss itself falls there, as that of samples may.
            ("deterministic", 0.0, "a step overshoots"),
            ("mean square", LEAST_EDGE, f"mean squares grow though a step without noise does not overshoot; {typical}"),
        ):
            if share[notion] < 1 and threshold[notion] > least:
                where = f"at {1 - share[notion]:.0%} of the points of {name}"
                edge = f"the edge is at {threshold[notion]:.3g} times this step size, at the median point"
                said.append(f"{meaning}, {where} ({edge}): what ends there is the step's doing")
                break
    return said


def _warnings(scenario: Scenario, population: Population, comparison: xr.Dataset) -> list[str]:
    warnings = []
    gone = float(comparison.occupancy.isel(time=-1).sel(stratum=DIVERGED, bound="estimate"))
    if gone > 0:
        warnings.append(f"{round(gone * scenario.particles)} of {scenario.particles} particles diverged")
    followed = population.rule.nbeta_or(scenario.nbeta)
    if followed != scenario.nbeta:
        said = f"it follows the posterior at nbeta = {followed:g}; the one it is judged by is at {scenario.nbeta:g}"
        warnings.append(said)
    half = int(np.argmin(np.abs(comparison.time.values - comparison.time.values[-1] / 2)))
    change = float(comparison.preference_over_time[-1] - comparison.preference_over_time[half])
    if abs(change) > scenario.verdict.margin:
        warnings.append(f"still moving: the preference changed by {change:+.3f} over the last half of the run")
    if float(comparison.reference_fact.sel(reference="tempered", fact="capped")) > 0:
        warnings.append("the population's mean loss is below what the tempered posterior was followed to")
    return warnings


def words(comparison: xr.Dataset) -> dict[str, Any]:
    """Return what `decide` said of one population.

    "verdicts" and "reasons" by reference, "warnings", on which strata it is "unstable", and why there is
    "no_linearisation".
    """
    said: dict[str, Any] = json.loads(comparison.words.item())
    return said
