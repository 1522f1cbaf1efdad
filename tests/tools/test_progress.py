"""Long work reports its progress on stderr, and writes nothing anywhere else."""

from __future__ import annotations

import io
import re
import sys
from itertools import pairwise

import pytest
from support.small_runs import WELLS, small

from sandbox.commands.run import record
from sandbox.tools import progress as progress_module
from sandbox.tools.progress import Bars, PlainLines, Silent, on_stderr


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_plain_lines_tell_the_start_the_time_left_and_the_end(clock: Clock) -> None:
    """20 of 100 units in 12 seconds leave 48 seconds; the next line comes 10 seconds later, not before."""
    told = io.StringIO()
    plain = PlainLines(told)
    plain.start("sgd", 100)
    for seconds, units in ((3, 5), (9, 15), (1, 1), (9, 29)):
        clock.now += seconds
        plain.advance(units)
    clock.now += 0.5
    plain.start("langevin", 2)
    plain.close()
    plain.close()
    assert told.getvalue().splitlines() == [
        "sgd: started",
        "sgd: 20% done, about 48 s left",
        "sgd: 50% done, about 22 s left",
        "sgd: done in 22.5 s",
        "langevin: started",
        "langevin: done in 0.0 s",
    ]


def test_plain_lines_with_nothing_done_yet_promise_nothing(clock: Clock) -> None:
    told = io.StringIO()
    plain = PlainLines(told)
    plain.start("sgd", 100)
    clock.now += 60
    plain.advance(0)
    assert told.getvalue() == "sgd: started\n"


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Silent()
    silent.start("sgd", 1)
    silent.advance(1)
    silent.close()
    record(small(WELLS))
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal_and_plain_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(on_stderr(), PlainLines)
    monkeypatch.setattr(sys, "stderr", Terminal())
    bars = on_stderr()
    assert isinstance(bars, Bars)
    bars.close()


def test_a_bar_shows_label_share_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    bars = on_stderr()
    bars.start("sgd: 300 particles", 4)
    bars.advance(1)
    bars.start("langevin", 2)
    # The program's output while a bar is shown must reach stdout itself.
    print("answer")
    bars.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "sgd: 300 particles" in shown
    assert re.search(r"langevin .*100% .*left", shown)
    assert capsys.readouterr().out == "answer\n"


class Ledger:
    """A recorder of the reports of long work."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, float, list[float]]] = []

    def start(self, label: str, total: float) -> None:
        self.pieces.append((label, total, []))

    def advance(self, amount: float) -> None:
        self.pieces[-1][2].append(amount)

    def close(self) -> None: ...


def test_every_unit_of_a_run_is_told_and_no_more() -> None:
    ledger = Ledger()
    record(small(WELLS), progress=ledger)
    labels = [label for label, _, _ in ledger.pieces]
    assert [label for label in labels if "300 particles" in label] == ["sgd: 300 particles", "langevin: 300 particles"]
    assert (labels[0], labels[-1]) == ("posterior", "langevin: stability")
    for label, total, done in ledger.pieces:
        if "kernel" not in label:
            assert sum(done) == total, label
        assert all(amount > 0 for amount in done)
    assert all(one != other for one, other in pairwise(labels))
