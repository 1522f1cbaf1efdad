"""The interface of every gradient estimator."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sandbox.model.loss import Loss
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError
from sandbox.tools.settings import Settings

GRADIENT = "gradient(w, s, g)"
"""The source line that leaves in g the gradient at w for the values in s."""
SAMPLE_GRADIENT = "h = scratch(width, real)"
"""The source line that allocates h, the gradient of one sample, if gradients are summed in g."""


@dataclass(frozen=True)
class Formula:
    """The gradient of L_n: D `expressions` in the parameters and in `symbols`, whose planes are in `s`.

    In a stage with energy one more expression follows: L_n itself, up to a constant.
    """

    expressions: Sequence[Any]
    symbols: Sequence[Any]


@dataclass(frozen=True)
class Stage:
    """The part of a kernel that estimates the gradient, as source lines.

    `imports` lists lane functions as "module.name"; `functions` are further definitions. `allocate` runs once per call
    and `estimate` once per step; it leaves the gradient of L_n at the block w in g. The lines may use `w`, `g`, `s`
    (one plane per symbol of `formula`), `scratch`, `width` (the length of g), `table`, `weights` (see `rows`),
    `gradient(w, s, g)`, `particle`, `tick` (the number of the step), `key`, and the constants named by
    `Estimator.stage`'s `constant`. `formula` is the result of `gradient(w, s, g)`; if None, that is the sample loss's
    gradient, in the loss's columns.
    """

    estimate: tuple[str, ...]
    allocate: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    formula: Formula | None = None


class Estimator(Settings):
    """An estimator of the gradient of L_n for one step; the noise of SGD enters only here."""

    name: ClassVar[str]

    def check(self, loss: Loss) -> None:
        """Raise InputError if this estimator cannot be used with the loss."""

    @abstractmethod
    def stage(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return the stage; `constant(value)` gives the source text of a number that is set at run time."""

    def stage_with_energy(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return the stage that leaves L_n up to a constant in g, after the gradient. Raises InputError if it has none.

        Only an estimator without noise has one: to accept or reject a proposal a rule needs the exact loss.
        """
        raise InputError(f"this rule accepts proposals by the loss itself: it needs `full`, found '{self.name}'")

    def stage_with_noise(self, loss: Loss, constant: Callable[[float], str], factor: float) -> Stage:
        """Return the stage whose noise is multiplied by `factor`. Raises InputError if it cannot be scaled."""
        raise InputError(f"the noise of '{self.name}' cannot be scaled; allowed: minibatch, gaussian, noisy")

    def rows(self, loss: Loss) -> tuple[Array, Array]:
        """Return the table (rows, columns) and the weights (rows,) that the kernel receives."""
        return loss.table, loss.weights
