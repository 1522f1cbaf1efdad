"""Timings of the kernels beside good code in NumPy, Numba or JAX: in one process, medians of several rounds.

The tasks: many particles on the crossing K = (w1 w2)^2 / 2 under unadjusted Langevin dynamics in float64, no walls;
minibatch SGD on the same model; and minibatch SGD on a ReLU net of two neurons. Every competitor does the same
arithmetic with its own random numbers. On the crossing, the other rules are timed as well.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from sandbox.compiled import random_numbers
from sandbox.dynamics import kernel
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.rules.base import Rule
from sandbox.dynamics.rules.registry import RULES
from sandbox.dynamics.simulate import shares_of
from sandbox.model.loss import Loss
from sandbox.model.prior import Distribution, Prior
from sandbox.model.regression import Regression
from sandbox.tools.errors import InputError
from sandbox.tools.parallel import processors

PARTICLES = 65_536
STEPS = 40
"""Steps of the competitors in one timed call; the sandbox's kernels, which are faster, do FACTOR times as many."""
FACTOR = 10
NBETA, STEP_SIZE, LEARNING_RATE, SAMPLES, BATCH = 1000.0, 1e-4, 0.05, 1000, 8

NET_PARTICLES, NET_BATCH, NET_NOISE = 16_384, 16, 0.3

# Rules, each compared with the first of its tuple.
SGD_LIKE = ("sgd", "sgd momentum", "adam", "sgd_sde", "isotropic_sgd", "sgld", "psgld")
SAMPLERS = ("langevin", "langevin_lm", "underdamped", "mala")

Timed = Callable[[int], None]
"""A function that advances a task's particles by a number of steps."""


def table(*, peers: bool = False, repeats: int = 7) -> str:
    """Return a table as text: median ns per particle and step, ratio to the first. `peers` needs JAX installed."""
    threads = processors()
    (loss, prior), (net, net_prior) = _task(), _net()
    with ThreadPoolExecutor(threads) as pool:
        langevin, sgd = _rule("langevin"), _rule("sgd")
        minibatch = Minibatch(minibatch=BATCH, draw="with_replacement")
        net_minibatch = Minibatch(minibatch=NET_BATCH, draw="with_replacement")
        tasks: dict[tuple[str, int], dict[str, Timed]] = {
            ("Langevin, full gradient", PARTICLES): {
                "sandbox": _sandbox(pool, threads, loss, prior, langevin, Full()),
                "sandbox, float32": _sandbox(pool, threads, loss, prior, langevin, Full(), "float32"),
                "NumPy, vectorised": _numpy_langevin(loss),
                "Numba, prange and np.random": _numba_langevin(loss),
                **(_jax_langevin(loss) if peers else {}),
            },
            (f"SGD, minibatch {BATCH} of {SAMPLES}", PARTICLES): {
                "sandbox": _sandbox(pool, threads, loss, prior, sgd, minibatch),
                "NumPy, vectorised": _numpy_sgd(loss),
                "Numba, prange and np.random": _numba_sgd(loss),
            },
            (f"SGD on a ReLU net of two neurons, minibatch {NET_BATCH} of {SAMPLES}", NET_PARTICLES): {
                "sandbox": _sandbox(pool, threads, net, net_prior, sgd, net_minibatch),
                "NumPy, vectorised": _numpy_net(net),
                "Numba, prange and np.random": _numba_net(net),
                **(_jax_net(net) if peers else {}),
            },
            ("Rules with full gradient", PARTICLES): {
                f"sandbox, {name}": _sandbox(pool, threads, loss, prior, _rule(name), Full()) for name in SAMPLERS
            },
            (f"Rules with minibatch {BATCH} of {SAMPLES}", PARTICLES): {
                f"sandbox, {name}": _sandbox(pool, threads, loss, prior, _rule(name), minibatch) for name in SGD_LIKE
            },
        }
        versions = f"NumPy {np.__version__}, Numba {numba.__version__}"
        lines = [f"{platform.machine()}, {threads} threads; {versions}; median of {repeats} interleaved rounds"]
        for (title, particles), competitors in tasks.items():
            lines += ["", f"{title}, float64, {particles:,} particles", f"{'ns/step':>52s}{'times first':>16s}"]
            medians = _medians(competitors, repeats, particles)
            first = next(iter(medians.values()))
            lines += [f"  {name:32s}{value:18.2f}{value / first:16.1f}" for name, value in medians.items()]
    return "\n".join(lines)


def _rule(name: str) -> Rule:
    rule, *used = name.split()
    rates = {"step_size": STEP_SIZE} if "step_size" in RULES[rule].model_fields else {"learning_rate": LEARNING_RATE}
    return RULES[rule](rule=rule, **rates, **dict.fromkeys(used, 0.9))


def _medians(competitors: dict[str, Timed], repeats: int, particles: int) -> dict[str, float]:
    """Return each competitor's median time in ns; rounds are interleaved, so that noise affects all competitors."""
    times: dict[str, list[float]] = {name: [] for name in competitors}
    for advance in competitors.values():
        advance(2)
    for _ in range(repeats):
        for name, advance in competitors.items():
            steps = STEPS * (FACTOR if name.startswith("sandbox") else 1)
            began = time.perf_counter()
            advance(steps)
            times[name].append((time.perf_counter() - began) / steps / particles * 1e9)
    return {name: statistics.median(values) for name, values in times.items()}


def _task() -> tuple[Loss, Prior]:
    prior = Prior.parse(dict.fromkeys(("w1", "w2"), "uniform(-1, 1)"))
    regression = Regression(prior.names, ("w1 * w2 * x",), ("0",), {"x": Distribution.parse("normal(0, 1)")})
    return regression.sampled(SAMPLES, 0), prior


def _net() -> tuple[Loss, Prior]:
    prior = Prior.parse(dict.fromkeys(("a1", "b1", "c1", "a2", "b2", "c2", "d"), "uniform(-1, 1)"))
    model, inputs = ("a1*relu(b1*x + c1) + a2*relu(b2*x + c2) + d",), {"x": prior.distributions[0]}
    return Regression(prior.names, model, ("relu(x)",), inputs, noise=NET_NOISE).sampled(SAMPLES, 0), prior


def _net_data(loss: Loss) -> tuple[Any, Any]:
    x, residual = loss.data.T
    return x.copy(), np.maximum(x, 0) + residual


def _start(particles: int, size: int) -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (particles, size))


def _sandbox(
    pool: ThreadPoolExecutor, threads: int, loss: Loss, prior: Prior, rule: Any, gradient: Any, dtype: str = "float64"
) -> Timed:
    built = kernel.build(loss, prior, rule, gradient, nbeta=NBETA, reflecting=False, dtype=dtype)
    particles = PARTICLES if built.dimension == 2 else NET_PARTICLES
    positions = built.pack(_start(particles, built.dimension))
    key = random_numbers.key(0, "bench")

    def advance(steps: int) -> None:
        calls = [
            pool.submit(built.advance, positions, blocks, (0, steps), steps, key)
            for blocks in shares_of(len(positions), threads)
        ]
        for call in calls:
            call.result()

    return advance


def _numpy_langevin(loss: Loss) -> Timed:
    rng = np.random.default_rng(1)
    w1, w2 = _start(PARTICLES, 2).T.copy()
    xx, ex = loss.moments
    noise = np.empty((2, PARTICLES))

    def advance(steps: int) -> None:
        nonlocal w1, w2
        for _ in range(steps):
            rng.standard_normal(out=noise)
            slope = (STEP_SIZE * NBETA) * (xx * w1 * w2 - ex)
            w1, w2 = (
                w1 - slope * w2 + np.sqrt(2 * STEP_SIZE) * noise[0],
                w2 - slope * w1 + np.sqrt(2 * STEP_SIZE) * noise[1],
            )

    return advance


def _numpy_sgd(loss: Loss) -> Timed:
    rng = np.random.default_rng(1)
    w1, w2 = _start(PARTICLES, 2).T.copy()
    table = loss.table

    def advance(steps: int) -> None:
        nonlocal w1, w2
        for _ in range(steps):
            rows = table[rng.integers(0, SAMPLES, (PARTICLES, BATCH))].mean(axis=1)
            slope = LEARNING_RATE * (rows[:, 0] * w1 * w2 - rows[:, 1])
            w1, w2 = w1 - slope * w2, w2 - slope * w1

    return advance


def _numba_langevin(loss: Loss) -> Timed:
    points = _start(PARTICLES, 2)
    xx, ex = loss.moments

    @numba.njit(parallel=True)
    def move(points: Any, steps: int, xx: float, ex: float) -> None:
        spread = np.sqrt(2 * STEP_SIZE)
        for i in numba.prange(len(points)):
            w1, w2 = points[i, 0], points[i, 1]
            for _ in range(steps):
                slope = STEP_SIZE * NBETA * (xx * w1 * w2 - ex)
                w1, w2 = (
                    w1 - slope * w2 + spread * np.random.normal(),  # noqa: NPY002
                    w2 - slope * w1 + spread * np.random.normal(),  # noqa: NPY002
                )
            points[i, 0], points[i, 1] = w1, w2

    return lambda steps: move(points, steps, xx, ex)


def _numba_sgd(loss: Loss) -> Timed:
    points, table = _start(PARTICLES, 2), loss.table

    @numba.njit(parallel=True)
    def move(points: Any, steps: int, table: Any) -> None:
        for i in numba.prange(len(points)):
            w1, w2 = points[i, 0], points[i, 1]
            for _ in range(steps):
                xx = ex = 0.0
                for _ in range(BATCH):
                    row = np.random.randint(0, SAMPLES)  # noqa: NPY002
                    xx += table[row, 0]
                    ex += table[row, 1]
                slope = LEARNING_RATE * (xx * w1 * w2 - ex) / BATCH
                w1, w2 = w1 - slope * w2, w2 - slope * w1
            points[i, 0], points[i, 1] = w1, w2

    return lambda steps: move(points, steps, table)


def _numpy_net(loss: Loss) -> Timed:
    rng = np.random.default_rng(1)
    w = _start(NET_PARTICLES, 7).T.copy()
    inputs, outputs = _net_data(loss)

    def advance(steps: int) -> None:
        for _ in range(steps):
            rows = rng.integers(0, SAMPLES, (NET_BATCH, NET_PARTICLES))
            w[:] -= LEARNING_RATE * np.stack(_net_slope(np, w, inputs[rows], outputs[rows], 0))

    return advance


def _net_slope(numpy: Any, w: Any, x: Any, y: Any, axis: int) -> list[Any]:
    """Return the net's gradient, derived by hand; samples lie along `axis`, `numpy` is NumPy or jax.numpy."""
    a1, b1, c1, a2, b2, c2, d = (numpy.expand_dims(plane, axis) for plane in w)
    u1, u2 = b1 * x + c1, b2 * x + c2
    r1, r2 = numpy.maximum(u1, 0), numpy.maximum(u2, 0)
    misfit = (a1 * r1 + a2 * r2 + d - y) / (NET_NOISE**2 * NET_BATCH)
    m1, m2 = misfit * (u1 > 0), misfit * (u2 > 0)
    sums = [part.sum(axis) for part in (misfit * r1, m1 * x, m1, misfit * r2, m2 * x, m2, misfit)]
    return [sums[0], w[0] * sums[1], w[0] * sums[2], sums[3], w[3] * sums[4], w[3] * sums[5], sums[6]]


def _numba_net(loss: Loss) -> Timed:
    points, (inputs, outputs) = _start(NET_PARTICLES, 7), _net_data(loss)

    @numba.njit(parallel=True)
    def move(points: Any, steps: int, inputs: Any, outputs: Any) -> None:
        rate = LEARNING_RATE / (NET_NOISE**2 * NET_BATCH)
        for i in numba.prange(len(points)):
            a1, b1, c1, a2, b2, c2, d = points[i]
            for _ in range(steps):
                ga1 = gb1 = gc1 = ga2 = gb2 = gc2 = gd = 0.0
                for _ in range(NET_BATCH):
                    row = np.random.randint(0, SAMPLES)  # noqa: NPY002
                    x = inputs[row]
                    u1, u2 = b1 * x + c1, b2 * x + c2
                    misfit = a1 * max(u1, 0.0) + a2 * max(u2, 0.0) + d - outputs[row]
                    gd += misfit
                    if u1 > 0:
                        ga1 += misfit * u1
                        gb1 += misfit * x
                        gc1 += misfit
                    if u2 > 0:
                        ga2 += misfit * u2
                        gb2 += misfit * x
                        gc2 += misfit
                a1, b1, c1 = a1 - rate * ga1, b1 - rate * a1 * gb1, c1 - rate * a1 * gc1
                a2, b2, c2 = a2 - rate * ga2, b2 - rate * a2 * gb2, c2 - rate * a2 * gc2
                d -= rate * gd
            points[i] = (a1, b1, c1, a2, b2, c2, d)

    return lambda steps: move(points, steps, inputs, outputs)


def _jax() -> tuple[Any, Any]:
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        raise InputError("--peers needs JAX: pip install 'sandbox-slt[peers]'") from None
    return jax, jnp


def _jax_langevin(loss: Loss) -> dict[str, Timed]:
    jax, jnp = _jax()
    xx, ex = map(float, loss.moments)

    def slope(w: Any) -> Any:
        return NBETA * (xx * w[0] * w[1] - ex) * w[::-1]

    def move(points: Any, keys: Any) -> Any:
        def step(points: Any, key: Any) -> Any:
            # One key per step, not per particle: to split keys would cost more than the random numbers.
            noise = jax.random.normal(key, points.shape, points.dtype)
            return points - STEP_SIZE * jax.vmap(slope)(points) + jnp.sqrt(2 * STEP_SIZE) * noise, None

        return jax.lax.scan(step, points, keys)[0]

    start = _start(PARTICLES, 2)
    return {"JAX, jit + scan + vmap": _jax_timed(move, start, True), "JAX, float32": _jax_timed(move, start, False)}


def _jax_timed(move: Any, start: Any, double: bool) -> Timed:
    jax, jnp = _jax()
    with jax.enable_x64(double):
        points = jnp.asarray(start, jnp.float64 if double else jnp.float32)
        compiled = jax.jit(move)

    def advance(steps: int) -> None:
        with jax.enable_x64(double):
            compiled(points, jax.random.split(jax.random.key(1), steps)).block_until_ready()

    advance(STEPS)
    return advance


def _jax_net(loss: Loss) -> dict[str, Timed]:
    """Return two competitors: with JAX's gradient of a batch's mean loss, and with the gradient by hand."""
    jax, jnp = _jax()
    inputs, outputs = _net_data(loss)

    def batch_loss(w: Any, x: Any, y: Any) -> Any:
        f = w[0] * jax.nn.relu(w[1] * x + w[2]) + w[3] * jax.nn.relu(w[4] * x + w[5]) + w[6]
        return ((f - y) ** 2).mean() / (2 * NET_NOISE**2)

    def move(gradient: Any) -> Any:
        def step(points: Any, key: Any) -> Any:
            # This is twice as fast as `randint`, which uses two words per index. The bounds need no check.
            bits = jax.random.bits(key, (NET_PARTICLES, NET_BATCH), jnp.uint32)
            rows = (bits.astype(jnp.uint64) * SAMPLES >> 32).astype(jnp.int32)
            x, y = (jnp.asarray(column).at[rows].get(mode="promise_in_bounds") for column in (inputs, outputs))
            return points - LEARNING_RATE * gradient(points, x, y), None

        return lambda points, keys: jax.lax.scan(step, points, keys)[0]

    by_hand = move(lambda w, x, y: jnp.stack(_net_slope(jnp, w, x, y, 1)))
    start = _start(NET_PARTICLES, 7)
    return {
        "JAX, jit + scan + vmap(grad)": _jax_timed(move(jax.vmap(jax.grad(batch_loss))), start, True),
        "JAX, jit + scan, by hand": _jax_timed(by_hand, start.T, True),
    }
