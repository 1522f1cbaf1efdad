"""The minimum of a potential: it must be 0, or `offset` states it; no other potential is accepted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.model.lowest import lowest
from sandbox.model.prior import Prior
from sandbox.model.regression import potential
from sandbox.scenario.scenario import loads
from sandbox.tools.errors import InputError

LAW = settings(max_examples=12, deadline=None, derandomize=True, database=None)


def scenario(text, offset="", prior="uniform(-1.5, 1.5)", strata=""):
    return loads(
        f'question: q\nparameters: {{a: "{prior}", b: "uniform(-2, 2)"}}\nloss: {{potential: "{text}"{offset}}}\n'
        f"nbeta: 10\nmeasurements: {{volume: }}\n{strata}"
    )


def refused(text, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        scenario(text, *args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-a**2*b**2", "-9"),
        ("(a - 1)**2 + b**2 + 3", "3"),
        ("(a - 1)**2 + b**2 - 3", "-3"),
        ("sin(20*a) * b**2", "-4"),
        ("1 + abs(a - 0.3) + max(abs(b), abs(a))", "1.3"),
        ("(a**2 - 1)**2 - a/10 + b**2", "-0.1006"),
    ],
)
def test_another_minimum_is_refused_with_its_value(text, found):
    assert f"as low as {found}" in (said := refused(text))
    assert "loss.potential" in said
    assert "offset: auto" in said
    assert scenario(text, ", offset: auto").problem.loss.sample_loss != 0


@pytest.mark.parametrize("text", ["0*a", "3", "relu(a - 5)", "a - a + 1"])
def test_a_flat_potential_is_refused(text):
    assert "at every point: it does not depend on the parameters" in refused(text)


def test_a_potential_without_a_lower_bound_is_refused_though_the_box_is_open():
    assert "as low as -" in refused("a**2 - a**4 / 10000 + b**2", prior="normal(0, 1)")
    assert scenario("a**2 + a**4 / 10000 + b**2", prior="normal(0, 1)")


@LAW
@given(
    st.tuples(*[st.floats(-1, 1, width=32)] * 2),
    st.sampled_from([2, 4, 6]),
    st.sampled_from([-2.5, -1e-3, 1e-3, 0.5, 40.0]),
    st.sampled_from(
        ["{u}**{p} + {v}**2", "({u} + {v})**2 + {u}**{p}", "abs({u}) + abs({v} - {u})", "max({u}**{p}, {v}**2)"]
    ),
)
def test_a_minimum_anywhere_is_found_and_only_zero_is_accepted(place, power, level, form):
    u, v = (f"({name} - ({float(c)!r}))" for name, c in zip("ab", place, strict=True))
    text = form.format(u=u, v=v, p=power)
    assert scenario(text)
    assert f"as low as {level:.4g}"[:13] in refused(f"{text} + ({level})")
    assert scenario(f"{text} + ({level})", f", offset: {level}")
    moved = scenario(f"{text} + ({level})", ", offset: auto").problem.loss
    points = np.random.default_rng(1).uniform(-1, 1, (50, 2))
    assert np.allclose(moved.excess(points), scenario(text).problem.loss.excess(points), atol=1e-6)


def test_a_stratum_tells_the_minimum_that_no_descent_finds():
    """Between walls of kinks descents stop early; that K is 0 on a stratum is enough."""
    names = ("a", "b")
    prior = Prior.parse(dict.fromkeys(names, "uniform(-2, 2)"))
    loss = potential(names, "1 - exp(-((a - 1)**2 + (b - 1)**2) * 1e6)")
    assert lowest(loss, prior).value > 0.5
    assert lowest(loss, prior, np.array([[1.0, 1.0]])).is_zero


def test_a_model_that_its_parameters_do_not_change_is_refused():
    text = (
        'question: q\nparameters: {a: "normal(0, 1)"}\nloss: {model: 0*a*x + x, truth: 0, inputs: {x: "normal(0, 1)"}'
    )
    with pytest.raises(InputError, match="does not depend on the parameters"):
        loads(text + ", samples: 10}\nmeasurements: {volume: }\n")
