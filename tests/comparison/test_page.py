"""The page begins with the answer, is short before its tables, and every link leads to a definition."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.small_runs import ARMS, WELLS, record_of, small, tree_of

from sandbox.comparison.glossary import anchor, definitions, entries, linked
from sandbox.comparison.page import HERE, markdown
from sandbox.comparison.report import answer

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"
LINK = re.compile(r"\[[^\]]+\]\(([^)]*)#([^)]*)\)")
MOST_BEFORE_THE_TABLES = 25


def made() -> dict[str, dict[str, Any]]:
    """Return answers: two populations, one lost; one with a reading, as a look; and one of the loss alone."""
    wells, arms = small(WELLS), small("answer: It is, $5 and |w| < 1.\n" + ARMS)
    both = {
        "sgd": record_of(wells, np.empty((0, 1)), excess=float("nan"), gone=300),
        "langevin": record_of(wells, np.repeat([[-0.95], [1.05]], 150, axis=0)),
    }
    on_arm = {name: record_of(arms, np.tile([0.5, 0.01], (300, 1))) for name in ("sgd", "langevin")}
    pages = {"wells": answer(tree_of(wells, both)), "arms": answer(tree_of(arms, on_arm))}
    pages["look"] = pages["arms"] | {"is_look": True}
    summary = {"summary": "λ is 0.5, so the posterior prefers the stratum", "values": {}}
    pages["measured"] = pages["wells"] | {"populations": {}, "headline": None, "measurements": {"llc": summary}}
    return pages


@pytest.fixture(scope="module")
def pages() -> dict[str, dict[str, Any]]:
    return made()


NAMES = ("wells", "arms", "look", "measured")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_begins_with_the_answer(pages: dict[str, dict[str, Any]], name: str) -> None:
    found = pages[name]
    lines = [line for line in markdown(found, glossary=None).splitlines() if line]
    assert lines[0] == "# small"
    if found["is_look"]:
        assert lines.pop(1).startswith("*A look, not an answer")
    if found["headline"]:
        headline = found["headline"]
        assert lines[1] == f"**{headline['question']} {headline['answer']}.** {headline['sentence']}"
        assert [line.split("** ")[0] for line in lines[2:4]] == ["- **sgd", "- **langevin"]
    assert f"**Question:** {found['question']}" in lines
    assert any("It is, $5" in line and line.startswith("**Answer, read at the shipped size") for line in lines) == bool(
        found["reading"]
    )


@pytest.mark.parametrize("glossary", [None, HERE, "../docs/glossary.md#"])
@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_short_before_its_first_table(
    pages: dict[str, dict[str, Any]], name: str, glossary: str | None
) -> None:
    lines = markdown(pages[name], glossary).splitlines()
    table = next((k for k, line in enumerate(lines) if line.startswith("|")), len(lines))
    assert table <= MOST_BEFORE_THE_TABLES
    assert not any(one == other == "" for one, other in pairwise(lines))


def anchors(text: str) -> list[str]:
    return re.findall(r'<a id="([^"]+)"></a>', text)


def check_links(page: str, place: str, targets: list[str]) -> None:
    """Assert that a page has links, all to this place, and that each leads to one target."""
    links = LINK.findall(page)
    assert links
    assert {where for where, _ in links} == {place}
    assert all(targets.count(name) == 1 for _, name in links)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_definition(pages: dict[str, dict[str, Any]], name: str) -> None:
    """At the page's own end, or in the glossary; a page without the definitions fails."""
    page = markdown(pages[name])
    assert page.count("## Words") == 1
    check_links(page, "", anchors(page))
    with pytest.raises(AssertionError):
        check_links(page, "", anchors(page.split("## Words")[0]))
    # Each word is defined because it is used, and each link stands once.
    used = [target for _, target in LINK.findall(page.split("## Words")[0])]
    assert sorted(used) == sorted(anchors(page))
    elsewhere = markdown(pages[name], "../docs/glossary.md#")
    assert "## Words" not in elsewhere
    check_links(elsewhere, "../docs/glossary.md", anchors(GLOSSARY.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_a_terminal_gets_the_same_page_without_links(pages: dict[str, dict[str, Any]], name: str) -> None:
    plain = markdown(pages[name], glossary=None)
    assert not LINK.search(plain)
    assert "<a id" not in plain
    page = re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r"\1", markdown(pages[name]).split("\n## Words")[0])
    assert page.rstrip() == plain.rstrip()


def test_the_glossary_has_one_anchor_and_one_meaning_for_each_word() -> None:
    text = GLOSSARY.read_text(encoding="utf-8")
    bold = re.findall(r'^(<a id="[^"]+"></a>)?\*\*([^*]+)\*\* ', text, re.MULTILINE)
    assert len(bold) > 60
    names = []
    for place, entry in bold:
        first, *others = re.split(r", | \(|\)", entry)
        assert place == f'<a id="{anchor(first)}"></a>'
        names += [name.lower() for name in (first, *filter(None, others))]
    assert len(names) == len(set(names)) == len(entries())
    assert len(anchors(text)) == len(set(anchors(text)))


@pytest.mark.parametrize(
    "word",
    ["solution", "local free energy", "local learning coefficient", "more singular", "flatter", "not reached",
     "preference", "margin", "agreement", "law at work", "level set", "tempered posterior", "verdict"],
)  # fmt: skip
def test_the_words_of_an_answer_are_defined_in_a_short_first_sentence(word: str) -> None:
    name, definition = entries()[word]
    assert name == word
    # These are printed at the end of each answer.
    assert len(definition.split(". ")[0]) <= 240
    assert definitions([word])[2].startswith(f'- <a id="{anchor(word)}"></a>**{word}**: ')


def test_a_word_is_linked_once_by_its_longest_name_and_never_inside_another() -> None:
    text = "# The posterior\nPosteriors, the posterior and the local learning coefficient of `loss` and lossy."
    page, words = linked(text, "#")
    assert page == (
        "# The posterior\n[Posteriors](#posterior), the posterior and the "
        "[local learning coefficient](#local-learning-coefficient) of `loss` and lossy."
    )
    assert words == ("posterior", "local learning coefficient")
