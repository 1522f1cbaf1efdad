"""The atlas: one row for each population of every answer, and the overall answer that the rows give.

Everything here is read from answers (`answer.json`) and from the number of parameters of their scenarios.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.comparison.headline import DEPENDS, NO, UNKNOWN, YES, of_population
from sandbox.comparison.verdict import EQUAL, LESS_SIMPLE, SIMPLER, UNDECIDED
from sandbox.model.strata import ELSEWHERE

DIFFERENT, ALIKE, REGULAR, UNSTATED, MEASURED = "different", "alike", "regular", "unstated", "measured"

GROUPS = {
    DIFFERENT: (
        "Strata of different λ or m",
        "Some solutions are more singular than others. As n grows the posterior moves to the lowest λ, then "
        "to the highest m.",
    ),
    ALIKE: (
        "Singular, with the same λ and m everywhere",
        "All solutions are equally singular. The posterior prefers the flatter ones, by a factor that does not grow "
        "with n.",
    ),
    REGULAR: (
        "Regular: λ = D/2",
        "Every solution is an isolated minimum with an invertible Hessian. The posterior weighs them by curvature and "
        "prior alone.",
    ),
    UNSTATED: ("λ not known", "No theorem gives λ here, and the scenario does not state it."),
    MEASURED: ("Measurements without particles", "These scenarios measure the loss or the posterior; no rule runs."),
}
"""The groups by what theory says of the strata, in the order of the page: a title and a sentence."""

SIDES = {
    "end at simpler solutions": SIMPLER,
    "at equally simple ones": (EQUAL,),
    "at less simple ones": LESS_SIMPLE,
    "are undecided": (UNDECIDED,),
}
"""The verdicts by side."""

COMPARED = {"level_set": "the level set", "posterior": "the posterior"}
"""The references of the atlas with their words; the article asks about the first."""

LEGEND = (
    "Preference is P(a particle is simpler than a draw of the reference) - P(it is less simple), with its interval, by "
    "the score that decides: the local learning coefficient for more or less singular, the local free energy for "
    "flatter or sharper. SGD is in bold. A population agrees with the posterior if it may be in the "
    "same places along W0."
)
"""What the columns of the table mean."""


@dataclass(frozen=True)
class Against:
    """A population beside one reference: the verdict, and the preference with its interval, None if there is none."""

    verdict: str
    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Row:
    """One population of one scenario beside the references.

    `disagreement` are the estimate and the bounds of the least share of particles that are elsewhere along W0 than the
    posterior's draws, None if unknown; `reaches` answers whether the population reaches simple solutions, as the
    headline of a run does; `law` is the name of the law at work, or empty.
    """

    scenario: str
    population: str
    is_sgd: bool
    group: str
    against: Mapping[str, Against]
    disagreement: tuple[float, float, float] | None
    reaches: str
    law: str

    @property
    def agrees(self) -> bool | None:
        """Whether the population may be where the posterior is along W0; None if unknown."""
        return None if self.disagreement is None else self.disagreement[1] <= 0


def group_of(answer: Mapping[str, Any], parameters: int) -> str:
    """Return the group of an answer, by the column of λ and m of its strata."""
    if not answer["populations"]:
        return MEASURED
    strata = [row for name, row in answer["strata"].items() if name != ELSEWHERE]
    kinds = {(row["learning_coefficient"], row["multiplicity"]) for row in strata}
    if not kinds or any(None in kind for kind in kinds):
        return UNSTATED
    if len(kinds) > 1:
        return DIFFERENT
    ((coefficient, _),) = kinds
    return REGULAR if math.isclose(coefficient, parameters / 2) else ALIKE


def rows_of(scenario: str, answer: Mapping[str, Any], parameters: int) -> list[Row]:
    """Return a row for each population of an answer."""
    group = group_of(answer, parameters)
    return [
        Row(
            scenario,
            name,
            found["is_sgd"],
            group,
            {
                reference: Against(found["against"][reference]["verdict"], **found["against"][reference]["preference"])
                for reference in COMPARED
            },
            _bounds(found["agreement"]),
            of_population(found),
            found["law"]["name"] if found["law"] else "",
        )
        for name, found in answer["populations"].items()
    ]


def _bounds(found: Mapping[str, float | None] | None) -> tuple[float, float, float] | None:
    estimate, low, high = ((found or {}).get(bound) for bound in ("estimate", "low", "high"))
    return None if estimate is None or low is None or high is None else (estimate, low, high)


def table(rows: Iterable[Row]) -> str:
    """Return the table of some rows in Markdown; each scenario links to its section of the page."""
    header = ["scenario", "population", *COMPARED.values(), "agrees with the posterior?", "reason"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        name = f"**{row.population}**" if row.is_sgd else row.population
        against = [_cell(row.against[reference]) for reference in COMPARED]
        lines.append([f"[{row.scenario}](#{row.scenario})", name, *against, _agreement(row), row.law or "-"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(found: Against) -> str:
    if found.estimate is None or found.low is None or found.high is None:
        return found.verdict
    # Adding 0 turns a rounded -0 into 0.
    return "{}: {:+.2f} [{:+.2f}, {:+.2f}]".format(
        found.verdict, *(round(number, 2) + 0 for number in (found.estimate, found.low, found.high))
    )


def _agreement(row: Row) -> str:
    if row.disagreement is None:
        return "-"
    return "yes" if row.agrees else "no: {:.0%} [{:.0%}, {:.0%}] elsewhere".format(*row.disagreement)


def overall(rows: Sequence[Row]) -> str:
    """Return the answer to the article's question, as counts over all rows: one paragraph of Markdown."""
    sgd, others = [row for row in rows if row.is_sgd], [row for row in rows if not row.is_sgd]
    if not sgd:
        return f"**{UNKNOWN}: no population of SGD has been run.**"
    reached = Counter(row.reaches for row in sgd)
    decided = [answer for answer in reached if answer != UNKNOWN]
    word = UNKNOWN if not decided else DEPENDS if len(decided) > 1 else decided[0]
    counts = ", ".join(f"{reached[answer]} {answer}" for answer in (YES, NO, DEPENDS, UNKNOWN))
    scenarios = len({row.scenario for row in sgd})
    said = [
        f"**{word}.** {_many(len(sgd), 'population')} of SGD in {_many(scenarios, 'scenario')} answer: {counts}. Yes "
        "means simpler than the posterior or than all weights of at most the same loss (the level set), and less "
        "simple than neither; No means the other way round, or as simple as both.",
        f"Compared with the level set, which is the article's own question, {_sides(sgd, 'level_set')}.",
        f"Compared with the posterior, {_sides(sgd, 'posterior')}; {_agreeing(sgd)}.",
        *(_by_group(group, sgd) for group in GROUPS if any(row.group == group for row in sgd)),
    ]
    laws = Counter(row.law for row in sgd if row.law)
    if laws:
        named = ", ".join(f"{law} ({count})" for law, count in laws.most_common())
        said.append(f"The laws at work in SGD: {named}; none is recognised in {len(sgd) - laws.total()}.")
    if others:
        said.append(
            f"Of {_many(len(others), 'population')} of other rules, compared with the posterior, "
            f"{_sides(others, 'posterior')}; {_agreeing(others)}."
        )
    said.append(
        "The scenarios were chosen to show mechanisms: the counts describe this library, not networks at large."
    )
    return " ".join(said)


def _sides(rows: Sequence[Row], reference: str) -> str:
    """Return as text how many rows are on each side of a reference, the simpler and less simple ones by verdict."""
    verdicts = Counter(row.against[reference].verdict for row in rows)
    parts = []
    for words, side in SIDES.items():
        kinds = {verdict: verdicts[verdict] for verdict in side if verdicts[verdict]}
        split = ", ".join(f"{count} {verdict}" for verdict, count in kinds.items())
        parts.append(f"{sum(kinds.values())} {words}" + f" ({split})" * (len(side) > 1 and bool(kinds)))
    return f"{', '.join(parts[:-1])}, and {parts[-1]}"


def _agreeing(rows: Sequence[Row]) -> str:
    known = [row for row in rows if row.agrees is not None]
    return f"{sum(bool(row.agrees) for row in known)} of {len(known)} agree with it on the place along W0"


def _by_group(group: str, rows: Sequence[Row]) -> str:
    inside = [row for row in rows if row.group == group]
    simpler, less = (sum(row.against["posterior"].verdict in side for row in inside) for side in (SIMPLER, LESS_SIMPLE))
    title = GROUPS[group][0]
    return f"In the group *{title}* {simpler} of {len(inside)} are simpler than the posterior, {less} less simple."


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)
