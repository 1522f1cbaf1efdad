"""Indices and permutations: twins, bijections, and the laws of chance.

Seeds are fixed. A test of chance passes p > 1e-6; every law is shown to fail a broken specimen.
"""

from collections import Counter
from itertools import pairwise, permutations
from types import FunctionType

import numpy as np
import pytest
from scipy import stats
from support import twins
from support.chance import assert_even

from sandbox.compiled import random_numbers
from sandbox.compiled.functions import LANES, lane_function

KEY = random_numbers.key(20, "test")
PLAIN_KEY = (int(KEY[0]), int(KEY[1]))


@pytest.mark.parametrize("count", [1, 2, 3, 37, 100, 1000, 2**24, 2**32 - 1])
def test_indices_are_even_and_inside(count):
    """Compare 2^20 indices with their twin in each lane; the words are those of call 7 among `count`."""
    products = np.empty((2**11, 4 * LANES), np.uint64)
    for b, block in enumerate(products):
        random_numbers.draw_indices(block, 7, b * LANES, 5, 2, KEY, count)
    indices = (products >> np.uint64(32)).astype(np.int64)
    for b, lane in ((0, 0), (0, 1), (1, 0), (2**11 - 1, LANES - 1)):
        words = twins.words(PLAIN_KEY, b * LANES + lane, 5, 2, 28, 4)
        assert indices[b, lane::LANES].tolist() == [twins.index(word, count) for word in words]
    assert indices.max() < count
    if 1 < count <= 1000:
        assert_even(np.bincount(indices.ravel(), minlength=count))
        indices[::50] = 0
        with pytest.raises(AssertionError):
            assert_even(np.bincount(indices.ravel(), minlength=count))


def digits(count, uses, first=random_numbers.draw_indices, following=random_numbers.next_indices):
    """Return `uses` indices from each of four words in turn, for 2^18 particles: shape (uses, 2^20)."""
    result = np.empty((uses, 2**11, 4 * LANES), np.int64)
    products = np.empty(4 * LANES, np.uint64)
    for b in range(2**11):
        first(products, 3, b * LANES, 5, 2, KEY, count)
        result[0, b] = products >> np.uint64(32)
        for turn in range(1, uses):
            following(products, count)
            result[turn, b] = products >> np.uint64(32)
    return result.reshape(uses, -1)


@pytest.mark.parametrize(("count", "uses"), [(1, 24), (2, 24), (3, 15), (37, 4), (1000, 2), (4096, 2), (4097, 1)])
def test_indices_of_one_word_are_the_digits_of_a_fraction(count, uses):
    """Each sequence of base-count digits of floor(W count^u / 2^32) has as many words as any other, or one more.

    So its probability is off by at most count^u / 2^32 < 0.4%; u digits are taken from a word.
    """
    assert random_numbers.indices_per_word(count) == uses
    drawn = digits(count, uses)
    words = [twins.words(PLAIN_KEY, particle, 5, 2, 12, 4) for particle in (0, 1, LANES, 2**18 - 1)]
    rows = drawn.reshape(uses, 2**11, 4, LANES)
    for particle, four in zip((0, 1, LANES, 2**18 - 1), words, strict=True):
        block, lane = divmod(particle, LANES)
        for k, word in enumerate(four):
            number = sum(int(d) * count ** (uses - 1 - j) for j, d in enumerate(rows[:, block, k, lane]))
            assert number == word * count**uses // 2**32
            assert twins.drawn(four, count, 4 * uses)[k::4] == rows[:, block, k, lane].tolist()


@pytest.mark.parametrize("count", [2, 3, 37, 1000])
def test_indices_of_one_word_are_independent(count):
    """Pairs of consecutive indices are even over all count^2 pairs (in 32 x 32 groups of indices for large counts)."""

    def pairs(drawn):
        groups = min(count, 32)
        numbers = drawn * groups // count
        return np.bincount(groups * numbers[0] + numbers[1], minlength=groups**2)

    def repeated(indices, count):
        """Return the same index once more."""

    def shares(numbers):
        size = np.bincount(np.arange(count) * min(count, 32) // count) / count
        return np.outer(size, size).ravel() * numbers.sum()

    good = pairs(digits(count, 2))
    assert stats.chisquare(good, shares(good)).pvalue > 1e-6
    broken = pairs(digits(count, 2, following=repeated))
    assert stats.chisquare(broken, shares(broken)).pvalue < 1e-6


def permuted(count, particles, epoch=0, fill=random_numbers.fill_permuted):
    """Return permutations of 0 ... count - 1, one for each particle, shape (particles, count)."""
    keys, rows = np.empty(4 * LANES, np.uint32), np.empty(3 * LANES, np.uint32)
    result = np.empty((particles // LANES, LANES, count), np.int64)
    for b in range(len(result)):
        random_numbers.fill_bits(keys, 0, 1, b * LANES, epoch, 2, KEY)
        for position in range(count):
            fill(rows, position, count, keys)
            result[b, :, position] = rows[:LANES]
    return result.reshape(-1, count)


@pytest.mark.parametrize("count", [*range(1, 71), 97, 127, 128, 251, 997, 4099])
def test_permutations_are_bijections_and_equal_their_twin(count):
    images = permuted(count, LANES)
    assert np.array_equal(np.sort(images, axis=1), np.tile(np.arange(count), (LANES, 1)))
    for particle, position in ((0, 0), (1, count - 1), (LANES - 1, count // 2)):
        keys = twins.words(PLAIN_KEY, particle, 0, 2, 0, 4)
        assert images[particle, position] == twins.permuted(position, count, keys)


def test_large_permutations_equal_their_twin_and_never_collide():
    count, positions = 1 << 24, [0, 1, 2**23, 2**24 - 1]
    keys, rows = np.empty(4 * LANES, np.uint32), np.empty(3 * LANES, np.uint32)
    random_numbers.fill_bits(keys, 0, 1, 0, 0, 2, KEY)
    images = []
    for position in positions:
        random_numbers.fill_permuted(rows, position, count, keys)
        images.append(rows[:LANES].copy())
        assert rows[7] == twins.permuted(position, count, [int(k) for k in keys[7::LANES]])
    assert all((np.unique(column) == np.sort(column)).all() for column in np.array(images).T)


def assert_all_permutations_are_even(images):
    count = images.shape[1]
    seen = Counter(map(tuple, images.tolist()))
    assert_even([seen[order] for order in permutations(range(count))])


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_all_permutations_of_few_elements_are_equally_likely(count):
    assert_all_permutations_are_even(permuted(count, 2**17))


def test_twelve_rounds_do_not_shuffle_five_elements_evenly():
    python = random_numbers.fill_permuted.py_func
    weak = lane_function(FunctionType(python.__code__, {**python.__globals__, "PERMUTATION_ROUNDS": 6}))
    with pytest.raises(AssertionError):
        assert_all_permutations_are_even(permuted(5, 2**17, fill=weak))


def assert_pairs_are_even(images):
    """Every element is equally likely in every place, and every two elements in any two neighbouring places."""
    count = images.shape[1]
    for place in range(count):
        assert_even(np.bincount(images[:, place], minlength=count))
    for first, second in pairwise((0, 1, count // 2, count - 1)):
        pairs = np.bincount(images[:, first] * count + images[:, second], minlength=count**2).reshape(count, count)
        assert not pairs.diagonal().any()
        assert_even(pairs[~np.eye(count, dtype=bool)])


@pytest.mark.parametrize("count", [10, 37, 100])
def test_pairs_of_places_hold_all_pairs_of_elements_evenly(count):
    images = permuted(count, 2**17)
    assert_pairs_are_even(images)
    # Consecutive epochs of one particle: the first element does not depend on the next epoch's first element.
    again = permuted(count, 2**17, epoch=1)
    assert_even(np.bincount(images[:, 0] * count + again[:, 0], minlength=count**2))
    with pytest.raises(AssertionError):
        assert_pairs_are_even((images[:, :1] + np.arange(count)) % count)
