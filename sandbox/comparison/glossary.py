"""The glossary, for links from answers: each technical word with its definition."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

_PLACES = (Path(__file__).with_name("glossary.md"), Path(__file__).parents[2] / "docs" / "glossary.md")
"""The glossary in an installed package, and in a checkout."""
WORDS = "## Words"
"""The heading of the definitions at the end of a page."""
_ENTRY = re.compile(
    r'^(?:<a id="[^"]*"></a>)?\*\*(?P<names>[^*]+)\*\* (?P<text>.+?)(?=\n\n|\Z)', re.MULTILINE | re.DOTALL
)


def anchor(name: str) -> str:
    """Return the anchor of an entry: its name in lower case, with hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@functools.cache
def entries() -> dict[str, tuple[str, str]]:
    """Return each word in lower case, with the name of its entry and the definition."""
    text = next(place for place in _PLACES if place.is_file()).read_text(encoding="utf-8")
    found = {}
    for entry in _ENTRY.finditer(text):
        first, *others = re.split(r", | \(|\)", entry["names"])
        for name in (first, *filter(None, others)):
            found[name.lower()] = (first, " ".join(entry["text"].split()))
    return found


def linked(text: str, place: str) -> tuple[str, tuple[str, ...]]:
    """Return Markdown text in which the first use of each word links to `place` + its anchor, and the words found."""
    used: dict[str, None] = {}
    words = sorted(entries(), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w*`/\[-])({'|'.join(map(re.escape, words))})(s?)(?![\w*`/-])", re.IGNORECASE)

    def link(match: re.Match[str]) -> str:
        name = entries()[match[1].lower()][0]
        if name in used:
            return match[0]
        used[name] = None
        return f"[{match[0]}]({place}{anchor(name)})"

    title, _, rest = text.partition("\n")
    return f"{title}\n{pattern.sub(link, rest)}", tuple(used)


def definitions(words: Iterable[str]) -> list[str]:
    """Return lines of Markdown that define these words, each with its anchor."""
    lines = [f'- <a id="{anchor(name)}"></a>**{name}**: {entries()[name.lower()][1]}' for name in sorted(words)]
    return [WORDS, "", *lines, ""] if lines else []
