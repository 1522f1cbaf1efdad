"""The size of a run: particles, steps, and the frames at which it is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from sandbox.tools.settings import Settings


def whole(value: Any) -> Any:
    """Return a float such as 1e5 as an integer, as JSON Schema does; return any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# The bounds stand before the conversion, inside it, so that JSON Schema knows them.
Natural = Annotated[int, Field(ge=0), BeforeValidator(whole)]
Frames = Annotated[int, Field(ge=2, le=100_000), BeforeValidator(whole)]
Bins = Annotated[int, Field(ge=1, le=10_000), BeforeValidator(whole)]


class Record(Settings):
    """The frames and particles that a run keeps."""

    frames: Frames = Field(
        default=100, description="number of recorded times, first and last step included; at most one per step"
    )
    spacing: Literal["log", "linear"] = Field(default="log", description="spacing of the recorded times: log or linear")
    positions: Natural = Field(
        default=2000, description="number of particles whose positions are kept; statistics use all particles"
    )
    bins: Bins = Field(default=60, description="number of histogram bins along each stratum")


RECORD = Record()
"""The record that a run keeps unless told otherwise."""


@dataclass(frozen=True)
class Sizes:
    """The particles of each population, the steps of every rule, the kept frames, and the kernels' precision."""

    particles: int
    steps: int
    record: Record = RECORD
    precision: Literal["float64", "float32"] = "float64"

    @property
    def times(self) -> npt.NDArray[np.int64]:
        """The steps after which a frame is taken, increasing from 0 to `steps`."""
        return frame_steps(self.steps, self.record.frames, self.record.spacing)


def frame_steps(steps: int, frames: int, spacing: Literal["log", "linear"]) -> npt.NDArray[np.int64]:
    """Return the steps after which a frame is recorded, shape (T,), increasing from 0 to `steps`.

    T is min(frames, steps + 1); `frames` is at least 2. `log` spaces the frames geometrically from 1, as far as whole
    steps allow: the early frames are one step apart until the geometric gaps reach 1.
    """
    count = min(frames, steps + 1)
    if spacing == "linear":
        return np.arange(count, dtype=np.int64) * steps // (count - 1)
    times = [0, 1] if count > 2 else [0]
    while len(times) < count - 1:
        now, left = times[-1], count - len(times)
        # A geometric gap is at most the even gap, so that enough whole steps remain for the frames still to place.
        times.append(max(now + 1, int(now * (steps / now) ** (1 / left))))
    return np.array([*times, steps], dtype=np.int64)
