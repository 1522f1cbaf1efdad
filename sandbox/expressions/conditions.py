"""Inequalities from text, such as `a1 > 0` or `-1 < c < 1`, as expressions that must not be negative."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from sandbox.expressions.parsing import MAX_LENGTH, parse
from sandbox.tools.errors import InputError, InputProblem

_SIGN = re.compile("<=|>=|<|>")


def parse_conditions(text: str, names: Collection[str]) -> tuple[Any, ...]:
    """Return, for each inequality in the chain `text`, an expression over `names` that must be at least 0.

    `<` and `<=` mean the same, because a condition bounds a closed set and its boundary has no volume. Raises
    InputError, with the column if there is one.
    """
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        raise InputError(f"a condition is text of at most {MAX_LENGTH} characters, such as a > 0")
    signs = list(_SIGN.finditer(text))
    if not signs:
        hint = "; an equation belongs into `zero`, as an expression that vanishes" if "=" in text else ""
        raise InputError(f"found no <, <=, > or >= in '{text[:60]}'; allowed is an inequality such as a > 0{hint}")
    starts = [0, *(sign.end() for sign in signs)]
    ends = [*(sign.start() for sign in signs), len(text)]
    sides = [_side(text[start:end], start, names) for start, end in zip(starts, ends, strict=True)]
    return tuple(
        (right - left) if sign[0].startswith("<") else (left - right)
        for left, sign, right in zip(sides, signs, sides[1:], strict=False)
    )


def _side(text: str, start: int, names: Collection[str]) -> Any:
    try:
        return parse(text, names)
    except InputError as error:
        raise InputError(
            [InputProblem(p.message, p.where, None if p.column is None else p.column + start) for p in error.problems]
        ) from None
