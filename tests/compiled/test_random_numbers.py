"""Random numbers: published vectors, plain twins, library functions, and the laws of chance.

Seeds are fixed. A test of chance passes |z| < 5 per statistic, a false alarm in 1.7 million under the normal law, or
p > 1e-6; the whole file makes about 400 such comparisons, so that new seeds would raise a false alarm in 1 of 2,500
runs. Every law is shown to fail a broken specimen.
"""

import math

import numpy as np
import pytest
from scipy import stats
from support import twins
from support.chance import assert_even

from sandbox.compiled import random_numbers
from sandbox.compiled.functions import LANES, lane_function

KEY = random_numbers.key(20, "test")
PLAIN_KEY = (int(KEY[0]), int(KEY[1]))
EDGES = np.array([0, 1, 2, 3, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 2**31 + 1, 3 * 2**30, 2**32 - 2, 2**32 - 1])

# Random123 (Salmon et al. 2011), tests/kat_vectors, philox4x32 10: counter, key, result.
PUBLISHED = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
VECTORS = [[[int(word, 16) for word in text.split()] for text in row] for row in PUBLISHED]


@lane_function
def spread_normals(normals, key, particle, step, stream, call):
    """Fill blocks of four planes, one after the other: block b has the particles from `particle` + b * LANES on."""
    bits = np.empty(4 * LANES, np.uint32)
    for b in range(normals.size // (4 * LANES)):
        random_numbers.fill_bits(bits, call, 1, particle + b * LANES, step, stream, key)
        random_numbers.fill_normals(normals[4 * b * LANES : 4 * (b + 1) * LANES], bits, 2)


@lane_function
def sweep(normals, stride, odd):
    """Check every `stride`-th radius word with scattered directions; return the number of wrong normals."""
    bits = np.empty(2 * LANES, np.uint32)
    wrong = 0
    largest = 0.0
    for base in range(0, 1 << 32, stride * LANES):
        for i in range(LANES):
            bits[i] = np.uint32(base + stride * i + (odd & (stride - 1)))
            bits[LANES + i] = np.uint32((base + stride * i) * odd)
        random_numbers.fill_normals(normals, bits, 1)
        for i in range(2 * LANES):
            wrong += not abs(normals[i]) <= 6.7639
            largest = max(largest, abs(normals[i]))
    return wrong, largest


def normal_draws(count, particle=0, step=0, stream=1, call=0, key=KEY):
    """Return the four normals of one call for `count` particles, shape (4, count)."""
    flat = np.empty(4 * count, np.float32)
    spread_normals(flat, key, particle, step, stream, call)
    return flat.reshape(-1, 4, LANES).transpose(1, 0, 2).reshape(4, -1).astype(np.float64)


def converted(fill, words, dtype):
    """Return the numbers that a `fill` function makes of the words, one for each."""
    bits = np.pad(np.asarray(words, np.uint32), (0, -len(words) % LANES))
    out = np.empty(len(bits), dtype)
    fill(out, bits, len(bits) // LANES)
    return out[: len(words)]


def box_muller(radius_words, direction_words):
    """Return both normals of pairs of words from the compiled function, shape (2, N)."""
    pairs = [np.asarray(words, np.uint32) for words in (radius_words, direction_words)]
    pairs = [np.pad(words, (0, -len(words) % LANES)).reshape(-1, LANES) for words in pairs]
    bits = np.stack(pairs, axis=1).ravel()
    out = np.empty(len(bits), np.float32)
    random_numbers.fill_normals(out, bits, len(bits) // (2 * LANES))
    return out.reshape(-1, 2, LANES).transpose(1, 0, 2).reshape(2, -1)[:, : len(radius_words)]


def compiled_words(counter, key):
    bits = np.empty(4 * LANES, np.uint32)
    particle, step, k, stream = counter
    random_numbers.fill_bits(bits, k, 1, particle, step, stream, np.array(key, np.uint32))
    return [int(word) for word in bits[::LANES]]


@pytest.mark.parametrize(
    "generator",
    [
        compiled_words,
        twins.philox,
        lambda c, k: random_numbers.philox(np.array(c, np.uint32), np.array(k, np.uint32)).tolist(),
    ],
    ids=["compiled", "twin", "numpy"],
)
def test_philox_gives_the_published_vectors(generator):
    for counter, key, result in VECTORS:
        assert list(generator(counter, key)) == result


def test_nine_rounds_fail_the_published_vectors():
    assert all(twins.philox(counter, key, rounds=9) != result for counter, key, result in VECTORS)


@pytest.mark.parametrize("particle", [0, 1, 2**31 - 64, 2**32 - LANES])
def test_every_lane_and_call_has_its_own_counter(particle):
    """fill_bits, twin and NumPy agree on the words of each lane, call, step and stream."""
    bits = np.empty(12 * LANES, np.uint32)
    random_numbers.fill_bits(bits, 5, 3, particle, 77_777, 4, KEY)
    planes = bits.reshape(12, LANES)
    for lane in (0, 1, 63, LANES - 1):
        assert planes[:, lane].tolist() == twins.words(PLAIN_KEY, particle + lane, 77_777, 4, 20, 12)
    counter = np.array([[[particle + i, 77_777, 5 + k, 4] for k in range(3)] for i in range(LANES)], np.uint32)
    assert np.array_equal(random_numbers.philox(counter, KEY).reshape(LANES, 12).T, planes)


def test_starting_uniforms_have_52_bits_and_stay_inside():
    u = random_numbers.uniforms(KEY, random_numbers.STREAM_START, np.arange(3), 9, 5)
    for particle in range(3):
        high, low = (np.array(twins.words(PLAIN_KEY, particle, 9, 0, 0, 10))[k::2] for k in (0, 1))
        assert u[particle].tolist() == [
            (int(h) * 2**20 + int(v) // 2**12 + 0.5) / 2**52 for h, v in zip(high, low, strict=True)
        ]
    assert (2**52 - 1 + 0.5) * 2.0**-52 < 1


def some_words(count, seed):
    """Return random words, the edges, and words near both ends on every scale."""
    near = np.array([2**k + j for k in range(2, 32) for j in (-1, 0, 1)])
    random = np.random.default_rng(seed).integers(0, 2**32, count - 2 * len(near) - len(EDGES))
    return np.concatenate([random, near, 2**32 - 1 - near, EDGES])


def test_normals_are_box_muller_in_single_precision():
    """Compare with library logarithms and cosines of the rounded words, to 3e-7 times a radius of up to 6.8."""
    radius = some_words(300_000, 1)
    for direction in (some_words(300_000, 2), some_words(300_000, 2)[::-1]):
        error = np.abs(box_muller(radius, direction) - twins.normal_pair(radius, direction))
        assert error.max() < 2e-6


def test_rounding_the_words_moves_a_normal_by_what_24_bits_allow():
    """A radius r comes from exp(-r^2 / 2), rounded by 2^-25: an error of 2^-25 / r, or 2^-12 near 0."""
    radius, direction = some_words(300_000, 1), some_words(300_000, 2)[::-1]
    exact = np.array(twins.normal_pair(radius, direction, single=False))
    error = np.abs(box_muller(radius, direction) - exact)
    r = np.hypot(*exact)
    assert (error <= 2e-6 + np.minimum(2.0**-24 / np.maximum(r, 1e-9), 2.0**-11)).all()


def test_no_word_gives_a_normal_that_is_not_a_number():
    """Check 2^27 radius words across the range and all pairs of edges; none exceeds sqrt(66 log 2) = 6.7638."""
    wrong, largest = sweep(np.empty(2 * LANES, np.float32), 32, 0x9E3779B1)
    assert wrong == 0
    assert largest > 6
    ends = np.concatenate([np.arange(2**12), 2**32 - 1 - np.arange(2**12), 2**31 - 2048 + np.arange(2**12), EDGES])
    z = box_muller(np.repeat(ends, 16), np.tile(np.resize(EDGES, 16), len(ends)))
    assert np.abs(z).max() == pytest.approx(math.sqrt(66 * math.log(2)), abs=1e-5)


def assert_normal(z, limit=5.0):
    """Moments 1 to 6, the tails beyond 3, 4 and 5, and the whole distribution function are those of a normal."""
    n = len(z)
    power = np.ones(n)
    for k, mean in enumerate([0, 1, 0, 3, 0, 15], start=1):
        power *= z
        variance = math.prod(range(1, 2 * k, 2)) - mean**2
        assert abs(power.mean() - mean) < limit * math.sqrt(variance / n)
    for edge in (3, 4, 5):
        for side in (z > edge, z < -edge):
            expected = n * stats.norm.sf(edge)
            assert abs(side.sum() - expected) < limit * math.sqrt(expected) + 1
    assert stats.kstest(z[:200_000], "norm").pvalue > 1e-6


def test_normals_are_normal():
    """Check each of the four planes with 2^20 particles."""
    for plane in normal_draws(2**20):
        assert_normal(plane)


def test_half_a_circle_is_not_normal():
    """Without its side bit a direction gives no negative cosine; within a quarter turn it gives no negative sine."""
    words = np.random.default_rng(3).integers(0, 2**32, (2, 2**18))
    for z in (twins.normal_pair(words[0], words[1] // 2)[0], twins.normal_pair(words[0], words[1] // 8)[1]):
        with pytest.raises(AssertionError):
            assert_normal(z)


def assert_unrelated(a, b):
    """The numbers are not correlated, nor their squares, nor one with the square of the other."""
    n = len(a)
    for x, y in ((a, b), (a**2 - 1, b**2 - 1), (a, b**2 - 1), (a**2 - 1, b)):
        assert abs((x * y).sum()) / math.sqrt((x**2).sum() * (y**2).sum()) < 5 / math.sqrt(n)


def test_normals_of_neighbours_are_unrelated():
    """There is no correlation between planes of a call, neighbouring particles, steps, calls, streams or keys."""
    z = normal_draws(2**19)
    for p, q in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        assert_unrelated(z[p], z[q])
    counters = [{"particle": 1}, {"particle": LANES}, {"step": 1}, {"stream": 2}, {"call": 1}]
    for other in [*counters, {"key": random_numbers.key(21, "test")}, {"key": random_numbers.key(20, "tesu")}]:
        y = normal_draws(2**19, **other)
        assert_unrelated(z[0], y[0])
        assert_unrelated(z[1], y[0])


def test_a_fiftieth_of_a_neighbour_is_noticed():
    z = normal_draws(2**19)
    for mixed in (z[1] + z[0] / 50, np.where(np.abs(z[0]) > 1.5, 1.05, 1.0) * z[1]):
        with pytest.raises(AssertionError):
            assert_unrelated(z[0], mixed)


def test_steps_of_one_particle_are_unrelated():
    """Follow one particle for 2^17 steps."""
    bits, z = np.empty(4 * LANES, np.uint32), np.empty(4 * LANES, np.float32)
    path = np.empty((2**17, 2))
    for step in range(len(path)):
        random_numbers.fill_bits(bits, 0, 1, 0, step, 1, KEY)
        random_numbers.fill_normals(z, bits, 2)
        path[step] = z[0], z[2 * LANES]
    assert_normal(path[:, 0])
    for lag in (1, 2, 3, 4):
        assert_unrelated(path[lag:, 0], path[:-lag, 0])
        assert_unrelated(path[lag:, 1], path[:-lag, 0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_uniforms_are_the_middles_of_their_cells(dtype):
    u = converted(random_numbers.fill_uniforms, EDGES, dtype)
    assert u.tolist() == [twins.uniform(int(word), dtype is np.float32) for word in EDGES]
    assert u.min() > 0
    assert u.max() < 1
    bits = np.empty(2**20, np.uint32)
    random_numbers.fill_bits(bits, 0, len(bits) // (4 * LANES), 0, 0, 3, KEY)
    many = converted(random_numbers.fill_uniforms, bits, dtype)
    assert_even(np.histogram(many, 1024, (0, 1))[0])
    with pytest.raises(AssertionError):
        assert_even(np.histogram(many**1.03, 1024, (0, 1))[0])


def test_keys_of_neighbouring_seeds_and_names_are_unrelated():
    """64 bits each: two keys differ in 32 +- 4 bits; the mean over the pairs below is within 5 standard errors."""
    keys = [random_numbers.key(seed, name) for seed in range(1000) for name in ("sgd", "sge", "langevin", "")]
    assert len({tuple(key) for key in keys}) == len(keys)
    for distance in (1, 4):
        flipped = [int(np.bitwise_count(a ^ b).sum()) for a, b in zip(keys, keys[distance:], strict=False)]
        assert abs(np.mean(flipped) - 32) < 5 * 4 / math.sqrt(len(flipped))
        assert min(flipped) > 8
    assert np.array_equal(random_numbers.key(2**200 + 1, "sgd"), random_numbers.key(2**200 + 1, "sgd"))
    assert not np.array_equal(random_numbers.key(2**200 + 1, "sgd"), random_numbers.key(2**200, "sgd"))
