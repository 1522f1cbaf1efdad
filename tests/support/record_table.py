"""The tables of docs/record.md, and whether a record agrees with them."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import xarray as xr

Row = tuple[tuple[str, ...], str, str]
"""Dimensions, units and meaning of a variable."""

OPTIONAL = {"map_y"}
"""The dimensions that a record lacks if there is one parameter."""

_HEAD = re.compile(r"^## `(/.*)`$")
_ROW = re.compile(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$")


@functools.cache
def documented() -> dict[tuple[str, str], Row]:
    """Return the rows of docs/record.md by group and variable."""
    rows: dict[tuple[str, str], Row] = {}
    group = ""
    for line in (Path(__file__).parents[2] / "docs" / "record.md").read_text(encoding="utf-8").splitlines():
        if head := _HEAD.match(line):
            group = head[1]
        elif row := _ROW.match(line):
            dims = () if row[2] == "-" else tuple(row[2].split(", "))
            assert (group, row[1]) not in rows, f"{group}/{row[1]} stands twice"
            rows[group, row[1]] = dims, row[3], row[4].replace(r"\|", "|")
    return rows


def recorded(tree: xr.DataTree) -> dict[tuple[str, str], Row]:
    """Return the variables of a record as the rows of documentation that they need."""
    rows = {}
    for node in tree.subtree:
        group = re.sub("^/populations/.*", "/populations/*", node.path)
        for name, variable in node.to_dataset(inherit=False).variables.items():
            words = (variable.attrs.get(key, "") for key in ("units", "long_name"))
            rows[group, str(name)] = (tuple(map(str, variable.dims)), *words)
    return rows


def _fits(row: Row, written: Row | None) -> bool:
    if written is None or row[1:] != written[1:]:
        return False
    return row[0] == tuple(d for d in written[0] if d not in OPTIONAL or d in row[0])


def check_documented(tree: xr.DataTree) -> None:
    """Assert that every variable has a name in words and units, and stands with them in docs/record.md."""
    found = recorded(tree)
    assert all(units and words for _, units, words in found.values()), found
    wrong = {key: (row, documented().get(key)) for key, row in found.items() if not _fits(row, documented().get(key))}
    assert not wrong, wrong
