"""The atlas: its rows say what the answers say, its groups follow from λ, its counts from the rows."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from support.made_up_answers import answered

from sandbox.comparison.atlas import (
    ALIKE,
    COMPARED,
    DIFFERENT,
    MEASURED,
    REGULAR,
    SIDES,
    UNSTATED,
    Row,
    group_of,
    overall,
    rows_of,
    table,
)
from sandbox.comparison.verdict import MEANING

SGD = {"sgd": ("more singular", "flatter"), "langevin": ("equally simple", "sharper")}


def test_a_row_says_what_the_answer_says() -> None:
    found = answered(SGD)
    rows = rows_of("here", found, 2)
    assert [(row.scenario, row.population, row.is_sgd) for row in rows] == [
        ("here", "sgd", True),
        ("here", "langevin", False),
    ]
    for row in rows:
        population = found["populations"][row.population]
        assert row.law == population["law"]["name"]
        assert row.disagreement == tuple(population["agreement"][bound] for bound in ("estimate", "low", "high"))
        for reference in COMPARED:
            said, there = row.against[reference], population["against"][reference]
            assert said.verdict == there["verdict"]
            assert {"estimate": said.estimate, "low": said.low, "high": said.high} == there["preference"]


CHANGES: dict[str, Any] = {
    "verdict": lambda p: p["against"]["level_set"].update(verdict="sharper"),
    "preference": lambda p: p["against"]["posterior"].update(preference={"estimate": -0.9, "low": -1, "high": -0.8}),
    "no preference": lambda p: p["against"]["posterior"].update(preference=dict.fromkeys(("estimate", "low", "high"))),
    "law": lambda p: p.update(law=None),
    "agreement": lambda p: p.update(agreement={"estimate": 0.25, "low": 0.2, "high": 0.3, "sentence": ""}),
    "rule": lambda p: p.update(is_sgd=False),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_answer_changes_its_row_and_no_other(change: Any) -> None:
    """Nothing but the answer enters: the row that follows from a changed answer differs, in the table too."""
    found = answered(SGD)
    changed = copy.deepcopy(found)
    change(changed["populations"]["sgd"])
    before, after = (rows_of("here", answer, 2) for answer in (found, changed))
    assert before[0] != after[0]
    assert before[1] == after[1]
    assert table(before).splitlines()[2] != table(after).splitlines()[2]
    assert table(before).splitlines()[3] == table(after).splitlines()[3]


@pytest.mark.parametrize(
    ("strata", "parameters", "group"),
    [
        ({"cross": (0.5, 2), "arm": (0.5, 1)}, 2, DIFFERENT),
        ({"flat": (0.25, 1), "sharp": (0.5, 1)}, 1, DIFFERENT),
        ({"line": (0.5, 1)}, 2, ALIKE),
        ({"one": (0.5, 1), "other": (0.5, 1)}, 2, ALIKE),
        ({"one": (1.0, 1), "other": (1.0, 1)}, 2, REGULAR),
        ({"one": (0.5, 1)}, 1, REGULAR),
        ({"one": (0.5, 1), "other": (None, None)}, 1, UNSTATED),
        ({}, 2, UNSTATED),
    ],
)
def test_the_group_follows_from_the_column_of_lambda(strata: Any, parameters: int, group: str) -> None:
    found = answered(SGD, strata)
    assert group_of(found, parameters) == group
    renamed = {f"{name}_again": pair for name, pair in strata.items()}
    assert group_of(answered(SGD, renamed), parameters) == group
    assert group_of(answered({}, strata), parameters) == MEASURED


VERDICTS = ["more singular", "flatter", "flatter", "equally simple", "sharper", "undecided", "undecided"]


def of_verdicts(level_set: list[str], posterior: str = "undecided") -> list[Row]:
    """Return the rows of scenarios with one population of SGD each; a sampler beside it disagrees with it."""
    return [
        row
        for k, verdict in enumerate(level_set)
        for row in rows_of(f"s{k}", answered({"sgd": (posterior, verdict), "mala": ("sharper", "sharper")}), 2)
    ]


def test_the_overall_answer_counts_the_rows() -> None:
    said = overall(of_verdicts(VERDICTS))
    assert "7 populations of SGD in 7 scenarios answer: 3 Yes, 1 No, 0 It depends, 3 Undecided." in said
    level_set = (
        "3 end at simpler solutions (1 more singular, 2 flatter), 1 at equally simple ones, 1 at less simple ones"
    )
    assert f"{level_set} (1 sharper), and 2 are undecided." in said
    assert "Of 7 populations of other rules, compared with the posterior, 0 end at simpler solutions" in said
    assert "7 of 7 agree with it" in said


def test_a_changed_row_changes_the_counts() -> None:
    rows = of_verdicts(VERDICTS)
    texts = {overall(rows)} | {overall(of_verdicts([*VERDICTS[:-1], verdict])) for verdict in MEANING}
    # The last one was undecided: the same rows give the same text.
    assert len(texts) == len(MEANING)


@pytest.mark.parametrize(
    ("level_set", "posterior", "word"),
    [
        (["more singular", "flatter", "undecided"], "undecided", "Yes"),
        (["equally simple"], "flatter", "Yes"),
        (["equally simple"], "equally simple", "No"),
        (["less singular", "undecided"], "undecided", "No"),
        (["more singular", "sharper"], "undecided", "It depends"),
        (["more singular"], "sharper", "It depends"),
        (["undecided"], "undecided", "Undecided"),
    ],
)
def test_the_first_word_is_the_answer_of_the_decided_populations(
    level_set: list[str], posterior: str, word: str
) -> None:
    """The rules that are not SGD do not count: alone they decide nothing."""
    rows = of_verdicts(level_set, posterior)
    assert overall(rows).startswith(f"**{word}.**")
    assert overall([row for row in rows if not row.is_sgd]).startswith("**Undecided: ")


def test_every_verdict_is_on_one_side() -> None:
    assert sorted(verdict for side in SIDES.values() for verdict in side) == sorted(MEANING)
