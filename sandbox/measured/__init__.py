"""What is measured of a loss: λ and m from volumes, free energies and the zeta function."""

from sandbox.measured.free_energy import free_energy
from sandbox.measured.thermodynamics import Thermodynamics, thermodynamics
from sandbox.measured.volume import volume
from sandbox.measured.zeta import zeta

__all__ = ["Thermodynamics", "free_energy", "thermodynamics", "volume", "zeta"]
