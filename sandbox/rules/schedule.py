"""How a step size changes over a run."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sandbox.settings import Settings


class StepDecay(Settings):
    """Multiply by `factor` after every `every` steps."""

    every: int = Field(gt=0, description="steps between two cuts")
    factor: float = Field(gt=0, le=1, description="what the rate is multiplied by at each cut")

    def factors(self, steps: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.float64]:
        """Return the factor at each step."""
        return np.power(self.factor, steps // self.every)


class CosineDecay(Settings):
    """Fall from 1 to `final` along half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts)."""

    final: float = Field(default=0.0, ge=0, le=1, description="the factor that the last step approaches")

    def factors(self, steps: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.float64]:
        """Return the factor at each step."""
        return self.final + (1 - self.final) * (1 + np.cos(np.pi * steps / total)) / 2


class StepSchedule(Settings):
    """`schedule: {step: {every: 5000, factor: 0.5}}`."""

    step: StepDecay


class CosineSchedule(Settings):
    """`schedule: {cosine: {final: 0.01}}`."""

    cosine: CosineDecay


Schedule = Literal["constant"] | StepSchedule | CosineSchedule


def factors(schedule: Schedule, steps: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.float64]:
    """Return what the base rate is multiplied by at each step."""
    if isinstance(schedule, StepSchedule):
        return schedule.step.factors(steps, total)
    if isinstance(schedule, CosineSchedule):
        return schedule.cosine.factors(steps, total)
    return np.ones(len(steps))
