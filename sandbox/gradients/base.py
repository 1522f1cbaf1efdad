"""What every gradient estimator has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from sandbox.loss import Loss
from sandbox.settings import Settings

Array = npt.NDArray[np.float64]


GRADIENT = "gradient(w, s, g)"
"""The source line that leaves in g the loss's gradient for the columns in s."""
SAMPLE_GRADIENT = "h = np.empty(g.size, real)"
"""The source line that allocates h, the gradient of one sample, where gradients are summed up in g."""


@dataclass(frozen=True)
class Stage:
    """The part of a kernel that estimates the gradient, as source lines.

    `imports` lists "module.name" of lane functions; `functions` are further definitions; `allocate` runs once per
    call and `estimate` once per step, leaving the gradient of L_n at the block w in g. The lines may use `w`, `g`,
    `s` (one plane per column of the loss), `table`, `weights` (see `rows`),
    `gradient(w, s, g)`, `particle`, `step`, `key`, and the constants named by `Estimator.stage`'s `constant`.
    """

    estimate: tuple[str, ...]
    allocate: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


class Estimator(Settings):
    """How a step learns the gradient of L_n: the only place where the noise of SGD enters."""

    name: ClassVar[str]

    def check(self, loss: Loss) -> None:
        """Raise InputError where this estimator cannot serve the loss."""

    @abstractmethod
    def stage(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return the source lines; `constant(value)` gives the text that stands for a run-time number."""

    def rows(self, loss: Loss) -> tuple[Array, Array]:
        """Return the table (rows, columns) and the weights (rows,) that the kernel is handed."""
        return loss.table, loss.weights
