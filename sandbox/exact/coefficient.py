"""What the theory says at a point: λ and m with the argument in words, or a bracket where it does not reach."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class LearningCoefficient:
    """λ and m, exact; or, with `value` None, a bracket that holds λ.

    `method` names the theorem or the algorithm, `explanation` gives the steps (which face, which blow-up), so that a
    reader can check them by hand. `bracket` is [lower, upper], both equal to `value` where λ is exact, None where
    nothing is known. `multiplicity` is None where m is not known. `estimate` is λ measured, with the ends of its 95%
    interval, where that was done.
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
        """Whether both λ and m are known."""
        return self.value is not None and self.multiplicity is not None

    @property
    def rank(self) -> tuple[Fraction, int]:
        """A key that sorts simpler first: lower λ, then higher m. Of exact ones only."""
        if self.value is None or self.multiplicity is None:
            raise ValueError("only an exact learning coefficient has a rank")
        return (self.value, -self.multiplicity)
