"""Slow, obvious twins of the compiled kernels, in plain Python: one particle, one sample, one number at a time.

They share no code with the kernels. A twin knows the meaning of each word of each Philox counter, because that layout
makes a run reproducible; everything else (logarithms, sines, moments, gradients, walls) is computed in
another way than in the kernels: library functions, loops over samples, Jacobians written by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sandbox.tools.arrays import Array

Key = tuple[int, int]
Law = tuple[str, tuple[float, ...]]
"""A distribution: its family and arguments."""

WORD = 1 << 32
STREAM_RULE, STREAM_BATCH, STREAM_INPUT, STREAM_NOISE = 1, 2, 3, 4


def philox(counter: Sequence[int], key: Key, rounds: int = 10) -> list[int]:
    """Return the four words of Philox 4x32 (Salmon et al. 2011, section 3.3)."""
    a, b, c, d = counter
    left, right = key
    for _ in range(rounds):
        high_a, low_a = divmod(0xD2511F53 * a, WORD)
        high_c, low_c = divmod(0xCD9E8D57 * c, WORD)
        a, b, c, d = high_c ^ b ^ left, low_c, high_a ^ d ^ right, low_a
        left, right = (left + 0x9E3779B9) % WORD, (right + 0xBB67AE85) % WORD
    return [a, b, c, d]


def words(key: Key, particle: int, step: int, stream: int, first: int, count: int) -> list[int]:
    """Return words first, first + 1, ... of the sequence of the calls k = 0, 1, ... of one counter."""
    calls = range(first // 4, (first + count - 1) // 4 + 1)
    sequence = [word for k in calls for word in philox((particle, step, k, stream), key)]
    return sequence[first % 4 : first % 4 + count]


def normal_pair(radius_word: Any, direction_word: Any, single: bool = True) -> tuple[Any, Any]:
    """Return two normals (Box and Muller 1958) of two words, integers or arrays of them.

    The direction's top bit is the side; the others count 2^31 cells of a half turn, the second half of them below 0.
    With `single`, both fractions are rounded to 24 bits.
    """
    real = np.float32 if single else np.float64
    fraction = np.float64(real(radius_word) + real(0.5)) / WORD
    radius = np.sqrt(-2 * np.log(fraction))
    cell, side = direction_word % (WORD // 2), 1 - 2.0 * (direction_word // (WORD // 2))
    turn = np.float64(real((2.0 * cell + 1) / WORD - np.where(cell < WORD // 4, 0, 1)))
    return side * radius * np.cos(np.pi * turn), radius * np.sin(np.pi * turn)


def normals(pairs: Sequence[int]) -> list[float]:
    """Return as many normals as words."""
    return [float(z) for k in range(0, len(pairs), 2) for z in normal_pair(pairs[k], pairs[k + 1])]


def uniform(word: int, single: bool = False) -> float:
    """Return the middle of a word's cell of (0, 1): of 2^32 cells, or 2^23 in single precision."""
    return (word // 512 + 0.5) / 2**23 if single else (word + 0.5) / WORD


def index(word: int, count: int) -> int:
    """Return a word's index among `count`."""
    return word * count // WORD


def radices(count: int) -> tuple[int, int]:
    """Return rows and columns of the smallest grid for `count` elements with ceil(sqrt(count)) rows or a few less."""
    root = math.isqrt(count - 1) + 1
    rows = min([root, *range(root - 1, root // 2, -1)], key=lambda r: r * -(-count // r))
    return rows, -(-count // rows)


def permuted(position: int, count: int, keys: Sequence[int], rounds: int | None = None) -> int:
    """Return the image of `position` under the keyed permutation of 0 ... count - 1: Feistel, walked until inside."""
    rows, columns = radices(count)
    image = position
    while True:
        column, row = divmod(image, rows)
        for turn in range(rounds or (24 if count < 64 else 12)):
            if turn % 2 == 0:
                column = (column + index(_hash(row, keys[turn % 4], turn), columns)) % columns
            else:
                row = (row + index(_hash(column, keys[turn % 4], turn), rows)) % rows
        image = column * rows + row
        if image < count:
            return image


def _hash(digit: int, key: int, turn: int) -> int:
    x = digit * 0x9E3779B9 % WORD ^ (key + turn * 0x9E3779B9) % WORD
    x = (x ^ x >> 16) * 0x85EBCA6B % WORD
    x = (x ^ x >> 13) * 0xC2B2AE35 % WORD
    return x ^ x >> 16


def reflected(x: float, low: float, high: float) -> float:
    """Mirror at the walls until the value is inside."""
    while x < low or x > high:
        x = 2 * low - x if x < low else 2 * high - x
    return x


def quantile(law: Law, u: float) -> float:
    """Return the inverse distribution function of a uniform, Laplace or choice law."""
    family, arguments = law
    if family == "choice":
        return arguments[int(u * len(arguments))]
    first, second = arguments
    if family == "uniform":
        return (1 - u) * first + u * second
    return first + second * (math.log(2 * u) if u < 0.5 else -math.log(2 * (1 - u)))


def prior_gradient(law: Law, w: float) -> float:
    """Return the derivative of -log density inside the support."""
    family, arguments = law
    if family == "normal":
        return (w - arguments[0]) / arguments[1] ** 2
    return math.copysign(1 / arguments[1], w - arguments[0]) if family == "laplace" else 0.0


@dataclass(frozen=True)
class Model:
    """A regression model by hand: f(w, x) and f0(x) with O outputs, the Jacobian (O, D), the noise's deviation."""

    outputs: Callable[[Array, Array], Sequence[float]]
    jacobian: Callable[[Array, Array], Sequence[Sequence[float]]]
    truth: Callable[[Array], Sequence[float]]
    noise: float

    def gradient(self, w: Array, row: Array) -> Array:
        """Return the gradient of -log p(y|x, w) for one row: inputs x, then residuals y - f0(x)."""
        size = len(self.truth(row))
        x, residual = row[:-size], row[-size:]
        misfit = np.asarray(self.outputs(w, x)) - np.asarray(self.truth(x)) - residual
        gradient: Array = np.asarray(self.jacobian(w, x)).T @ misfit / self.noise**2
        return gradient


Estimate = Callable[[Array, Key, int, int], Array]
"""(w, key, particle, step) -> the estimated gradient, shape (D,)."""


def full(model: Model, data: Array, weights: Array) -> Estimate:
    """Return the weighted mean over all rows."""
    return lambda w, key, particle, step: sum(
        (weight * model.gradient(w, row) for weight, row in zip(weights, data, strict=True)), np.zeros(len(w))
    )


def drawn(words: Sequence[int], count: int, batch: int) -> list[int]:
    """Return indices with replacement: from four words in turn, each as often as gives its indices to within 0.4%."""
    uses = max(u for u in range(1, 25) if u == 1 or max(count, 2) ** u <= 2**24)
    indices = []
    for k in range(batch):
        turn, lane_word = divmod(k, 4)
        call, digit = divmod(turn, uses)
        # The digits of the word as a fraction of 2^32, in base count.
        indices.append(words[4 * call + lane_word] * count ** (digit + 1) // 2**32 % count)
    return indices


def indexed(model: Model, data: Array, batch: int, draw: str) -> Estimate:
    """Return the mean over a minibatch of the data's rows."""
    count = len(data)

    def rows(key: Key, particle: int, step: int) -> list[int]:
        if draw == "with_replacement":
            return drawn(words(key, particle, step, STREAM_BATCH, 0, batch), count, batch)
        if draw == "without_replacement":
            keys = words(key, particle, step, STREAM_BATCH, 0, 4)
            return [permuted(k, count, keys) for k in range(batch)]
        epoch, place = divmod(step, count // batch)
        keys = words(key, particle, epoch, STREAM_BATCH, 0, 4)
        return [permuted(place * batch + k, count, keys) for k in range(batch)]

    return lambda w, key, particle, step: np.mean(
        [model.gradient(w, data[row]) for row in rows(key, particle, step)], axis=0
    )


def fresh(model: Model, inputs: Sequence[Law], outputs: int, batch: int) -> Estimate:
    """Return the mean over new samples; each takes its normals (inputs, then noise, an even number), then uniforms."""
    laws = [*inputs, *[("normal", (0.0, model.noise))] * outputs]
    normal = sum(family == "normal" for family, _ in laws)
    even = normal + normal % 2
    width = even + len(laws) - normal

    def row(key: Key, particle: int, step: int, sample: int) -> Array:
        drawn = words(key, particle, step, STREAM_INPUT, sample * width, width)
        z, u = iter(normals(drawn[:even])), iter(drawn[even:])
        return np.array(
            [law[1][0] + law[1][1] * next(z) if law[0] == "normal" else quantile(law, uniform(next(u))) for law in laws]
        )

    return lambda w, key, particle, step: np.mean(
        [model.gradient(w, row(key, particle, step, sample)) for sample in range(batch)], axis=0
    )


def shared_normals(key: Key, particle: int, step: int, stream: int, count: int) -> Array:
    """Return a step's `count` normals: as few steps as fill whole Philox calls share a counter."""
    group = {0: 1, 1: 4, 2: 2, 3: 4}[count % 4]
    drawn = normals(words(key, particle, step // group, stream, 0, group * count))
    start = step % group * count
    return np.array(drawn[start : start + count])


def noisy(gradient: Callable[[Array], Sequence[float]], matrix: Callable[[Array], Any], columns: int) -> Estimate:
    """Return a potential's gradient plus B(w) xi."""
    return lambda w, key, particle, step: (
        np.asarray(gradient(w)) + np.asarray(matrix(w)) @ shared_normals(key, particle, step, STREAM_NOISE, columns)
    )


@dataclass(frozen=True)
class Twin:
    """One particle's path. `rates` gives the step size of a step; `priors` and `nbeta` make it a Langevin path."""

    estimate: Estimate
    rates: Callable[[int], float]
    decay: float = 0.0
    priors: tuple[Law, ...] = ()
    nbeta: float = 1.0
    walls: tuple[tuple[float, float], ...] = ()

    def trajectory(self, key: Key, particle: int, start: Array, steps: int) -> Array:
        """Return the path's points, shape (steps + 1, D)."""
        path = [np.array(start, dtype=float)]
        for step in range(steps):
            moved = self.moved(path[-1], key, particle, step)
            walls = self.walls or ((-math.inf, math.inf),) * len(moved)
            path.append(np.array([reflected(x, *wall) for x, wall in zip(moved, walls, strict=True)]))
        return np.array(path)

    def moved(self, w: Array, key: Key, particle: int, step: int) -> Array:
        """Return the end of a step without walls."""
        rate, gradient = self.rates(step), self.estimate(w, key, particle, step)
        if not self.priors:
            return w - rate * (gradient + self.decay * w)
        slope = self.nbeta * gradient + [prior_gradient(law, x) for law, x in zip(self.priors, w, strict=True)]
        xi = shared_normals(key, particle, step, STREAM_RULE, len(w))
        moved: Array = w - rate * slope + math.sqrt(2 * rate) * xi
        return moved
