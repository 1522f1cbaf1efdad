"""The first sentence of an answer follows from the verdicts of the populations that it is about."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from sandbox.comparison.headline import DEPENDS, NO, QUESTIONS, REFERENCE, SCORE, UNKNOWN, YES, headline, of_population
from sandbox.comparison.law import DESCENT, SAMPLER, SGD
from sandbox.comparison.verdict import (
    EQUAL,
    FLATTER,
    LESS_SIMPLE,
    LESS_SINGULAR,
    MEANING,
    MORE_SINGULAR,
    SHARPER,
    SIMPLER,
    UNDECIDED,
)

SCORES = {"free_energy": 1.25, "local_learning_coefficient": 0.125}
NOT_LOST = {"not_reached": 0.0}


def population(
    kind: str, posterior: str, level_set: str = "", low: float = -0.1, *, estimate: float = 0.5, **changes: Any
) -> dict[str, Any]:
    """Return what an answer says of a population, with its verdicts and the lower end of its agreement."""

    def against(verdict: str) -> dict[str, Any]:
        score = "local_learning_coefficient" if "singular" in verdict else "free_energy"
        median = {name: 2 * value for name, value in SCORES.items()}
        return {"verdict": verdict, "score": score, "median": median, "preference": {"estimate": estimate}}

    row = {
        "kind": kind,
        "simplicity": SCORES | NOT_LOST,
        "agreement": {"estimate": 0.0, "low": low, "high": 0.2, "sentence": "is here or there"},
        "against": {"posterior": against(posterior), "level_set": against(level_set or posterior)},
    }
    return row | changes


def side(verdict: str) -> int:
    return (verdict in SIMPLER) - (verdict in LESS_SIMPLE)


@pytest.mark.parametrize(("posterior", "level_set"), list(product(MEANING, MEANING)))
def test_the_answer_of_every_pair_of_verdicts(posterior: str, level_set: str) -> None:
    """Simpler than one and less simple than the other: it depends. One side alone decides. Two equal ones: No."""
    sides = {side(posterior), side(level_set)}
    if sides == {1, -1}:
        expected = DEPENDS
    elif 1 in sides:
        expected = YES
    elif -1 in sides or posterior == level_set == EQUAL:
        expected = NO
    else:
        expected = UNKNOWN
    row = population(SGD, posterior, level_set)
    assert of_population(row) == expected
    found = headline({"sgd": row})
    assert (found.question, found.answer, found.populations) == (QUESTIONS[SGD], expected, ["sgd"])
    # The sentence says both verdicts, each reference by its name.
    for word, reference in ((posterior, "posterior"), (level_set, "level_set")):
        assert MEANING[word] in found.sentence
        assert REFERENCE[reference] in found.sentence
    assert found.sentence.startswith("sgd ")
    assert found.sentence.endswith(".")


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([MORE_SINGULAR, FLATTER], YES),
        ([LESS_SINGULAR, EQUAL], NO),
        ([FLATTER, SHARPER], DEPENDS),
        ([FLATTER, EQUAL], DEPENDS),
        ([UNDECIDED, UNDECIDED], UNKNOWN),
        # One population alone does not speak for another that is undecided.
        ([FLATTER, UNDECIDED], UNKNOWN),
        ([SHARPER, UNDECIDED], UNKNOWN),
        ([FLATTER, SHARPER, UNDECIDED], DEPENDS),
    ],
)
def test_several_populations_must_agree(verdicts: list[str], expected: str) -> None:
    found = headline({f"sgd_{k}": population(SGD, verdict) for k, verdict in enumerate(verdicts)})
    assert found.answer == expected
    assert found.sentence.count(".") >= len(verdicts)


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [
        ([SGD, DESCENT, SAMPLER], SGD),
        ([SAMPLER, SGD], SGD),
        ([SAMPLER, DESCENT], DESCENT),
        ([SAMPLER], SAMPLER),
    ],
)
def test_the_question_is_about_sgd_where_there_is_sgd(kinds: list[str], asked: str) -> None:
    """The verdicts of the others do not count: they are of the opposite side."""
    rows = {f"a_{kind}": population(kind, FLATTER if kind == asked else SHARPER) for kind in kinds}
    found = headline(rows)
    assert (found.question, found.answer) == (QUESTIONS[asked], YES)
    assert found.populations == [f"a_{asked}"]
    assert all((name in found.sentence) == (name == f"a_{asked}") for name in rows)


@pytest.mark.parametrize(("low", "expected"), [(0.1, NO), (0.0, YES), (-0.1, YES)])
@pytest.mark.parametrize("verdict", MEANING)
def test_a_sampler_is_asked_whether_it_is_where_the_posterior_is(low: float, expected: str, verdict: str) -> None:
    """Its verdicts do not count: a sampler in one of 25 equal modes is as simple as the posterior."""
    found = headline({"langevin": population(SAMPLER, verdict, low=low)})
    assert found.answer == expected
    assert found.sentence == "langevin is here or there."


@pytest.mark.parametrize(("estimate", "slight"), [(0.05, True), (-0.05, True), (0.2, False)])
def test_a_small_preference_is_called_slight(estimate: float, slight: bool) -> None:
    sentence = headline({"sgd": population(SGD, FLATTER, estimate=estimate)}).sentence
    assert ("reaches slightly flatter" in sentence) == slight
    assert f"preference {estimate:+.2f}" in sentence


def test_the_sentence_has_the_medians_of_the_score_that_decides() -> None:
    sentence = headline({"sgd": population(SGD, MORE_SINGULAR, FLATTER)}).sentence
    assert f"{SCORE['local_learning_coefficient']} 0.125 against 0.25" in sentence
    assert f"{SCORE['free_energy']} 1.25 against 2.5" in sentence
    for verdict in (EQUAL, UNDECIDED):
        assert "against 0" not in headline({"sgd": population(SGD, verdict)}).sentence
    lost = population(SGD, MORE_SINGULAR, simplicity=dict.fromkeys(SCORES) | {"not_reached": 1.0})
    assert "the posterior does not reach most of it; preference" in headline({"sgd": lost}).sentence


def test_medians_that_read_the_same_are_not_shown() -> None:
    """The difference then lies beside the medians: equal numbers would seem to contradict the verdict."""
    equal = population(SGD, LESS_SINGULAR, simplicity={name: 2.00001 * v for name, v in SCORES.items()} | NOT_LOST)
    sentence = headline({"sgd": equal}).sentence
    assert f"(by {SCORE['local_learning_coefficient']}: preference" in sentence
    assert " against 0" not in sentence
