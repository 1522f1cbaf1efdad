"""What every rule of motion has."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from sandbox.settings import Settings

Array = npt.NDArray[np.float64]


class Rule(Settings):
    """How a block of particles takes one step, given a gradient.

    The module that defines a rule also defines `step(w, g, [normals,] rate, *constants)`, a lane function that
    moves a block w of D * LANES positions in place. `g` is the estimated gradient of what the rule `follows`: the
    loss L_n, or the posterior's potential nbeta L_n - log φ. `normals`, passed when the rule `uses_normals`, holds
    one fresh standard normal per position.
    """

    follows: ClassVar[Literal["loss", "posterior"]]
    uses_normals: ClassVar[bool]

    rule: str

    @abstractmethod
    def rates(self, steps: npt.NDArray[np.int64], total: int) -> Array:
        """Return the step size at each of `steps` (0-based, of `total`)."""

    @abstractmethod
    def constants(self) -> tuple[float, ...]:
        """Return the numbers that `step` takes after the rate."""

    def nbeta_or(self, default: float) -> float:
        """Return the nbeta of the posterior that the rule follows: `default` unless the rule has its own."""
        return default

    @property
    @abstractmethod
    def default_gradient(self) -> Any:
        """The estimator as a scenario writes it that the rule takes when none is named; None where one must be."""
