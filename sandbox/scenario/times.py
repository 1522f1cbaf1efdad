"""When a run is recorded."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt


def frame_steps(steps: int, frames: int, spacing: Literal["log", "linear"]) -> npt.NDArray[np.int64]:
    """Return the steps after which a frame is taken: from 0 to `steps`, increasing, min(frames, steps + 1) of them.

    `log` spaces them geometrically from 1, as far as whole steps allow: the early ones follow one by one until the
    geometric gaps reach 1. `frames` is at least 2.
    """
    count = min(frames, steps + 1)
    if spacing == "linear":
        return np.arange(count, dtype=np.int64) * steps // (count - 1)
    times = [0, 1] if count > 2 else [0]
    while len(times) < count - 1:
        now, left = times[-1], count - len(times)
        # A geometric step is at most the even one, so that enough whole steps stay for the frames that are left.
        times.append(max(now + 1, int(now * (steps / now) ** (1 / left))))
    return np.array([*times, steps], dtype=np.int64)
