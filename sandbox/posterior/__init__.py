"""The witness: what the posterior says, computed without any particle of the simulation."""

from sandbox.posterior.measure import Measure
from sandbox.posterior.sampling import Sampler
from sandbox.posterior.witness import Prior, level_set, posterior, tempered

__all__ = ["Measure", "Prior", "Sampler", "level_set", "posterior", "tempered"]
