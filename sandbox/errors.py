"""What can go wrong, said so that a person can mend it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the input.

    `where` is the path of keys that leads to it in the scenario, `column` the offset (from 0) inside the text
    that stands there, where that is known.
    """

    message: str
    where: tuple[str | int, ...] = ()
    column: int | None = None

    def within(self, *path: str | int) -> Problem:
        """Return the same problem seen from further out, below the keys `path`."""
        return Problem(self.message, (*path, *self.where), self.column)


class InputError(ValueError):
    """The input is wrong; nothing has been run or written. Carries every problem found."""

    def __init__(self, problems: str | Problem | Sequence[Problem]):
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__(
            "\n".join(".".join(map(str, p.where)) + ": " * bool(p.where) + p.message for p in self.problems)
        )

    def within(self, *path: str | int) -> InputError:
        """Return the same error seen from further out, below the keys `path`."""
        return InputError([problem.within(*path) for problem in self.problems])


class RunError(RuntimeError):
    """The input was right, but the run could not be finished."""


def nearest(name: str, known: Collection[str]) -> str:
    """Return " (did you mean 'x'?)" for the known name closest to `name`, or nothing when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
