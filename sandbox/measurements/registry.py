"""Every measurement, by the name that scenarios use. To add one, write its file and its figure; list it here."""

from __future__ import annotations

from sandbox.measurements.base import Measurement
from sandbox.measurements.loss.free_energy import FreeEnergy
from sandbox.measurements.loss.llc import Llc
from sandbox.measurements.loss.marginals import Laplace
from sandbox.measurements.loss.phases import Phases
from sandbox.measurements.loss.regular import Flatness
from sandbox.measurements.loss.volume import Volume
from sandbox.measurements.loss.waic import Waic
from sandbox.measurements.loss.wbic import Wbic
from sandbox.measurements.loss.zeta import Zeta
from sandbox.measurements.particles.conserved import Conserved
from sandbox.measurements.particles.current import Current
from sandbox.measurements.particles.llc_at_particles import LocalLlc
from sandbox.measurements.particles.mixing import Mixing
from sandbox.measurements.particles.passage import Passage
from sandbox.measurements.particles.sharpness import Sharpness
from sandbox.measurements.particles.temperature import Temperature

MEASUREMENTS: dict[str, type[Measurement]] = {
    m.name: m
    for m in (
        *(Volume, FreeEnergy, Zeta, Llc, Wbic, Waic, Laplace, Flatness, Phases),
        *(LocalLlc, Sharpness, Conserved, Passage, Mixing, Current, Temperature),
    )
}
