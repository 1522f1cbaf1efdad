"""One interface to the posteriors of a loss, by quadrature or by sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from numpy.typing import ArrayLike

from sandbox.posterior.measure import Measure
from sandbox.posterior.quadrature import posteriors
from sandbox.posterior.quadrature.posteriors import Strata
from sandbox.posterior.sampling import mcmc
from sandbox.posterior.sampling.smc import Smc
from sandbox.tools.arrays import Array

BY_QUADRATURE = 2
"""Most parameters for which quadrature is the default: with three it takes minutes, sampling seconds."""


LEVEL_TOLERANCE = 3e-3
"""The error of the strata's masses under tempered posteriors and level sets, at least."""


class Size(Protocol):
    """The settings of the posterior method, which a scenario gives under `witness`."""

    @property
    def method(self) -> str | None:
        """`quadrature` or `sampling`; None for the default, which depends on the number of parameters."""

    @property
    def particles(self) -> int:
        """The number of particles of each run, for sampling."""

    @property
    def runs(self) -> int:
        """The number of independent runs, for sampling."""

    @property
    def share_tolerance(self) -> float:
        """The absolute error of the strata's masses, for quadrature."""

    @property
    def sweeps(self) -> int:
        """The largest number of sweeps of moves at each stage, for sampling."""


class Prior(posteriors.Prior, mcmc.Prior, Protocol):
    """The methods of a prior that quadrature and sampling need."""


@dataclass(frozen=True)
class Quadrature:
    """Quadrature of a loss's posteriors (`share_tolerance`), tempered posteriors and level sets (`level_tolerance`).

    `tolerance` is the relative error of the posterior's evidence, None for that of `posteriors.posterior`. Tempered
    posteriors and level sets are computed at a population's mean loss, whose own error is far larger.
    """

    energy: Callable[[Array], Array]
    prior: posteriors.Prior
    cuts: Sequence[ArrayLike] = ()
    share_tolerance: float = 1e-4
    level_tolerance: float = LEVEL_TOLERANCE
    tolerance: float | None = None

    def posterior(self, nbeta: float, *, strata: Strata | None = None) -> Measure:
        """Return the posterior at nbeta; see `posteriors.posterior` for arguments and errors."""
        return posteriors.posterior(
            self.energy,
            self.prior,
            nbeta,
            strata=strata,
            cuts=self.cuts,
            tolerance=self.tolerance,
            share_tolerance=self.share_tolerance,
        )

    def tempered(self, mean_energy: float, *, strata: Strata | None = None) -> Measure:
        """Return the posterior with this mean energy; see `posteriors.tempered` for arguments and errors."""
        tolerance = self.level_tolerance
        return posteriors.tempered(
            self.energy,
            self.prior,
            mean_energy,
            strata=strata,
            cuts=self.cuts,
            tolerance=self.tolerance,
            share_tolerance=tolerance,
        )

    def level_set(self, level: float, *, strata: Strata | None = None) -> Measure:
        """Return the prior restricted to {K_n <= level}; see `posteriors.level_set` for arguments and errors."""
        tolerance = self.level_tolerance
        return posteriors.level_set(
            self.energy, self.prior, level, strata=strata, cuts=self.cuts, share_tolerance=tolerance
        )


PosteriorMethod = Quadrature | Smc
"""A posterior method; both have the methods `posterior`, `tempered` and `level_set`."""


def choose_method(
    energy: Callable[[Array], Array],
    slope: Callable[[Array], Array],
    prior: Prior,
    size: Size,
    *,
    seed: int,
    cuts: Callable[[], Sequence[ArrayLike]],
) -> PosteriorMethod:
    """Return the posterior method that `size` names; by default quadrature up to BY_QUADRATURE parameters.

    energy, slope: points (N, D) -> K_n (N,) and its gradient (N, D). cuts: returns the cuts for
    `posteriors.posterior`; it is called for quadrature only. The methods of Quadrature raise InputError for more
    parameters than it takes.
    """
    method = size.method or ("quadrature" if len(prior.bounds) <= BY_QUADRATURE else "sampling")
    if method == "quadrature":
        tolerance = size.share_tolerance
        return Quadrature(energy, prior, cuts(), tolerance, max(tolerance, LEVEL_TOLERANCE))
    return Smc(energy, slope, prior, seed, size.particles, size.runs, size.sweeps)
