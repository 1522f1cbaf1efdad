"""The base class of the update rules, and the data that pass between a rule and the kernel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from sandbox.compiled import random_numbers
from sandbox.tools.arrays import Array
from sandbox.tools.settings import Settings

Key = npt.NDArray[np.uint32]
Steps = npt.NDArray[np.int64]
Potential = Callable[[Array], tuple[Array, Array]]
"""A map from points (N, D) to the energy (N,) and the gradient (N, D) of the function that a rule follows."""


@dataclass(frozen=True)
class Particle:
    """The symbols in which a rule writes its update, all of one particle.

    `w` holds the D coordinates. `state` maps the name of each state to D symbols, and of each of `Rule.scalars` to one.
    `g` is the estimated gradient of the function that the rule follows, `loss_gradient` that of L_n. Both are taken at
    w; for a metropolized rule, both and `energy`, the function's value, are taken at `proposal`. `xi` holds D fresh
    standard normals. `rate`, `numbers` and `constants` are the results of `Rule.rates`, `Rule.numbers` and
    `Rule.constants`. Settings enter only through these three, so that another value needs no other kernel.
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
    """The result of a step, as expressions: the D new coordinates, and the new values of the states that change."""

    w: Sequence[Any]
    state: Mapping[str, Sequence[Any]] = field(default_factory=dict)


class Rule(Settings):
    """An update rule: it writes one step, given a gradient, in symbols, and the kernel is generated from them.

    `follows` names the function whose gradient is taken: the loss L_n, or the posterior's potential nbeta L_n - log φ.
    """

    follows: ClassVar[Literal["loss", "posterior"]]
    uses_normals: ClassVar[bool] = False
    is_metropolized: ClassVar[bool] = False
    """Whether a step is a proposal, accepted or rejected by Metropolis and Hastings (`proposal`, `log_acceptance`).
    Such a rule needs the full gradient. Proposals outside the prior's box are rejected."""

    rule: str

    @property
    def state(self) -> tuple[str, ...]:
        """The names of the states: values stored beside the position, one number for each coordinate."""
        return ()

    @property
    def scalars(self) -> tuple[str, ...]:
        """The names of the scalars: values stored beside the position, one number for each particle."""
        return ()

    @property
    def flips_at_wall(self) -> frozenset[str]:
        """The names of the states that change sign when a wall mirrors their coordinate, as velocities do."""
        return frozenset()

    @property
    def moves_per_step(self) -> int:
        """The number of kernel moves that make up one step of the user; `rates` and `numbers` count these moves."""
        return 1

    @property
    def models_noise(self) -> Literal["gaussian", "isotropic"] | None:
        """The Gaussian model that replaces the estimator's noise; None keeps the noise itself."""
        return None

    @property
    def noise_factor(self) -> float:
        """The factor that multiplies the estimator's noise; a factor other than 1 needs noise that can be scaled."""
        return 1.0

    @property
    def label_deviation(self) -> float | None:
        """The standard deviation of fresh label noise that replaces the data's own; None keeps the data as they are."""
        return None

    def initial_state(self, points: Array, key: Key, potential: Potential) -> Array:
        """Return the states, then the scalars, of particles at `points`, (N, D), as (N, D len(state) + len(scalars)).

        The default is zeros. `key` is for a rule that uses random numbers here; they have a stream of their own.
        """
        return np.zeros((len(points), points.shape[1] * len(self.state) + len(self.scalars)))

    @abstractmethod
    def rates(self, steps: Steps, total: int) -> Array:
        """Return the step size at each of the moves `steps` (counted from 0, of `total`), shape (len(steps),)."""

    def numbers(self, steps: Steps) -> Array:
        """Return the R other numbers that depend on the move alone, shape (len(steps), R)."""
        return np.empty((len(steps), 0))

    def constants(self) -> tuple[float, ...]:
        """Return the numbers, besides the rate, for which `step` gets symbols."""
        return ()

    def proposal(self, p: Particle) -> Sequence[Any]:
        """Return the D proposed coordinates of a rule that `is_metropolized`, from values known before the gradient."""
        raise NotImplementedError(f"{self.rule} makes no proposals")

    @abstractmethod
    def step(self, p: Particle) -> Moved:
        """Return the particle after the step; for a rule that `is_metropolized`, after an accepted proposal."""

    def log_acceptance(self, p: Particle) -> Any:
        """Return r, for a rule that `is_metropolized`: a proposal is accepted with probability min(1, exp(r))."""
        raise NotImplementedError(f"{self.rule} has no acceptance ratio")

    def nbeta_or(self, default: float) -> float:
        """Return the nbeta of the posterior that the rule follows: the rule's own, or else `default`."""
        return default

    @property
    @abstractmethod
    def default_gradient(self) -> str | None:
        """The name of the estimator that the rule uses by default; None if the user must name one."""


def start_normals(points: Array, key: Key) -> Array:
    """Return standard normals, one for each coordinate of points (N, D), from the stream of starting states."""
    count, size = points.shape
    normals: Array = special.ndtri(random_numbers.uniforms(key, random_numbers.STREAM_STATE, np.arange(count), 0, size))
    return normals
