"""docs/article.md: every scenario of the article has a row, and its numbers are those of the scenario's answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox.scenario.files import text_of
from sandbox.scenario.scenario import load

HOUSE = Path(__file__).parents[2]
PAGE = HOUSE / "docs" / "article.md"
SHIPPED = {path.stem: path for path in (HOUSE / "scenarios").glob("*.yaml")}
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| idea", "| ---"))
]
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e\d+)?%?")


def numbers_without_source(says: str, answer: str) -> set[str]:
    """Return the numbers of a row that the scenario's answer does not have."""
    return set(NUMBER.findall(re.sub(r"\]\(.*?\)", "]", says))) - set(NUMBER.findall(answer))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_a_scenario_and_says_what_its_answer_says(row: list[str]) -> None:
    _, place, scenario, says, link = row
    assert place
    if scenario == "all":
        assert link == "[answers](../results/README.md)"
        return
    name = scenario.strip("`")
    assert link == f"[{name}](../results/README.md#{name})"
    assert not numbers_without_source(says, load(SHIPPED[name]).answer)


def test_a_number_that_no_run_gave_is_found() -> None:
    answer = load(SHIPPED["crossing"]).answer
    assert not numbers_without_source("94% of SGD", answer)
    assert numbers_without_source("95% of SGD", answer) == {"95%"}


def test_every_scenario_of_the_article_has_a_row() -> None:
    cited = {name for name, path in SHIPPED.items() if "Hoogland" in text_of(path)}
    assert len(cited) > 20
    assert cited <= {row[2].strip("`") for row in ROWS}


def test_the_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / target).is_file(), target
