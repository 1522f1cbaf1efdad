"""The learning coefficient λ (real log canonical threshold) and its multiplicity m, where a theorem gives them."""

from sandbox.exact.coefficient import LearningCoefficient
from sandbox.exact.local import NotAnalyticError, at, over_box, spelled
from sandbox.exact.normal_crossing import at_point
from sandbox.exact.strata import StratumTheory, generic_points, of_stratum, theory_of, whole

__all__ = [
    "LearningCoefficient",
    "NotAnalyticError",
    "StratumTheory",
    "at",
    "at_point",
    "generic_points",
    "of_stratum",
    "over_box",
    "spelled",
    "theory_of",
    "whole",
]
