"""Overrides `key.path=value`: set a value in the text of a scenario, and keep its comments and layout."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from sandbox.scenario.document import Document, Path, read, read_value
from sandbox.scenario.files import described, find
from sandbox.scenario.messages import allowed_keys
from sandbox.scenario.writing import flow, flow_key
from sandbox.tools.errors import InputError, nearest


def override(text: str, assignments: Iterable[str], filename: str = "scenario") -> str:
    """Return the text with each `key.path=value` applied in turn; values are read by the same rules as the file.

    A key may be set if it is in the text or in the schema at that path; positions in lists count from 0. Raises
    InputError for any other key, and names the nearest one. The values are validated later, by `loads`.
    """
    assignments = list(assignments)
    if not assignments:
        # `loads` reads the text and reports its faults.
        return text
    document = read(text, filename)
    for assignment in assignments:
        document = _apply(document, assignment)
    return document.text


def keys(scenario: str, begun: str) -> list[str]:
    """Return each key that may be set and begins like `begun`, one level deep, for a shell's completion.

    `scenario` is a name, a path, or empty. One that cannot be read leaves the keys that every scenario may have.
    """
    try:
        data = read(described(find(scenario))[0], scenario).data if scenario else {}
    except InputError:
        # A shell's completion has no place for a message; the command itself will print it.
        data = {}
    above, _, last = begun.rpartition(".")
    path = tuple(above.split(".")) if above else ()
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    present = value if isinstance(value, dict) else {}
    known = dict.fromkeys([*present, *allowed_keys(path, data)])
    return [".".join([*path, key]) for key in known if key.startswith(last)]


def _apply(document: Document, assignment: str) -> Document:
    keys, equals, value_text = assignment.partition("=")
    if not equals or not keys.strip():
        raise InputError(f"'{assignment[:60]}' is not of the form key.path=value")
    source = f"--set {keys.strip()}"
    path = _path(document, keys.strip(), source)
    value = read_value(value_text, source)
    written = _splice(document, path, value)
    result = copy.deepcopy(document.data)
    _put(result, path, value)
    found = read(written, document.filename)
    if found.data != result:
        raise InputError(f"{source}: this value cannot be written into the text of {document.filename}")
    return found


def _path(document: Document, keys: str, source: str) -> Path:
    """Return `a.b.0` as a path; each key must be in the text or in the schema."""
    path: list[str | int] = []
    value: Any = document.data
    names = keys.split(".")
    for k, name in enumerate(names):
        where = ".".join(names[:k]) or "the scenario"
        if isinstance(value, list):
            if not name.isdecimal() or len(name) > 9 or int(name) >= len(value):
                raise InputError(
                    f"{source}: '{name[:60]}' is not a position in {where}; allowed: 0 to {len(value) - 1}"
                )
            path.append(int(name))
            value = value[int(name)]
            continue
        present = value if isinstance(value, dict) else {}
        known = list(dict.fromkeys([*present, *allowed_keys(tuple(path), document.data)]))
        if name not in known:
            allowed = f"allowed: {', '.join(known)}" if known else f"set {where} as a whole"
            raise InputError(f"{source}: unknown key '{name[:60]}' in {where}{nearest(name[:60], known)}; {allowed}")
        path.append(name)
        value = present.get(name)
    return tuple(path)


def _splice(document: Document, path: Path, value: Any) -> str:
    """Return the text with `value`, written in flow style, at `path`."""
    text = document.text
    known = path
    while known not in document.spans:
        known = known[:-1]
    span, missing = document.spans[known], path[len(known) :]
    if not missing or not _has_keys(document.data, known):
        gap = " " if span.end == span.start else ""
        return text[: span.start] + gap + flow(_nested(missing, value)) + text[span.end :]
    entry = f"{flow_key(str(missing[0]))}: {flow(_nested(missing[1:], value))}"
    if span.style == "flow":
        return f"{text[: span.start + 1]}{entry}, {text[span.start + 1 :]}"
    return f"{text[: span.start]}{entry}\n{_indent(text, span.start)}{text[span.start :]}"


def _nested(keys: Path, value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _has_keys(value: Any, path: Path) -> bool:
    """Return whether the value at `path` is a mapping with at least one key, so that another can be added."""
    for step in path:
        value = value[step]
    return isinstance(value, dict) and bool(value)


def _indent(text: str, index: int) -> str:
    start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    return " " * (index - start)


def _put(data: Any, path: Path, value: Any) -> None:
    for step in path[:-1]:
        if isinstance(data, dict) and not isinstance(data.get(step), dict | list):
            data[step] = {}
        data = data[step]
    data[path[-1]] = value
