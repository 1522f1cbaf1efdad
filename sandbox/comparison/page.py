"""The page of an answer, in Markdown: the headline, numbers and reasons, the scenario's question, then tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from sandbox.comparison.edges import growth_and_edge
from sandbox.comparison.glossary import definitions, linked
from sandbox.comparison.headline import REFERENCE
from sandbox.comparison.simplicity import SCORES
from sandbox.comparison.verdict import score_text
from sandbox.model.strata import DIVERGED, ELSEWHERE

ROW_SCORES = SCORES[::-1]
"""The scores in the order of the table: the one that decides first."""

HERE = "#"
"""The glossary's place, for a page that defines its words at its own end."""


def markdown(found: dict[str, Any], glossary: str | None = HERE) -> str:
    """Return an answer, as `report.answer` gives it, as a page of Markdown.

    Technical words link to `glossary` + the word; None for a page without links, as for a terminal.
    """
    prose = "\n".join(
        [f"# {found['title']}", "", *_headline(found), *_populations(found), *_asked(found), *_measured(found)]
    ).rstrip()
    words: tuple[str, ...] = ()
    if glossary is not None:
        prose, words = linked(prose, glossary)
    lines = [prose]
    if found["populations"]:
        lines += [*_verdict_table(found), *_particles(found)]
    posterior = found["posterior"]
    lines += [
        "",
        f"Posterior: nbeta = {posterior['nbeta']:g}, log evidence = {posterior['log_evidence']:.6f} "
        f"(relative error {posterior['evidence_error']:.1e}), mean K_n = {posterior['mean_excess']:.3e}.",
        "",
    ]
    if glossary == HERE:
        lines += definitions(words)
    return "\n".join(lines)


def _headline(found: Mapping[str, Any]) -> list[str]:
    headline = found["headline"]
    look = ["*A look, not an answer: fewer particles and steps than the scenario has.*", ""] if found["is_look"] else []
    if headline is None:
        return look
    return [*look, f"**{headline['question']} {headline['answer']}.** {headline['sentence']}", ""]


def _populations(found: Mapping[str, Any]) -> list[str]:
    """Return a line for each population: whether it is where the posterior is, the law at work, warnings."""
    lines = []
    for name, population in found["populations"].items():
        sentences = [population["agreement"]["sentence"]]
        if population["simplicity"]["not_reached"] > 0:
            sentences.append(f"{population['simplicity']['not_reached']:.1%} of it is not reached by the posterior")
        if population["law"]:
            sentences.append(f"The law at work, {population['law']['name']}: {population['law']['sentence']}")
        sentences += [f"Warning: {warning}" for warning in population["warnings"]]
        lines.append(f"- **{name}** {'. '.join(sentences)}.")
    return [*lines, ""] if lines else []


def _verdict_table(found: Mapping[str, Any]) -> list[str]:
    """Return the table of verdicts, with a sentence that says which numbers stand in it."""
    radii, nbeta = found["scores"]["radii"], found["scores"]["nbeta"]
    level = next(iter(found["populations"].values()))["confidence"]
    rows = []
    for name, population in found["populations"].items():
        for reference, row in population["against"].items():
            sides = [
                f"{score_text(population['simplicity'][score])} / {score_text(row['median'][score])}"
                for score in ROW_SCORES
            ]
            preferences = [_signed(row["preferences"][score]) for score in ROW_SCORES]
            cells = [cell for pair in zip(sides, preferences, strict=True) for cell in pair]
            rows.append([f"**{name}**", REFERENCE[reference], row["verdict"], *cells, row["hindrance"]])
    return [
        "",
        "Solutions of each population (first number) beside those of each reference (second): medians at "
        f"n = {nbeta[0]:g} and a radius of {radii[len(radii) // 2]:.2g} prior scales. Preference is P(simpler) - "
        f"P(less simple), with its {level:.0%} interval. A verdict needs one sign at radii {radii[0]:.2g} to "
        f"{radii[-1]:.2g} and at n = {nbeta[0]:g} and {nbeta[-1]:g}.",
        "",
        *_table(
            ["population", "beside", "verdict", "λ_n", "preference by λ_n", "F in nat", "preference by F", "why"], rows
        ),
    ]


def _signed(bounds: Mapping[str, float | None]) -> str:
    value, low, high = bounds["estimate"], bounds["low"], bounds["high"]
    if value is None or low is None or high is None:
        return "-"
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _asked(found: Mapping[str, Any]) -> list[str]:
    lines = [f"**Question:** {found['question']}", ""]
    if found["reading"]:
        lines += [f"**Answer, read at the shipped size and seed:** {found['reading']}", ""]
    return lines


def _measured(found: Mapping[str, Any]) -> Iterable[str]:
    return (f"- **{name}**: {measured['summary']}." for name, measured in found["measurements"].items())


def _particles(found: dict[str, Any]) -> list[str]:
    """Return the tables of shares and of stability; none without strata."""
    if set(found["strata"]) == {ELSEWHERE}:
        return []
    lines = ["", "Shares of all particles at the last step (with intervals), and of the references' mass:", ""]
    lines += [*_share_table(found), *_tube_notes(found)]
    lines += _moves_table(found)
    lines += _stability_table(found)
    return lines


def _tube_notes(found: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each population whose shares lie on both sides of the posterior's as tubes change."""
    notes = [
        f"With half or twice the tubes' radius {name}'s share of {', '.join(population['tube_dependent'])} changes "
        "from above the posterior's to below it, or back: these shares say nothing on their own."
        for name, population in found["populations"].items()
        if population["tube_dependent"]
    ]
    return ["", *notes] if notes else []


def _stability_table(found: dict[str, Any]) -> list[str]:
    """Return the table of a step's effect near each stratum, with a note if a rule has no linearisation."""
    notions = ("deterministic", "mean square", "almost sure")
    rows = [
        [
            name,
            stratum,
            "{median} ({largest})".format(**{k: _text(v) for k, v in row["step_times_sharpness"].items()}),
            *(growth_and_edge(row, notion) for notion in notions),
        ]
        for name, population in found["populations"].items()
        for stratum, row in population["stability"].items()
    ]
    lines = [
        "",
        "Near each stratum: step size times sharpness, median (largest); and the logarithm by which the linearised "
        "step makes a distance grow, in three senses (the edge, as a multiple of this step size; 0 if the loss itself "
        "falls away), ± 1.96 standard errors:",
        "",
        *_table(["population", "stratum", "step times sharpness", *notions], rows),
    ]
    above = [(name, text) for name, population in found["populations"].items() for text in population["unstable"]]
    reasons = [(f"Above the edge of stability, {name}", text) for name, text in above]
    reasons += [(n, p["no_linearisation"]) for n, p in found["populations"].items() if p["no_linearisation"]]
    return [*lines, *([""] if reasons else []), *(f"- {name}: {reason}." for name, reason in reasons)]


def _share_table(found: dict[str, Any]) -> list[str]:
    strata = found["strata"]
    rows = [
        [
            "λ (m)",
            *(f"{_fraction(s['learning_coefficient'])} ({_text(s['multiplicity'])})" for s in strata.values()),
            "",
        ],
        ["posterior", *(_text(s["posterior_mass"]) for s in strata.values()), ""],
    ]
    for name, population in found["populations"].items():
        rows.append([f"**{name}**", *(_interval(v) for v in population["occupancy"].values())])
        for reference in ("tempered", "level_set"):
            title = f"{reference.replace('_', ' ')} at the loss of {name}"
            rows.append([title, *(_text(v) for v in population["against"][reference]["mass"].values())])
    return _table(["", *strata, DIVERGED], rows)


def _moves_table(found: dict[str, Any]) -> list[str]:
    """Return the table of moves between strata, if there are any, and of the strata that diverged particles left."""
    rows = []
    for name, population in found["populations"].items():
        for origin, goals in population["moves"].items():
            if goals:
                rows.append([name, origin, ", ".join(f"{goal} {count:,}" for goal, count in goals.items())])
        before = population["diverged"] - sum(goals.get(DIVERGED, 0) for goals in population["moves"].values())
        if before > 0:
            rows.append([name, "on no stratum before", f"{DIVERGED} {before:,}"])
    if not rows:
        return []
    return ["", "Moves between strata, as seen at the recorded times:", "", *_table(["population", "from", "to"], rows)]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def _interval(bounds: dict[str, float | None]) -> str:
    return f"{_text(bounds['estimate'])} [{_text(bounds['low'])}, {_text(bounds['high'])}]"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _fraction(value: float | None) -> str:
    """Return λ as a fraction, or as a decimal if it is not a simple one."""
    if value is None:
        return "-"
    fraction = Fraction(value).limit_denominator(1000)
    return str(fraction) if abs(float(fraction) - value) < 1e-12 else f"{value:.4g}"
