"""`key.path=value` -> the scenario's text with that value in its place; comments and layout stay."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

from sandbox.errors import InputError, nearest
from sandbox.scenario.document import Document, Path, read, read_value
from sandbox.scenario.messages import allowed_keys


def override(text: str, assignments: Iterable[str], filename: str = "scenario") -> str:
    """Return the text with each `key.path=value` applied in turn, the value read by the same rules as the file's.

    A key that stands in the text, or that the schema knows there, may be set; lists take positions from 0. Raises
    InputError for any other key, naming the nearest. Whether the values make sense is for `loads`.
    """
    assignments = list(assignments)
    if not assignments:
        # As it is: whether it can be read is for `loads`.
        return text
    document = read(text, filename)
    for assignment in assignments:
        document = _apply(document, assignment)
    return document.text


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
    """Turn `a.b.0` into a path whose keys are in the text or known to the schema."""
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
    """Return the text with `value` in flow style at `path`."""
    text = document.text
    known = path
    while known not in document.spans:
        known = known[:-1]
    span, missing = document.spans[known], path[len(known) :]
    if not missing or not _has_keys(document.data, known):
        gap = " " if span.end == span.start else ""
        return text[: span.start] + gap + _flow(_nested(missing, value)) + text[span.end :]
    entry = f"{_flow_key(str(missing[0]))}: {_flow(_nested(missing[1:], value))}"
    if span.style == "flow":
        return f"{text[: span.start + 1]}{entry}, {text[span.start + 1 :]}"
    return f"{text[: span.start]}{entry}\n{_indent(text, span.start)}{text[span.start :]}"


def _nested(keys: Path, value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _has_keys(value: Any, path: Path) -> bool:
    """Whether the value at `path` is a mapping that one more key can be put into."""
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


def _flow(value: Any) -> str:
    """Write a value in YAML's flow style, of which JSON is a part."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow_key(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _flow_key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else json.dumps(key, ensure_ascii=False)
