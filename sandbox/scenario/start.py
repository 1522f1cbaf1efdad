"""Where a population's particles start, as a scenario says it."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.prior import Distribution


@dataclass(frozen=True)
class OnStratum:
    """On a stratum: draws from the prior, sent onto it; then normal noise of standard deviation `spread` if not 0."""

    stratum: str
    spread: float = 0.0

    def __str__(self) -> str:
        return f"stratum {self.stratum}" + f", spread {self.spread:g}" * (self.spread > 0)


@dataclass(frozen=True)
class AtEndOf:
    """Where the particles of another population of the scenario end, each where its namesake does."""

    population: str

    def __str__(self) -> str:
        return f"end of {self.population}"


Start = tuple[Distribution, ...] | OnStratum | AtEndOf | None
"""One distribution per parameter; a place; or None, the prior."""
