"""Plain data -> the text of a scenario."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from sandbox.scenario.document import Path, kind
from sandbox.tools.errors import InputError


def write(data: Any) -> str:
    """Return a text that reads as `data`: mappings, lists, texts, numbers, true, false and None; numpy's count, too.

    Raises InputError at the path of any other value.
    """
    plain = _plain(data, ())
    if not isinstance(plain, dict):
        raise InputError(f"a mapping of keys to values was expected, found {kind(plain)}")
    return "".join(_entry(key, value, "") for key, value in plain.items())


def flow(value: Any) -> str:
    """Return a value in YAML's flow style, which includes JSON."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow_key(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return str(json.dumps(value, ensure_ascii=False))


def flow_key(key: str) -> str:
    """Write a key of a mapping, in quotes unless it is a plain name."""
    return key if key.isidentifier() and key.isascii() else json.dumps(key, ensure_ascii=False)


def _entry(key: str, value: Any, indent: str) -> str:
    if isinstance(value, dict) and value:
        inner = "".join(_entry(name, each, indent + "  ") for name, each in value.items())
        return f"{indent}{flow_key(key)}:\n{inner}"
    return f"{indent}{flow_key(key)}: {flow(value)}\n"


def _plain(value: Any, path: Path) -> Any:
    """Return a value made of Python's own types. Raises InputError at the path of one that YAML does not know."""
    value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not key:
                raise InputError(f"found the key {key!r}; allowed: text of one character or more").within(*path)
        return {key: _plain(inner, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, (*path, k)) for k, inner in enumerate(value)]
    if isinstance(value, Fraction):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    allowed = "text, a number, true or false, a list or a mapping"
    raise InputError(f"found an object of the type {type(value).__name__}; allowed: {allowed}").within(*path)
