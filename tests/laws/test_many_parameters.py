"""Beyond quadrature: up to 30 parameters run, and measurements from samples have their closed forms.

|z| < 4 (false alarm 6e-5 each), fixed seeds.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.checks import Z_LIMIT, prior_of

from sandbox.measurements.loss.chains import ChainSettings
from sandbox.measurements.loss.llc import llc_report, quadratic_llc
from sandbox.measurements.loss.wbic import wbic
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.regression import potential
from sandbox.model.strata import MAX_PARAMETERS, lattice
from sandbox.posterior.measure import Measure
from sandbox.posterior.sampling.smc import Smc
from sandbox.scenario.scenario import loads
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError


def quadratic(curvatures: Array) -> tuple[Loss, Prior]:
    """Return K = 1/2 sum_k a_k w_k^2 under independent standard normals."""
    names = tuple(f"w{k}" for k in range(len(curvatures)))
    text = " + ".join(f"{a!r} * {name}**2 / 2" for a, name in zip(curvatures.tolist(), names, strict=True))
    return potential(names, text), prior_of(**dict.fromkeys(names, "normal(0, 1)"))


def log_evidence(curvatures: Array, nbeta: float) -> float:
    """Return log int exp(-nbeta K) φ: a product of integrals of normals."""
    return float(-np.log1p(nbeta * curvatures).sum() / 2)


def mean_energy(curvatures: Array, nbeta: float) -> float:
    """Return E[K] under exp(-nbeta K) φ."""
    return float((curvatures / (nbeta * curvatures + 1)).sum() / 2)


@pytest.mark.parametrize("curvatures", [0.5 ** np.arange(13), (np.arange(30) + 1) / 10], ids=["13", "30"])
def test_the_evidence_of_a_quadratic_is_a_product_of_normals(curvatures: Array) -> None:
    """Within twice its 95% half-width (one in 1,000 by Student's t); without some parameters it is not."""
    loss, prior = quadratic(curvatures)
    found = Smc(loss.excess, loss.gradient, prior, seed=3, particles=256).posterior(100.0)
    assert abs(found.log_evidence - log_evidence(curvatures, 100.0)) < 2 * found.error
    assert abs(found.log_evidence - log_evidence(curvatures[1:], 100.0)) > 2 * found.error
    energies = loss.excess(found.points)
    error = found.standard_error(energies)
    assert abs(found.mean(energies) - mean_energy(curvatures, 100.0)) < 5 * error
    assert abs(found.mean(energies) - mean_energy(curvatures[3:], 100.0)) > 5 * error


def test_spread_points_have_no_two_equal_columns() -> None:
    """The mean of each coordinate and of each product of two is that of independent uniforms, |z| < 5 for all 465."""
    points = lattice(16384, MAX_PARAMETERS)
    assert points.shape == (16384, MAX_PARAMETERS)
    assert np.array_equal(points, lattice(16384, MAX_PARAMETERS))
    scaled = np.sqrt(12) * (points - 0.5)
    assert (np.abs(scaled.sum(axis=0)) < 5 * 128).all()
    products = scaled.T @ scaled / 128 - 128 * np.eye(MAX_PARAMETERS)
    assert (np.abs(products) < 5).all()
    twice = np.concatenate([scaled[:, :1], scaled], axis=1)
    assert abs(twice[:, 0] @ twice[:, 1]) / 128 > 5


def test_wbic_of_many_parameters_by_normals() -> None:
    """E[n K] at beta = 1 / log n, F_n and λ from both; the errors stand beside, and a wrong temperature is seen."""
    curvatures = np.array([1.0, 0.5, 2.0, 1.0])
    loss, prior = quadratic(curvatures)
    n = 1000
    found = wbic(loss, prior, n)
    nbeta = n / np.log(n)
    first, second = (n * mean_energy(curvatures, b) for b in (nbeta, 1.5 * nbeta))
    exact = {
        "wbic_excess": first,
        "free_energy_excess": -log_evidence(curvatures, n),
        "learning_coefficient_one": first / np.log(n),
        "learning_coefficient_two": (first - second) / (np.log(n) / 3),
    }
    for name, value in exact.items():
        z = (float(found[name]) - value) / float(found[f"{name}_standard_error"])
        assert abs(z) < Z_LIMIT, name
    z = (float(found["wbic_excess"]) - second) / float(found["wbic_excess_standard_error"])
    assert abs(z) > Z_LIMIT


def test_llc_of_many_parameters_by_chains_and_by_samples() -> None:
    """Both agree with the closed form, which has the localiser and the prior's own precision."""
    curvatures = np.array([1.0, 0.5, 2.0, 1.0, 0.1])
    loss, prior = quadratic(curvatures)
    settings = ChainSettings(particles=512, burn_in=4000, draws=20, thinning=200)
    found = llc_report(loss, prior, np.zeros(5), 2.5, nbeta=100.0, localization=9.0, settings=settings)
    exact = float(quadratic_llc(curvatures, 100.0, 10.0))
    assert abs(float(found["llc_exact"]) - exact) < Z_LIMIT * float(found["llc_exact_standard_error"])
    assert abs(float(found["llc"]) - float(found["step_bias"]) - exact) < Z_LIMIT * float(found["llc_standard_error"])
    assert abs(float(found["sampler_z"])) < Z_LIMIT
    assert abs(float(found["llc_exact"]) - 2.5) > Z_LIMIT * float(found["llc_exact_standard_error"])


MANY = """question: many?
parameters: {PARAMETERS}
loss: {potential: POTENTIAL}
nbeta: 100
strata: {minimum: {zero: [NAMES]}}
measurements: {volume: {}}
"""


def many(count: int) -> str:
    """Return a scenario of a quadratic in this many parameters."""
    names = [f"w{k}" for k in range(count)]
    priors = ", ".join(f'{name}: "normal(0, 1)"' for name in names)
    text = MANY.replace("PARAMETERS", priors).replace("NAMES", ", ".join(names))
    return text.replace("POTENTIAL", " + ".join(f"{name}**2" for name in names))


@pytest.mark.parametrize("count", [13, MAX_PARAMETERS])
def test_scenarios_of_many_parameters_are_read(count: int) -> None:
    assert len(loads(many(count)).problem.prior.names) == count


def test_one_parameter_too_many_is_refused_where_it_stands() -> None:
    with pytest.raises(InputError, match=rf"2:\d+: parameters.w30: found 31 .* at most {MAX_PARAMETERS}"):
        loads(many(MAX_PARAMETERS + 1), "many.yaml")


@pytest.mark.parametrize("name", ["free_energy", "zeta", "laplace", "flatness", "waic"])
def test_what_is_integrated_is_refused_before_any_work(name: str) -> None:
    """Beyond three parameters, with line and key; of the free energy and ζ with three parameters, with the estimate."""
    with pytest.raises(InputError, match=rf"6:\d+: measurements.{name}: .* found 4 parameters; allowed: at most 3"):
        loads(many(4).replace("volume", name), "many.yaml")
    if name in ("free_energy", "zeta"):
        with pytest.raises(InputError, match=rf"6:\d+: measurements.{name}: .* about \d+ s or more; allowed: 60 s"):
            loads(many(3).replace("volume", name), "many.yaml")
    if name != "waic":
        loads(many(2).replace("volume", name), "many.yaml")


VISITED = """question: long?
parameters: {a: "uniform(-2, 2)", b: "uniform(-2, 2)"}
loss: {model: a*tanh(b*x), truth: "0", inputs: {x: "uniform(-2, 2)"}, noise: 1, samples: 100}
measurements: {wbic: {samples: [SIZES]}}
"""


def test_wbic_that_visits_too_many_samples_is_refused_with_the_estimate() -> None:
    """A loss without moments visits each sample at each evaluation; one with moments takes as long for any n."""
    with pytest.raises(InputError, match=r"4:\d+: measurements.wbic: .* about \d+ s or more; allowed: 60 s"):
        loads(VISITED.replace("SIZES", "100, 1000000"), "long.yaml")
    loads(VISITED.replace("SIZES", "100"), "long.yaml")
    loads(VISITED.replace("SIZES", "100, 1000000").replace("tanh(b*x)", "b*x"), "long.yaml")


def test_quadrature_of_many_parameters_is_refused_where_it_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"7:\d+: witness.method: found .* at most 3"):
        loads(f"{many(4)}witness: {{method: quadrature}}\n", "many.yaml")
    loads(f"{many(3)}witness: {{method: quadrature}}\n", "many.yaml")


def test_the_errors_of_a_mean_from_runs_cover_it() -> None:
    """Over 200 seeds z^2 of a mean of normals has the mean 7/5 of Student's t with 7 degrees of freedom, within 40%
    (5 standard errors); an error for independent points where runs share an offset is far too small."""
    rng = np.random.default_rng(0)
    squares, naive = [], []
    for _ in range(200):
        points = rng.normal(size=(8, 50)) + rng.normal(size=(8, 1))
        values, weights = points.ravel(), np.full(400, 1 / 400)
        found = Measure(points.reshape(-1, 1), weights, 0, 0, 0, 1, True, 1, runs=8, run_of=np.repeat(range(8), 50))
        squares.append((found.mean(values) / found.standard_error(values)) ** 2)
        naive.append(found.mean(values) ** 2 / (values.var() / 400))
    assert abs(np.mean(squares) - 1.4) < 0.56
    assert np.mean(naive) > 10
