"""F and λ_n against closed forms, an independent quadrature, and each other's way of computing them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats
from support.checks import prior_of

from sandbox.comparison.local_posterior import NBETA_FACTORS, RADII, ByDraws
from sandbox.comparison.simplicity import Simplicity, drawn
from sandbox.model.flow import solutions
from sandbox.model.prior import Prior
from sandbox.model.problem import Problem
from sandbox.model.regression import potential
from sandbox.model.strata import ZeroSet
from sandbox.posterior.method import Quadrature
from sandbox.tools.arrays import Array


def problem_of(expression: str, prior: Prior, nbeta: float = 1000) -> Problem:
    return Problem(potential(prior.names, expression), prior, ZeroSet.parse(prior.names, {}), nbeta)


def scored_by(problem: Problem) -> Simplicity:
    loss = problem.loss
    return Simplicity(problem, Quadrature(loss.excess, problem.prior))


def normal_scores(w: Array, radius: float, nbeta: float) -> tuple[Array, Array]:
    """Return F and λ_n for K = w^2 / 2 and the prior N(0, 1) in each of D parameters: all laws are normal."""
    variance = 1 / (1 + nbeta)
    wide = variance + radius**2
    free_energy = -stats.norm.logpdf(w, scale=np.sqrt(wide)).sum(axis=1)
    centre, spread = w * variance / wide, variance * radius**2 / wide
    return free_energy, nbeta / 2 * (centre**2 + spread).sum(axis=1)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("nbeta", [3.0, 1000.0])
def test_scores_of_a_normal_posterior_by_convolution(size: int, nbeta: float) -> None:
    names = [f"w{k}" for k in range(size)]
    prior = prior_of(**dict.fromkeys(names, "normal(0, 1)"))
    problem = problem_of(" + ".join(f"{name}**2 / 2" for name in names), prior, nbeta)
    points = np.linspace(-0.1, 0.15, 7)[:, None] * np.ones(size)
    found = scored_by(problem).local.scores(points)
    for f, factor in enumerate(NBETA_FACTORS):
        for r, radius in enumerate(RADII):
            free_energy, coefficient = normal_scores(points, radius, factor * nbeta)
            assert np.abs(found.free_energy[f, r, :, 0] - free_energy).max() < 1e-3
            assert np.abs(found.coefficient[f, r, :, 0] - coefficient).max() < 1e-3


def test_scores_of_a_normal_posterior_by_draws() -> None:
    """In four parameters, from 100,000 draws; within 4 errors of an estimate from the draws near each point."""
    nbeta, size, count = 30.0, 4, 100_000
    draws = np.random.default_rng(0).normal(scale=np.sqrt(1 / (1 + nbeta)), size=(count, size))
    energies = (draws**2).sum(axis=1) / 2
    colder = [np.exp(-(factor - 1) * nbeta * energies) for factor in NBETA_FACTORS]
    parts = np.arange(count) % 8
    local = ByDraws(draws, np.array([w / w.sum() for w in colder]), energies, nbeta, parts, (0.2, 0.4, 0.8))
    points = np.random.default_rng(1).normal(scale=0.1, size=(20, size))
    found = local.scores(points)
    for f, factor in enumerate(NBETA_FACTORS):
        for r, radius in enumerate(local.radii):
            free_energy, coefficient = normal_scores(points, radius, factor * nbeta)
            assert np.abs(found.free_energy[f, r, :, -1] - free_energy).max() < 0.1
            assert np.abs(found.coefficient[f, r, :, -1] - coefficient).max() < 0.1
            # Each entry but the last leaves an eighth of the draws out, and differs from the whole by noise alone.
            assert np.abs(found.free_energy[f, r] - free_energy[:, None]).max() < 0.2


LOSSES = {
    "crossing": ("(w1 * w2)**2 / 2", "uniform(-1, 1)"),
    "uneven": ("(w1 * w2**2)**2 / 2", "uniform(-1, 1)"),
    "cusp": ("(w1**2 - w2**3)**2 / 2", "uniform(-1, 1)"),
    "hyperbola": ("(w1 * w2 - 1)**2 / 2", "uniform(-3, 3)"),
}


def by_simpson(problem: Problem, w: Array, radius: float, nbeta: float) -> tuple[float, float]:
    """Return F and λ_n at one point by Simpson's rule on a grid over the whole box: no code is shared."""
    axes = [np.linspace(*side, 2001) for side in problem.prior.bounds]
    one, two = np.meshgrid(*axes, indexing="ij")
    energy = nbeta * problem.loss.excess(np.column_stack([one.ravel(), two.ravel()])).reshape(one.shape)
    scale = problem.prior.scale
    kernel = np.exp(-(((one - w[0]) / scale[0]) ** 2 + ((two - w[1]) / scale[1]) ** 2) / (2 * radius**2))
    kernel /= 2 * np.pi * radius**2
    density = np.exp(-energy)

    def total(values: Array) -> float:
        return float(integrate.simpson(integrate.simpson(values, axes[1]), axes[0]))

    mass = total(density * kernel)
    return -np.log(mass / total(density)), total(density * kernel * energy) / mass


@pytest.mark.parametrize("name", LOSSES)
def test_scores_agree_with_an_independent_quadrature(name: str) -> None:
    """To 1e-3, also at the walls. A kernel of another width fails."""
    expression, each = LOSSES[name]
    problem = problem_of(expression, prior_of(w1=each, w2=each))
    simplicity = scored_by(problem)
    draws, _, _ = drawn(Quadrature(problem.loss.excess, problem.prior).posterior(1000), 200)
    ends = solutions(problem.loss, problem.prior, draws)
    points = np.concatenate([ends[:1], ends[np.abs(ends).max(axis=1).argmax()][None]])
    found = simplicity.local.scores(points / problem.prior.scale)
    for f, factor in enumerate(NBETA_FACTORS):
        for k, point in enumerate(points):
            expected = by_simpson(problem, point, RADII[0], factor * 1000)
            both = found.free_energy[f, 0, k, 0], found.coefficient[f, 0, k, 0]
            assert both == pytest.approx(expected, abs=1e-3)
    wrong = by_simpson(problem, points[0], 1.1 * RADII[0], 1000)
    assert abs(found.free_energy[0, 0, 0, 0] - wrong[0]) > 1e-3


@pytest.mark.parametrize("name", LOSSES)
def test_draws_and_grid_agree(name: str) -> None:
    """Within 0.04 nat and 0.03 in λ_n (root mean squares), where the posterior's draws are."""
    expression, each = LOSSES[name]
    problem = problem_of(expression, prior_of(w1=each, w2=each))
    grid = scored_by(problem).local
    posterior = Quadrature(problem.loss.excess, problem.prior).posterior(1000)
    scale = problem.prior.scale
    draws, weights, _ = drawn(posterior, 8192)
    energies = problem.loss.excess(draws)
    colder = [weights * np.exp(-(factor - 1) * 1000 * energies) for factor in NBETA_FACTORS]
    parts = np.arange(len(draws)) % 2
    sampled = ByDraws(draws / scale, np.array([w / w.sum() for w in colder]), energies, 1000, parts)
    points = solutions(problem.loss, problem.prior, draws[:500]) / scale
    one, other = grid.scores(points), sampled.scores(points)
    away = [
        np.sqrt(np.nanmean((a[0, 1:, :, -1] - b[0, 1:, :, -1]) ** 2, axis=1)) for a, b in zip(one, other, strict=True)
    ]
    assert (away[0] < 0.04).all()
    assert (away[1] < 0.03).all()


def test_places_that_the_posterior_does_not_reach_have_no_score() -> None:
    problem = problem_of("w1**2 / 2 + w2**2 / 2", prior_of(w1="uniform(-1, 1)", w2="uniform(-1, 1)"), 1e6)
    found = scored_by(problem).local.scores(np.array([[0.0, 0.0], [0.9, 0.9], [np.nan, 0.0]]))
    assert np.isfinite(found.free_energy[:, :, 0]).all()
    # Nine radii away at 0.1; at 0.2 the kernel still sees the posterior.
    assert np.isnan(found.free_energy[:, :2, 1:]).all()
    few: Any = ByDraws(np.zeros((3, 2)), np.full((2, 3), 1 / 3), np.zeros(3), 1.0, np.arange(3))
    assert np.isnan(few.scores(np.zeros((1, 2))).free_energy).all()
