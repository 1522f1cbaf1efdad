"""Each rule's step compared with a twin written from its paper; a rule's states; bits, walls, schedules, refusals.

Twins are loops over NumPy vectors with the gradient by hand; they share no code with the kernels. Normals are
those of `twins.shared_normals`, whose words follow the layout of the random numbers. Without them, 1e-12 is the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from support.checks import moved, prior_of, rule_of
from support.twins import shared_normals

from sandbox.compiled import random_numbers
from sandbox.dynamics import kernel
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.rules.adam import Adam
from sandbox.dynamics.rules.gradient_descent import GradientDescent
from sandbox.dynamics.rules.langevin import LeimkuhlerMatthews
from sandbox.dynamics.rules.mala import Mala
from sandbox.dynamics.rules.schedule import StepDecay, StepSchedule
from sandbox.dynamics.rules.sgd import Sgd
from sandbox.dynamics.rules.sgld import Psgld, Sgld
from sandbox.dynamics.rules.underdamped import Underdamped
from sandbox.model.regression import potential

KEY = random_numbers.key(7, "law")
PLAIN_KEY = (int(KEY[0]), int(KEY[1]))
STEPS = 12
STREAM_COINS = 8
LOSS = potential(("a", "b"), "a**4/4 + a*b + b**2")
NBETA, PRECISION = 2.0, 1 / 0.8**2
PRIOR = prior_of(a="normal(0.1, 0.8)", b="uniform(-9, 9)")
STARTS = np.random.default_rng(4).uniform(-1, 1, (130, 2))


def slope(w):
    return np.array([w[0] ** 3 + w[1], w[0] + 2 * w[1]])


def excess(w):
    return w[0] ** 4 / 4 + w[0] * w[1] + w[1] ** 2


def followed(w):
    """Return the gradient of nbeta K - log φ."""
    return NBETA * slope(w) + [PRECISION * (w[0] - 0.1), 0.0]


def xi(particle, step, stream=1):
    return shared_normals(PLAIN_KEY, particle, step, stream, 2)


@dataclass
class Start:
    """Return the start of a twin: the position, and the kernel's initial states (another test checks their law)."""

    w: np.ndarray
    particle: int
    state: dict


def heavy_ball(s, eta=0.1, mu=0.8, decay=0.0, nesterov=False, clip=math.inf):
    w, v = s.w.copy(), np.zeros(2)
    for _ in range(STEPS):
        g = slope(w)
        g = g * min(1.0, clip / np.linalg.norm(g)) + decay * w
        v = mu * v + g
        w = w - eta * (g + mu * v if nesterov else v)
    return w


def adam(s, eta=0.1, b1=0.9, b2=0.99, eps=1e-3, decay=0.0, decoupled=False, corrected=True):
    """Return a step of Kingma and Ba, algorithm 1, which corrects the means first."""
    w, m, v = s.w.copy(), np.zeros(2), np.zeros(2)
    for t in range(1, STEPS + 1):
        g = slope(w) + (0 if decoupled else decay * w)
        w = w - eta * decay * w if decoupled else w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        m_hat, v_hat = (m / (1 - b1**t), v / (1 - b2**t)) if corrected else (m, v)
        w = w - eta * m_hat / (np.sqrt(v_hat) + eps)
    return w


def descent(s, eta=0.1, substeps=5, decay=0.0):
    w = s.w.copy()
    for _ in range(STEPS * substeps):
        w = w - eta / substeps * (slope(w) + decay * w)
    return w


def averaged(s, h=0.02, share=0.5):
    w, last = s.w.copy(), s.state["noise"][s.particle]
    for step in range(STEPS):
        new = xi(s.particle, step)
        w = w - h * followed(w) + math.sqrt(2 * h) * share * (last + new)
        last = new
    return w


def baoab(s, h=0.2, friction=1.5, first_kick=1.0):
    """Return the paper's five parts; here the last half kick and the next step's first one are separate."""
    w, v = s.w.copy(), s.state["velocity"][s.particle].copy()
    c = math.exp(-friction * h)
    v -= (first_kick - 0.5) * h * followed(w)
    for step in range(STEPS):
        v = v - h / 2 * followed(w)
        w = w + h / 2 * v
        v = c * v + math.sqrt(1 - c**2) * xi(s.particle, step)
        w = w + h / 2 * v
        v = v - h / 2 * followed(w)
    return w


def sgld(s, eps=0.04, gamma=0.7, spread=1.0):
    w, anchor = s.w.copy(), s.w.copy()
    for step in range(STEPS):
        pull = followed(w) + gamma * (w - anchor)
        w = w - eps / 2 * pull + math.sqrt(spread * eps) * xi(s.particle, step)
    return w


def psgld(s, eps=0.04, alpha=0.8, small=0.1, own_gradient=True):
    w, v = s.w.copy(), np.zeros(2)
    for step in range(STEPS):
        g = slope(w) if own_gradient else followed(w)
        v = alpha * v + (1 - alpha) * g**2
        scale = 1 / (small + np.sqrt(v))
        w = w - eps / 2 * scale * followed(w) + np.sqrt(eps * scale) * xi(s.particle, step)
    return w


def mala(s, h=0.15, judged=True, hastings=True):
    """Accept proposals by the densities of the two moves, written out."""
    w = s.w.copy()

    def energy(w):
        return NBETA * excess(w) + PRECISION * (w[0] - 0.1) ** 2 / 2

    def log_move(start, end):
        away = end - start + h * followed(start)
        return -(away @ away) / (4 * h) if hastings else 0.0

    for step in range(STEPS):
        y = w - h * followed(w) + math.sqrt(2 * h) * xi(s.particle, step)
        ratio = energy(w) - energy(y) + log_move(y, w) - log_move(w, y)
        coins = xi(s.particle, step, STREAM_COINS)
        w = y if not judged or ratio > -(coins @ coins) / 2 else w
    return w


CASES = {
    "momentum": (
        rule_of(Sgd, learning_rate=0.1, momentum=0.8, weight_decay=0.3),
        heavy_ball,
        {"decay": 0.3},
        {"mu": 0.81},
    ),
    "nesterov": (rule_of(Sgd, learning_rate=0.1, momentum=0.8, nesterov=True), heavy_ball, {"nesterov": True}, {}),
    "clip": (rule_of(Sgd, learning_rate=0.1, clip=0.5), heavy_ball, {"mu": 0.0, "clip": 0.5}, {"mu": 0.0}),
    "clip, momentum": (
        rule_of(Sgd, learning_rate=0.1, clip=0.5, momentum=0.8, weight_decay=0.3),
        heavy_ball,
        {"clip": 0.5, "decay": 0.3},
        {"clip": 0.5},
    ),
    "adam": (
        rule_of(Adam, learning_rate=0.1, beta2=0.99, epsilon=1e-3, weight_decay=0.3),
        adam,
        {"decay": 0.3},
        {"decay": 0.3, "decoupled": True},
    ),
    "adamw": (
        rule_of(Adam, learning_rate=0.1, beta2=0.99, epsilon=1e-3, weight_decay=0.3, decoupled=True),
        adam,
        {"decay": 0.3, "decoupled": True},
        {"decay": 0.3, "decoupled": True, "corrected": False},
    ),
    "descent": (
        rule_of(GradientDescent, learning_rate=0.1, substeps=5, weight_decay=0.3),
        descent,
        {"decay": 0.3},
        {"decay": 0.3, "substeps": 1},
    ),
    "averaged noise": (rule_of(LeimkuhlerMatthews, step_size=0.02), averaged, {}, {"share": math.sqrt(0.5)}),
    "baoab": (rule_of(Underdamped, step_size=0.2, friction=1.5), baoab, {}, {"first_kick": 0.5}),
    "sgld": (rule_of(Sgld, step_size=0.04, localization=0.7), sgld, {}, {"spread": 2.0}),
    "psgld": (rule_of(Psgld, step_size=0.04, alpha=0.8, stabilizer=0.1), psgld, {}, {"own_gradient": False}),
    "mala": (rule_of(Mala, step_size=0.15), mala, {}, {"hastings": False}),
}


def built(rule, gradient=None, **given):
    return kernel.build(
        given.pop("loss", LOSS), given.pop("prior", PRIOR), rule, gradient or Full(), nbeta=NBETA, **given
    )


def after(moving, points, cuts=(0, STEPS)):
    blocks = moving.pack(points, KEY)
    for first, last in pairwise(cuts):
        moving.advance(blocks, (0, len(blocks)), (first, last), STEPS, KEY)
    return blocks


def check_twin(rule, twin, settings):
    """Particles at the edges of blocks end at the same points as their twins."""
    moving = built(rule, reflecting=False)
    tolerance = 2e-5 if rule.uses_normals else 1e-12
    state = moving.state(moving.pack(STARTS, KEY), len(STARTS))
    found = moving.unpack(after(moving, STARTS), len(STARTS))
    for particle in (0, 1, 127, 128, 129):
        expected = twin(Start(STARTS[particle], particle, state), **settings)
        np.testing.assert_allclose(found[particle], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_rule_equals_its_twin(name):
    rule, twin, settings, broken = CASES[name]
    check_twin(rule, twin, settings)
    with pytest.raises(AssertionError):
        check_twin(rule, twin, broken)


@pytest.mark.parametrize("name", CASES)
def test_states_survive_any_cut_and_stay_with_their_particle(name):
    """One call and many calls give the same bits of all states; the specimen forgets the states between calls."""
    moving = built(CASES[name][0], reflecting=False)
    whole = after(moving, STARTS)
    assert after(moving, STARTS, (0, 1, 4, 4, 9, STEPS)).tobytes() == whole.tobytes()
    alone = after(moving, STARTS[:5])
    assert np.array_equal(moving.unpack(alone, 5), moving.unpack(whole, 5))
    if moving.planes > moving.dimension and "noise" not in CASES[name][0].state:
        half = after(moving, STARTS, (0, 5))
        fresh = moving.pack(moving.unpack(half, len(STARTS)), KEY)
        moving.advance(fresh, (0, len(fresh)), (5, STEPS), STEPS, KEY)
        forgets = np.array_equal(moving.unpack(fresh, 5), moving.unpack(whole, 5))
        # The states of MALA follow from the position: forgetting them changes nothing.
        assert forgets == (name == "mala")


def test_what_is_not_used_makes_no_code():
    """SGD, gradient descent and SGD with momentum 0 have one text, without momentum, clipping and anchors."""
    body = {
        rule: built(rule).text.partition("\n")[2]
        for rule in (
            rule_of(Sgd, learning_rate=0.1),
            rule_of(Sgd, learning_rate=0.3, momentum=0.0),
            rule_of(GradientDescent, learning_rate=0.1, substeps=4),
        )
    }
    assert len(set(body.values())) == 1
    assert built(rule_of(Sgd, learning_rate=0.1)).planes == 2
    assert built(rule_of(Sgd, learning_rate=0.1, momentum=0.1)).planes == 4
    assert built(rule_of(Sgld, step_size=0.1)).planes == 2
    assert built(rule_of(Mala, step_size=0.1)).planes == 6


def test_substeps_count_as_one_step_of_the_schedule():
    """Ten steps of five moves at eta / 5 equal fifty steps of SGD at that rate; the schedule counts whole steps."""
    cuts = StepSchedule(step=StepDecay(every=3, factor=0.5))
    slow = rule_of(GradientDescent, learning_rate=0.2, substeps=5, schedule=cuts)
    fast = rule_of(Sgd, learning_rate=0.04, schedule=StepSchedule(step=StepDecay(every=15, factor=0.5)))
    found = moved(LOSS, slow, Full(), STARTS, (0, 10))
    assert np.array_equal(found, moved(LOSS, fast, Full(), STARTS, (0, 50)))
    unscaled = rule_of(Sgd, learning_rate=0.04, schedule=cuts)
    assert not np.array_equal(found, moved(LOSS, unscaled, Full(), STARTS, (0, 50)))


def test_adams_first_step_is_eta_whatever_the_gradient():
    """At t = 1, with both means corrected, m / sqrt(v) is the sign of the gradient."""
    rule = rule_of(Adam, learning_rate=0.01, epsilon=1e-300)
    first = moved(LOSS, rule, Full(), STARTS, (0, 1)) - STARTS
    signs = np.array([np.sign(slope(w)) for w in STARTS])
    np.testing.assert_allclose(first, -0.01 * signs, rtol=1e-12)
    numbers = rule.numbers(np.arange(5))
    t = np.arange(1, 6)
    np.testing.assert_allclose(numbers, np.stack([1 / (1 - 0.9**t), (1 - 0.999**t) ** -0.5], axis=1), rtol=1e-12)
