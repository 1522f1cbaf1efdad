"""Work in a copy of the process: done meanwhile, and done all the same where the copy cannot."""

import os
import sys
import time
import warnings
from pathlib import Path

import pytest

from sandbox.fork import meanwhile

HERE = os.getpid()
linux = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux only")


def noting(path: Path):
    """Work that leaves behind in which process it was done."""

    def work() -> None:
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")

    return work


def workers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@linux
def test_a_copy_works_while_the_block_runs(tmp_path):
    note = tmp_path / "note"
    with meanwhile(noting(note), forks=True) as noted:
        until = time.monotonic() + 60
        while not workers(note) and time.monotonic() < until:
            time.sleep(0.01)
        assert workers(note)
        noted()
    assert len(workers(note)) == 1
    assert os.getpid() not in workers(note)


@linux
def test_a_result_comes_back_however_large():
    with meanwhile(lambda: (os.getpid(), bytes(10_000_000)), forks=True) as made:
        pid, content = made()
    assert pid != os.getpid()
    assert content == bytes(10_000_000)


def test_without_forks_it_is_done_when_it_is_asked_for(tmp_path):
    note = tmp_path / "note"
    with meanwhile(noting(note), forks=False) as noted:
        assert workers(note) == []
        noted()
    assert workers(note) == [os.getpid()]


@linux
def test_what_only_saves_time_is_done_by_a_copy_alone_and_before(tmp_path):
    note = tmp_path / "note"
    with meanwhile(lambda: workers(note), forks=True, first=noting(note)) as found:
        (copy,) = found()
    assert copy != os.getpid()
    with meanwhile(lambda: workers(note), forks=False, first=noting(note)) as found:
        assert found() == [copy]


def fails_elsewhere() -> int:
    if os.getpid() != HERE:
        raise RuntimeError("no room for a copy")
    return os.getpid()


def dies_elsewhere() -> int:
    if os.getpid() != HERE:
        os._exit(9)
    return os.getpid()


@pytest.mark.parametrize("work", [fails_elsewhere, dies_elsewhere])
def test_what_a_copy_cannot_do_is_done_here(work):
    with meanwhile(work, forks=True) as done:
        assert done() == os.getpid()


def warns() -> int:
    warnings.warn("half of it is missing", stacklevel=2)
    return os.getpid()


def test_what_a_copy_would_warn_of_is_warned_of_here():
    with meanwhile(warns, forks=True) as done, pytest.warns(UserWarning, match="half of it"):
        assert done() == os.getpid()


def test_a_result_that_cannot_be_sent_is_made_here():
    with meanwhile(lambda: lambda: os.getpid(), forks=True) as made:
        assert made()() == os.getpid()


def test_an_error_of_the_work_itself_is_raised_here():
    def wrong() -> None:
        raise ValueError("found 3; allowed: 1, 2")

    with meanwhile(wrong, forks=True) as done, pytest.raises(ValueError, match="allowed: 1, 2"):
        done()


@linux
def test_a_copy_ends_with_the_block():
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), meanwhile(lambda: time.sleep(600), forks=True):
        raise KeyboardInterrupt
    with meanwhile(lambda: time.sleep(600), forks=True):
        pass
    assert time.monotonic() - began < 300
