"""The verdict: whether a population reaches simpler solutions than a reference, with its reason and its warnings."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from sandbox.comparison.references import REFERENCES
from sandbox.dynamics.population import Population
from sandbox.dynamics.stability.growth import NOTIONS
from sandbox.model.labelled import coordinates, labelled, scalar, texts
from sandbox.model.strata import DIVERGED, ELSEWHERE
from sandbox.scenario.scenario import Scenario

SIMPLER, SAME, LESS_SIMPLE, UNDECIDED = "simpler", "same", "less simple", "undecided"

LEAST_EDGE = 0.01
"""The least multiple of the step size at which a warning is given if mean squares grow. If they grow at a smaller
multiple, particles are not driven off by the step's length but by noise that does not vanish where the slope does."""

MEANING = {
    SIMPLER: "reaches simpler solutions than",
    SAME: "is as simple as",
    LESS_SIMPLE: "reaches less simple solutions than",
    UNDECIDED: "is undecided against",
}

CAUSES = ("diverged", "other nbeta", "still moving", "capped")
"""The causes of warnings."""


def decide(
    scenario: Scenario, population: Population, comparison: xr.Dataset, posterior: xr.Dataset, near: xr.Dataset
) -> xr.Dataset:
    """Return a comparison with a verdict and its reason for every reference, warnings, and stability added.

    `near` is the `stability_map` of the population. A text is empty if there is no warning or no reason.
    """
    found = [_verdict(scenario, comparison, posterior, k) for k in range(len(REFERENCES))]
    verdicts, reasons = zip(*found, strict=True)
    unstable = labelled("stratum", texts(_unstable(near)), "warning of a step above an edge of stability")
    warnings = texts(_warnings(scenario, population, comparison))
    words = {
        "verdict": labelled("reference", texts(verdicts), "simpler, same, less simple, or undecided"),
        "reason": labelled("reference", texts(reasons), "reason of the verdict"),
        "warning": labelled("cause", warnings, "fact that could make the verdict mislead"),
        "no_linearisation": scalar(near.attrs["reason"], "reason for which the steps have no linearisation"),
    }
    stability = near.assign(unstable=unstable).reindex(stratum=comparison.stratum, fill_value={"unstable": ""})
    return comparison.merge(stability).assign(words).assign_coords(coordinates(cause=texts(CAUSES)))


def _verdict(scenario: Scenario, comparison: xr.Dataset, posterior: xr.Dataset, k: int) -> tuple[str, str]:
    """Return the verdict against the k-th reference and its reason."""
    row = comparison.isel(reference=k)
    hindrance = _hindrance(scenario, comparison, row, posterior)
    if hindrance:
        return UNDECIDED, hindrance
    if len(_kinds(posterior)) == 1:
        return SAME, f"all strata have the same λ and m: none is simpler, whatever the shares{_shifts(row)}"
    if not row.converged:
        return UNDECIDED, f"the posterior method did not converge ({posterior.attrs['posterior_method']})"
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
    """Return the reason for which no verdict is possible; empty if there is none."""
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
    """Return as text how far positions along strata are from the reference's; they may differ though λ does not."""
    far = [
        f"{name} {distance:.3g}"
        for name, distance in zip(row.along_stratum.values, row.distance_along.values, strict=True)
        if math.isfinite(distance)
    ]
    return f"; mean distance of positions along {', '.join(far)}" if far else ""


def _power(scenario: Scenario, row: xr.Dataset) -> str:
    """Return as text how many particles would decide it if the preference were its estimate.

    The interval must either leave out 0 or lie within the margin. Its half-width is the particles' part, which shrinks
    like 1 / sqrt(particles), plus `reference_slack`.
    """
    value, low, high = (float(bound) for bound in row.preference)
    wanted = max(abs(value), scenario.verdict.margin - abs(value))
    fixed = float(row.reference_slack)
    have = max(value - low, high - value) - fixed
    if wanted <= fixed:
        return "more particles would not decide it, as the reference's own error is too large"
    return f"about {_rounded_up(scenario.sizes.particles * (have / (wanted - fixed)) ** 2):,} particles would decide it"


def _rounded_up(number: float) -> int:
    """Return the number with two digits, rounded up."""
    unit = 10 ** max(math.floor(math.log10(max(number, 1))) - 1, 0)
    return int(math.ceil(number / unit) * unit)


def _unstable(near: xr.Dataset) -> list[str]:
    """Return for each stratum a warning if the step is above a threshold there; else an empty text.

    Above a threshold the step itself, not the loss, determines where particles end.
    """
    found = []
    for name in near.stratum.values:
        share, growth, threshold = (
            dict(zip(NOTIONS, near[key].sel(stratum=name).values.tolist(), strict=True))
            for key in ("stable_share", "growth", "threshold")
        )
        typical = f"a typical particle {'is driven away' if growth['almost sure'] > 0 else 'is not'}"
        found.append("")
        for notion, least, meaning in (
            # At an edge of 0 any step leads away: the loss itself falls there, as that of samples may.
            ("deterministic", 0.0, "a step overshoots"),
            ("mean square", LEAST_EDGE, f"mean squares grow though a step without noise does not overshoot; {typical}"),
        ):
            if share[notion] < 1 and threshold[notion] > least:
                where = f"at {1 - share[notion]:.0%} of the points of {name}"
                edge = f"the edge is at {threshold[notion]:.3g} times this step size, at the median point"
                found[-1] = f"{meaning}, {where} ({edge}): the step, not the loss, moves particles there"
                break
    return found


def _warnings(scenario: Scenario, population: Population, comparison: xr.Dataset) -> list[str]:
    """Return the warning of each of CAUSES; empty if there is none."""
    found = dict.fromkeys(CAUSES, "")
    gone = float(comparison.occupancy.isel(time=-1).sel(stratum=DIVERGED, bound="estimate"))
    if gone > 0:
        found["diverged"] = f"{round(gone * scenario.sizes.particles)} of {scenario.sizes.particles} particles diverged"
    nbeta = scenario.problem.nbeta
    followed = population.rule.nbeta_or(nbeta)
    if followed != nbeta:
        found["other nbeta"] = (
            f"it follows the posterior at nbeta = {followed:g}; the one it is judged by is at {nbeta:g}"
        )
    half = int(np.argmin(np.abs(comparison.time.values - comparison.time.values[-1] / 2)))
    change = float(comparison.preference_over_time[-1] - comparison.preference_over_time[half])
    if abs(change) > scenario.verdict.margin:
        found["still moving"] = f"still moving: the preference changed by {change:+.3f} over the last half of the run"
    if comparison.capped.sel(reference="tempered"):
        found["capped"] = "the population's mean loss is below that of the tempered posterior at its largest nbeta"
    return list(found.values())
