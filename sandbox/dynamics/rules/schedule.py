"""Schedules: the change of a step size over a run."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sandbox.tools.arrays import Array
from sandbox.tools.settings import Settings


class StepDecay(Settings):
    """A schedule that multiplies the rate by `factor` after every `every` steps."""

    every: int = Field(gt=0, description="steps between two cuts")
    factor: float = Field(gt=0, le=1, description="factor that multiplies the rate at each cut")

    def factors(self, steps: npt.NDArray[np.int64], total: int) -> Array:
        """Return the factor at each step, shape (len(steps),)."""
        return np.power(self.factor, steps // self.every)


class CosineDecay(Settings):
    """Half a cosine that falls from 1 to `final` (Loshchilov and Hutter 2017, equation 5, without restarts)."""

    final: float = Field(default=0.0, ge=0, le=1, description="the factor that the last step approaches")

    def factors(self, steps: npt.NDArray[np.int64], total: int) -> Array:
        """Return the factor at each step of `total`, shape (len(steps),)."""
        return self.final + (1 - self.final) * (1 + np.cos(np.pi * steps / total)) / 2


class StepSchedule(Settings):
    """The setting `schedule: {step: {every: 5000, factor: 0.5}}`."""

    step: StepDecay


class CosineSchedule(Settings):
    """The setting `schedule: {cosine: {final: 0.01}}`."""

    cosine: CosineDecay


Schedule = Literal["constant"] | StepSchedule | CosineSchedule


def factors(schedule: Schedule, steps: npt.NDArray[np.int64], total: int) -> Array:
    """Return the factor that multiplies the base rate at each step, shape (len(steps),)."""
    if isinstance(schedule, StepSchedule):
        return schedule.step.factors(steps, total)
    if isinstance(schedule, CosineSchedule):
        return schedule.cosine.factors(steps, total)
    return np.ones(len(steps))
