"""The theory's result at a point: λ and m with the argument in words, or a bracket if no exact value is known."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class LearningCoefficient:
    """A result for λ and m: exact, or, if `value` is None, a bracket that contains λ.

    `method` names the theorem or the algorithm. `explanation` gives the steps (which face, which blow-up), so that a
    reader can check them by hand. `bracket` is [lower, upper]: both equal `value` if λ is exact; it is None if nothing
    is known. `multiplicity` is None if m is not known. `estimate` is a measured λ with the ends of its 95% interval, if
    any.
    """

    value: Fraction | None
    multiplicity: int | None
    method: str
    explanation: str
    bracket: tuple[Fraction, Fraction] | None = None
    estimate: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.value is not None:
            object.__setattr__(self, "bracket", (self.value, self.value))

    @property
    def is_exact(self) -> bool:
        """True if both λ and m are known."""
        return self.value is not None and self.multiplicity is not None

    @property
    def rank(self) -> tuple[Fraction, int]:
        """A key that sorts the simpler first: lower λ, then higher m. Raises ValueError if λ or m is not exact."""
        if self.value is None or self.multiplicity is None:
            raise ValueError("only an exact learning coefficient has a rank")
        return (self.value, -self.multiplicity)
