"""What every measured number carries: its name in words and its units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

Array = npt.NDArray[np.float64]


def labelled(dims: str | Sequence[str], values: Any, long_name: str, units: str = "1") -> xr.Variable:
    """Return the values as a variable over `dims` with its long name and units."""
    return xr.Variable(dims, values, {"long_name": long_name, "units": units})


def scalar(value: float, long_name: str, units: str = "1") -> xr.Variable:
    """Return one number as a variable without dimensions."""
    return labelled((), value, long_name, units)
