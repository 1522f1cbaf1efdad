"""Work in a copy of the process: done meanwhile, and done all the same where the copy cannot."""

import os
import sys
import time
import warnings
from pathlib import Path

import pytest

from sandbox.fork import meanwhile

linux = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux only")


def noting(path: Path, before=lambda: None):
    """Work that leaves behind in which process it was done."""

    def work() -> None:
        before()
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")

    return work


def workers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@linux
def test_a_copy_works_while_the_block_runs(tmp_path):
    note = tmp_path / "note"
    with meanwhile(noting(note), forks=True):
        until = time.monotonic() + 60
        while not workers(note) and time.monotonic() < until:
            time.sleep(0.01)
        assert workers(note)
    assert len(workers(note)) == 1
    assert os.getpid() not in workers(note)


def test_without_forks_it_is_done_after_the_block(tmp_path):
    note = tmp_path / "note"
    with meanwhile(noting(note), forks=False):
        assert workers(note) == []
    assert workers(note) == [os.getpid()]


def fails_elsewhere() -> None:
    if os.getpid() != HERE:
        raise RuntimeError("no room for a copy")


def warns() -> None:
    warnings.warn("half of it is missing", stacklevel=2)


HERE = os.getpid()


def test_what_a_copy_cannot_do_is_done_here(tmp_path):
    note = tmp_path / "note"
    with meanwhile(noting(note, fails_elsewhere), forks=True):
        pass
    assert workers(note) == [os.getpid()]


def test_what_a_copy_would_warn_of_is_warned_of_here(tmp_path):
    note = tmp_path / "note"
    with pytest.warns(UserWarning, match="half of it"), meanwhile(noting(note, warns), forks=True):
        pass
    assert workers(note) == [os.getpid()]


def test_an_error_that_is_no_copys_own_is_raised_here():
    def wrong() -> None:
        raise ValueError("found 3; allowed: 1, 2")

    with pytest.raises(ValueError, match="allowed: 1, 2"), meanwhile(wrong, forks=True):
        pass


@pytest.mark.parametrize("forks", [True, False])
def test_what_is_not_needed_is_left(tmp_path, forks):
    note = tmp_path / "note"
    with meanwhile(noting(note, fails_elsewhere), forks=forks, needed=False):
        pass
    assert workers(note) == []


@linux
def test_an_error_in_the_block_ends_the_copy(tmp_path):
    note = tmp_path / "note"
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), meanwhile(noting(note, lambda: time.sleep(600)), forks=True):
        raise KeyboardInterrupt
    assert time.monotonic() - began < 300
    assert workers(note) == []
