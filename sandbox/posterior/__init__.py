"""The witness: what the posterior says, computed without any particle of the simulation."""

from sandbox.posterior.choice import Quadrature, Size, Witness, chosen
from sandbox.posterior.measure import Measure
from sandbox.posterior.sampling import Sampler
from sandbox.posterior.witness import Prior, level_set, posterior, tempered

__all__ = [
    "Measure",
    "Prior",
    "Quadrature",
    "Sampler",
    "Size",
    "Witness",
    "chosen",
    "level_set",
    "posterior",
    "tempered",
]
