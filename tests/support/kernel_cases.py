"""Kernels, each with its twin: every rule with every estimator and way to draw, for all losses, priors and walls.

The models are here twice: as the text of a scenario, and as functions with Jacobians by hand.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from support import twins
from support.twins import Law, Model, Twin

from sandbox.dynamics.gradients.base import Estimator
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.gradients.noisy import Noisy
from sandbox.dynamics.kernel import Kernel, build
from sandbox.dynamics.rules.base import Rule
from sandbox.dynamics.rules.langevin import Langevin
from sandbox.dynamics.rules.schedule import CosineDecay, CosineSchedule, StepDecay, StepSchedule
from sandbox.dynamics.rules.sgd import Sgd
from sandbox.model.loss import Loss
from sandbox.model.prior import Distribution, Prior
from sandbox.model.regression import Regression, potential

TOTAL = 40
"""Steps of the whole run, on which a cosine schedule depends."""

NORMAL: Law = ("normal", (0.0, 1.0))
BOX: Law = ("uniform", (-1.0, 1.0))


@dataclass(frozen=True)
class Case:
    """The arguments of `build`, and the twin's estimate. `rate` is the step size at a step; unbounded priors are cut to
    [low, high]. `tolerance` allows for rounding after a few steps: 2e-6 with normals, the error of one of them.
    """

    loss: Loss
    rule: Rule
    gradient: Estimator
    estimate: twins.Estimate
    rate: Callable[[int], float]
    priors: tuple[Law, ...] = (NORMAL, NORMAL)
    low: float = -math.inf
    high: float = math.inf
    reflecting: bool = True
    nbeta: float | None = None
    tolerance: float = 1e-12

    def kernel(self, dtype: str = "float64") -> Kernel:
        """Return the kernel, compiled or from the cache."""
        whole = [
            Distribution(family, arguments, *wall)
            for (family, arguments), wall in zip(self.priors, self.walls, strict=True)
        ]
        prior = Prior(self.loss.parameters, tuple(whole))
        return build(
            self.loss,
            prior,
            self.rule,
            self.gradient,
            nbeta=self.nbeta,
            reflecting=self.reflecting,
            dtype=dtype,
        )

    @property
    def walls(self) -> tuple[tuple[float, float], ...]:
        """The walls of each parameter."""
        return tuple(args if family == "uniform" else (self.low, self.high) for family, args in self.priors)

    @property
    def twin(self) -> Twin:
        """The twin."""
        follows = self.nbeta is not None
        return Twin(
            self.estimate,
            self.rate,
            decay=0.0 if follows else self.rule.weight_decay,
            priors=self.priors if follows else (),
            nbeta=self.nbeta or 1.0,
            walls=self.walls if self.reflecting else (),
        )


def sgd(rate=0.1, **settings):
    return Sgd(rule="sgd", learning_rate=rate, **settings)


def langevin(step_size):
    return Langevin(rule="langevin", step_size=step_size)


def minibatch(batch, draw):
    return Minibatch(minibatch=batch, draw=draw)


def inputs(**laws):
    return {name: Distribution(*law) for name, law in laws.items()}


LINE = Regression(("a", "b"), ("a*b**2*x + b",), ("x/2",), inputs(x=("normal", (0.2, 1.0))), 0.5)
LINE_TWIN = Model(
    lambda w, x: [w[0] * w[1] ** 2 * x[0] + w[1]],
    lambda w, x: [[w[1] ** 2 * x[0], 2 * w[0] * w[1] * x[0] + 1]],
    lambda x: [x[0] / 2],
    0.5,
)
TWO = Regression(("a", "b", "c"), ("a*x + b*z", "a*b*x + c"), ("x", "0"), inputs(x=BOX, z=NORMAL), 0.8)
TWO_TWIN = Model(
    lambda w, x: [w[0] * x[0] + w[1] * x[1], w[0] * w[1] * x[0] + w[2]],
    lambda w, x: [[x[0], x[1], 0], [w[1] * x[0], w[0] * x[0], 1]],
    lambda x: [x[0], 0],
    0.8,
)
FLAT = Regression(("a", "b", "c"), ("a*b*x", "a*b + b*c*x**2"), ("0", "0"), inputs(x=NORMAL), 0.8)
FLAT_TWIN = Model(
    lambda w, x: [w[0] * w[1] * x[0], w[0] * w[1] + w[1] * w[2] * x[0] ** 2],
    lambda w, x: [[w[1] * x[0], w[0] * x[0], 0], [w[1], w[0] + w[2] * x[0] ** 2, w[1] * x[0] ** 2]],
    lambda x: [0, 0],
    0.8,
)
TANH = Regression(("a", "b"), ("b*tanh(a*x)",), ("tanh(x)",), inputs(x=("uniform", (-2.0, 2.0))), 0.5)
TANH_TWIN = Model(
    lambda w, x: [w[1] * np.tanh(w[0] * x[0])],
    lambda w, x: [[w[1] * x[0] / np.cosh(w[0] * x[0]) ** 2, np.tanh(w[0] * x[0])]],
    lambda x: [np.tanh(x[0])],
    0.5,
)
CHOICE: Law = ("choice", (-1.0, 0.5, 2.0))
THREE_LAWS: tuple[Law, ...] = (NORMAL, ("uniform", (-1.0, 2.0)), ("laplace", (0.1, 0.5)))
THREE = Regression(
    ("a", "b"), ("a*x + a*b*y", "b*z"), ("0", "z/2"), inputs(**dict(zip("xyz", THREE_LAWS, strict=True))), 0.7
)
THREE_TWIN = Model(
    lambda w, x: [w[0] * x[0] + w[0] * w[1] * x[1], w[1] * x[2]],
    lambda w, x: [[x[0] + w[1] * x[1], w[0] * x[1]], [0, x[2]]],
    lambda x: [0, x[2] / 2],
    0.7,
)
RIDGE = Regression(("a", "b"), ("relu(a*x) + b*sigmoid(x + a)",), ("0",), inputs(x=NORMAL), 1.0)
RIDGE_TWIN = Model(
    lambda w, x: [max(w[0] * x[0], 0) + w[1] / (1 + np.exp(-x[0] - w[0]))],
    lambda w, x: [[x[0] * (w[0] * x[0] > 0) + w[1] / (2 + 2 * np.cosh(x[0] + w[0])), 1 / (1 + np.exp(-x[0] - w[0]))]],
    lambda x: [0],
    1.0,
)
NET = Regression(
    ("a", "b", "c", "p", "q", "r", "d"), ("a*relu(b*x + c) + p*relu(q*x + r) + d",), ("relu(x)",), inputs(x=BOX), 0.6
)
NET_TWIN = Model(
    lambda w, x: [w[0] * max(w[1] * x[0] + w[2], 0) + w[3] * max(w[4] * x[0] + w[5], 0) + w[6]],
    lambda w, x: [[*ramp(*w[:3], x[0]), *ramp(*w[3:6], x[0]), 1]],
    lambda x: [max(x[0], 0)],
    0.6,
)


def ramp(a, b, c, x):
    """Return the derivatives of a relu(b x + c) by a, b and c."""
    return [b * x + c, a * x, a] if b * x + c > 0 else [0, 0, 0]


def net(batch, draw):
    """Return SGD on a net of two neurons, with batches that are multiples of the kernel's groups, or are not."""
    loss = NET.population() if draw == "fresh" else NET.sampled(40, 3)
    return Case(
        loss,
        sgd(0.05),
        minibatch(batch, draw),
        net_estimate(loss, batch, draw),
        lambda t: 0.05,
        priors=(NORMAL,) * 7,
        reflecting=False,
        tolerance=2e-6 if draw == "fresh" else 1e-12,
    )


def net_estimate(loss, batch, draw):
    if draw == "fresh":
        return twins.fresh(NET_TWIN, [BOX], outputs=1, batch=batch)
    return twins.indexed(NET_TWIN, loss.data, batch, draw)


WELL = potential(("a", "b"), "a**2*b**2/2", [["0.1", "a/2", "0"], ["b/3", "0", "0.2"]])
WELL_NOISE = twins.noisy(
    lambda w: [w[0] * w[1] ** 2, w[0] ** 2 * w[1]], lambda w: [[0.1, w[0] / 2, 0], [w[1] / 3, 0, 0.2]], 3
)
QUARTIC = potential(("a",), "a**4/4", [["0.3"]])
QUARTIC_NOISE = twins.noisy(lambda w: [w[0] ** 3], lambda w: [[0.3]], 1)

LINE_DATA, TWO_DATA, TANH_DATA, RIDGE_DATA = (
    model.sampled(n, 3) for model, n in ((LINE, 37), (TWO, 23), (TANH, 20), (RIDGE, 30))
)
NODES = FLAT.population()

CASES = {
    "sgd with_replacement, affine, box, decay, step schedule": Case(
        LINE_DATA,
        sgd(0.2, schedule=StepSchedule(step=StepDecay(every=7, factor=0.5)), weight_decay=0.1),
        minibatch(6, "with_replacement"),
        twins.indexed(LINE_TWIN, LINE_DATA.data, 6, "with_replacement"),
        lambda t: 0.2 * 0.5 ** (t // 7),
        priors=(BOX, BOX),
    ),
    "sgd without_replacement, two outputs, open, cosine": Case(
        TWO_DATA,
        sgd(0.2, schedule=CosineSchedule(cosine=CosineDecay(final=0.1))),
        minibatch(5, "without_replacement"),
        twins.indexed(TWO_TWIN, TWO_DATA.data, 5, "without_replacement"),
        lambda t: 0.2 * (0.1 + 0.9 * math.cos(math.pi * t / TOTAL / 2) ** 2),
        priors=(NORMAL,) * 3,
        reflecting=False,
    ),
    "sgd reshuffled, tanh, lower walls": Case(
        TANH_DATA,
        sgd(0.1),
        minibatch(3, "reshuffled"),
        twins.indexed(TANH_TWIN, TANH_DATA.data, 3, "reshuffled"),
        lambda t: 0.1,
        low=-0.5,
    ),
    "sgd fresh normal, uniform and laplace, upper walls": Case(
        THREE.population(),
        sgd(0.1),
        minibatch(5, "fresh"),
        twins.fresh(THREE_TWIN, THREE_LAWS, outputs=2, batch=5),
        lambda t: 0.1,
        high=0.75,
        tolerance=2e-6,
    ),
    "sgd full, population, decay": Case(
        NODES,
        sgd(0.1, weight_decay=0.2),
        Full(),
        twins.full(FLAT_TWIN, NODES.data, NODES.weights),
        lambda t: 0.1,
        priors=(NORMAL,) * 3,
        reflecting=False,
    ),
    "sgd noisy, potential": Case(WELL, sgd(0.1), Noisy(), WELL_NOISE, lambda t: 0.1, priors=(BOX, BOX), tolerance=2e-6),
    "langevin full, tanh": Case(
        TANH_DATA,
        langevin(0.002),
        Full(),
        twins.full(TANH_TWIN, TANH_DATA.data, TANH_DATA.weights),
        lambda t: 0.002,
        priors=(("normal", (0.1, 0.8)), BOX),
        nbeta=20.0,
        tolerance=2e-6,
    ),
    "langevin with_replacement, relu and sigmoid": Case(
        RIDGE_DATA,
        langevin(0.01),
        minibatch(5, "with_replacement"),
        twins.indexed(RIDGE_TWIN, RIDGE_DATA.data, 5, "with_replacement"),
        lambda t: 0.01,
        nbeta=30.0,
        tolerance=2e-6,
    ),
    "langevin without_replacement, laplace prior": Case(
        LINE_DATA,
        langevin(0.003),
        minibatch(9, "without_replacement"),
        twins.indexed(LINE_TWIN, LINE_DATA.data, 9, "without_replacement"),
        lambda t: 0.003,
        priors=(("normal", (0.2, 0.5)), ("laplace", (-0.1, 2.0))),
        low=-1.0,
        high=1.0,
        nbeta=37.0,
        tolerance=2e-6,
    ),
    "langevin reshuffled, three dimensions": Case(
        TWO_DATA,
        langevin(0.004),
        minibatch(4, "reshuffled"),
        twins.indexed(TWO_TWIN, TWO_DATA.data, 4, "reshuffled"),
        lambda t: 0.004,
        priors=(NORMAL, ("laplace", (0.0, 1.0)), BOX),
        reflecting=False,
        nbeta=23.0,
        tolerance=2e-6,
    ),
    "langevin fresh choice, tanh": Case(
        replace(TANH, inputs=inputs(x=CHOICE)).population(),
        langevin(0.01),
        minibatch(7, "fresh"),
        twins.fresh(TANH_TWIN, [CHOICE], outputs=1, batch=7),
        lambda t: 0.01,
        nbeta=9.0,
        tolerance=2e-6,
    ),
    "langevin noisy, one dimension": Case(
        QUARTIC,
        langevin(0.02),
        Noisy(),
        QUARTIC_NOISE,
        lambda t: 0.02,
        priors=(NORMAL,),
        reflecting=False,
        nbeta=2.0,
        tolerance=2e-6,
    ),
}


@functools.cache
def kernel(name: str, dtype: str = "float64") -> Kernel:
    """Return the compiled kernel of a case."""
    return CASES[name].kernel(dtype)
