"""How fast the kernels are, beside what a good user of NumPy, Numba or JAX would write: one process, medians.

The task: many particles on the crossing K = (w1 w2)^2 / 2 under unadjusted Langevin dynamics in float64, no walls;
and minibatch SGD on the same model. Every competitor does the same arithmetic with draws of its own.
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

from sandbox import draws, kernel
from sandbox.errors import InputError
from sandbox.gradients import Full, Minibatch
from sandbox.loss import Loss, Regression
from sandbox.prior import Distribution, Prior
from sandbox.rules import Langevin, Sgd
from sandbox.simulate import processors, shares_of

PARTICLES = 65_536
STEPS = 40
"""Steps of the slow competitors in one timed call; the kernels do FACTOR times as many."""
FACTOR = 10
NBETA, STEP_SIZE, LEARNING_RATE, SAMPLES, BATCH = 1000.0, 1e-4, 0.05, 1000, 8

Timed = Callable[[int], None]
"""Moves PARTICLES particles through a number of steps."""


def table(*, peers: bool = False, repeats: int = 7) -> str:
    """Return the timings as text: median ns per particle-step of each competitor, and its ratio to the kernel's."""
    threads = processors()
    loss, prior = _task()
    with ThreadPoolExecutor(threads) as pool:
        langevin = Langevin(rule="langevin", step_size=STEP_SIZE)
        sgd = Sgd(rule="sgd", learning_rate=LEARNING_RATE)
        minibatch = Minibatch(minibatch=BATCH, draw="with_replacement")
        tasks: dict[str, dict[str, Timed]] = {
            f"Langevin, full gradient, float64, {PARTICLES:,} particles": {
                "sandbox": _sandbox(pool, threads, loss, prior, langevin, Full()),
                "sandbox, float32": _sandbox(pool, threads, loss, prior, langevin, Full(), "float32"),
                "NumPy, vectorised": _numpy_langevin(loss),
                "Numba, prange and np.random": _numba_langevin(loss),
                **(_jax_langevin(loss) if peers else {}),
            },
            f"SGD, minibatch {BATCH} of {SAMPLES}, float64, {PARTICLES:,} particles": {
                "sandbox": _sandbox(pool, threads, loss, prior, sgd, minibatch),
                "NumPy, vectorised": _numpy_sgd(loss),
                "Numba, prange and np.random": _numba_sgd(loss),
            },
        }
        lines = [
            f"{platform.machine()}, {threads} threads; NumPy {np.__version__}, Numba {numba.__version__}; "
            f"median of {repeats} interleaved rounds"
        ]
        for title, competitors in tasks.items():
            lines += ["", title, f"  {'':32s}{'ns/particle-step':>18s}{'times sandbox':>16s}"]
            medians = _medians(competitors, repeats)
            for name, value in medians.items():
                lines.append(f"  {name:32s}{value:18.2f}{value / medians['sandbox']:16.1f}")
    return "\n".join(lines)


def _medians(competitors: dict[str, Timed], repeats: int) -> dict[str, float]:
    """Time all competitors in turn, round after round, so that a noisy moment falls on all of them."""
    times: dict[str, list[float]] = {name: [] for name in competitors}
    for advance in competitors.values():
        advance(2)
    for _ in range(repeats):
        for name, advance in competitors.items():
            steps = STEPS * (FACTOR if name.startswith("sandbox") else 1)
            began = time.perf_counter()
            advance(steps)
            times[name].append((time.perf_counter() - began) / steps / PARTICLES * 1e9)
    return {name: statistics.median(values) for name, values in times.items()}


def _task() -> tuple[Loss, Prior]:
    one = Distribution.parse("uniform(-1, 1)")
    regression = Regression(("w1", "w2"), ("w1 * w2 * x",), ("0",), {"x": Distribution.parse("normal(0, 1)")})
    return regression.sampled(SAMPLES, 0), Prior(("w1", "w2"), (one, one))


def _start() -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (PARTICLES, 2))


def _sandbox(
    pool: ThreadPoolExecutor, threads: int, loss: Loss, prior: Prior, rule: Any, gradient: Any, dtype: str = "float64"
) -> Timed:
    built = kernel.build(loss, prior, rule, gradient, nbeta=NBETA, reflecting=False, dtype=dtype)
    positions = built.pack(_start())
    key = draws.key(0, "bench")

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
    w1, w2 = _start().T.copy()
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
    w1, w2 = _start().T.copy()
    table = loss.table

    def advance(steps: int) -> None:
        nonlocal w1, w2
        for _ in range(steps):
            rows = table[rng.integers(0, SAMPLES, (PARTICLES, BATCH))].mean(axis=1)
            slope = LEARNING_RATE * (rows[:, 0] * w1 * w2 - rows[:, 1])
            w1, w2 = w1 - slope * w2, w2 - slope * w1

    return advance


def _numba_langevin(loss: Loss) -> Timed:
    points = _start()
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
    points, table = _start(), loss.table

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


def _jax_langevin(loss: Loss) -> dict[str, Timed]:
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        raise InputError("--peers needs JAX: pip install 'sandbox-slt[peers]'") from None
    xx, ex = map(float, loss.moments)

    def slope(w: Any) -> Any:
        return NBETA * (xx * w[0] * w[1] - ex) * w[::-1]

    def move(points: Any, keys: Any) -> Any:
        def step(points: Any, key: Any) -> Any:
            # One key a step, not one a particle: splitting keys would cost more than the draws.
            noise = jax.random.normal(key, points.shape, points.dtype)
            return points - STEP_SIZE * jax.vmap(slope)(points) + jnp.sqrt(2 * STEP_SIZE) * noise, None

        return jax.lax.scan(step, points, keys)[0]

    def timed(dtype: Any) -> Timed:
        with jax.enable_x64(dtype == jnp.float64):
            points = jnp.asarray(_start(), dtype)
            compiled = jax.jit(move)

        def advance(steps: int) -> None:
            with jax.enable_x64(dtype == jnp.float64):
                compiled(points, jax.random.split(jax.random.key(1), steps)).block_until_ready()

        advance(STEPS)
        return advance

    return {"JAX, jit + scan + vmap": timed(jnp.float64), "JAX, float32": timed(jnp.float32)}
