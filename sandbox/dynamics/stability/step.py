"""The derivatives of a rule's update: the effect of a step on a small distance, given that on the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy

from sandbox.dynamics.rules.base import Particle, Rule
from sandbox.expressions.calculus import gradient
from sandbox.expressions.evaluation import numpy_function
from sandbox.tools.arrays import Array


class NotLinearError(Exception):
    """The error of a step without linearisation; its message is the reason."""


@dataclass(frozen=True)
class Step:
    """The first of a rule's `total` steps, with P = `planes` numbers per coordinate: position and changing states.

    `derivatives` maps the rule's numbers to the derivatives of the P D outputs by the P D inputs and D gradients.
    """

    rule: Rule
    total: int
    planes: int
    size: int
    derivatives: Callable[..., list[Array]]

    @classmethod
    def of(cls, rule: Rule, size: int, total: int) -> Step:
        """Return the step in D = `size` coordinates.

        Raises NotLinearError if the derivatives are not the same at all positions, states and gradients: those at one
        place would not apply to later steps. A state that stays constant, like an anchor, belongs to the place: the
        derivatives must not depend on it either.
        """
        w, g, loss_gradient, xi = (_symbols(name, size) for name in ("w", "g", "h", "xi"))
        state = {name: _symbols(f"{name}_", size) for name in rule.state}
        (rate,), steps = _symbols("rate", 1), _symbols("r", rule.numbers(np.array([0])).shape[1])
        constants = _symbols("k", len(rule.constants()))
        linear = not rule.is_metropolized
        if linear:
            moved = rule.step(Particle(w, g, loss_gradient, state, xi, rate, steps, constants))
            outputs = [*moved.w, *(value for plane in moved.state.values() for value in plane)]
            inputs = [*w, *(symbol for name in moved.state for symbol in state[name]), *g]
            entries = [slope for output in outputs for slope in gradient(output, inputs)]
            places = {*inputs, *loss_gradient, *xi, *(symbol for plane in state.values() for symbol in plane)}
            linear = not any(entry.free_symbols & places for entry in entries)
            linear = linear and not any(output.has(*loss_gradient) for output in outputs)
        if not linear:
            raise NotLinearError(
                f"the step of '{rule.rule}', as it is set, is not linear in position, state and gradient"
            )
        return cls(rule, total, 1 + len(moved.state), size, numpy_function([rate, *steps, *constants], entries))

    def across(self, normals: Array, multiples: Array) -> tuple[Array, Array]:
        """Return A (N, P m, P m) and G (N, P m, m) in the directions `normals` (N, D, m), the position's rows first.

        The step size is that of the rule times each of the N multiples (N,); normals or multiples may have length 1.
        """
        name = "learning_rate" if "learning_rate" in type(self.rule).model_fields else "step_size"
        first, numbers = np.array([0]), []
        for multiple in multiples:
            # A new rule for each multiple: constants may depend on the step size.
            rule = self.rule.model_copy(update={name: float(multiple * getattr(self.rule, name))})
            numbers.append([*rule.rates(first, self.total), *rule.numbers(first)[0], *rule.constants()])
        shape = (-1, self.planes, self.size, self.planes + 1, self.size)
        entries = np.stack(self.derivatives(*np.array(numbers).T), axis=-1).reshape(shape)
        found = np.einsum("...piqj,...ia,...jb->...paqb", entries, normals, normals, optimize=True)
        rows = self.planes * normals.shape[2]
        found = found.reshape(len(found), rows, -1)
        return found[:, :, :rows], found[:, :, rows:]


def _symbols(name: str, count: int) -> list[sympy.Symbol]:
    """Return symbols whose names no user can choose."""
    return [sympy.Symbol(f"_{name}{j}", real=True) for j in range(count)]
