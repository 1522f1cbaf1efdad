"""The one alias of arrays of floats. Shapes stand in docstrings: N points, D parameters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
