"""The edge of stability of a rule: the step size times sharpness at which its step without noise starts to diverge."""

from __future__ import annotations

import numpy as np

from sandbox.dynamics.rules.base import Rule
from sandbox.dynamics.stability.growth import NEUTRAL, deterministic
from sandbox.dynamics.stability.noise import Law
from sandbox.dynamics.stability.step import Step

_SPAN = (2.0**-40, 2.0**40)
_POINTS, _ROUNDS = 81, 6
"""Products tried between two of them, and the number of times this is done: the last two differ by 2e-10 of each."""


def edge(rule: Rule, total: int) -> float:
    """Return the product of the first of a rule's `total` rates and the sharpness of a quadratic at its edge.

    A larger sharpness makes distances grow at this step size; none does if the result is inf, all do if it is 0. It is
    2 for gradient descent, 4 for `sgld`, 2 (1 + mu) for momentum mu, 2 minus rate times decay for weight decay. The
    sharpness is that of the function the rule follows. Raises NotLinearError if the step has no linearisation.
    """
    a, g = Step.of(rule, 1, total).across(np.ones((1, 1, 1)), np.ones(1))
    rate, (low, high) = float(rule.rates(np.array([0]), total)[0]), _SPAN
    for _ in range(_ROUNDS):
        products = np.geomspace(low, high, _POINTS)
        curvatures = (products / rate)[:, None, None]
        growth, _ = deterministic(a, g, Law(curvatures, np.zeros_like(curvatures), None, curvatures[:0]))
        k = int(np.argmax(growth > NEUTRAL))
        if not growth[k] > NEUTRAL:
            return np.inf
        if k == 0:
            return 0.0
        low, high = products[k - 1], products[k]
    return float(high)
