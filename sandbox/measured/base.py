"""What every measurement has: settings that a scenario may give, and a record that can be drawn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.errors import InputError
from sandbox.exact import LearningCoefficient
from sandbox.loss import Contrast, Loss, Regression
from sandbox.measured.tracks import Track
from sandbox.posterior import Witness
from sandbox.prior import Prior
from sandbox.quantity import Quantity
from sandbox.settings import Settings
from sandbox.zero_set import ZeroSet


class Recording(Protocol):
    """What a run keeps of its particles."""

    @property
    def frames(self) -> int:
        """How many times are recorded, at most."""

    @property
    def spacing(self) -> str:
        """How they are spaced: log or linear."""


class Subject(Protocol):
    """What is measured; a scenario is one."""

    @property
    def prior(self) -> Prior:
        """The prior, cut to the box."""

    @property
    def loss(self) -> Loss:
        """The loss on its samples."""

    @property
    def population_loss(self) -> Loss:
        """Its limit for many samples."""

    @property
    def model(self) -> Regression | Contrast | None:
        """What makes both; None for a potential."""

    @property
    def zero_set(self) -> ZeroSet:
        """W0 with its strata."""

    @property
    def theory(self) -> LearningCoefficient | None:
        """λ and m of W0, where known."""

    @property
    def nbeta(self) -> float:
        """Inverse temperature times n."""

    @property
    def seed(self) -> int:
        """The seed of every draw."""

    @property
    def derived(self) -> tuple[Quantity, ...]:
        """Expressions in the parameters that the scenario watches."""

    @property
    def walls(self) -> str:
        """What the edges of the prior's support do to particles: reflecting or open."""

    @property
    def record(self) -> Recording:
        """What is kept of a run."""

    @property
    def populations(self) -> Sequence[object]:
        """What moves; empty where nothing does."""


class Measurement(Settings):
    """One way to measure λ, or to show where regular theory ends."""

    name: ClassVar[str]
    quick: ClassVar[dict[str, int]] = {}
    """Settings for a look instead of an answer."""
    shares: ClassVar[str] = ""
    """Of what long work it is one of several readings, which one process had better take together."""

    def check(self, subject: Subject) -> None:
        """Raise InputError where the subject cannot be measured this way."""

    @abstractmethod
    def measure(self, subject: Subject) -> xr.Dataset:
        """Return the record. Its attributes `estimate`, `low`, `high` (95%) hold λ where λ is what is measured."""


class OfParticles(Measurement):
    """A measurement of where particles went: of the tracks of populations, and of the posterior's draws beside them."""

    needs_motion: ClassVar[bool] = True
    """Whether draws alone leave nothing to measure."""

    def check(self, subject: Subject) -> None:
        """Refuse a scenario without particles."""
        if self.needs_motion and not subject.populations:
            raise InputError("this looks at particles over time; found no populations; allowed: at least one")

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return the record without any particles."""
        return self.measure_particles(subject, {})

    @abstractmethod
    def measure_particles(self, subject: Subject, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return the record for the track of each source: a population's name, or "posterior"."""


class OfPosterior(Measurement):
    """A measurement of posteriors of the population's loss: of what a witness says, who may have been asked before."""

    @abstractmethod
    def measure_posterior(self, subject: Subject, witness: Witness) -> xr.Dataset:
        """Return the record, asking this witness."""


class AtPoints(OfParticles):
    """A measurement around given points: where particles landed, and draws from the posterior."""

    needs_motion: ClassVar[bool] = False

    def measure_particles(self, subject: Subject, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return the record at the tracks' last positions."""
        return self.measure_at(subject, {name: track.last for name, track in tracks.items()})

    @abstractmethod
    def measure_at(self, subject: Subject, landed: Mapping[str, npt.NDArray[np.float64]]) -> xr.Dataset:
        """Return the record for points (N, D) of each source: a population's name, or "posterior"."""
