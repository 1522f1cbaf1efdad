"""The base classes of measurements: settings that a scenario may give, and a record that can be drawn."""

from __future__ import annotations

import functools
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import xarray as xr

from sandbox.dynamics.frames import Record
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.learning_coefficient.of_strata import whole
from sandbox.measurements.tracks import Track
from sandbox.model.prior import Prior
from sandbox.model.problem import Problem
from sandbox.posterior.method import PosteriorMethod
from sandbox.posterior.quadrature.posteriors import MOST_PARAMETERS
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError
from sandbox.tools.settings import Settings

LONGEST = 60.0
"""The longest estimated time of a measurement by quadrature or SMC, in seconds, where it grows without limit."""


@functools.lru_cache(maxsize=8)
def theory(problem: Problem) -> LearningCoefficient | None:
    """Return λ and m of all of W0, None if they are not known."""
    return whole(problem.population_loss, problem.prior, problem.zero_set)


class Measurement(Settings):
    """One way to measure λ, or to show the limits of regular theory. A record has `summary`, a sentence, in `attrs`."""

    name: ClassVar[str]
    quick: ClassVar[dict[str, int]] = {}
    """Settings for a look instead of an answer."""
    needs_strata: ClassVar[bool] = False
    """Whether there is nothing to measure in a scenario that lists no strata."""

    def check(self, problem: Problem, record: Record | None) -> None:
        """Raise InputError if this cannot be measured. `record` is kept of the particles; None without any."""


def need_quadrature(problem: Problem) -> None:
    """Raise InputError if the problem has more parameters than quadrature takes."""
    found = len(problem.prior.names)
    if found > MOST_PARAMETERS:
        raise InputError(
            f"this is integrated by quadrature; found {found} parameters; allowed: at most {MOST_PARAMETERS} "
            "(volume, llc, wbic and local_llc take any number)"
        )


def seconds(energy: Callable[[Array], Array], prior: Prior, points: int) -> float:
    """Return the processor time of an energy at one point, from that at this many draws from the prior."""
    drawn = prior.draw(points, 0, "timed points")
    # The first evaluation derives the loss's expressions.
    energy(drawn[:1])
    began = time.thread_time()
    energy(drawn)
    return (time.thread_time() - began) / points


def need_time(estimate: float, instead: str) -> None:
    """Raise InputError if a measurement takes longer than LONGEST; `instead` names the alternatives."""
    if estimate > LONGEST:
        raise InputError(f"this would take about {estimate:.0f} s or more; allowed: {LONGEST:.0f} s ({instead})")


class OfLoss(Measurement):
    """A measurement of the loss, which needs no particle and no posterior of the run."""

    @abstractmethod
    def measure(self, problem: Problem) -> xr.Dataset:
        """Return the record. If λ is measured, its attributes `estimate`, `low` and `high` (95%) hold λ."""


def recorded(record: Record | None) -> Record:
    """Return the record of particles. Raises InputError if there are none."""
    if record is None:
        raise InputError("this looks at particles over time; found no populations; allowed: at least one")
    return record


class OfParticles(Measurement):
    """A measurement of the tracks of populations, and of the posterior's samples beside them."""

    needs_motion: ClassVar[bool] = True
    """Whether nothing is left to measure without populations."""

    def check(self, problem: Problem, record: Record | None) -> None:
        """Refuse a scenario without particles."""
        if self.needs_motion:
            recorded(record)

    @abstractmethod
    def measure_particles(self, problem: Problem, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return the record for the track of each source: a population's name, or "posterior"."""


class OfPosterior(Measurement):
    """A measurement of posteriors of the population's loss."""

    @abstractmethod
    def measure_posterior(self, problem: Problem, method: PosteriorMethod) -> xr.Dataset:
        """Return the record; `method` computes posteriors of the population's loss."""


class AtPoints(OfParticles):
    """A measurement at given points: the last positions of particles, and samples of the posterior."""

    needs_motion: ClassVar[bool] = False

    def measure_particles(self, problem: Problem, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return the record at the tracks' last positions."""
        return self.measure_at(problem, {name: track.last for name, track in tracks.items()})

    @abstractmethod
    def measure_at(self, problem: Problem, landed: Mapping[str, Array]) -> xr.Dataset:
        """Return the record for points (N, D) of each source: a population's name, or "posterior"."""


def known_value(problem: Problem) -> float:
    """Return λ of W0, nan if it is not known."""
    known = theory(problem)
    return float(known.rank[0]) if known else math.nan


def with_theory(found: xr.Dataset, problem: Problem, source: str = "") -> xr.Dataset:
    """Return the record with the exact λ and m of W0 as attributes, and a summary if the source of λ is given."""
    known = theory(problem)
    attrs: dict[str, Any] = {
        "exact": float(known.rank[0]) if known else math.nan,
        "exact_multiplicity": -known.rank[1] if known else 0,
    }
    if source:
        a = found.attrs
        truth = f"exact: λ = {known.value}, m = {known.multiplicity}" if known else "no exact value is known"
        attrs["summary"] = (
            f"λ = {a['estimate']:.5f}, 95% interval [{a['low']:.5f}, {a['high']:.5f}], from {source}; {truth}"
        )
    return found.assign_attrs(attrs)
