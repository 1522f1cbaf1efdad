"""What every rule of motion has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from sandbox import draws
from sandbox.settings import Settings

Array = npt.NDArray[np.float64]
Key = npt.NDArray[np.uint32]
Steps = npt.NDArray[np.int64]
Potential = Callable[[Array], tuple[Array, Array]]
"""Points (N, D) -> energy (N,) and gradient (N, D) of what a rule follows."""


@dataclass(frozen=True)
class Particle:
    """The symbols in which a rule says its step, all of one particle.

    `w` are the D coordinates; `state` holds what the rule carries beside them, by name: D symbols each, one for each of
    `Rule.scalars`. `g` is the estimated gradient of what the rule follows, `loss_gradient` that of L_n, both taken
    at w, or at `proposal` where the rule proposes, as is `energy` of a rule that `is_judged`. `xi` are D fresh standard
    normals. `rate`, `numbers` and `constants` are what `Rule.rates`, `Rule.numbers` and `Rule.constants` return:
    settings come in through these only, as another value must not be another kernel.
    """

    w: Sequence[Any]
    g: Sequence[Any]
    loss_gradient: Sequence[Any]
    state: Mapping[str, Sequence[Any]]
    xi: Sequence[Any]
    rate: Any
    numbers: Sequence[Any]
    constants: Sequence[Any]
    proposal: Sequence[Any] = ()
    energy: Any = None


@dataclass(frozen=True)
class Moved:
    """Where a step leads, as expressions: the D coordinates, and the states that change."""

    w: Sequence[Any]
    state: Mapping[str, Sequence[Any]] = field(default_factory=dict)


class Rule(Settings):
    """How a particle takes one step, given a gradient: a sentence in symbols, from which the kernel is made.

    The gradient is that of what the rule `follows`: the loss L_n, or the posterior's potential nbeta L_n - log φ.
    """

    follows: ClassVar[Literal["loss", "posterior"]]
    uses_normals: ClassVar[bool] = False
    is_judged: ClassVar[bool] = False
    """Whether a step is a proposal that Metropolis and Hastings judge, by `proposal` and `log_acceptance`. The gradient
    must be the full one, and what lies outside the prior's box is refused."""

    rule: str

    @property
    def state(self) -> tuple[str, ...]:
        """The names of what is carried beside the position, one number per coordinate each."""
        return ()

    @property
    def scalars(self) -> tuple[str, ...]:
        """The names of what is carried beside the position, one number per particle each."""
        return ()

    @property
    def odd(self) -> frozenset[str]:
        """The states that change sign with their coordinate when a wall mirrors it, as velocities do."""
        return frozenset()

    @property
    def moves_per_step(self) -> int:
        """How many times the kernel moves in what users call one step; `rates` and `numbers` count these moves."""
        return 1

    @property
    def models_noise(self) -> Literal["gaussian", "isotropic"] | None:
        """Which Gaussian model of the estimator's noise takes its place; None for the noise itself."""
        return None

    @property
    def noise_factor(self) -> float:
        """What the estimator's noise is multiplied by; another number than 1 needs noise that can be scaled."""
        return 1.0

    @property
    def label_deviation(self) -> float | None:
        """The standard deviation of fresh label noise that replaces the data's own; None for the data as they are."""
        return None

    def initial_state(self, points: Array, key: Key, potential: Potential) -> Array:
        """Return the states, then the scalars, of particles at `points` (N, D): (N, D len(state) + len(scalars)).

        Zeros, unless a rule says more; `key` is that of its draws, from a stream of their own.
        """
        return np.zeros((len(points), points.shape[1] * len(self.state) + len(self.scalars)))

    @abstractmethod
    def rates(self, steps: Steps, total: int) -> Array:
        """Return the step size at each of `steps` (0-based, of `total`)."""

    def numbers(self, steps: Steps) -> Array:
        """Return what else depends on the step alone, shape (len(steps), R)."""
        return np.empty((len(steps), 0))

    def constants(self) -> tuple[float, ...]:
        """Return the numbers, beside the rate, that `step` gets symbols for."""
        return ()

    def proposal(self, p: Particle) -> Sequence[Any]:
        """Return where a rule that `is_judged` would go, from all of `p` but `g` and what comes after it."""
        raise NotImplementedError(f"{self.rule} makes no proposals")

    @abstractmethod
    def step(self, p: Particle) -> Moved:
        """Return where the particle goes (for a rule that `is_judged`: where its proposal is accepted)."""

    def log_acceptance(self, p: Particle) -> Any:
        """Return the logarithm of the ratio that a rule which `is_judged` accepts with, if it is below 0."""
        raise NotImplementedError(f"{self.rule} is not judged")

    def nbeta_or(self, default: float) -> float:
        """Return the nbeta of the posterior that the rule follows: `default` unless the rule has its own."""
        return default

    def edge(self) -> float | None:
        """Return the product of `rates` and sharpness beyond which a quadratic diverges; None where none is known."""
        return 2.0

    @property
    @abstractmethod
    def default_gradient(self) -> str | None:
        """The name of the estimator that the rule takes when none is named; None where one must be."""


def start_normals(points: Array, key: Key) -> Array:
    """Return a standard normal for each coordinate of points (N, D), from the stream of starting states."""
    count, size = points.shape
    normals: Array = special.ndtri(draws.uniforms(key, draws.STREAM_STATE, np.arange(count), 0, size))
    return normals
