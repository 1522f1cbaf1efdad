"""What every rule of motion has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from sandbox.settings import Settings

Array = npt.NDArray[np.float64]


class Rule(Settings):
    """How a particle takes one step, given a gradient: a sentence in symbols, from which the kernel is made.

    The gradient is that of what the rule `follows`: the loss L_n, or the posterior's potential nbeta L_n - log φ.
    """

    follows: ClassVar[Literal["loss", "posterior"]]
    uses_normals: ClassVar[bool]

    rule: str

    @abstractmethod
    def rates(self, steps: npt.NDArray[np.int64], total: int) -> Array:
        """Return the step size at each of `steps` (0-based, of `total`)."""

    @abstractmethod
    def constants(self) -> tuple[float, ...]:
        """Return the numbers, beside the rate, that `step` gets symbols for."""

    @abstractmethod
    def step(
        self, w: Sequence[Any], g: Sequence[Any], xi: Sequence[Any], rate: Any, constants: Sequence[Any]
    ) -> Sequence[Any]:
        """Return where the D coordinates `w` go, as expressions in the symbols given.

        `g` are the estimated gradient's coordinates and `xi` fresh standard normals (empty unless `uses_normals`).
        Settings come in as `rate` and `constants` only, never as numbers: another value must not be another kernel.
        """

    def nbeta_or(self, default: float) -> float:
        """Return the nbeta of the posterior that the rule follows: `default` unless the rule has its own."""
        return default

    @property
    @abstractmethod
    def default_gradient(self) -> str | None:
        """The name of the estimator that the rule takes when none is named; None where one must be."""
