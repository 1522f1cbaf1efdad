"""The panels of what is measured of particles show the numbers of the record, and say so where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sandbox.measurements.base import OfParticles
from sandbox.measurements.particles.conserved import Conserved
from sandbox.measurements.particles.current import Current
from sandbox.measurements.particles.mixing import Mixing
from sandbox.measurements.particles.passage import OTHER, START, Passage
from sandbox.measurements.particles.sharpness import Sharpness
from sandbox.measurements.particles.temperature import Temperature
from sandbox.measurements.registry import MEASUREMENTS
from sandbox.measurements.tracks import Track
from sandbox.pictures.particle_panels import PANELS
from sandbox.scenario.scenario import loads

CROSSING = """
question: What is seen?
parameters: {w1: "uniform(-1, 1)", w2: "uniform(-1, 1)"}
loss: {potential: (w1 * w2)**2 / 2}
nbeta: 100
strata: {steep: {zero: [w1]}, flat: {zero: [w2]}}
derived: {balance: w1**2 - w2**2}
measurements: {volume: {}}
"""
CHOSEN = {m.name: m for m in (Sharpness(), Conserved(), Passage(), Mixing(), Current(), Temperature())}


def tracks() -> dict[str, Track]:
    random = np.random.default_rng(12)
    walk = np.clip(random.normal(0, 0.05, (40, 200, 2)).cumsum(axis=0), -0.99, 0.99)
    times = 10.0 * np.arange(40)
    return {"sgd": Track(walk, times, np.full(40, 0.1), 2.0), "posterior": Track(walk[-1:], nbeta=100)}


def drawn(name: str, data: xr.Dataset):
    """Draw all panels of a measurement to the end; return their axes."""
    figure = Figure()
    canvas = FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, len(PANELS[name]), k + 1) for k in range(len(PANELS[name]))]
    for place, panel in zip(axes, PANELS[name], strict=True):
        panel(place, data)
    canvas.draw()
    return axes


def shown(axes) -> np.ndarray:
    """Return all ordinates and abscissae of lines."""
    return np.concatenate([np.asarray(line.get_data(), dtype=float).ravel() for line in axes.lines])


@pytest.mark.parametrize(
    ("name", "panel", "number"),
    [
        ("sharpness", 0, lambda d: d["sharpness"].sel(source="sgd", level=0.5).values[-1]),
        ("sharpness", 1, lambda d: d["step_times_sharpness"].sel(source="sgd", level=0.5).values[-1]),
        ("conserved", 0, lambda d: d["ratio"].sel(source="sgd", level=0.5).values[0, -1]),
        ("conserved", 1, lambda d: d["rate"].sel(source="sgd").item()),
        ("passage", 0, lambda d: d["survival"].sel(source="sgd", departure=START, destination="flat").values[3]),
        ("passage", 1, lambda d: d["survival"].sel(source="sgd", departure="flat", destination=OTHER).values[3]),
        ("mixing", 0, lambda d: d["autocorrelation"].sel(source="sgd").values[0, 3]),
        ("mixing", 1, lambda d: d["r_hat"].sel(source="sgd").values[1]),
        ("current", 1, lambda d: d["circulation"].sel(source="sgd").item()),
        ("temperature", 0, lambda d: d["temperature"].sel(source="posterior").values[0]),
    ],
)
def test_a_panel_shows_the_number_of_the_record(name, panel, number):
    found = CHOSEN[name].measure_particles(loads(CROSSING, "c.yaml").problem, tracks())
    assert found.attrs["summary"]
    assert all("long_name" in v.attrs and "units" in v.attrs for v in found.data_vars.values())
    value = number(found)
    assert np.isfinite(value)
    values = shown(drawn(name, found)[panel])
    assert np.isclose(values, value, rtol=1e-12, atol=0).any(), (value, values)
    assert not np.isclose(values, 1.37 * value + 0.01, rtol=1e-12, atol=0).any(), "the broken specimen"


@pytest.mark.parametrize("name", list(CHOSEN))
def test_without_particles_the_panels_say_that_there_is_nothing(name):
    found = CHOSEN[name].measure_particles(loads(CROSSING, "c.yaml").problem, {})
    assert found.attrs["summary"].startswith(("no particle", "fewer than two"))
    for axes in drawn(name, found):
        assert axes.get_title()


def test_each_measurement_of_particles_has_its_panels():
    of_particles = {name for name, measurement in MEASUREMENTS.items() if issubclass(measurement, OfParticles)}
    assert set(PANELS) == {*of_particles, "decomposition"}
    assert set(CHOSEN) <= of_particles
