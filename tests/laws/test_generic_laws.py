"""Laws of every rule, every estimator and every shipped loss; a new one is covered without a change here."""

from __future__ import annotations

import numpy as np
import pytest
from support.checks import check_gradient, open_prior

from sandbox.compiled import functions, random_numbers
from sandbox.dynamics import kernel
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.gradients.registry import ESTIMATORS
from sandbox.dynamics.rules.registry import RULES
from sandbox.model.loss import Loss
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential
from sandbox.scenario.files import available
from sandbox.scenario.scenario import load
from sandbox.tools.errors import InputError

NORMAL = Distribution.parse("normal(0, 1)")
MODEL = Regression(("w1", "w2"), ("w1 * w2 * x",), ("0",), {"x": NORMAL})
LOSSES = {
    "data": MODEL.sampled(60, 1),
    "population": MODEL.population(),
    "potential": potential(("w1", "w2"), "(w1 * w2)**2 / 2", [[0.1, 0], ["w1 / 10", 0.2]]),
}
PRIOR = open_prior("w1", "w2")
KEY = random_numbers.key(3, "laws")
BLOCKS, STEPS = 3, 11


def rule_of(name):
    """Return a rule with a small number for each required setting."""
    fields = {key: 1e-3 for key, field in RULES[name].model_fields.items() if field.is_required() and key != "rule"}
    return RULES[name](rule=name, **fields)


def estimators():
    """Return every estimator without settings, and minibatches with every way to draw."""
    bare = [estimator() for estimator in ESTIMATORS.values() if not estimator.model_fields]
    ways = Minibatch.model_fields["draw"].annotation.__args__
    return [*bare, *(Minibatch(minibatch=5, draw=way) for way in ways)]


def cases():
    """Return every rule with every estimator that it accepts, on each loss that fits; each must have at least one."""
    found = [
        (rule, estimator, loss)
        for rule in RULES
        for estimator in estimators()
        for loss in LOSSES
        if takes(rule, estimator, LOSSES[loss])
    ]
    assert {rule for rule, _, _ in found} == set(RULES)
    assert {str(estimator) for _, estimator, _ in found} == {str(estimator) for estimator in estimators()}
    return found


def takes(rule, estimator, loss: Loss) -> bool:
    try:
        estimator.check(loss)
        kernel.check(loss, rule_of(rule), estimator)
    except InputError:
        return False
    return True


@pytest.mark.parametrize(("rule", "estimator", "loss"), cases(), ids=str)
def test_only_particle_and_step_decide(rule, estimator, loss):
    """Blocks in any order and steps in any pieces give the same bits, and a diverged particle affects no other."""
    built = kernel.build(LOSSES[loss], PRIOR, rule_of(rule), estimator, nbeta=50.0)
    start = np.random.default_rng(0).uniform(-1, 1, (BLOCKS * functions.LANES, 2))
    whole, pieces, torn = (built.pack(start) for _ in range(3))
    built.advance(whole, (0, BLOCKS), (0, STEPS), STEPS, KEY)
    for block in reversed(range(BLOCKS)):
        for steps in ((0, 1), (1, 6), (6, STEPS)):
            built.advance(pieces, (block, block + 1), steps, STEPS, KEY)
    assert np.array_equal(whole, pieces)
    assert np.isfinite(whole).all()
    assert (whole != built.pack(start)).any()
    torn[1, 7] = np.nan
    built.advance(torn, (0, BLOCKS), (0, STEPS), STEPS, KEY)
    assert np.isnan(built.unpack(torn, len(start))[functions.LANES + 7, 0])
    others = np.arange(len(start)) != functions.LANES + 7
    assert np.array_equal(built.unpack(torn, len(start))[others], built.unpack(whole, len(start))[others])


@pytest.mark.parametrize("name", RULES)
def test_another_step_number_is_told_apart(name):
    """The broken specimen: pieces that all count from 0 repeat random numbers, or rates, of a rule that has any."""
    rule, loss = rule_of(name), LOSSES["population"]
    taken = (Minibatch(minibatch=5, draw="fresh"), Full())
    estimator = next(estimator for estimator in taken if takes(name, estimator, loss))
    built = kernel.build(loss, PRIOR, rule, estimator, nbeta=50.0)
    start = np.random.default_rng(0).uniform(-1, 1, (functions.LANES, 2))
    whole, broken = built.pack(start), built.pack(start)
    built.advance(whole, (0, 1), (0, 6), STEPS, KEY)
    for _ in range(2):
        built.advance(broken, (0, 1), (0, 3), STEPS, KEY)
    assert not np.array_equal(whole, broken)


@pytest.mark.parametrize("name", available())
def test_shipped_losses_have_their_gradient_and_vanish_on_their_strata(name):
    scenario = load(name)
    points = scenario.problem.prior.quantile(
        np.random.default_rng(1).uniform(0.1, 0.9, (20, len(scenario.problem.prior.names)))
    )
    # With kinks, K_n's gradient jumps as one passes a sample: differences could straddle the jump.
    for loss in {id(loss): loss for loss in (scenario.problem.loss, scenario.problem.population_loss)}.values():
        if loss.pieces is None or loss is scenario.problem.population_loss:
            check_gradient(loss, points, loss.gradient(points))
    scenario.problem.zero_set.check(scenario.problem.population_loss, scenario.problem.prior)
