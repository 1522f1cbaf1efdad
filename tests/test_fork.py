"""Work in a copy of the process: done meanwhile, and done all the same where the copy cannot."""

import functools
import os
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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


@linux
def test_a_copy_works_while_the_block_runs(tmp_path):
    note = tmp_path / "note"
    with processes(2), meanwhile(noting(note)) as noted:
        until = time.monotonic() + 60
        while not workers(note) and time.monotonic() < until:
            time.sleep(0.01)
        assert workers(note)
        noted()
    assert len(workers(note)) == 1
    assert os.getpid() not in workers(note)


@linux
def test_a_copy_knows_that_it_is_one():
    with processes(2), meanwhile(is_copy) as there:
        assert there()
        assert not is_copy()
    with meanwhile(is_copy) as here:
        assert not here()


@linux
def test_a_result_comes_back_however_large():
    with processes(2), meanwhile(lambda: (os.getpid(), bytes(10_000_000))) as made:
        pid, content = made()
    assert pid != os.getpid()
    assert content == bytes(10_000_000)


def test_without_forks_it_is_done_when_it_is_asked_for(tmp_path):
    note = tmp_path / "note"
    with meanwhile(noting(note)) as noted:
        assert workers(note) == []
        noted()
    assert workers(note) == [os.getpid()]


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
    with processes(2), meanwhile(work) as done:
        assert done() == os.getpid()


def warns() -> int:
    warnings.warn("half of it is missing", stacklevel=2)
    return os.getpid()


def test_what_a_copy_would_warn_of_is_warned_of_here():
    with processes(2), meanwhile(warns) as done, pytest.warns(UserWarning, match="half of it"):
        assert done() == os.getpid()


def test_a_result_that_cannot_be_sent_is_made_here():
    with processes(2), meanwhile(lambda: lambda: os.getpid()) as made:
        assert made()() == os.getpid()


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
    works = [functools.partial(lambda k: (k, os.getpid()), k) for k in range(7)]
    with processes(3):
        found = together(works)
    assert [k for k, _ in found] == list(range(7))
    assert [who for _, who in found[:3]] == [who for _, who in found[3:6]]
    assert len({who for _, who in found}) == 3
    assert found[0][1] == os.getpid()
    assert {who for _, who in together(works)} == {os.getpid()}
    with processes(3):
        assert together([]) == []


@linux
def test_neither_copies_nor_other_threads_make_copies():
    def inside() -> bool:
        return together([os.getpid, os.getpid]) == [os.getpid()] * 2

    with processes(2), meanwhile(inside) as alone, ThreadPoolExecutor(1) as pool:
        assert alone()
        assert pool.submit(inside).result()
        assert not inside()
    assert inside()
