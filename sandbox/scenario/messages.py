"""Pydantic's validation errors, turned into plain words at the keys of the scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from sandbox.scenario.document import AtKey, Path, kind
from sandbox.scenario.schema import loss_kind, schema
from sandbox.tools.errors import InputProblem, nearest

Node = dict[str, Any]
"""A part of a JSON Schema, without references and alternatives."""


def _tidy(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


_ALLOWED: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "int_type": lambda _: "a whole number",
    "int_from_float": lambda _: "a whole number",
    "float_type": lambda _: "a number",
    "string_type": lambda _: "text",
    "bool_type": lambda _: "true or false",
    "list_type": lambda _: "a list",
    "tuple_type": lambda _: "a list",
    "dict_type": lambda _: "a mapping",
    "model_type": lambda _: "a mapping",
    "model_attributes_type": lambda _: "a mapping",
    "finite_number": lambda _: "a finite number",
    "greater_than": lambda limits: f"a number above {_tidy(limits['gt'])}",
    "greater_than_equal": lambda limits: f"a number of at least {_tidy(limits['ge'])}",
    "less_than": lambda limits: f"a number below {_tidy(limits['lt'])}",
    "less_than_equal": lambda limits: f"a number of at most {_tidy(limits['le'])}",
    "too_short": lambda limits: f"at least {_entries(limits['min_length'])}",
    "too_long": lambda limits: f"at most {_entries(limits['max_length'])}",
    "literal_error": lambda limits: limits["expected"],
}
"""The allowed values in words, by pydantic's type of error."""

_UNKNOWN_RULE = ("union_tag_invalid", "union_tag_not_found")


def problems(error: ValidationError, data: Any) -> list[InputProblem]:
    """Return the problems in `data`, each at its path of keys and in plain words."""
    found: list[InputProblem] = []
    by_path: dict[Path, list[Any]] = {}
    for fault in _without_alternatives(error.errors(include_url=False), data):
        path = fault["loc"]
        if fault["type"] == "missing":
            found.append(InputProblem(f"this key is missing{_meaning(path, data)}", path))
        elif fault["type"] == "extra_forbidden":
            found.append(unknown_key(path, data))
        elif fault["type"] in _UNKNOWN_RULE:
            found.append(_unknown_rule(path, fault))
        else:
            by_path.setdefault(path, []).append(fault)
    return found + [_wrong_value(path, faults, data) for path, faults in by_path.items()]


def unknown_key(path: Path, data: Any) -> AtKey:
    """Return the problem for a key that is not allowed in its mapping."""
    allowed = allowed_keys(path[:-1], data)
    name = str(path[-1])
    return AtKey(f"unknown key '{name[:60]}'{nearest(name[:60], allowed)}; allowed: {', '.join(allowed)}", path)


def allowed_keys(path: Path, data: Any) -> list[str]:
    """Return the keys that the schema allows in the mapping at `path`; none if the user chooses the keys."""
    return list(dict.fromkeys(key for node in nodes(path, data) for key in node.get("properties", ())))


def nodes(path: Path, data: Any) -> list[Node]:
    """Return the schema's alternatives for the value at `path` that agree with `data`."""
    here = list(_expand(schema()))
    for step in path:
        here = [inner for node in here if _agrees(node, data) for inner in _expand(_inside(node, step))]
        data = _get(data, step)
    return [node for node in here if _agrees(node, data)]


def _without_alternatives(faults: Iterable[Any], data: Any) -> list[Any]:
    """Return the faults of the alternatives closest to the data, with locations that consist of keys only.

    Pydantic puts the names of a union's alternatives between the keys, and reports faults for every alternative.
    """
    kept = []
    unions: dict[Path, dict[str | int, list[Any]]] = {}
    for fault in faults:
        depth = _depth(fault["loc"], data)
        is_last = depth == len(fault["loc"]) - 1
        if depth == len(fault["loc"]) or (is_last and fault["type"] == "missing"):
            kept.append(fault)
        elif fault["type"] != "none_required":
            prefix, name = fault["loc"][:depth], fault["loc"][depth]
            inner = fault | {"loc": prefix + fault["loc"][depth + 1 :]}
            unions.setdefault(prefix, {}).setdefault(name, []).append(inner)
    for prefix, alternatives in unions.items():
        kept += _closest(prefix, [_without_alternatives(inner, data) for inner in alternatives.values()])
    return kept


def _depth(location: Path, data: Any) -> int:
    """Return the number of leading steps of a location that exist in the data."""
    for k, step in enumerate(location):
        if not _has(data, step):
            return k
        data = data[step]
    return len(location)


def _closest(prefix: Path, alternatives: list[list[Any]]) -> list[Any]:
    """Return the faults of the best alternative at `prefix`: first the right type, then the fewest key faults."""
    keys = ("missing", "extra_forbidden")

    def distance(faults: list[Any]) -> tuple[bool, int]:
        return any(f["loc"] == prefix and f["type"] not in keys for f in faults), sum(f["type"] in keys for f in faults)

    best = min(distance(faults) for faults in alternatives)
    closest = [faults for faults in alternatives if distance(faults) == best]
    if len(closest) == 1:
        return closest[0]
    # If several are equally close, the intended one is unknown, so none of their missing keys is reported.
    clear = [fault for faults in closest for fault in faults if fault["type"] != "missing"]
    return clear or [closest[0][0] | {"type": "unclear", "loc": prefix}]


def _unknown_rule(path: Path, fault: Any) -> InputProblem:
    rules = fault["ctx"].get("expected_tags")
    if rules is None:
        return InputProblem("this key is missing: it names the update rule of the particles", (*path, "rule"))
    known = [name.strip("'") for name in rules.split(", ")]
    tag = str(fault["ctx"]["tag"])[:60]
    return InputProblem(f"unknown rule '{tag}'{nearest(tag, known)}; allowed: {', '.join(known)}", (*path, "rule"))


def _wrong_value(path: Path, faults: list[Any], data: Any) -> InputProblem:
    value = data
    for step in path:
        value = value[step]
    allowed = [_ALLOWED[f["type"]](f.get("ctx", {})) for f in faults if f["type"] in _ALLOWED]
    words = " or ".join(
        word for word in dict.fromkeys(allowed) if word != "a whole number" or "a number" not in allowed
    )
    names = [name for f in faults if f["type"] == "literal_error" for name in f["ctx"]["expected"].split("'")[1::2]]
    hint = nearest(value, names) if isinstance(value, str) else ""
    found = f"found {'an empty' + kind(value)[1:] if value in ({}, []) else kind(value)}{hint}"
    return InputProblem(
        f"{found}; allowed: {words}{_meaning(path, data)}" if words else found + _meaning(path, data), path
    )


def _meaning(path: Path, data: Any) -> str:
    meanings = dict.fromkeys(node["description"] for node in nodes(path, data) if "description" in node)
    return f" ({next(iter(meanings))})" if meanings else ""


def _expand(node: Node | None) -> Iterator[Node]:
    """Yield the alternatives of a schema node, references resolved; keys beside a reference override its target's."""
    if node is None:
        return
    beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf", "oneOf", "title")}
    if "$ref" in node:
        yield from _expand(schema()["$defs"][node["$ref"].rpartition("/")[2]] | beside)
        return
    options = node.get("anyOf", node.get("oneOf"))
    if options is None:
        yield node
        return
    for option in options:
        yield from _expand(option | beside)


def _inside(node: Node, step: str | int) -> Node | None:
    if isinstance(step, int):
        items: Node | None = node.get("items")
        return items
    more = node.get("additionalProperties")
    inner: Node | None = node.get("properties", {}).get(step, more if isinstance(more, dict) else None)
    return inner


def _agrees(node: Node, value: Any) -> bool:
    """Return whether `value` can belong to this alternative: its type and fixed keys (such as `rule`) fit."""
    if not isinstance(value, dict):
        return not isinstance(value, list) or "properties" not in node
    properties = node.get("properties", {})
    fixed = {key: inner["const"] for key, inner in properties.items() if "const" in inner}
    if any(key in value and value[key] != constant for key, constant in fixed.items()):
        return False
    if node.get("title") in ("Potential", "Contrast", "Regression"):
        return bool(node["title"] == loss_kind(value))
    return bool(node.get("type", "object") == "object")


def _has(data: Any, step: str | int) -> bool:
    if isinstance(data, dict):
        return step in data
    return isinstance(data, list) and isinstance(step, int) and step < len(data)


def _get(data: Any, step: str | int) -> Any:
    return data[step] if _has(data, step) else None
