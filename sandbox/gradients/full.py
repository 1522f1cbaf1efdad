"""The full gradient of L_n (of K for the population or a potential): no noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from sandbox.gradients.base import GRADIENT, SAMPLE_GRADIENT, Array, Estimator, Stage
from sandbox.loss import Loss


class Full(Estimator):
    """`gradient: full`."""

    name: ClassVar[str] = "full"

    def stage(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return one evaluation at the column means where they say all, else a pass over the samples."""
        if loss.is_affine:
            return Stage(
                imports=("sandbox.block.spread_row",),
                allocate=("spread_row(s, table, 0)",),
                estimate=(GRADIENT,),
            )
        return Stage(
            imports=("sandbox.block.spread_row", "sandbox.block.clear", "sandbox.block.accumulate"),
            allocate=(SAMPLE_GRADIENT,),
            estimate=(
                "clear(g)",
                "for row in range(weights.size):",
                "    spread_row(s, table, row)",
                "    gradient(w, s, h)",
                "    accumulate(g, h, weights[row])",
            ),
        )

    def rows(self, loss: Loss) -> tuple[Array, Array]:
        """Return the column means as the only row where they say all."""
        if loss.is_affine:
            return loss.moments[None, :], loss.weights[:1] * 0 + 1
        return loss.table, loss.weights
