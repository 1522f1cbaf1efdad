"""Work in a copy of the process: done meanwhile, and done all the same where the copy cannot."""

import contextlib
import functools
import os
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sandbox.fork import is_copy, meanwhile, processes, together

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


def wait_for(note: Path) -> None:
    until = time.monotonic() + 60
    while not note.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert note.exists()


@contextlib.contextmanager
def begun(work, folder: Path):
    """Let a copy do `work`, and go on when it has: then it leaves a note, its second result."""
    note = folder / "begun"
    with processes(2), meanwhile(work, noting(note)) as done:
        wait_for(note)
        yield done


@linux
def test_a_copy_works_while_the_block_runs(tmp_path):
    note = tmp_path / "note"
    with begun(noting(note), tmp_path) as noted:
        assert len(workers(note)) == 1
        noted()
    assert len(workers(note)) == 1
    assert os.getpid() not in workers(note)


@linux
def test_a_copy_knows_that_it_is_one(tmp_path):
    with begun(is_copy, tmp_path) as there:
        assert there() == [True, None]
        assert not is_copy()
    with meanwhile(is_copy) as here:
        assert here() == [False]


@linux
def test_a_result_comes_back_however_large(tmp_path):
    with begun(lambda: (os.getpid(), bytes(10_000_000)), tmp_path) as made:
        (pid, content), _ = made()
    assert pid != os.getpid()
    assert content == bytes(10_000_000)


def test_without_forks_it_is_done_when_it_is_asked_for(tmp_path):
    note = tmp_path / "note"
    with meanwhile(noting(note)) as noted:
        assert workers(note) == []
        noted()
    assert workers(note) == [os.getpid()]


def fails_elsewhere(begun: Path) -> int:
    if os.getpid() != HERE:
        begun.touch()
        raise RuntimeError("no room for a copy")
    return os.getpid()


def dies_elsewhere(begun: Path) -> int:
    if os.getpid() != HERE:
        begun.touch()
        os._exit(9)
    return os.getpid()


@linux
@pytest.mark.parametrize(("work", "times"), [(fails_elsewhere, 1), (dies_elsewhere, 2)])
def test_what_a_copy_cannot_do_is_done_here(work, times, tmp_path):
    """Only that is done again where it fails; a copy that dies takes with it what it has done before."""
    note, begun = tmp_path / "note", tmp_path / "begun"
    with processes(2), meanwhile(noting(note), functools.partial(work, begun)) as done:
        wait_for(begun)
        assert done() == [None, os.getpid()]
    assert len(workers(note)) == times


@linux
def test_what_a_copy_has_not_begun_is_done_here(tmp_path):
    """While a copy is at the first of three works, its original takes the others, and then waits for the first."""
    begun, go = tmp_path / "begun", tmp_path / "go"

    def slow() -> int:
        begun.touch()
        wait_for(go)
        return os.getpid()

    def opens() -> int:
        go.touch()
        return os.getpid()

    with processes(2), meanwhile(slow, os.getpid, opens) as done:
        wait_for(begun)
        first, *others = done()
    assert first != os.getpid()
    assert others == [os.getpid()] * 2


def warns() -> int:
    warnings.warn("half of it is missing", stacklevel=2)
    return os.getpid()


def test_what_a_copy_would_warn_of_is_warned_of_here():
    with processes(2), meanwhile(warns) as done, pytest.warns(UserWarning, match="half of it"):
        assert done() == [os.getpid()]


def test_a_result_that_cannot_be_sent_is_made_here():
    with processes(2), meanwhile(lambda: lambda: os.getpid()) as made:
        [here] = made()
        assert here() == os.getpid()


def test_an_error_of_the_work_itself_is_raised_here():
    def wrong() -> None:
        raise ValueError("found 3; allowed: 1, 2")

    with processes(2), meanwhile(wrong) as done, pytest.raises(ValueError, match="allowed: 1, 2"):
        done()


@linux
def test_a_copy_ends_with_the_block():
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), processes(2), meanwhile(lambda: time.sleep(600)):
        raise KeyboardInterrupt
    with processes(2), meanwhile(lambda: time.sleep(600)):
        pass
    assert time.monotonic() - began < 300


@linux
def test_works_are_shared_and_their_results_stay_in_order():

    def work(k: int) -> tuple[int, int]:
        # Long enough for each to come to one.
        time.sleep(0.3)
        return k, os.getpid()

    works = [functools.partial(work, k) for k in range(7)]
    with processes(3):
        found = together(works)
    assert [k for k, _ in found] == list(range(7))
    assert len({who for _, who in found}) == 3
    assert {who for _, who in together(works)} == {os.getpid()}
    with processes(3):
        assert together([]) == []


@linux
def test_works_end_though_another_process_holds_their_pipe(monkeypatch):
    """As when another thread forks in the moment in which it is open: then it is empty, but has no end."""

    class Held:
        kept: ClassVar[list[int]] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def close(self, end: int) -> None:
            self.kept.append(end)

    with processes(2), monkeypatch.context() as patch:
        patch.setattr("sandbox.fork.os", Held())
        assert together([int, int, int]) == [0, 0, 0]
    for end in Held.kept:
        os.close(end)


@linux
def test_neither_copies_nor_other_threads_make_copies(tmp_path):
    def slow() -> int:
        # Long enough for a copy to come to the second.
        time.sleep(0.3)
        return os.getpid()

    def inside() -> bool:
        return together([slow, slow]) == [os.getpid()] * 2

    with begun(inside, tmp_path) as alone, ThreadPoolExecutor(1) as pool:
        assert alone() == [True, None]
        assert pool.submit(inside).result()
        assert not inside()
    assert inside()
