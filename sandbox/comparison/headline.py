"""The first sentence of an answer: does SGD reach simple solutions here?

It is Yes if a population reaches simpler solutions than the posterior or than the level set, and less simple ones than
neither; No if it is the other way round, or if both are as simple: then SGD has no preference of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sandbox.comparison.law import DESCENT, SAMPLER, SGD
from sandbox.comparison.verdict import EQUAL, LESS_SIMPLE, MEANING, SIMPLER, UNDECIDED, medians_text

YES, NO, DEPENDS, UNKNOWN = "Yes", "No", "It depends", "Undecided"

QUESTIONS = {
    SGD: "Does SGD reach simple solutions here?",
    DESCENT: "Does gradient descent reach simple solutions here?",
    SAMPLER: "Does the population go where the posterior goes?",
}
"""The question that a scenario answers, by the kind of its populations."""

REFERENCE = {
    "posterior": "the posterior",
    "tempered": "the posterior tempered to the same mean loss",
    "level_set": "the weights with at most that loss",
}
"""The references in words."""

SCORE = {"local_learning_coefficient": "local learning coefficient", "free_energy": "local free energy"}
"""The scores in words."""
SLIGHT = 0.1
"""The preference below which a difference is called slight."""


class Headline(NamedTuple):
    """The question, its answer in one or two words, a sentence, and the names of the populations that it is about."""

    question: str
    answer: str
    sentence: str
    populations: list[str]


def headline(populations: Mapping[str, Mapping[str, Any]]) -> Headline:
    """Return the headline of a run's populations, as they stand in its answer."""
    kinds = [each["kind"] for each in populations.values()]
    asked = next((kind for kind in (SGD, DESCENT, SAMPLER) if kind in kinds), SAMPLER)
    chosen = {name: each for name, each in populations.items() if each["kind"] == asked}
    found = {name: _of_sampler(each) if asked == SAMPLER else of_population(each) for name, each in chosen.items()}
    answers = set(found.values())
    decided = answers - {UNKNOWN}
    answer = next(iter(answers)) if len(answers) == 1 else (DEPENDS if len(decided) > 1 else UNKNOWN)
    sentence = " ".join(f"{_sentence(name, each, asked)}." for name, each in chosen.items())
    return Headline(QUESTIONS[asked], answer, sentence, list(chosen))


def of_population(population: Mapping[str, Any]) -> str:
    """Return the answer that one population gives, by its verdicts against the posterior and the level set."""
    words = {population["against"][reference]["verdict"] for reference in ("posterior", "level_set")}
    simpler, less = bool(words & set(SIMPLER)), bool(words & set(LESS_SIMPLE))
    if simpler and less:
        return DEPENDS
    if simpler:
        return YES
    return NO if less or words == {EQUAL} else UNKNOWN


def _of_sampler(population: Mapping[str, Any]) -> str:
    """Return whether a sampler is where the posterior is."""
    return NO if population["agreement"]["low"] > 0 else YES


def _sentence(name: str, population: Mapping[str, Any], asked: str) -> str:
    if asked == SAMPLER:
        return f"{name} {population['agreement']['sentence']}"
    grouped: dict[str, list[str]] = {}
    for reference in ("posterior", "level_set"):
        grouped.setdefault(population["against"][reference]["verdict"], []).append(reference)
    return f"{name} " + ", and ".join(_part(population, word, chosen) for word, chosen in grouped.items())


def _part(population: Mapping[str, Any], word: str, references: list[str]) -> str:
    """Return a verdict with its references and, if one score decides it, its medians and the preference."""
    against = [population["against"][reference] for reference in references]
    said = f"{MEANING[word]} {' and '.join(REFERENCE[reference] for reference in references)}"
    if word in (EQUAL, UNDECIDED):
        return said
    if all(abs(row["preference"]["estimate"]) < SLIGHT for row in against):
        said = said.replace("reaches ", "reaches slightly ", 1)
    score = against[0]["score"]
    ours, theirs = population["simplicity"][score], [row["median"][score] for row in against]
    preferences = " and ".join(f"{row['preference']['estimate']:+.2f}" for row in against)
    return f"{said} ({medians_text(SCORE[score], ours, theirs)}preference {preferences})"
