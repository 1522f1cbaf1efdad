"""Where particles start: points in the order of the particles, a pure function of scenario and seed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from sandbox import draws
from sandbox.errors import InputError
from sandbox.scenario import AtEndOf, OnStratum, Population, Scenario

Array = npt.NDArray[np.float64]

_ROUNDS = 1000
"""How often the draws that do not land on a stratum are drawn again."""


def start(scenario: Scenario, population: Population, ends: Mapping[str, Array] = MappingProxyType({})) -> Array:
    """Return where a population's particles start, shape (N, D).

    The same uniforms serve every population: those that start from the prior start from the same points. `ends` has
    the final points (N, D) of the populations that ran before; a particle that had diverged starts where it is.
    """
    place = population.start
    if isinstance(place, AtEndOf):
        return ends[place.population]
    if isinstance(place, OnStratum):
        points = _on_stratum(scenario, population.name, place)
        return _spread(scenario, points, place.spread) if place.spread else points
    uniforms = _uniforms(scenario, "start", np.arange(scenario.particles))
    distributions = place or scenario.prior.distributions
    return np.stack([d.quantile(uniforms[:, k]) for k, d in enumerate(distributions)], axis=1)


def origin(scenario: Scenario, population: Population) -> Population:
    """Return the population from whose start this one comes: itself, unless it starts where another ends."""
    named = {other.name: other for other in scenario.populations}
    while isinstance(population.start, AtEndOf):
        population = named[population.start.population]
    return population


def _uniforms(scenario: Scenario, purpose: str, particles: npt.NDArray[np.int64], again: int = 0) -> Array:
    key = draws.key(scenario.seed, purpose)
    return draws.uniforms(key, draws.STREAM_START, particles, again, len(scenario.prior.names))


def _on_stratum(scenario: Scenario, name: str, place: OnStratum) -> Array:
    """Return each particle's first draw from the prior that lands on the stratum, where it lands: shape (N, D)."""
    zero_set = scenario.zero_set
    k = zero_set.names.index(place.stratum)
    points = np.full((scenario.particles, len(scenario.prior.names)), np.inf)
    left = np.arange(scenario.particles)
    for again in range(_ROUNDS):
        points[left] = zero_set.landed(
            scenario.prior.quantile(_uniforms(scenario, "start", left, again)), k, scenario.prior
        )
        left = left[~np.isfinite(points[left]).all(axis=1)]
        if not len(left):
            return zero_set.over_images(points)
    message = f"of {_ROUNDS} draws from the prior none landed on '{place.stratum}', for {len(left)} particles"
    raise InputError(message).within("populations", name, "start")


def _spread(scenario: Scenario, points: Array, spread: float) -> Array:
    """Return points moved by normal noise, cut to the box as the starts of other distributions are."""
    low, high = (scenario.prior.bounds.T[:, None, :] - points) / spread
    u = _uniforms(scenario, "spread of starts", np.arange(len(points)))
    moved: Array = points + spread * ndtri(ndtr(low) + u * (ndtr(high) - ndtr(low)))
    return moved
