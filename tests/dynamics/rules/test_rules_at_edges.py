"""Rules at walls, beyond their edge of stability, and with gradients and settings that they cannot use."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support.checks import open_prior, prior_of, rule_of

from sandbox.compiled import functions, random_numbers
from sandbox.dynamics import kernel
from sandbox.dynamics.codegen.step_lanes import flip_at_wall
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.gaussian import Gaussian
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.rules.gradient_descent import GradientDescent
from sandbox.dynamics.rules.mala import Mala
from sandbox.dynamics.rules.registry import RULES
from sandbox.dynamics.rules.sgd import Sgd
from sandbox.dynamics.rules.sgd_models import IsotropicSgd, LabelNoiseSgd, SgdSde
from sandbox.dynamics.rules.underdamped import Underdamped
from sandbox.dynamics.stability.edge import edge
from sandbox.dynamics.stability.step import NotLinearError
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential
from sandbox.tools.errors import InputError

KEY = random_numbers.key(7, "law")
STARTS = np.random.default_rng(4).uniform(-1, 1, (130, 2))


# Walls: states that move with a mirrored coordinate change their sign.

FLAT = potential(("a", "b"), "a*1e-30 + b*1e-30")
LONG = 40


def test_a_free_particle_bounces_like_a_triangle_wave():
    """Without noise and slope the path is the open path folded into the box, and the speed is constant."""
    rule = rule_of(Underdamped, step_size=0.9, friction=1e-30)
    box = prior_of(a="uniform(-1, 1)", b="uniform(0, 0.5)")
    moving = kernel.build(FLAT, box, rule, Full(), nbeta=1.0)
    start = STARTS * [1, 0.2] + [0, 0.25]
    blocks = moving.pack(start, KEY)
    speed = moving.state(blocks, len(start))["velocity"]
    moving.advance(blocks, (0, len(blocks)), (0, LONG), LONG, KEY)
    low, width = np.array([-1, 0.0]), np.array([2, 0.5])
    way = (start + 0.9 * LONG * speed - low) / width
    folded = low + width * np.abs(way - 2 * np.round(way / 2))
    np.testing.assert_allclose(moving.unpack(blocks, len(start)), folded, atol=1e-11)
    turned = moving.state(blocks, len(start))["velocity"]
    np.testing.assert_allclose(turned, speed * np.where(np.floor(way) % 2 == 0, 1, -1), atol=1e-11)
    text = "\n".join(line for line in moving.text.split("\n") if not line.strip().startswith("flip_at_wall("))
    modules = (
        "sandbox.compiled.lanes",
        "sandbox.compiled.random_numbers",
        "sandbox.dynamics.codegen.step_lanes",
    )
    stuck = replace(moving, compiled=functions.compile_module(text, modules, "advance", kernel._signature("float64")))
    blocks = stuck.pack(start, KEY)
    stuck.advance(blocks, (0, len(blocks)), (0, LONG), LONG, KEY)
    assert np.abs(stuck.unpack(blocks, len(start)) - folded).max() > 0.1


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-math.inf, 0.5), (-0.25, math.inf), (1e-3, 2e-3)])
def test_turning_counts_mirrors(low, high):
    width = min(high - low, 1.0)
    x = np.random.default_rng(2).uniform(-7 * width, 7 * width, functions.LANES)
    odd = np.ones(functions.LANES)
    flip_at_wall(odd, x, low, high)
    for value, sign in zip(x, odd, strict=True):
        mirrors = 0
        while value < low or value > high:
            value = 2 * low - value if value < low else 2 * high - value
            mirrors += 1
        assert sign == (-1) ** mirrors
    lost = np.full(functions.LANES, math.nan)
    flip_at_wall(lost, x, low, high)
    assert np.isnan(lost).all()


# Refusals and settings.

PLAIN = Regression(("a", "b"), ("a * b * x",), ("0",), {"x": Distribution.parse("normal(0, 1)")})


@pytest.mark.parametrize(
    ("rule", "gradient", "said"),
    [
        (
            rule_of(Mala, step_size=0.1),
            Minibatch(minibatch=2, draw="with_replacement"),
            "needs `full`, found 'minibatch'",
        ),
        (rule_of(SgdSde, learning_rate=0.1), Full(), "models the noise of a minibatch; found 'full'"),
        (
            rule_of(IsotropicSgd, learning_rate=0.1),
            Minibatch(minibatch=2, draw="reshuffled"),
            "independent from step to step",
        ),
        (
            rule_of(LabelNoiseSgd, learning_rate=0.1, label_noise=1),
            Minibatch(minibatch=2, draw="with_replacement"),
            "choice",
        ),
    ],
)
def test_rules_refuse_gradients_that_they_cannot_take(rule, gradient, said):
    with pytest.raises(InputError, match=said):
        kernel.build(PLAIN.sampled(9, 1), open_prior("a", "b"), rule, gradient, nbeta=1.0)


def test_a_gaussian_minibatch_names_its_own_key():
    with pytest.raises(InputError, match="gaussian: a batch of 10 is larger than n = 9"):
        Gaussian(gaussian=10, draw="with_replacement").check(PLAIN.sampled(9, 1))


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="momentum above 0"):
        rule_of(Sgd, learning_rate=0.1, nesterov=True)


def radius(rule, h):
    """Return the spectral radius of a rule's step on h w^2 / 2, from two steps of the kernel itself."""
    moving = kernel.build(potential(("a",), f"{h}*a**2/2"), open_prior("a"), rule, Full(), nbeta=1.0, reflecting=False)
    size = moving.planes
    blocks = moving.pack(np.zeros((size, 1)))
    lanes = blocks.reshape(1, size, functions.LANES)
    lanes[0, :, :size] = np.eye(size)
    moving.advance(blocks, (0, 1), (0, 1), 1, KEY)
    return np.abs(np.linalg.eigvals(lanes[0, :, :size].T)).max()


@pytest.mark.parametrize(
    ("rule", "product"),
    [
        (rule_of(Sgd, learning_rate=0.1), 2),
        (rule_of(Sgd, learning_rate=0.1, momentum=0.6), 3.2),
        # O'Donoghue and Candes 2015.
        (rule_of(Sgd, learning_rate=0.1, momentum=0.6, nesterov=True), 3.2 / 2.2),
        (rule_of(Sgd, learning_rate=0.1, weight_decay=3.0), 2 - 0.3),
        (rule_of(GradientDescent, learning_rate=0.5, substeps=5), 2),
    ],
    ids=["plain", "heavy ball", "nesterov", "weight decay", "substeps"],
)
def test_quadratics_diverge_beyond_the_edge_and_not_before(rule, product):
    assert edge(rule, rule.moves_per_step) == pytest.approx(product, rel=1e-8)
    limit = product / 0.1
    assert radius(rule, 0.999 * limit) < 1 < radius(rule, 1.001 * limit)


def test_the_edges_of_samplers_and_of_steps_without_one():
    """A sampler's product is that of its step, nbeta and sharpness: h^2 a = 4 for BAOAB, so h a = 4 / h."""
    for name, product in (("langevin", 2), ("langevin_lm", 2), ("sgld", 4), ("underdamped", 4 / 0.4)):
        assert edge(RULES[name](rule=name, step_size=0.4), 1) == pytest.approx(product, rel=1e-8)
    held = RULES["sgld"](rule="sgld", step_size=0.4, localization=2.0)
    assert edge(held, 1) == pytest.approx(4 - 0.4 * 2, rel=1e-8)
    assert edge(rule_of(Sgd, learning_rate=1.0, weight_decay=3.0), 1) == 0
    for rule in (RULES["adam"](rule="adam", learning_rate=0.1), rule_of(Sgd, learning_rate=0.1, clip=1.0)):
        with pytest.raises(NotLinearError, match="not linear"):
            edge(rule, 1)
