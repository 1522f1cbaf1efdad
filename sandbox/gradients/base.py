"""What every gradient estimator has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sandbox.errors import InputError
from sandbox.loss import Loss
from sandbox.settings import Settings

Array = npt.NDArray[np.float64]


GRADIENT = "gradient(w, s, g)"
"""The source line that leaves in g the gradient for what stands in s."""
SAMPLE_GRADIENT = "h = scratch(width, real)"
"""The source line that allocates h, the gradient of one sample, where gradients are summed up in g."""


@dataclass(frozen=True)
class Formula:
    """The gradient of L_n as `expressions` (D of them) in the parameters and in `symbols`, whose planes `s` holds.

    Of a stage with energy one more follows: L_n itself, up to a constant.
    """

    expressions: Sequence[Any]
    symbols: Sequence[Any]


@dataclass(frozen=True)
class Stage:
    """The part of a kernel that estimates the gradient, as source lines.

    `imports` lists "module.name" of lane functions; `functions` are further definitions; `allocate` runs once per
    call and `estimate` once per step, leaving the gradient of L_n at the block w in g. The lines may use `w`, `g`,
    `s` (one plane per symbol of `formula`), `scratch`, `width` (the length of g), `table`, `weights` (see `rows`),
    `gradient(w, s, g)`, `particle`, `step`, `key`, and the constants named by `Estimator.stage`'s `constant`. `formula`
    says what `gradient(w, s, g)` computes; without one it is the sample loss's gradient, in the loss's columns.
    """

    estimate: tuple[str, ...]
    allocate: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    formula: Formula | None = None


class Estimator(Settings):
    """How a step learns the gradient of L_n: the only place where the noise of SGD enters."""

    name: ClassVar[str]

    def check(self, loss: Loss) -> None:
        """Raise InputError where this estimator cannot serve the loss."""

    @abstractmethod
    def stage(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return the source lines; `constant(value)` gives the text that stands for a run-time number."""

    def stage_with_energy(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return the stage that leaves in g, after the gradient, L_n up to a constant. InputError where there is none.

        Only an estimator without noise has one: what judges a proposal must know where it stands.
        """
        raise InputError(f"this rule judges its proposals by the loss itself: it needs `full`, found '{self.name}'")

    def stage_with_noise(self, loss: Loss, constant: Callable[[float], str], factor: float) -> Stage:
        """Return the stage whose noise is multiplied by `factor`. Raises InputError where noise cannot be scaled."""
        raise InputError(f"the noise of '{self.name}' cannot be scaled; allowed: minibatch, gaussian, noisy")

    def rows(self, loss: Loss) -> tuple[Array, Array]:
        """Return the table (rows, columns) and the weights (rows,) that the kernel is handed."""
        return loss.table, loss.weights
