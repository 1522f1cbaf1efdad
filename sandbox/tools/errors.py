"""The errors of the package; their messages tell the user how to correct the input."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class InputProblem:
    """One fault of the input.

    `where` is the path of keys that leads to the fault in the scenario. `column` is the offset (from 0) inside the
    text at that path, or None if unknown.
    """

    message: str
    where: tuple[str | int, ...] = ()
    column: int | None = None

    def within(self, *path: str | int) -> InputProblem:
        """Return the same problem with the keys `path` put before its own path."""
        return InputProblem(self.message, (*path, *self.where), self.column)


class InputError(ValueError):
    """An error in the input; nothing has been run or written. It carries every problem found."""

    def __init__(self, problems: str | InputProblem | Sequence[InputProblem]):
        if isinstance(problems, str):
            problems = InputProblem(problems)
        self.problems: tuple[InputProblem, ...] = (problems,) if isinstance(problems, InputProblem) else tuple(problems)
        super().__init__(
            "\n".join(".".join(map(str, p.where)) + ": " * bool(p.where) + p.message for p in self.problems)
        )

    def within(self, *path: str | int) -> InputError:
        """Return the same error with the keys `path` put before the path of each problem."""
        return InputError([problem.within(*path) for problem in self.problems])


class RunError(RuntimeError):
    """A failure of a run whose input was right."""


def reason_of(error: OSError) -> str:
    """Return the system's reason for an error, to stand inside a sentence."""
    return (error.strerror or "unknown reason").lower()


class UnwrittenError(RunError):
    """A result that could not be written to its place; the message names the files that are kept, and their folder."""

    record: Any = None
    """The record in memory, if the run had come so far."""


def nearest(name: str, known: Collection[str]) -> str:
    """Return " (did you mean 'x'?)" for the known name closest to `name`, or "" if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
