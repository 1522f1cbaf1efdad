"""Work shared by threads: results in order, errors raised here, nothing left running."""

from __future__ import annotations

import functools
import threading
import time

import pytest

from sandbox.tools.errors import InputError
from sandbox.tools.parallel import end_if_stopped, in_threads, limited, processors


def test_results_of_threads_come_in_order_from_several_threads() -> None:
    # Each work waits for two others, so no fewer than three threads can do them.
    together = threading.Barrier(3, timeout=60)

    def work(k: int) -> tuple[int, int]:
        together.wait()
        return k, threading.get_ident()

    with limited(3):
        found = in_threads([functools.partial(work, k) for k in range(6)])
    assert [k for k, _ in found] == list(range(6))
    assert len({thread for _, thread in found}) == 3
    assert in_threads([]) == []


def test_with_one_processor_the_caller_does_the_work() -> None:
    with limited(1):
        assert in_threads([threading.get_ident] * 3) == [threading.get_ident()] * 3


def test_a_limit_ends_with_its_block() -> None:
    here = processors()
    with limited(5):
        assert processors() == 5
        with limited(None):
            assert processors() == 5
    assert processors() == here >= 1


def test_an_error_of_a_thread_is_raised_here_and_ends_the_others() -> None:
    begun: list[int] = []

    def wrong() -> None:
        raise InputError("found 3; allowed: 1, 2")

    def long(k: int) -> None:
        begun.append(k)
        while True:
            end_if_stopped()
            time.sleep(0.01)

    began = time.monotonic()
    with limited(2), pytest.raises(InputError, match="allowed: 1, 2"):
        in_threads([wrong, *(functools.partial(long, k) for k in range(50))])
    assert time.monotonic() - began < 30
    assert len(begun) < 50
    # The caller's own work goes on.
    end_if_stopped()
