"""Long work says how far it is and how long it will take: a bar on a terminal, plain timed lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol, TextIO

PLAIN_EVERY = 10.0
"""Seconds between two plain lines."""


class Progress(Protocol):
    """What long work tells."""

    def start(self, label: str, total: float) -> None:
        """Begin a piece of work of `total` units; ends the one before."""

    def advance(self, amount: float) -> None:
        """Say that `amount` more units are done."""

    def close(self) -> None:
        """End the last piece of work."""


class Silent:
    """Says nothing."""

    def start(self, label: str, total: float) -> None:
        """Do nothing."""

    def advance(self, amount: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class PlainLines:
    """One line when a piece of work starts, one every PLAIN_EVERY seconds, one when it ends."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._label = ""

    def start(self, label: str, total: float) -> None:
        """Begin a piece of work."""
        self.close()
        self._label, self._total, self._done = label, total, 0.0
        self._began = self._told = time.monotonic()
        self._say("started")

    def advance(self, amount: float) -> None:
        """Count, and say so when it is time."""
        self._done += amount
        now = time.monotonic()
        if now - self._told >= PLAIN_EVERY and self._done > 0:
            self._told = now
            left = (now - self._began) * (self._total - self._done) / self._done
            self._say(f"{self._done / self._total:.0%} done, about {left:.0f} s left")

    def close(self) -> None:
        """Say how long the work took."""
        if self._label:
            self._say(f"done in {time.monotonic() - self._began:.1f} s")
        self._label = ""

    def _say(self, text: str) -> None:
        print(f"{self._label}: {text}", file=self._stream, flush=True)


class Bars:
    """A bar with the time left, for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        # Redirection would swallow what the program prints to stdout while a bar is shown.
        self._bars: Any = RichProgress(
            *columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False
        )
        self._bars.start()
        self._task: Any = None

    def start(self, label: str, total: float) -> None:
        """Begin a new bar."""
        self._finish()
        self._task = self._bars.add_task(label, total=total)

    def advance(self, amount: float) -> None:
        """Move the bar."""
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
    """Return a bar where stderr is a terminal, plain lines where it is not."""
    return Bars() if sys.stderr.isatty() else PlainLines(sys.stderr)
