"""Kernels agree with their twins, give the same bits for any division of the work, and have the limits of theory.

Comparisons are exact or to rounding; no test here depends on chance.
"""

import ast
import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numba
import numpy as np
import pytest
from numba import types
from scipy.integrate import solve_ivp
from support import twins
from support.kernel_cases import CASES, LINE_TWIN, TANH_TWIN, TOTAL, kernel, minibatch, net, net_estimate, sgd

from sandbox.compiled import elementary, functions, random_numbers
from sandbox.compiled.lanes import reflect
from sandbox.compiled.random_numbers import fill_uniforms
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.kernel import _signature, build
from sandbox.dynamics.rules.schedule import CosineDecay, CosineSchedule, StepDecay, StepSchedule
from sandbox.dynamics.rules.sgd import Sgd
from sandbox.expressions.emission import EMITTED_FUNCTIONS
from sandbox.model.prior import Prior
from sandbox.model.regression import potential

INF, NAN = math.inf, math.nan
KEY = random_numbers.key(5, "kernel")
PLAIN_KEY = (int(KEY[0]), int(KEY[1]))
STEPS = 23
LINE = "sgd with_replacement, affine, box, decay, step schedule"
SUBSETS = "sgd without_replacement, two outputs, open, cosine"
EPOCHS = "sgd reshuffled, tanh, lower walls"
FULL = "sgd full, population, decay"
RIDGE = "langevin with_replacement, relu and sigmoid"
ODD = "langevin reshuffled, three dimensions"
ONE = "langevin noisy, one dimension"

every_case = pytest.mark.parametrize("name", CASES)


def starts(count, size, reach=0.7):
    return np.random.default_rng(8).uniform(-reach, reach, (count, size))


def after(moving, points, steps=STEPS, key=KEY, total=TOTAL):
    """Return the points after the first `steps` steps."""
    blocks = moving.pack(points)
    moving.advance(blocks, (0, len(blocks)), (0, steps), total, key)
    return moving.unpack(blocks, len(points))


def assert_equal_twin(moving, twin, tolerance, points=None):
    """Particles at the edges of three blocks agree with their twins, after 1 and after all steps."""
    points = starts(300, moving.dimension) if points is None else points
    one, all_of_them = after(moving, points, 1), after(moving, points)
    for particle in (0, 127, 128, 299):
        path = twin.trajectory(PLAIN_KEY, particle, points[particle], STEPS)
        np.testing.assert_allclose(one[particle], path[1], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(all_of_them[particle], path[-1], rtol=tolerance, atol=tolerance)


@every_case
def test_kernel_equals_its_twin(name):
    assert_equal_twin(kernel(name), CASES[name].twin, CASES[name].tolerance)


def broken_twins(case):
    """Return cases with one error each, of the kind that a kernel might have."""
    twin = case.twin
    yield replace(twin, rates=lambda t: twin.rates(t + 1) * (1 + 1e-3))
    yield replace(twin, estimate=lambda w, key, particle, step: twin.estimate(w, key, particle + 1, step))
    yield replace(twin, estimate=lambda w, key, particle, step: twin.estimate(w, key, particle, step + 1))
    yield replace(twin, estimate=lambda w, key, particle, step: twin.estimate(w, key[::-1], particle, step))
    yield replace(twin, walls=((-10.0, 10.0),) * 2)
    if twin.priors:
        yield replace(twin, nbeta=1.01 * twin.nbeta)
        yield replace(twin, priors=(("normal", (0.0, 1.0)),) * 2)
    else:
        yield replace(twin, decay=0.0)


@pytest.mark.parametrize("name", [LINE, "langevin without_replacement, laplace prior"])
def test_broken_twins_are_told_apart(name):
    corners = 0.99 * np.sign(starts(300, 2))
    for broken in broken_twins(CASES[name]):
        with pytest.raises(AssertionError):
            assert_equal_twin(kernel(name), broken, CASES[name].tolerance, corners)


@pytest.mark.parametrize(("name", "model"), [(LINE, LINE_TWIN), (EPOCHS, TANH_TWIN)])
def test_another_draw_is_told_apart(name, model):
    case = CASES[name]
    estimate = twins.indexed(model, case.loss.data, case.gradient.minibatch, "without_replacement")
    with pytest.raises(AssertionError):
        assert_equal_twin(kernel(name), replace(case.twin, estimate=estimate), case.tolerance)


@pytest.mark.parametrize("batch", [1, 3, 16, 17])
@pytest.mark.parametrize("draw", ["with_replacement", "fresh"])
def test_batches_of_any_size_equal_their_twins(batch, draw):
    """Fewer samples than one pass adds, four times as many, one more; a sample too many or too few is noticed."""
    case = net(batch, draw)
    moving = case.kernel()
    assert_equal_twin(moving, case.twin, case.tolerance)
    for wrong in {batch + 1, max(batch - 1, 2)}:
        estimate = net_estimate(case.loss, wrong, draw)
        with pytest.raises(AssertionError):
            assert_equal_twin(moving, replace(case.twin, estimate=estimate), case.tolerance)


def test_a_batch_of_all_samples_is_the_full_gradient():
    """Distinct indices 0 ... n - 1 in any order: two computations other than the full gradient, and no noise left."""
    for name in (SUBSETS, EPOCHS):
        case = CASES[name]
        count = case.loss.samples
        whole = replace(case, gradient=minibatch(count, case.gradient.draw)).kernel()
        path = np.array(starts(2, whole.dimension))
        moved = after(whole, path, 1)
        expected = path - case.rate(0) * case.loss.gradient(path)
        np.testing.assert_allclose(moved, np.maximum(expected, 2 * case.low - expected), rtol=1e-13, atol=1e-13)


def driven(moving, advance, points, block_cuts, step_cuts, threads=1, reverse=False):
    """Return the blocks after all steps; each range of blocks and steps is a call of `advance` of its own."""
    blocks = moving.pack(points)
    ranges = list(pairwise(block_cuts))[:: -1 if reverse else 1]
    with ThreadPoolExecutor(threads) as pool:
        for steps in pairwise(step_cuts):
            list(pool.map(lambda cut, steps=steps: advance(blocks, cut, steps, TOTAL, KEY), ranges))
    return blocks


def assert_cuts_change_nothing(moving, advance):
    """The bits are the same in one piece, step by step, in odd pieces, backwards, and on two threads at once."""
    points = starts(5 * functions.LANES - 9, moving.dimension)
    whole = driven(moving, moving.advance, points, (0, 5), (0, STEPS)).tobytes()
    for blocks, steps, threads in [
        ((0, 5), range(STEPS + 1), 1),
        ((0, 1, 2, 3, 4, 5), (0, 1, 4, 5, 6, 13, STEPS), 1),
        ((0, 3, 5), (0, 7, 7, 10, STEPS), 2),
        ((0, 1, 2, 3, 4, 5), (0, STEPS), 2),
    ]:
        for reverse in (False, True):
            assert driven(moving, advance, points, blocks, steps, threads, reverse).tobytes() == whole


@every_case
def test_blocks_and_steps_may_be_cut_anyhow(name):
    assert_cuts_change_nothing(kernel(name), kernel(name).advance)


@pytest.mark.parametrize("name", [LINE, ODD])
def test_an_advance_that_forgets_where_it_is_is_noticed(name):
    """Broken specimen: steps counted from the start of each call, or particles from the start of each range."""
    moving = kernel(name)

    def forgets_step(blocks, cut, steps, total, key):
        moving.advance(blocks, cut, (0, steps[1] - steps[0]), total, key)

    def forgets_particle(blocks, cut, steps, total, key):
        moving.advance(blocks[cut[0] : cut[1]], (0, cut[1] - cut[0]), steps, total, key)

    for advance in (forgets_step, forgets_particle):
        with pytest.raises(AssertionError):
            assert_cuts_change_nothing(moving, advance)


@every_case
def test_a_particle_does_not_depend_on_how_many_there_are(name):
    moving = kernel(name)
    points = starts(300, moving.dimension)
    many = after(moving, points)
    for count in (1, 127, 128, 129):
        assert after(moving, points[:count]).tobytes() == many[:count].tobytes()


def test_packing_keeps_every_point():
    points = starts(300, 2)
    for count in (1, 128, 300):
        blocks = kernel(LINE).pack(points[:count])
        assert blocks.shape == (-(-count // functions.LANES), 2 * functions.LANES)
        assert np.array_equal(kernel(LINE).unpack(blocks, count), points[:count])


def assert_first_order(slope):
    """Halving the step of full-gradient SGD halves its distance from the flow w' = -slope(w) at time 1."""
    points = starts(4, 3, reach=1.5)
    flow = [solve_ivp(lambda t, w: -slope(w), (0, 1), p, rtol=1e-11, atol=1e-12).y[:, -1] for p in points]
    errors = []
    for steps in (100, 200, 400):
        rule = sgd(1 / steps, weight_decay=0.2)
        moved = after(replace(CASES[FULL], rule=rule).kernel(), points, steps, total=steps)
        errors.append(np.abs(moved - flow).max())
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert orders == pytest.approx([1, 1], abs=0.05)


def test_small_steps_follow_the_gradient_flow():
    loss = CASES[FULL].loss
    assert_first_order(lambda w: loss.gradient(w[None])[0] + 0.2 * w)
    for wrong in (lambda w: loss.gradient(w[None])[0], lambda w: 1.1 * loss.gradient(w[None])[0] + 0.2 * w):
        with pytest.raises(AssertionError):
            assert_first_order(wrong)


def test_weight_decay_shrinks_what_the_loss_leaves_alone():
    """At b = 0 the loss a b is flat in a and c: each step multiplies them by 1 - eta * decay."""
    points = starts(130, 3) * [1, 0, 1]
    moved = after(kernel(FULL), points)
    np.testing.assert_allclose(moved, points * (1 - 0.1 * 0.2) ** STEPS, rtol=1e-14, atol=0)


def test_schedules_are_their_formulas():
    steps = np.arange(TOTAL)
    halves = sgd(0.4, schedule=StepSchedule(step=StepDecay(every=7, factor=0.5)))
    assert halves.rates(steps, TOTAL).tolist() == [0.4 / 2 ** (t // 7) for t in range(TOTAL)]
    assert sgd(0.4).rates(steps, TOTAL).tolist() == [0.4] * TOTAL
    cosine = sgd(0.4, schedule=CosineSchedule(cosine=CosineDecay(final=0.1)))
    expected = [0.4 * (0.1 + 0.9 * (1 + math.cos(math.pi * t / TOTAL)) / 2) for t in range(TOTAL + 1)]
    np.testing.assert_allclose(cosine.rates(np.arange(TOTAL + 1), TOTAL), expected, rtol=1e-15)
    assert expected[0] == 0.4
    assert expected[-1] == pytest.approx(0.04, rel=1e-15)
    for rule in (halves, cosine):
        pieces = [rule.rates(np.arange(*cut), TOTAL) for cut in ((0, 3), (3, 20), (20, TOTAL))]
        assert np.concatenate(pieces).tobytes() == rule.rates(steps, TOTAL).tobytes()


def test_diverged_particles_stay_visible_and_alone():
    """On w^4 / 4 with steps of 0.1 a start beyond sqrt(20) diverges; its neighbours in the block are not affected."""
    case = replace(CASES[ONE], rule=CASES[ONE].rule.model_copy(update={"step_size": 0.05}))
    moving = case.kernel()
    calm = starts(300, 1)
    wild = calm.copy()
    wild[::7] = 40.0
    blocks, lost = moving.pack(wild), np.zeros(300, bool)
    for step in range(STEPS):
        moving.advance(blocks, (0, len(blocks)), (step, step + 1), TOTAL, KEY)
        gone = ~np.isfinite(moving.unpack(blocks, 300)[:, 0])
        assert not (lost & ~gone).any()
        lost = gone
    assert np.array_equal(lost, np.arange(300) % 7 == 0)
    assert moving.unpack(blocks, 300)[~lost].tobytes() == after(moving, calm)[~lost].tobytes()


@pytest.mark.parametrize("name", [LINE, EPOCHS])
def test_walls_hide_no_divergence(name):
    points = starts(300, 2)
    bad = points.copy()
    bad[3], bad[130], bad[131] = (NAN, 0.1), (INF, 0.1), (-INF, -INF)
    moved = after(kernel(name), bad)
    assert np.array_equal(np.isfinite(moved).all(axis=1), np.isfinite(bad).all(axis=1))
    good = np.isfinite(bad).all(axis=1)
    assert moved[good].tobytes() == after(kernel(name), points)[good].tobytes()


WALLS = [(-1.0, 1.0), (0.3, 3.6), (-INF, 0.5), (-0.25, INF), (-INF, INF), (1e-3, 2e-3)]


def reflected(numbers, low, high, dtype=np.float64):
    plane = np.zeros(functions.LANES, dtype)
    plane[: len(numbers)] = numbers
    reflect(plane, dtype(low), dtype(high))
    return plane[: len(numbers)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("low", "high"), WALLS)
def test_reflection_folds_into_the_box(low, high, dtype):
    """Inside the walls the bits are the same; outside, repeated mirror images end inside for any overshoot."""
    low, high = float(dtype(low)), float(dtype(high))
    ends = np.array([max(low, -5.0), min(high, 5.0)], dtype)
    inside = np.concatenate([ends, np.random.default_rng(1).uniform(*ends, 100).astype(dtype).clip(*ends)])
    assert reflected(inside, low, high, dtype).tobytes() == inside.tobytes()
    width = min(high - low, 10.0)
    near = np.random.default_rng(2).uniform(-30 * width, 30 * width, 100).astype(dtype)
    folded = reflected(near, low, high, dtype)
    expected = [twins.reflected(float(x), low, high) for x in near]
    np.testing.assert_allclose(folded, expected, rtol=0, atol=200 * np.finfo(dtype).eps * max(width, 1))
    # Up to the overshoot, counted in widths, that leaves the range of single precision.
    far = np.array([s * 10.0**k for k in range(1, 35) for s in (-1, 1, 1.7)], dtype)
    folded = reflected(far, low, high, dtype)
    assert ((folded >= low) & (folded <= high)).all()


def test_reflection_of_the_endless_stays_visible():
    for low, high in WALLS:
        assert not np.isfinite(reflected([NAN, INF, -INF, NAN], low, high)).any()


def test_clipping_is_not_reflection():
    folded = reflected([1.25, -1.5, 3.25], -1.0, 1.0)
    assert folded.tolist() == [0.75, -0.5, -0.75] == [twins.reflected(x, -1.0, 1.0) for x in (1.25, -1.5, 3.25)]
    assert folded.tolist() != np.clip([1.25, -1.5, 3.25], -1, 1).tolist()


def test_single_precision_is_close_and_single():
    """Positions of 24 bits are within 2e-5 of the twin after a few steps."""
    points = starts(300, 2).astype(np.float32).astype(np.float64)
    single = kernel(RIDGE, "float32")
    moved = after(single, points, 5)
    assert np.array_equal(moved, moved.astype(np.float32))
    difference = np.abs(moved - after(kernel(RIDGE), points, 5)).max()
    assert 1e-9 < difference < 2e-5
    assert_cuts_change_nothing(single, single.advance)


def widens(function, *signature):
    """Return whether the compiled code turns a float into a double; compile anew, as cached code cannot be read."""
    compiled = numba.njit(**functions.FLAGS)(function.py_func)
    compiled.compile(signature)
    text = compiled.inspect_llvm(signature)
    return "fpext" in text or "x double>" in text


def test_single_precision_kernels_hold_no_double():
    """Check a whole kernel with normals, indices and functions, and the missing parts: the walls and SGD's step."""
    real, flat = types.float32, types.Array(types.float32, 1, "C")
    assert not widens(kernel(RIDGE, "float32").compiled, *_signature("float32").args)
    assert not widens(reflect, flat, real, real)
    assert not widens(fill_uniforms, flat, types.Array(types.uint32, 1, "C"), types.int64)


@functions.lane_function
def careless(plane):
    for i in range(plane.size):
        plane[i] = plane[i] * 0.1


def test_a_careless_constant_is_noticed():
    assert widens(careless, types.Array(types.float32, 1, "C"))


def clashes(text):
    """Return the names that generated code both calls and assigns: Numba copies functions into one scope."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    nodes = [node for function in functions for node in ast.walk(function)]
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return (called | EMITTED_FUNCTIONS) & (stored | {n.arg for n in nodes if isinstance(n, ast.arg)})


@every_case
def test_no_name_in_a_kernel_is_both_a_function_and_a_variable(name):
    text = kernel(name).text
    assert not clashes(text)
    assert clashes(re.sub(r"\btick\b", "step", text)) == {"step"}


@pytest.mark.parametrize("name", ["t0", "v0", "x0", "k", "g", "w", "s", "tick", "real", "np", "lanes", "W00000", "i"])
def test_parameters_may_have_the_names_of_variables_in_generated_code(name):
    """All functions at once, the choices of `max` and `min` among them, move as they do under ordinary names."""
    text = "max({0}**2, b) + min(sin(b), {0}) * tanh({0}) + softplus({0}) * sigmoid(b) + relu({0} - b) + sign({0}) * b"
    moved = []
    for own in (name, "a"):
        loss = potential((own, "b"), text.format(own))
        prior = Prior.parse({own: "normal(0, 1)", "b": "normal(0, 1)"})
        built = build(loss, prior, Sgd(learning_rate=0.01), Full())
        positions = built.pack(np.linspace(-1, 1, 256).reshape(128, 2))
        built.advance(positions, (0, 1), (0, 20), 20, np.zeros(2, np.uint32))
        moved.append(positions)
    assert np.allclose(*moved, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(EMITTED_FUNCTIONS))
def test_elementary_functions_keep_their_type(name):
    function = getattr(elementary, name)
    for real in (types.float32, types.float64):
        signature = (real,) * (2 if name in ("max_", "min_", "pow") else 1)
        function.compile(signature)
        assert function.overloads[signature].signature.return_type == real


def hides_nan(function):
    return not np.isnan(function(NAN))


def test_kinked_functions_keep_nan_and_their_values():
    """`x if x > 0 else 0` and `max(0, x)` would make a diverged particle look like a dead neuron."""
    for function, values in ((elementary.relu, [0, 0, 0, 2]), (elementary.step, [0, 0, 0, 1])):
        assert [function(x) for x in (-INF, -3.0, 0.0, 2.0)] == values
        assert not hides_nan(function)
    assert elementary.relu(INF) == INF
    assert hides_nan(lambda x: x if x > 0 else 0.0)
