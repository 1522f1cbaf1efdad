"""Particles that are exact posterior draws: the cases in which a verdict other than equal or undecided is wrong."""

from __future__ import annotations

import dataclasses

import numpy as np

from sandbox.comparison.simplicity import Scored, Simplicity, preferences
from sandbox.comparison.verdict import judge
from sandbox.model.prior import Prior
from sandbox.model.problem import Problem
from sandbox.model.regression import potential
from sandbox.model.strata import ZeroSet
from sandbox.posterior.method import Quadrature
from sandbox.posterior.sampling.smc import Smc
from sandbox.tools.arrays import Array

CROSSING, UNEVEN, HYPERBOLA = "(w1 * w2)**2 / 2", "(w1 * w2**2)**2 / 2", "(w1 * w2 - 1)**2 / 2"
LOSSES = {"crossing": (CROSSING, 1.0), "uneven_crossing": (UNEVEN, 1.0), "hyperbola": (HYPERBOLA, 3.0)}
"""Losses with the side of their box."""


def problem_of(expression: str, prior: Prior, nbeta: float = 1000, seed: int = 0) -> Problem:
    """Return the problem of a potential without strata."""
    return Problem(potential(prior.names, expression), prior, ZeroSet.parse(prior.names, {}), nbeta, seed)


def square(expression: str, side: float, nbeta: float = 1000) -> Problem:
    """Return the problem of a potential on a square, in w1 and w2."""
    return problem_of(expression, Prior.parse(dict.fromkeys(("w1", "w2"), f"uniform({-side}, {side})")), nbeta)


def exact_draws(problem: Problem, count: int, *seed: int) -> Array:
    """Return independent posterior draws (count, 2): a node of the quadrature by weight, moved inside its cell."""
    posterior = Quadrature(problem.loss.excess, problem.prior).posterior(problem.nbeta)
    random = np.random.default_rng(seed)
    return np.asarray(posterior.points[random.choice(len(posterior.points), count, p=posterior.weights)])


def with_quadrature(problem: Problem) -> tuple[Simplicity, Scored]:
    """Return the scores of a problem, and the posterior's draws with theirs."""
    method = Quadrature(problem.loss.excess, problem.prior)
    simplicity = Simplicity(problem, method)
    return simplicity, simplicity.draws(method.posterior(problem.nbeta))


def four_parameters(seed: int, particles: int = 256) -> tuple[Simplicity, Scored]:
    """Return the scores of a crossing beside an uneven one, in four parameters, by sampling, with the draws' own."""
    names = ("w1", "w2", "w3", "w4")
    expression = f"{CROSSING} + {UNEVEN.replace('w2', 'w4').replace('w1', 'w3')}"
    problem = problem_of(expression, Prior.parse(dict.fromkeys(names, "uniform(-1, 1)")), 1000, seed)
    method = Smc(problem.loss.excess, problem.loss.gradient, problem.prior, seed, particles, 8, 20)
    simplicity = Simplicity(problem, method)
    return simplicity, simplicity.draws(method.posterior(problem.nbeta))


def exact_draws_of_four(count: int, seed: int) -> Array:
    """Return independent posterior draws for `four_parameters`, whose two halves are independent."""
    halves = [exact_draws(square(LOSSES[name][0], 1.0), count, seed, k) for k, name in enumerate(LOSSES) if k < 2]
    return np.column_stack(halves)


def resampled(pool: Scored, count: int, random: np.random.Generator) -> Scored:
    """Return `count` particles drawn from a pool of scored ones."""
    chosen = random.integers(len(pool.points), size=count)
    scores = type(pool.scores)(*(values[:, :, chosen] for values in pool.scores))
    return dataclasses.replace(
        pool,
        points=pool.points[chosen],
        solutions=pool.solutions[chosen],
        scores=scores,
        weights=np.full(count, 1 / count),
    )


def verdict(particles: Scored, draws: Scored, level: float = 0.99, margin: float = 0.05) -> str:
    """Return the verdict on particles beside draws."""
    return judge(preferences(particles, draws, level), margin)[0]
