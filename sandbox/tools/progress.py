"""Reports of the progress of long work and the time left: a bar on a terminal, plain timed lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol, TextIO

PLAIN_EVERY = 10.0
"""The least time between two plain lines, in seconds."""


class Progress(Protocol):
    """The interface by which long work reports its progress."""

    def start(self, label: str, total: float) -> None:
        """Begin a task of `total` units; this ends the task before it."""

    def advance(self, amount: float) -> None:
        """Report that `amount` more units are done."""

    def close(self) -> None:
        """End the last task."""


class Silent:
    """A progress that prints nothing."""

    def start(self, label: str, total: float) -> None:
        """Do nothing."""

    def advance(self, amount: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class PlainLines:
    """A progress in plain text: a line when a task starts, about every PLAIN_EVERY seconds, and when it ends."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._label = ""

    def start(self, label: str, total: float) -> None:
        """Begin a task and print a line."""
        self.close()
        self._label, self._total, self._done = label, total, 0.0
        self._began = self._told = time.monotonic()
        self._say("started")

    def advance(self, amount: float) -> None:
        """Add `amount`; print a line if the last one is PLAIN_EVERY seconds old."""
        self._done += amount
        now = time.monotonic()
        if now - self._told >= PLAIN_EVERY and self._done > 0:
            self._told = now
            left = (now - self._began) * (self._total - self._done) / self._done
            self._say(f"{self._done / self._total:.0%} done, about {left:.0f} s left")

    def close(self) -> None:
        """Print the duration of the task."""
        if self._label:
            self._say(f"done in {time.monotonic() - self._began:.1f} s")
        self._label = ""

    def _say(self, text: str) -> None:
        print(f"{self._label}: {text}", file=self._stream, flush=True)


class Bars:
    """A progress as bars with the time left, for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        # In a narrow terminal the description is cut, not the times.
        words, bar = Column(ratio=2, no_wrap=True, overflow="ellipsis"), Column(ratio=1)
        columns = (
            TextColumn("{task.description}", table_column=words),
            BarColumn(bar_width=None, table_column=bar),
            TaskProgressColumn(table_column=Column(min_width=4, no_wrap=True)),
            TimeElapsedColumn(table_column=Column(min_width=7, no_wrap=True)),
            TextColumn("left", table_column=Column(min_width=4, no_wrap=True)),
            TimeRemainingColumn(table_column=Column(min_width=7, no_wrap=True)),
        )
        # With redirection Rich would capture the program's own output to stdout while a bar is shown.
        self._bars: Any = RichProgress(
            *columns, console=Console(stderr=True), expand=True, redirect_stdout=False, redirect_stderr=False
        )
        self._bars.start()
        self._task: Any = None

    def start(self, label: str, total: float) -> None:
        """Begin a new bar for a task."""
        self._finish()
        self._task = self._bars.add_task(label, total=total)

    def advance(self, amount: float) -> None:
        """Move the bar by `amount` units."""
        self._bars.advance(self._task, amount)

    def close(self) -> None:
        """Leave the finished bars on the screen."""
        self._finish()
        self._bars.stop()

    def _finish(self) -> None:
        if self._task is not None:
            task = self._bars.tasks[self._task]
            self._bars.update(self._task, completed=task.total)


def on_stderr() -> Progress:
    """Return bars if stderr is a terminal, else plain lines."""
    return Bars() if sys.stderr.isatty() else PlainLines(sys.stderr)


def print_markdown(text: str) -> None:
    """Print Markdown to stdout in the width of the terminal, its tables folded to fit."""
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))
