"""One way to ask for a posterior, whether it is integrated or sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from numpy.typing import ArrayLike

from sandbox.posterior import walk, witness
from sandbox.posterior.measure import Floats, Measure
from sandbox.posterior.sampling import Sampler
from sandbox.posterior.witness import Labels

BY_QUADRATURE = 2
"""Most parameters integrated by quadrature unless asked for: with three it takes minutes, sampling seconds."""


class Size(Protocol):
    """How the posterior is had, as a scenario says it under `witness`."""

    @property
    def method(self) -> str | None:
        """`quadrature` or `sampling`; None for what suits the number of parameters."""

    @property
    def particles(self) -> int:
        """Of each run, from sampling."""

    @property
    def runs(self) -> int:
        """Independent runs, from sampling."""

    @property
    def sweeps(self) -> int:
        """Of moves at each temperature, at most, from sampling."""


class Prior(witness.Prior, walk.Prior, Protocol):
    """What integrating and sampling ask of a prior."""


@dataclass(frozen=True)
class Quadrature:
    """A loss's posteriors by quadrature: share_tolerance is that of posteriors, level_tolerance of the other two.

    These are asked at some population's mean loss, whose own error is far larger.
    """

    energy: Callable[[Floats], Floats]
    prior: witness.Prior
    cuts: Sequence[ArrayLike] = ()
    share_tolerance: float = 1e-4
    level_tolerance: float = 3e-3

    def posterior(self, nbeta: float, *, labels: Labels | None = None) -> Measure:
        """Return what `witness.posterior` says."""
        tolerance = self.share_tolerance
        return witness.posterior(
            self.energy, self.prior, nbeta, labels=labels, cuts=self.cuts, share_tolerance=tolerance
        )

    def tempered(self, mean_energy: float, *, labels: Labels | None = None) -> Measure:
        """Return what `witness.tempered` says."""
        tolerance = self.level_tolerance
        return witness.tempered(
            self.energy, self.prior, mean_energy, labels=labels, cuts=self.cuts, share_tolerance=tolerance
        )

    def level_set(self, level: float, *, labels: Labels | None = None) -> Measure:
        """Return what `witness.level_set` says."""
        tolerance = self.level_tolerance
        return witness.level_set(
            self.energy, self.prior, level, labels=labels, cuts=self.cuts, share_tolerance=tolerance
        )


Witness = Quadrature | Sampler
"""Who is asked for a posterior, a tempered one or a level set: one and the same way of asking."""


def chosen(
    energy: Callable[[Floats], Floats],
    slope: Callable[[Floats], Floats],
    prior: Prior,
    size: Size,
    *,
    seed: int,
    cuts: Callable[[], Sequence[ArrayLike]],
) -> Witness:
    """Return the witness that `size` asks for: unless it says, quadrature up to BY_QUADRATURE parameters.

    energy, slope: points (N, D) -> K_n (N,) and its gradient (N, D). cuts: makes what `witness.posterior` says, and is
    called for quadrature only. Raises InputError as soon as it is asked in more parameters than quadrature takes.
    """
    method = size.method or ("quadrature" if len(prior.bounds) <= BY_QUADRATURE else "sampling")
    if method == "quadrature":
        return Quadrature(energy, prior, cuts())
    return Sampler(energy, slope, prior, seed, size.particles, size.runs, size.sweeps)
