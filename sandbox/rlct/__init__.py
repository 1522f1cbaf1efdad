"""The learning coefficient λ (real log canonical threshold) and its multiplicity m, exact."""

from sandbox.rlct.coefficient import LearningCoefficient
from sandbox.rlct.normal_crossing import at_point, of_stratum

__all__ = ["LearningCoefficient", "at_point", "of_stratum"]
