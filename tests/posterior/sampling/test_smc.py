"""SMC compared with quadrature, closed forms, nested sampling and symmetries, and specimens that break it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from itertools import pairwise

import dynesty
import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy import integrate, special, stats
from support.priors import Box, Normal, cube, normals

from sandbox.posterior.measure import Measure
from sandbox.posterior.quadrature.posteriors import level_set, posterior
from sandbox.posterior.sampling import guided_moves, mcmc, moves
from sandbox.posterior.sampling.guided_moves import Guided
from sandbox.posterior.sampling.moves import Proposal
from sandbox.posterior.sampling.smc import Smc
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError
from sandbox.tools.parallel import limited

Energy = Callable[[Array], Array]
Slope = Callable[[Array], Array]

SPAN = 2.5
"""The most half-widths of a 95% interval by which an estimate may be off. With eight runs it is t = 5.9 at 7 degrees of
freedom: a comparison fails by chance with probability 6e-4; here are about fifty. The seeds are fixed."""

RUNS = 8


def monomial(*powers: int) -> tuple[Energy, Slope]:
    """Return prod w_j^power_j, even powers, with its gradient."""
    exponents = np.array(powers)

    def energy(points: Array) -> Array:
        return np.prod(points**exponents, axis=1)

    def slope(points: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return exponents * energy(points)[:, None] / points

    return energy, slope


def surface() -> tuple[Energy, Slope]:
    """Return K = (w1 w2 + w3^2)^2: a cone of zeros, singular at the origin."""

    def energy(points: Array) -> Array:
        return (points[:, 0] * points[:, 1] + points[:, 2] ** 2) ** 2

    def slope(points: Array) -> Array:
        one, two, three = points.T
        return 2 * (one * two + three**2)[:, None] * np.stack([two, one, 2 * three], axis=1)

    return energy, slope


def tanh_net(*truth: tuple[float, float]) -> tuple[Energy, Slope]:
    """Return K of sum_k a_k tanh(b_k x), x uniform on [-2, 2], against a truth of the same kind; points a, b, a, ..."""
    nodes, weights = leggauss(20)
    x, weights = 2 * nodes, weights / 2
    target = sum(a * np.tanh(b * x) for a, b in truth)

    def parts(points: Array) -> tuple[Array, Array]:
        nodes = np.tanh(points[:, 1::2, None] * x)
        return nodes, np.einsum("nh,nhx->nx", points[:, ::2], nodes) - target

    def slope(points: Array) -> Array:
        nodes, misfit = parts(points)
        gradient = np.empty_like(points)
        gradient[:, ::2] = np.einsum("nhx,nx->nh", nodes, misfit * weights)
        gradient[:, 1::2] = points[:, ::2] * np.einsum("nhx,nx->nh", 1 - nodes**2, misfit * weights * x)
        return gradient

    return lambda points: 0.5 * parts(points)[1] ** 2 @ weights, slope


def quarters(points: Array) -> NDArray[np.int64]:
    """Return which of the first two coordinates is larger in modulus, and the sign of the first."""
    return (np.abs(points[:, 0]) < np.abs(points[:, 1])) + 2 * (points[:, 0] > 0)


def assert_agrees(measure: Measure, log_evidence: float, masses: Array | None = None) -> None:
    """Assert that evidence and masses are within SPAN of their stated errors, which are small."""
    assert measure.converged
    assert measure.error < 0.3
    assert abs(np.expm1(log_evidence - measure.log_evidence)) < SPAN * measure.error
    if masses is not None:
        assert measure.share_errors is not None
        found = measure.mass(quarters(measure.points), len(masses))
        assert (np.abs(found - masses) < SPAN * measure.share_errors + 1e-9).all()


# Against quadrature


@pytest.mark.parametrize(("powers", "prior"), [((2, 2), cube(2)), ((2, 4), normals(2))])
def test_crossings_in_the_plane(powers: tuple[int, int], prior: Box | Normal) -> None:
    """w1^2 w2^2 and w1^2 w2^4, the posterior, the tempered posterior and the level set."""
    energy, slope = monomial(*powers)
    sampler = Smc(energy, slope, prior, seed=1, particles=320, runs=RUNS)
    for n in (1e2, 1e5):
        truth = posterior(energy, prior, n, strata=quarters)
        measure = sampler.posterior(n, strata=quarters)
        assert_agrees(measure, truth.log_evidence, truth.mass(quarters(truth.points), 4))
    truth = level_set(energy, prior, 1e-3, strata=quarters, share_tolerance=1e-2)
    measure = sampler.level_set(1e-3, strata=quarters)
    assert_agrees(measure, truth.log_evidence, truth.mass(quarters(truth.points), 4))
    assert energy(measure.points).max() <= 1e-3
    measure = sampler.tempered(1e-3, strata=quarters)
    assert measure.mean(energy(measure.points)) == pytest.approx(1e-3, rel=1e-9)
    truth = posterior(energy, prior, measure.nbeta, strata=quarters)
    assert truth.mean(energy(truth.points)) == pytest.approx(1e-3, rel=0.1)
    assert_agrees(measure, truth.log_evidence, truth.mass(quarters(truth.points), 4))


def test_a_cone_in_space() -> None:
    """(w1 w2 + w3^2)^2."""
    energy, slope = surface()
    truth = posterior(energy, cube(3), 30.0, tolerance=1e-2)
    measure = Smc(energy, slope, cube(3), seed=1, particles=512, runs=RUNS).posterior(30.0, strata=quarters)
    # The first two parameters may change places, and each pair of signs.
    assert_agrees(measure, truth.log_evidence, np.full(4, 0.25))


# Against closed forms in four to seven parameters


def test_linear_regression_in_seven_parameters() -> None:
    """log N(y; 0, I + A A^T), with a design of condition 1e3 and one direction without effect."""
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.standard_normal((7, 7)))[0]
    design = rng.standard_normal((50, 7)) @ np.diag([1.0, 1, 1, 0.1, 0.1, 0.01, 0]) @ turn
    y = design @ np.ones(7) + rng.standard_normal(50)
    marginal = stats.multivariate_normal(np.zeros(50), np.eye(50) + design @ design.T)
    log_evidence = marginal.logpdf(y) + 25 * np.log(2 * np.pi)
    gram, against, constant = design.T @ design / 50, design.T @ y / 50, y @ y / 100

    def energy(points: Array) -> Array:
        return 0.5 * np.einsum("ni,ij,nj->n", points, gram, points) - points @ against + constant

    # The slope only proposes: no slope, a wrong one and nan all give the same answers.
    slopes: list[Slope] = [
        lambda points: points @ gram - against,
        lambda points: against - points @ gram,
        lambda points: np.full_like(points, np.nan),
    ]
    for slope in slopes:
        measure = Smc(energy, slope, normals(7), seed=2, particles=160, runs=RUNS).posterior(50.0)
        assert_agrees(measure, log_evidence)
        covariance = np.linalg.inv(np.eye(7) + 50 * gram)
        mean = 50 * covariance @ against
        error = (measure.weights @ measure.points - mean) / np.sqrt(np.diag(covariance))
        assert np.abs(error).max() < 0.2


def crossing_evidence(rates: Array, n: float) -> float:
    """Return log E exp(-n K), for -log K a sum of independent exponentials of these rates (Watanabe 2009)."""
    if len(set(rates)) == 1:
        density = stats.gamma(len(rates), scale=1 / rates[0]).pdf
    else:
        factors = np.array([np.prod([b / (b - a) for b in rates if b != a]) for a in rates])

        def density(t: float) -> float:
            return float(factors @ (rates * np.exp(-rates * t)))

    pieces = np.linspace(0.0, 300.0, 31)
    total = sum(integrate.quad(lambda t: density(t) * np.exp(-n * np.exp(-t)), a, b)[0] for a, b in pairwise(pieces))
    return float(np.log(total))


@pytest.mark.parametrize("powers", [(2, 2, 2, 2), (2, 4, 6, 8, 10)])
def test_normal_crossings_in_more_parameters(powers: tuple[int, ...]) -> None:
    energy, slope = monomial(*powers)
    sampler = Smc(energy, slope, cube(len(powers)), seed=1, particles=256, runs=RUNS)
    for n in (1e2, 1e4):
        assert_agrees(sampler.posterior(n), crossing_evidence(1 / np.array(powers, dtype=float), n))


def test_level_sets_in_more_parameters() -> None:
    """V(e) = e^l sum_{i < 4} (l log 1/e)^i / i!, l = 1/2, for a crossing; the volume of a ball in six parameters."""
    energy, slope = monomial(2, 2, 2, 2)
    measure = Smc(energy, slope, cube(4), seed=1, particles=256, runs=RUNS).level_set(1e-6)
    assert_agrees(measure, float(np.log(special.gammaincc(4, -0.5 * np.log(1e-6)))))
    sampler = Smc(lambda p: (p**2).sum(axis=1), lambda p: 2 * p, cube(6), seed=1, particles=256, runs=RUNS)
    assert_agrees(sampler.level_set(0.01), float(np.log(np.pi**3 / 6 * 0.1**6 / 2**6)))
    # The mean of a sum of squares is D / 2 nbeta, far from the walls.
    assert sampler.tempered(0.01).nbeta == pytest.approx(300.0, rel=0.1)


def test_reduced_rank_in_six_parameters() -> None:
    """K = |a|^2 |b|^2 / 2, a and b in R^3, normal priors: E (1 + n |b|^2)^(-3/2), and a and b change places."""
    n = 1e4

    def energy(points: Array) -> Array:
        return 0.5 * (points[:, :3] ** 2).sum(axis=1) * (points[:, 3:] ** 2).sum(axis=1)

    def slope(points: Array) -> Array:
        a, b = points[:, :3], points[:, 3:]
        return np.hstack([a * (b**2).sum(axis=1, keepdims=True), b * (a**2).sum(axis=1, keepdims=True)])

    def strata(points: Array) -> NDArray[np.bool_]:
        return (points[:, :3] ** 2).sum(axis=1) < (points[:, 3:] ** 2).sum(axis=1)

    truth = integrate.quad(
        lambda t: stats.chi2(3).pdf(np.exp(t)) * np.exp(t) * (1 + n * np.exp(t)) ** -1.5, -30, 6, limit=200
    )
    measure = Smc(energy, slope, normals(6), seed=1, particles=256, runs=RUNS).posterior(n, strata=strata)
    assert_agrees(measure, float(np.log(truth[0])))
    assert measure.mass(strata(measure.points), 2) == pytest.approx([0.5, 0.5], abs=SPAN * measure.share_error)


@pytest.mark.parametrize("nodes", [2, 3])
def test_nested_sampling_agrees(nodes: int) -> None:
    """Two and three tanh nodes for a truth of one: singular. dynesty (Speagle 2020) states its error."""
    energy, slope = tanh_net((1.0, 0.8))
    prior, n = cube(2 * nodes, -2.0, 2.0), 300.0
    nested = dynesty.NestedSampler(
        lambda unit: -n * float(energy(unit[None])[0]),
        lambda unit: 4.0 * unit - 2.0,
        2 * nodes,
        nlive=120,
        sample="rslice",
        bound="single",
        rstate=np.random.default_rng(1),
    )
    nested.run_nested(dlogz=0.1, print_progress=False)
    measure = Smc(energy, slope, prior, seed=1, particles=512, runs=RUNS).posterior(n)
    assert measure.converged
    error = np.hypot(nested.results.logzerr[-1], measure.error / stats.t.ppf(0.975, 3))
    assert abs(nested.results.logz[-1] - measure.log_evidence) < 3.5 * error


def test_copies_of_a_mode_have_the_same_mass() -> None:
    """Two tanh nodes may change places and each its signs: 2! 2^2 copies."""
    energy, slope = tanh_net((1.0, 0.5), (1.0, 2.0))

    def strata(points: Array) -> NDArray[np.int64]:
        return (points[:, 1] > 0) + 2 * (points[:, 3] > 0) + 4 * (np.abs(points[:, 1]) < np.abs(points[:, 3]))

    measure = Smc(energy, slope, normals(4), seed=1, particles=256, runs=RUNS).posterior(1e3, strata=strata)
    assert measure.converged
    assert (np.abs(measure.mass(strata(measure.points), 8) - 0.125) < SPAN * measure.share_errors).all()


# Intervals


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 30 intervals at 95% a binomial number covers; false alarm at most 2 x 1e-3. A quarter of the width fails."""
    energy, slope = monomial(2, 2)
    truth = posterior(energy, cube(2), 60.0, strata=quarters)
    misses = []
    for seed in range(30):
        measure = Smc(energy, slope, cube(2), seed=seed, particles=64).posterior(60.0, strata=quarters)
        assert measure.share_errors is not None
        mass = measure.mass(quarters(measure.points), 1)[0]
        evidence_miss = abs(np.expm1(measure.log_evidence - truth.log_evidence)) / measure.error
        misses.append((evidence_miss, abs(mass - 0.25) / measure.share_errors[0]))
    held = stats.binom(30, 0.95)
    assert (held.cdf((np.array(misses) < 1.0).sum(axis=0)) > 1e-3).all()
    assert (held.cdf((np.array(misses) < 0.25).sum(axis=0)) < 1e-3).all()


def test_intervals_hold_where_modes_weigh_differently() -> None:
    """exp(-K) is four fifths of a wide normal and one of a narrow one, 12 of its widths away; as above."""
    shares, centres, widths = np.array([0.8, 0.2]), np.array([-0.4, 0.4]), np.array([0.15, 0.07])

    def logs(points: Array) -> Array:
        squares = ((points[:, None] - centres[:, None]) ** 2).sum(axis=2) / widths**2
        return np.asarray(np.log(shares) - squares / 2 - 3 * np.log(widths * np.sqrt(2 * np.pi)))

    def energy(points: Array) -> Array:
        return -special.logsumexp(logs(points), axis=1)

    def slope(points: Array) -> Array:
        parts = special.softmax(logs(points), axis=1) / widths**2
        return np.asarray(parts.sum(axis=1)[:, None] * points - (parts @ centres)[:, None])

    def narrow(points: Array) -> NDArray[np.bool_]:
        return logs(points).argmax(axis=1) == 1

    normals_in_cube = float(np.sum(shares * (stats.norm.cdf(0.6 / widths) - stats.norm.cdf(-1.4 / widths)) ** 3))
    inside, lost = [], []
    for seed in range(30):
        measure = Smc(energy, slope, cube(3), seed=seed, particles=64).posterior(1.0, strata=narrow)
        assert measure.share_errors is not None
        evidence_miss = abs(np.expm1(measure.log_evidence - np.log(normals_in_cube / 8))) / measure.error
        share_miss = abs(measure.mass(narrow(measure.points).astype(int), 2)[1] - 0.2) / measure.share_errors[1]
        inside.append((evidence_miss < 1.0, share_miss < 1.0))
        lost.append((evidence_miss < 0.25, share_miss < 0.25))
    held = stats.binom(30, 0.95)
    assert (held.cdf(np.sum(inside, axis=0)) > 1e-3).all()
    assert (held.cdf(np.sum(lost, axis=0)) < 1e-3).all()


def test_a_mode_that_only_some_runs_find_shows() -> None:
    """About one run in two finds a deep well in a wide bowl; runs that differ in that must disagree."""
    centre, differed = np.full(4, 0.6), 0

    def energy(points: Array) -> Array:
        return np.minimum(0.1 + (points**2).sum(axis=1), 20.0 * ((points - centre) ** 2).sum(axis=1))

    def in_well(points: Array) -> NDArray[np.bool_]:
        return ((points - centre) ** 2).sum(axis=1) < 0.02

    for seed in range(4):
        sampler = Smc(energy, lambda points: 2 * points, cube(4), seed=seed, particles=128)
        measure = sampler.posterior(200.0, strata=in_well)
        by_run = in_well(measure.points).reshape(4, -1).mean(axis=1)
        if 0 < np.count_nonzero(by_run > 0.1) < 4:
            differed += 1
            assert not measure.converged
    assert differed > 0


# The moves, one kind at a time


def standing(kind: guided_moves.Kind, prior: Box | Normal, monkeypatch: pytest.MonkeyPatch) -> tuple[Array, Array]:
    """Return particles drawn exactly from a posterior, and their positions after 30 moves of one kind.

    K = |w|^2 / 2 at nbeta = 1 with normal priors, or K = w1^2 on a box: each coordinate is then (truncated) normal.
    """
    rng = np.random.default_rng(5)
    if isinstance(prior, Normal):
        start = rng.standard_normal((4000, 3)) / np.sqrt(2)
    else:
        uniforms = rng.random((4000, 3))
        start = 2 * uniforms - 1
        edge = stats.norm.cdf(-1.0, scale=0.5)
        start[:, 0] = stats.norm.ppf(edge + (1 - 2 * edge) * uniforms[:, 0], scale=0.5)

    def energy(points: Array) -> Array:
        return 0.5 * (points**2).sum(axis=1) if isinstance(prior, Normal) else 2 * points[:, 0] ** 2

    def slope(points: Array) -> Array:
        return points if isinstance(prior, Normal) else 4 * points * np.array([1.0, 0, 0])

    monkeypatch.setattr(mcmc, "KINDS", (kind,))
    monkeypatch.setattr(mcmc, "LEAST", 30)
    walker = mcmc.Walk(
        mcmc.Landscape(energy, slope, prior),
        mcmc.Target(1.0),
        start.copy(),
        energy(start),
        prior.log_density(start),
        mcmc.new_repertoire(),
        rng,
    )
    walker.until_decorrelated(0)
    assert (walker.points != start).any(axis=1).mean() > 0.5
    return start, walker.points


def least_p(points: Array, prior: Box | Normal) -> float:
    """Return the smallest p value of each coordinate's law and that of the modulus (Kolmogorov, Smirnov)."""
    if isinstance(prior, Normal):
        laws = [stats.norm(scale=np.sqrt(0.5)).cdf] * 3
        modulus = stats.kstest(2 * (points**2).sum(axis=1), stats.chi2(3).cdf).pvalue
    else:
        laws = [stats.truncnorm(-2, 2, scale=0.5).cdf, *[stats.uniform(-1, 2).cdf] * 2]
        modulus = 1.0
    return min(modulus, *(stats.kstest(points[:, k], law).pvalue for k, law in enumerate(laws)))


@pytest.mark.parametrize("prior", [cube(3), normals(3)], ids=["box", "normal"])
@pytest.mark.parametrize("kind", guided_moves.KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_of_move_leaves_the_target_as_it_is(
    kind: guided_moves.Kind, prior: Box | Normal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """False alarm at most 16 x 4 x 1e-4."""
    assert least_p(standing(kind, prior, monkeypatch)[1], prior) > 1e-4


def forgets_the_jacobian(crowd: Guided, size: Array, rng: np.random.Generator) -> Proposal:
    points, log_ratio = moves.factors(crowd, size, rng)
    return points, np.zeros_like(log_ratio)


def pulls(crowd: Guided, size: Array, rng: np.random.Generator) -> Proposal:
    """A broken move: towards another particle, and not as often away from it."""
    other = crowd.others[rng.integers(len(crowd.others), size=len(size))]
    return crowd.points + np.minimum(size, 1.0)[:, None] * (other - crowd.points), np.zeros_like(size)


def sticks_to_the_walls(crowd: Guided, size: Array, rng: np.random.Generator) -> Proposal:
    shift = size[:, None] * rng.standard_normal(crowd.points.shape)
    return np.clip(crowd.points + shift, *crowd.bounds.T), np.zeros_like(size)


@pytest.mark.parametrize(
    ("kind", "prior"),
    [(forgets_the_jacobian, normals(3)), (pulls, normals(3)), (sticks_to_the_walls, cube(3))],
)
def test_wrong_moves_are_caught(kind: guided_moves.Kind, prior: Box | Normal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert least_p(standing(kind, prior, monkeypatch)[1], prior) < 1e-4


def test_without_moves_the_runs_do_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    energy, slope = monomial(2, 2, 2, 2)
    monkeypatch.setattr(mcmc.Walk, "_sweep", lambda _: None)
    assert not Smc(energy, slope, cube(4), seed=1, particles=256).posterior(1e9).converged


# Arguments and results


def test_answers_do_not_depend_on_what_was_asked_before() -> None:
    energy, slope = monomial(2, 2)

    def fresh(seed: int = 1) -> Smc:
        return Smc(energy, slope, cube(2), seed=seed, particles=64, runs=2)

    used = fresh()
    asked = [used.level_set(1e-4), used.tempered(1e-3), used.posterior(50.0)]
    alone = [fresh().level_set(1e-4), fresh().tempered(1e-3), fresh().posterior(50.0)]
    for one, two in zip(asked, alone, strict=True):
        np.testing.assert_array_equal(one.points, two.points)
        np.testing.assert_array_equal(one.weights, two.weights)
        assert (one.log_evidence, one.error, one.cells) == (two.log_evidence, two.error, two.cells)
    assert not np.array_equal(fresh(2).posterior(50.0).points, asked[2].points)


def test_runs_in_threads_give_the_same_bits_and_keep_their_stages() -> None:
    energy, slope = monomial(2, 2)

    def answers(threads: int) -> tuple[list[Measure], set[int]]:
        used: list[int] = []

        def noted(points: Array) -> Array:
            used.append(threading.get_ident())
            return energy(points)

        sampler = Smc(noted, slope, cube(2), seed=1, particles=64, runs=4)
        with limited(threads):
            found = [sampler.posterior(1e3), sampler.tempered(1e-3), sampler.level_set(1e-4), sampler.posterior(1e4)]
            evaluations = len(used)
            sampler.posterior(1e3)
        # The ladder is kept: the second time only the way from its nearest stage is left.
        assert len(used) - evaluations < 0.2 * evaluations
        return found, set(used)

    (alone, one_thread), (shared, threads) = answers(1), answers(4)
    for one, other in zip(alone, shared, strict=True):
        assert np.array_equal(one.points, other.points)
        assert np.array_equal(one.weights, other.weights)
        for number in ("log_evidence", "error", "nbeta", "cells", "effective_sample_size"):
            np.testing.assert_equal(getattr(one, number), getattr(other, number))
    assert one_thread == {threading.get_ident()}
    assert len(threads) > 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_an_interrupted_sampler_ends_its_threads_soon() -> None:
    """Ctrl-C reaches the thread that waits, and the runs end at their next sweep, long before their end."""
    energy, slope = monomial(2, 2)
    begun, used, before = threading.Event(), [], []

    def noted(points: Array) -> Array:
        used.append(None)
        if threading.current_thread() is not threading.main_thread():
            begun.set()
        return energy(points)

    def interrupt() -> None:
        begun.wait(60)
        before.append(len(used))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def sampler() -> Smc:
        return Smc(noted, slope, cube(2), seed=1, particles=64, runs=8, sweeps=10**6)

    # A shell starts commands in the background with Ctrl-C ignored, and Python keeps that.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with limited(2), pytest.raises(KeyboardInterrupt):
            sampler().posterior(1e9)
    finally:
        signal.signal(signal.SIGINT, usual)
    spent = len(used) - before[0]
    used.clear()
    sampler().posterior(1e9)
    assert spent < len(used) / 3


def test_where_the_energy_is_infinite_there_is_no_mass() -> None:
    """K = w1^2 for w1 > 0, a half of a normal: Z = (1 + 2n)^(-1/2) / 2; at nbeta = 0 exactly the half is left."""

    def energy(points: Array) -> Array:
        return np.where(points[:, 0] > 0, points[:, 0] ** 2, np.inf)

    sampler = Smc(energy, lambda points: 2 * points, normals(1), seed=1, particles=512, runs=RUNS)
    for n in (0.0, 100.0):
        measure = sampler.posterior(n)
        assert_agrees(measure, float(np.log(0.5 / np.sqrt(1 + 2 * n))))
        assert (measure.points > 0).all()
    assert sampler.tempered(5.0).nbeta == 0
    capped = sampler.tempered(-1.0, nbeta_max=1e3)
    assert capped.capped
    assert capped.nbeta == 1e3


def test_values_whose_sum_overflows_are_values() -> None:
    """Proposals far out of range have densities near the least number; they give no warning."""
    huge = np.full((4, 1), 1e308)
    landscape = mcmc.Landscape(lambda w: w[:, 0], lambda w: np.ones_like(w), normals(1))
    assert np.array_equal(landscape.energies(huge), huge[:, 0])
    with pytest.raises(InputError, match="the energy is nan"):
        landscape.energies(np.array([[1e308], [1e308], [np.nan]]))


def test_an_energy_that_says_nothing_leaves_the_prior() -> None:
    sampler = Smc(lambda p: np.zeros(len(p)), np.zeros_like, cube(5), seed=1, particles=64)
    assert sampler.posterior(1e4).log_evidence == 0
    assert sampler.level_set(0.0).log_evidence == 0
    assert sampler.tempered(0.0).nbeta == 0
    assert sampler.tempered(-1.0).capped


def test_minima_have_a_level_set_only_where_they_have_a_volume() -> None:
    """(|w| - 1/100)^2, 0 within, on [-1, 1]^4: the ball's 4-volume; a crossing has none, whatever rounds to 0 there."""

    def flat(points: Array) -> Array:
        return np.maximum(np.linalg.norm(points, axis=1) - 0.01, 0.0) ** 2

    def slope(points: Array) -> Array:
        size = np.linalg.norm(points, axis=1, keepdims=True)
        return 2 * np.maximum(size - 0.01, 0.0) * points / np.where(size > 0, size, 1.0)

    sampler = Smc(flat, slope, cube(4), seed=1, particles=256, runs=RUNS)
    assert_agrees(sampler.level_set(0.0), float(np.log(np.pi**2 / 2 * 0.01**4 / 2**4)))
    energy, force = monomial(2, 2)
    crossing = Smc(energy, force, cube(2), seed=1, particles=64, runs=4)
    with pytest.raises(InputError, match="an energy of at most 0") as refused:
        crossing.level_set(0.0)
    # It ends before energies are so small that rounding makes them 0.
    assert float(str(refused.value).rsplit(" ", 1)[1]) > 1e-100


def test_what_cannot_be_answered_is_refused() -> None:
    energy, slope = monomial(2, 2)
    sampler = Smc(energy, slope, cube(2), seed=1, particles=64)
    for ask in (
        lambda: sampler.posterior(np.inf),
        lambda: sampler.posterior(-1.0),
        lambda: sampler.tempered(np.nan),
        lambda: sampler.level_set(np.nan),
        lambda: sampler.level_set(-1e-3),
        lambda: Smc(lambda p: p[:, 0] * np.nan, slope, cube(2), seed=1).posterior(1.0),
        lambda: Smc(lambda p: p[:, 0] * 0 + np.inf, slope, cube(2), seed=1, particles=64).posterior(1.0),
        lambda: Smc(energy, slope, cube(2), seed=1, runs=1),
        lambda: Smc(energy, slope, cube(2), seed=-1),
    ):
        with pytest.raises(InputError):
            ask()
