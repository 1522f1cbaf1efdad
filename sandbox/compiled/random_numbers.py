"""Counter-based random numbers: each is a pure function of (key, stream, particle, step, k).

So a run gives the same bits for any number of threads, any division into chunks, and any number of frames. The
generator is Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011):
a keyed bijection of a counter of four 32-bit words, here (particle, step, k, stream).

Lane functions fill *planes*: plane p of a flat block array holds one number per lane, at [p * LANES + lane].
Bits and the numbers made from them are computed in separate loops, because a loop that mixes 32-bit integer and
floating-point work vectorises badly. The NumPy functions at the end are for single use (starting points, data sets).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.compiled.functions import LANES, exponent_and_mantissa, scalar_function, shared_lane_function
from sandbox.tools.arrays import Array

# Streams: one for each purpose, so that no two purposes ever share a random number. Never renumber one.
STREAM_START = 0
STREAM_RULE = 1
STREAM_BATCH = 2
STREAM_INPUT = 3
STREAM_GRADIENT_NOISE = 4
STREAM_DATA_INPUT = 5
STREAM_DATA_NOISE = 6
STREAM_STATE = 7
STREAM_ACCEPTANCE = 8
STREAM_MODEL_NOISE = 9
STREAM_LABELS = 10

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@scalar_function
def _words(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Return Philox 4x32-10 of a counter: words in the low halves of 64-bit integers (ignore the high halves)."""
    for _ in range(10):
        p0 = (c0 & _LOW) * _MULTIPLIER_0
        p1 = (c2 & _LOW) * _MULTIPLIER_1
        c0, c1 = (p1 >> _HALF) ^ c1 ^ k0, p1
        c2, c3 = (p0 >> _HALF) ^ c3 ^ k1, p0
        k0 += _WEYL_0
        k1 += _WEYL_1
    return c0, c1, c2, c3


@shared_lane_function
def fill_bits(bits: Any, first: int, calls: int, particle: int, step: int, stream: int, key: Any) -> None:
    """Fill 4 * calls planes of 32-bit words for the lanes `particle`, `particle` + 1, ... at `step`.

    The k-th call, with counter word `first` + k, fills planes 4k to 4k + 3. `key` holds two uint32.
    """
    k0, k1, c1, c3 = np.uint64(key[0]), np.uint64(key[1]), np.uint64(step), np.uint64(stream)
    for k in range(calls):
        c2 = np.uint64(first + k)
        plane = bits[4 * k * LANES : 4 * (k + 1) * LANES]
        for i in range(LANES):
            words = _words(np.uint64(particle + i), c1, c2, c3, k0, k1)
            plane[i] = np.uint32(words[0] & _LOW)
            plane[LANES + i] = np.uint32(words[1] & _LOW)
            plane[2 * LANES + i] = np.uint32(words[2] & _LOW)
            plane[3 * LANES + i] = np.uint32(words[3] & _LOW)


@shared_lane_function
def draw_indices(indices: Any, k: int, particle: int, step: int, stream: int, key: Any, count: int) -> None:
    """Fill four planes of uint64 whose upper halves are independent indices 0 ... count - 1 (count < 2^32).

    The planes hold the words of the k-th call times `count`. The lower halves are the remainders. It is faster to leave
    them there than to pack the upper halves, and `next_indices` makes further indices of them. An index has probability
    1/count to within 2^-32, a relative error of at most count / 2^32.
    """
    k0, k1, c1, c3 = np.uint64(key[0]), np.uint64(key[1]), np.uint64(step), np.uint64(stream)
    c2, size = np.uint64(k), np.uint64(count) & _LOW
    for i in range(LANES):
        words = _words(np.uint64(particle + i), c1, c2, c3, k0, k1)
        indices[i] = (words[0] & _LOW) * size
        indices[LANES + i] = (words[1] & _LOW) * size
        indices[2 * LANES + i] = (words[2] & _LOW) * size
        indices[3 * LANES + i] = (words[3] & _LOW) * size


@shared_lane_function
def next_indices(indices: Any, count: int) -> None:
    """Replace the indices of `draw_indices` by four planes of further ones, made from the remainders of the words.

    After u - 1 such calls, the u indices of a word W are the digits of floor(W count^u / 2^32) in base count: each
    sequence of u indices has probability count^-u, to within a relative error of count^u / 2^32 (`indices_per_word`).
    """
    size = np.uint64(count) & _LOW
    for i in range(4 * LANES):
        indices[i] = (indices[i] & _LOW) * size


MAX_INDEXED = 1 << 24
"""The most index sequences that one word may give: with more, some would be likelier than others by over 0.4%."""


def indices_per_word(count: int) -> int:
    """Return the largest u with count^u <= `MAX_INDEXED`, the number of indices 0 ... count - 1 from one word."""
    u = 1
    while max(count, 2) ** (u + 1) <= MAX_INDEXED:
        u += 1
    return u


# Polynomials for Box-Muller, by Chebyshev interpolation in 50 digits, with errors of 1e-9, 1e-8 and 5e-8: below the
# resolution of single precision, 6e-8. No library is called, as Numba has no vector versions of log, sin and cos.
#   -2 log((1+s)/(1-s)) = s (A0 + A1 s^2 + ...)  for |s| <= (sqrt 2 - 1)/(sqrt 2 + 1)
#   sin(pi t) = t (B0 + B1 t^2 + ...) and cos(pi t) = C0 + C1 t^2 + ...  for |t| <= 1/2
_A = tuple(np.float32(-2 * a) for a in (1.999999999, 0.6666681534, 0.3997485052, 0.2992439048))
_B = tuple(np.float32(b) for b in (3.14159264, -5.167710077, 2.550077387, -0.5982904113, 0.07765591228))
_C = tuple(np.float32(c) for c in (0.999999953, -4.934792802, 4.058410791, -1.331872973, 0.2196824236))
_MINUS_TWO_LOG_2 = np.float32(-2 * math.log(2))
_ONE, _HALF_WORD, _WORDS = np.float32(1), np.float32(0.5), np.float32(2.0**-32)
_ALL_BITS = np.float32(32)


@shared_lane_function
def fill_normals(normals: Any, bits: Any, pairs: int) -> None:
    """Turn 2 * pairs planes of bits into as many planes of standard normals in float32 (Box and Muller 1958).

    The radius uses one word and the direction another. So |z| <= sqrt(66 log 2) = 6.76; a normal has a mass of
    1.4e-11 beyond. Every kernel uses single precision here: only the law of the noise matters, 24 bits give it to 1e-7,
    and twice as many lanes fit a vector.
    """
    for p in range(pairs):
        for i in range(LANES):
            exponent, m = exponent_and_mantissa(np.float32(bits[2 * p * LANES + i]) + _HALF_WORD)
            s = (m - _ONE) / (m + _ONE)
            q = s * s
            log_part = s * (_A[0] + q * (_A[1] + q * (_A[2] + q * _A[3])))
            # u = word / 2^32; at exponent 32 the last term is exactly 0, so that u near 1 keeps its precision.
            radius = np.sqrt(log_part + (exponent - _ALL_BITS) * _MINUS_TWO_LOG_2)
            # 31 bits choose a direction in the half plane x > 0 (the middle of a cell), the remaining bit its side.
            word = np.int32(bits[(2 * p + 1) * LANES + i])
            t = np.float32(np.int32(word << np.int32(1))) * _WORDS + _WORDS
            q = t * t
            sine = t * (_B[0] + q * (_B[1] + q * (_B[2] + q * (_B[3] + q * _B[4]))))
            cosine = _C[0] + q * (_C[1] + q * (_C[2] + q * (_C[3] + q * _C[4])))
            side = radius if word >= np.int32(0) else -radius
            normals[2 * p * LANES + i] = side * cosine
            normals[(2 * p + 1) * LANES + i] = radius * sine


@shared_lane_function
def fill_uniforms(uniforms: Any, bits: Any, planes: int) -> None:
    """Turn planes of bits into uniforms on (0, 1): the midpoints of 2^32 equal cells (2^23 in float32)."""
    real = uniforms.dtype.type
    for i in range(planes * LANES):
        if real is np.float32:
            # With one bit more, the midpoints would need 25 bits, and the last midpoint would round to 1.
            uniforms[i] = (real(bits[i] >> np.uint32(9)) + real(0.5)) * real(2.0**-23)
        else:
            uniforms[i] = (real(bits[i]) + real(0.5)) * real(2.0**-32)


PERMUTATION_ROUNDS = 12
"""Feistel rounds; below 64 elements twice as many, because 12 were found not uniform over all permutations there."""


@shared_lane_function
def fill_permuted(indices: Any, position: int, count: int, keys: Any) -> None:
    """Give each lane the image of `position` under its own pseudo-random permutation of 0 ... count - 1.

    `keys` holds four planes of bits, the permutation's key; count <= 2^24. `indices` has three planes: the first for
    the result, two for scratch. A Feistel network on two mixed-radix digits permutes 0 ... rows * columns - 1 (Black
    and Rogaway, "Ciphers with arbitrary finite domains", 2002). The few images that are not below count are
    permuted again until they are. A full grid with both sides odd (9, 15, 25, ...) yields even permutations only,
    which leaves the joint law of any count - 2 images untouched.
    """
    rows, columns = _radices(count)
    left, right = indices[LANES : 2 * LANES], indices[2 * LANES : 3 * LANES]
    for i in range(LANES):
        indices[i] = count
        left[i] = position // rows
        right[i] = position % rows
    walking: Any = LANES
    rounds = PERMUTATION_ROUNDS if count >= 64 else 2 * PERMUTATION_ROUNDS
    while walking > 0:
        for r in range(0, rounds, 2):
            _rotate(left, right, keys[(r & 3) * LANES : ((r & 3) + 1) * LANES], r, columns)
            _rotate(right, left, keys[((r + 1) & 3) * LANES : (((r + 1) & 3) + 1) * LANES], r + 1, rows)
        walking = 0
        for i in range(LANES):
            image = np.uint32(left[i] * np.uint32(rows) + right[i])
            # Lanes that are done keep their result; they repeat the rounds with the others, without effect.
            arrived = np.uint32(indices[i]) < np.uint32(count)
            indices[i] = indices[i] if arrived else image
            walking += np.uint32(indices[i]) >= np.uint32(count)


@shared_lane_function
def _radices(count: Any) -> tuple[Any, Any]:
    """Return rows and columns, both near sqrt(count); of all candidates, their product exceeds `count` the least."""
    root: Any = np.int64(np.ceil(np.sqrt(count)))
    rows = root
    for candidate in range(root, max(root // 2, 1), -1):
        if -(-count // candidate) * candidate < -(-count // rows) * rows:
            rows = candidate
    return rows, -(-count // rows)


@shared_lane_function
def _rotate(digits: Any, others: Any, keys: Any, turn: int, radix: int) -> None:
    """Add F(other) mod radix to each digit, with F a keyed hash of 32 bits (the finaliser of MurmurHash3)."""
    tweak = np.uint32(turn * np.int64(_WEYL_0))
    for i in range(LANES):
        x = np.uint32(np.uint32(others[i] * _WEYL_0) ^ np.uint32(keys[i] + tweak))
        x = np.uint32(np.uint32(x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B))
        x = np.uint32(np.uint32(x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
        x = np.uint32(x ^ (x >> np.uint32(16)))
        total = np.uint32(digits[i] + np.uint32((np.uint64(x) * np.uint64(radix)) >> _HALF))
        digits[i] = np.uint32(total - np.uint32(radix)) if total >= np.uint32(radix) else total


def key(seed: int, purpose: str) -> npt.NDArray[np.uint32]:
    """Return the two key words of a purpose (a population's name, "data", ...) under `seed`.

    NumPy's SeedSequence mixes both: seeds n and n + 1, or two purposes, give unrelated keys.
    """
    return _mixed(seed, purpose).generate_state(2, np.uint32).astype(np.uint32)


def derived_seed(seed: int, purpose: str, index: int = 0) -> int:
    """Return the seed below 2^63 of a purpose's data set, repeat or chain number `index`.

    Never add the index to the seed: then the runs of two neighbouring seeds share all but one of their data sets.
    """
    return int(_mixed(seed, purpose, index).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _mixed(seed: int, purpose: str, *index: int) -> np.random.SeedSequence:
    encoded = purpose.encode()
    words = np.frombuffer(encoded.ljust(4 * -(-len(encoded) // 4), b"\0"), "<u4").tolist()
    return np.random.SeedSequence(seed, spawn_key=(*words, *index))


def philox(counter: npt.NDArray[np.uint32], key_words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return Philox 4x32-10 of counters of shape (..., 4): the same bits as `fill_bits`, in plain NumPy."""
    c = [counter[..., j].astype(np.uint64) for j in range(4)]
    k = [int(word) for word in key_words]
    for _ in range(10):
        p0, p1 = c[0] * _MULTIPLIER_0, c[2] * _MULTIPLIER_1
        c = [(p1 >> _HALF) ^ c[1] ^ np.uint64(k[0]), p1 & _LOW, (p0 >> _HALF) ^ c[3] ^ np.uint64(k[1]), p0 & _LOW]
        k = [(k[0] + int(_WEYL_0)) & 0xFFFFFFFF, (k[1] + int(_WEYL_1)) & 0xFFFFFFFF]
    words: npt.NDArray[np.uint32] = np.stack(c, axis=-1).astype(np.uint32)
    return words


def uniforms(
    key_words: npt.NDArray[np.uint32], stream: int, particles: npt.NDArray[np.int64], step: int, count: int
) -> Array:
    """Return `count` uniforms on (0, 1) of 53 bits for each particle, shape (len(particles), count)."""
    counter = np.empty((len(particles), -(-count // 2), 4), np.uint32)
    counter[..., 0] = particles[:, None]
    counter[..., 1] = step
    counter[..., 2] = np.arange(counter.shape[1])
    counter[..., 3] = stream
    words = philox(counter, key_words).reshape(len(particles), -1, 2).astype(np.uint64)
    mantissa = (words[..., 0] << np.uint64(20)) | (words[..., 1] >> np.uint64(12))
    return (mantissa[:, :count] + 0.5) * 2.0**-52
