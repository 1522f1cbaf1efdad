"""The verdict: whether a population reaches simpler solutions than a reference, with its reason and its warnings.

Two scores decide (`simplicity`): the local learning coefficient says which side is more singular, the local free energy
at equal singularity says which side is flatter. A sign must be the same at every radius and nbeta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from sandbox.comparison.edges import unstable
from sandbox.comparison.law import Law, kind
from sandbox.comparison.local_posterior import NBETA_FACTORS
from sandbox.comparison.references import REFERENCES
from sandbox.comparison.simplicity import MIDDLE, SCORES
from sandbox.dynamics.population import Population
from sandbox.model.labelled import coordinates, labelled, scalar, texts
from sandbox.model.strata import DIVERGED
from sandbox.scenario.scenario import Scenario
from sandbox.tools.arrays import Array

MORE_SINGULAR, FLATTER, EQUAL = "more singular", "flatter", "equally simple"
LESS_SINGULAR, SHARPER, UNDECIDED = "less singular", "sharper", "undecided"

SIMPLER, LESS_SIMPLE = (MORE_SINGULAR, FLATTER), (LESS_SINGULAR, SHARPER)
"""The verdicts that call a population simpler, and less simple, than a reference."""

MEANING = {
    MORE_SINGULAR: "reaches more singular solutions than",
    FLATTER: "reaches flatter solutions than",
    EQUAL: "reaches solutions as simple as those of",
    LESS_SINGULAR: "reaches less singular solutions than",
    SHARPER: "reaches sharper solutions than",
    UNDECIDED: "is undecided against",
}

CAUSES = ("diverged", "other nbeta", "still moving", "capped")
"""The causes of warnings."""

_SYMBOLS = {"free_energy": "F", "local_learning_coefficient": "λ_n"}
_UNITS = {"free_energy": " nat", "local_learning_coefficient": ""}
_NOT_REACHED = "not reached"


class _Verdict(NamedTuple):
    """A verdict with the score that decides it and the reason."""

    word: str
    score: str
    reason: str
    hindrance: str = ""


def decide(
    scenario: Scenario,
    population: Population,
    comparison: xr.Dataset,
    near: xr.Dataset,
    law: Law,
    *,
    equally_singular: bool = False,
) -> xr.Dataset:
    """Return a comparison with a verdict and its reason for every reference, the law, warnings, and stability added.

    `near` is the `stability_map` of the population. `equally_singular` says that all strata have the same λ and m. A
    text is empty if there is nothing to say.
    """
    found = [_verdict(scenario, comparison, k, equally_singular) for k in range(len(REFERENCES))]
    verdicts, scores, reasons, hindrances = zip(*found, strict=True)
    edges = labelled("stratum", texts(unstable(near)), "warning of a step above an edge of stability")
    warnings = texts(_warnings(scenario, population, comparison))
    words = {
        "verdict": labelled("reference", texts(verdicts), ", ".join(MEANING)),
        "deciding_score": labelled("reference", texts(scores), "score that the verdict rests on"),
        "reason": labelled("reference", texts(reasons), "reason of the verdict"),
        "hindrance": labelled("reference", texts(hindrances), "fact that limits the verdict, or keeps it undecided"),
        "agreement_words": scalar(_agreement(comparison), "whether the particles are where the posterior is"),
        "confidence": scalar(scenario.verdict.level, "confidence level of the intervals"),
        "kind": scalar(kind(population), "sgd: with gradient noise; descent: without; sampler: follows the posterior"),
        "law": scalar(law.name, "law at work"),
        "law_words": scalar(law.sentence, "the law with the numbers that show it"),
        "warning": labelled("cause", warnings, "fact that could make the verdict mislead"),
        "no_linearisation": scalar(near.attrs["reason"], "reason for which the steps have no linearisation"),
    }
    stability = near.assign(unstable=edges).reindex(stratum=comparison.stratum, fill_value={"unstable": ""})
    # Without strata the fill value alone decides the type, and NumPy's own texts have no lasting format in a store.
    stability["unstable"] = stability.unstable.astype(object)
    return comparison.merge(stability).assign(words).assign_coords(coordinates(cause=texts(CAUSES)))


def _verdict(scenario: Scenario, comparison: xr.Dataset, k: int, equally_singular: bool) -> _Verdict:
    """Return the verdict against the k-th reference."""
    row = comparison.isel(reference=k)
    alone = SCORES[0] if equally_singular else ""
    hindrance = _hindrance(scenario, comparison, row)
    if hindrance:
        return _Verdict(UNDECIDED, alone, hindrance, hindrance)
    ordered = row.preference.transpose("score", "nbeta_factor", "radius", "bound").sel(score=list(SCORES))
    word, score, why = judge(ordered.values, scenario.verdict.margin, equally_singular=equally_singular)
    score = alone or score
    shown = [score] if score else SCORES[::-1]
    numbers = "; ".join(_numbers(comparison, row, each) for each in shown)
    return _Verdict(word, score, f"{numbers}; {why}" if why else numbers, why)


class _Sign(NamedTuple):
    """The signs of a preference over all radii and nbeta: all above 0, all below, some of each; all in the margin."""

    above: bool
    below: bool
    mixed: bool
    within: bool

    @classmethod
    def of(cls, preference: Array, margin: float) -> _Sign:
        """Return the signs of a preference with its interval, shape (NBETA_FACTORS, radii, 3)."""
        low, high = preference[..., 1], preference[..., 2]
        mixed = bool((low > 0).any() and (high < 0).any())
        return cls(
            bool((low > 0).all()),
            bool((high < 0).all()),
            mixed,
            bool((low >= -margin).all() and (high <= margin).all()),
        )


def judge(preferences: Array, margin: float, *, equally_singular: bool = False) -> tuple[str, str, str]:
    """Return the verdict, the score that it rests on, and the fact that limits it; the last two may be empty.

    `preferences` are those of `simplicity.preferences`. A preference counts as equal within `margin`. F alone decides
    if all solutions are known to be `equally_singular`: then λ_n differs only because n is finite.
    """
    free, singular = (_Sign.of(preference, margin) for preference in preferences)
    energy, coefficient = SCORES
    if equally_singular:
        singular = _Sign.of(np.zeros((1, 3)), margin)
    if free.within and singular.within:
        return EQUAL, "", "all intervals are within the margin"
    if singular.mixed or free.mixed:
        score = coefficient if singular.mixed else energy
        return UNDECIDED, "", f"the sign by {_SYMBOLS[score]} changes with radius or n"
    if (singular.above and free.below) or (singular.below and free.above):
        return UNDECIDED, "", "the two scores have opposite signs"
    if singular.above or singular.below:
        return (MORE_SINGULAR if singular.above else LESS_SINGULAR), coefficient, ""
    if free.above or free.below:
        besides = "" if singular.within else "λ_n is undecided"
        return (FLATTER if free.above else SHARPER), energy, besides
    return UNDECIDED, "", "no sign is sure at every radius and n"


def _hindrance(scenario: Scenario, comparison: xr.Dataset, row: xr.Dataset) -> str:
    """Return the reason for which no verdict is possible; empty if there is none."""
    rules = scenario.verdict
    gone = float(comparison.occupancy.isel(time=-1).sel(stratum=DIVERGED, bound="estimate"))
    if gone > rules.diverged:
        return f"{gone:.2%} of the particles diverged; at most {rules.diverged:.2%} may"
    if not np.isfinite(row.reference_mass).all():
        return "no such law exists: the prior has no weights to make up so small, or so large, a mean loss"
    if not row.converged:
        return "the posterior method did not converge"
    return ""


def _numbers(comparison: xr.Dataset, row: xr.Dataset, score: str) -> str:
    """Return as text both sides' medians of a score and the preference by it."""
    ours, theirs = (float(side.sel(score=score)) for side in (comparison.median_score, row.reference_score))
    value, low, high = (
        float(bound) for bound in row.preference.sel(score=score, nbeta_factor=NBETA_FACTORS[0]).isel(radius=MIDDLE)
    )
    medians = medians_text(_SYMBOLS[score], ours, [theirs], _UNITS[score])
    return f"{medians}preference {value:+.2f} [{low:+.2f}, {high:+.2f}]"


def medians_text(score: str, ours: float | None, theirs: Sequence[float | None], unit: str = "") -> str:
    """Return median scores of both sides as the start of a phrase, without numbers where they would say nothing."""
    own, others = score_text(ours), [score_text(each) for each in theirs]
    if own == _NOT_REACHED:
        return "the posterior does not reach most of it; "
    # Sides with equal medians can differ beside them: then only the preference tells.
    return f"by {score}: " if own in others else f"{score} {own} against {' and '.join(others)}{unit}; "


def score_text(value: float | None) -> str:
    """Return a median score as text; None and infinity are places that the posterior does not reach."""
    return _NOT_REACHED if value is None or not math.isfinite(value) else f"{round(value, 3):.3g}"


def _agreement(comparison: xr.Dataset) -> str:
    """Return as text whether the particles are distributed along W0 as the posterior is."""
    value, low, high = (float(bound) for bound in comparison.agreement)
    if low > 0:
        share = f"{value:.0%} [{low:.0%}, {high:.0%}]"
        return f"is not where the posterior is: at least {share} of it is at other places of W0"
    return f"is where the posterior is along W0, as far as is seen (at most {max(high, 0.0):.0%} at other places)"


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
    shares = comparison.occupancy.sel(bound="estimate")
    change = float(np.abs(shares[-1] - shares[half]).sum()) / 2
    if change > scenario.verdict.margin:
        found["still moving"] = f"still moving: {change:.1%} of it changed strata over the last half of the run"
    if comparison.capped.sel(reference="tempered"):
        reached = float(comparison.mean_excess.sel(reference="tempered"))
        found["capped"] = f"its mean loss is below {reached:.2g}, where the references at its loss stop"
    return list(found.values())
