"""The witness: what the posterior says, computed without any particle."""

from sandbox.posterior.measure import Measure
from sandbox.posterior.witness import Prior, level_set, posterior, tempered

__all__ = ["Measure", "Prior", "level_set", "posterior", "tempered"]
