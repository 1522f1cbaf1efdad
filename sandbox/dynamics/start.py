"""Starting points, in the order of the particles: a pure function of scenario and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from sandbox.compiled import random_numbers
from sandbox.dynamics.population import AtEndOf, OnStratum, Population
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

_ROUNDS = 1000
"""The largest number of prior draws for a particle that must land on a stratum."""


def start(
    problem: Problem, population: Population, particles: int, ends: Mapping[str, Array] = MappingProxyType({})
) -> Array:
    """Return the starting points of a population's particles, shape (particles, D).

    Every population uses the same uniforms, so all starts from the prior agree. `ends` has the end points (N, D) of the
    earlier populations, diverged particles included. Raises InputError if a particle never lands on the stratum.
    Raises InputError when no draw lands on a stratum for some particle.
    """
    place = population.start
    if isinstance(place, AtEndOf):
        return ends[place.population]
    if isinstance(place, OnStratum):
        points = _on_stratum(problem, population.name, place, particles)
        return _spread(problem, points, place.spread) if place.spread else points
    uniforms = _uniforms(problem, "start", np.arange(particles))
    distributions = place or problem.prior.distributions
    return np.stack([d.quantile(uniforms[:, k]) for k, d in enumerate(distributions)], axis=1)


def origin(populations: Sequence[Population], population: Population) -> Population:
    """Return the population at the origin of this one: itself, unless it starts at the end of another."""
    named = {other.name: other for other in populations}
    while isinstance(population.start, AtEndOf):
        population = named[population.start.population]
    return population


def _uniforms(problem: Problem, purpose: str, particles: npt.NDArray[np.int64], again: int = 0) -> Array:
    key = random_numbers.key(problem.seed, purpose)
    return random_numbers.uniforms(key, random_numbers.STREAM_START, particles, again, len(problem.prior.names))


def _on_stratum(problem: Problem, name: str, place: OnStratum, particles: int) -> Array:
    """Return each particle's first landing point on the stratum from a prior draw, spread over the images: (N, D)."""
    zero_set = problem.zero_set
    k = zero_set.names.index(place.stratum)
    points = np.full((particles, len(problem.prior.names)), np.inf)
    left = np.arange(particles)
    for again in range(_ROUNDS):
        drawn = problem.prior.quantile(_uniforms(problem, "start", left, again))
        points[left] = zero_set.landed(drawn, k, problem.prior)
        left = left[~np.isfinite(points[left]).all(axis=1)]
        if not len(left):
            return zero_set.over_images(points)
    message = f"of {_ROUNDS} draws from the prior none landed on '{place.stratum}', for {len(left)} particles"
    raise InputError(message).within("populations", name, "start")


def _spread(problem: Problem, points: Array, spread: float) -> Array:
    """Return points moved by normal noise, truncated to the box as in the other starting distributions."""
    low, high = (problem.prior.bounds.T[:, None, :] - points) / spread
    u = _uniforms(problem, "spread of starts", np.arange(len(points)))
    moved: Array = points + spread * ndtri(ndtr(low) + u * (ndtr(high) - ndtr(low)))
    return moved
