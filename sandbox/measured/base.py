"""What every measurement has: settings that a scenario may give, and a record that can be drawn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.exact import LearningCoefficient
from sandbox.loss import Loss, Regression
from sandbox.prior import Prior
from sandbox.settings import Settings
from sandbox.zero_set import ZeroSet


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
    def regression(self) -> Regression | None:
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


class Measurement(Settings):
    """One way to measure λ, or to show where regular theory ends."""

    name: ClassVar[str]
    quick: ClassVar[dict[str, int]] = {}
    """Settings for a look instead of an answer."""

    def check(self, subject: Subject) -> None:
        """Raise InputError where the subject cannot be measured this way."""

    @abstractmethod
    def measure(self, subject: Subject) -> xr.Dataset:
        """Return the record. Its attributes `estimate`, `low`, `high` (95%) hold λ where λ is what is measured."""


class AtPoints(Measurement):
    """A measurement around given points: where particles landed, and draws from the posterior."""

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return the record without any points."""
        return self.measure_at(subject, {})

    @abstractmethod
    def measure_at(self, subject: Subject, landed: Mapping[str, npt.NDArray[np.float64]]) -> xr.Dataset:
        """Return the record for points (N, D) of each source: a population's name, or "posterior"."""
