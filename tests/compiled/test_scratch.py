"""The working memory of kernels compared with NumPy arrays: one function, compiled with either."""

import numba
import numpy as np
import pytest
from numba import TypingError

from sandbox.compiled import functions
from sandbox.compiled.scratch import scratch


@numba.njit(**functions.FLAGS)
def worked_over(memory, unsigned, out):
    """Use every operation that lane functions need: elements, views of views, length and type."""
    one = memory.dtype.type(1)
    for i in range(memory.size):
        memory[i] = i * one
    part = memory[3:11]
    rest = part[5:]
    for i in range(rest.size):
        rest[i] = -rest[i]
    part[unsigned] = memory[unsigned] + one
    for i in range(memory.size):
        out[i] = memory[i]
    out[-1], out[-2], out[-3] = memory.size, part.size, rest.size


@numba.njit(**functions.FLAGS)
def in_scratch(real, unsigned, out):
    memory = scratch(13, real)
    worked_over(memory, unsigned, out)


@pytest.mark.parametrize("real", [np.float64, np.float32, np.uint32, np.uint64])
def test_it_does_what_an_array_does(real):
    found, expected = np.zeros(16), np.zeros(16)
    in_scratch(real, np.uint64(2), found)
    worked_over(np.empty(13, real), np.uint64(2), expected)
    assert np.array_equal(found, expected)
    assert list(found[-3:]) == [3, 8, 13]
    assert found[5] == 3
    assert found[8] == (-np.array([8], real))[0]
    assert found[11] == 11


def test_two_pieces_do_not_overlap_and_a_loop_takes_no_more_each_time():
    @numba.njit(**functions.FLAGS)
    def summed(turns):
        total = 0.0
        for turn in range(turns):
            one, other = scratch(4096, np.float64), scratch(4096, np.float64)
            for i in range(one.size):
                one[i] = turn
                other[i] = -1.0
            total += one[turn % 4096]
        return total

    # This would take 6 GB if each call used new memory; the stack has a few MB.
    assert summed(100_000) == 100_000 * 99_999 / 2


def test_its_size_is_a_literal():
    @numba.njit(**functions.FLAGS)
    def sized(count):
        return scratch(count, np.float64).size

    with pytest.raises(TypingError, match="literal"):
        sized(3)
