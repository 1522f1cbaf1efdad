"""Refused before any work: formulas that explode, records without bound, memory that no machine has, taken names."""

import re
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.scenario_texts import GOOD

from sandbox.commands.check import describe
from sandbox.commands.cost import check_memory, estimate
from sandbox.expressions.parsing import parse
from sandbox.scenario.scenario import load, loads
from sandbox.tools import memory
from sandbox.tools.errors import InputError

HEAD = 'question: q\nparameters: {w: "normal(0, 1)"}\nloss: {potential: w**2}\nnbeta: 10\n'
MOVING = HEAD + "populations: {p: {rule: gradient_descent, learning_rate: 0.1}}\nsteps: 10\n"


def said_of(text):
    """Return the message with which a text is refused, empty if it is not."""
    try:
        loads(text)
    except InputError as error:
        return str(error)
    return ""


def refused(text):
    with pytest.raises(InputError) as caught:
        loads(text)
    return str(caught.value)


def chain(line, count):
    lines = "".join(f"  d{k}: {line.format(before=f'd{k - 1}')}\n" for k in range(1, count))
    return f"{HEAD}measurements: {{volume: }}\nderived:\n  d0: w\n{lines}"


@pytest.mark.parametrize(
    ("line", "fine", "bomb"),
    [
        ("{before}**2 + w*{before}", 8, 60),
        ("sin({before} + {before}*tanh({before}))", 5, 200),
        ("sin({before})", 100, 1500),
        ("max({before}, 1 - {before})", 9, 40),
    ],
)
def test_a_chain_of_derived_quantities_that_explodes_is_refused_at_once(line, fine, bomb):
    assert len(loads(chain(line, fine)).problem.derived) == fine
    began = time.process_time()
    said = refused(chain(line, bomb))
    assert time.process_time() - began < 5
    assert "written out" in said
    assert "unknown name" not in said


@pytest.mark.parametrize("power", ["1e-200", "0.3333333333", "(1/1001)", "1e-4"])
def test_an_exponent_of_huge_denominator_is_refused(power):
    with pytest.raises(InputError, match="denominator up to 1000"):
        parse(f"w**{power}", ["w"])
    with pytest.raises(InputError, match="denominator up to 1000"):
        parse("((w**2)**0.333)**0.333", ["w"])
    assert parse("w**(2/3) + w**0.125 + w**0.333", ["w"]).has(parse("w", ["w"]))


def test_a_factorial_is_called_so():
    with pytest.raises(InputError, match="factorial") as caught:
        parse("w!", ["w"])
    assert "comparison" not in str(caught.value)


@pytest.mark.parametrize("frames", ["1e9", "100001"])
def test_frames_without_bound_are_refused(frames):
    said = refused(MOVING.replace("steps: 10", "steps: 4e9") + f"record: {{frames: {frames}}}\n")
    assert "record.frames" in said


def test_memory_is_estimated_before_it_is_allocated(monkeypatch):
    huge = loads(MOVING + "particles: 4e9\n")
    with pytest.raises(InputError, match=r"about 89\.4 GiB .*fewer particles"):
        describe(huge)
    for change in ("particles: 1e6\nrecord: {positions: 1e6, frames: 1e5}", "particles: 4e9"):
        with pytest.raises(InputError, match="GiB"):
            check_memory(loads(MOVING.replace("steps: 10", "steps: 1e6") + change + "\n"))
    check_memory(loads(MOVING))
    monkeypatch.setattr(memory, "most", lambda: 1000.0)
    with pytest.raises(InputError, match="GiB"):
        check_memory(loads(MOVING))
    with pytest.raises(InputError, match=r"loss\.samples.*fewer samples"):
        loads(GOOD.replace("samples: 100", "samples: 12345"))


@pytest.mark.parametrize(("rate", "warns"), [(0.1, False), (1.5, False), (5, False), (50, True), (1e6, True)])
def test_a_step_far_above_every_edge_is_warned_of(rate, warns):
    text = MOVING.replace("0.1", f"{rate:.8g}").replace("{p:", "{fast:") + "strata: {o: {zero: [w]}}\n"
    assert ("warning: on every stratum the step of fast is far beyond its edge" in describe(loads(text))) == warns


def test_the_estimate_holds_decomposition_and_chains():
    lines = "\n".join(estimate(load("uneven_crossing", ["particles=512", "steps=100"])))
    assert "decomposition about" in lines
    assert "not counted: the posterior and its references, phases" in lines
    lines = "\n".join(estimate(load("llc", ["measurements.llc.chains.burn_in=100"])))
    assert "llc about" in lines


NAMES = [
    *("time", "origin", "stratum", "parameter", "population", "reference", "bound", "measure", "notion", "particle"),
    *("arm", "chain", "draw", "frame", "position", "mass", "share", "elsewhere", "diverged", "posterior", "quantity"),
    *("e", "pi", "x", "x_max", "x0", "W00000", "_t0", "t0", "lambda", "step", "real", "self", "None", "nan", "inf"),
    *("w1", "W1", "sgd", "SGD", "a b", "a.b", "", "1", "-", "é", "a" * 60, "CON", "question", "zero"),
]


@pytest.mark.parametrize("old", ["w1", "x", "flat", "sgd"])
@pytest.mark.parametrize("name", NAMES)
def test_any_name_works_or_is_refused_where_it_stands(old, name):
    text = re.sub(rf"\b{old}\b(?!:\s*sgd)(?<!rule: sgd)", f'"{name}"' if old in ("flat", "sgd") else name, GOOD)
    text = re.sub(r'rule: "[^"]*"', "rule: sgd", text)
    said = said_of(text)
    assert not said or re.match(r"scenario:\d+:\d+: ", said)


LAW = settings(
    max_examples=100,
    deadline=None,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
ATOMS = st.sampled_from(
    ["a", "b", "x", "0", "1", "2", "0.5", "1e-9", "1e200", "pi", "e", "a*b", "(a - b)", "1/a", "-a", "a**-2", "b**0.5"]
)
FUNCTIONS = ["sqrt", "exp", "log", "tanh", "erf", "relu", "abs", "sign", "step", "sigmoid", "softplus", "sin", "cos"]


def _grown(inner):
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(st.sampled_from(FUNCTIONS), inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(inner, st.sampled_from(["2", "3", "7", "64", "-1", "0.5", "1/3", "0"])).map(
            lambda p: f"({p[0]})**({p[1]})"
        ),
        st.tuples(pair, st.sampled_from("+-*/")).map(lambda p: f"({p[0][0]}) {p[1]} ({p[0][1]})"),
        pair.map(lambda p: f"max({p[0]}, {p[1]})"),
        pair.map(lambda p: f"min({p[0]}, {p[1]})"),
    )


FORMULAS = st.recursive(ATOMS, _grown, max_leaves=8)
PRIORS = st.sampled_from(["uniform(-1, 1)", "normal(0, 1)", "uniform(0, 1)", "laplace(0, 2)", "uniform(1e3, 1e6)"])
LOSSES = st.one_of(
    st.tuples(FORMULAS, st.sampled_from(["", ", offset: auto", ", offset: 0.5"])).map(
        lambda p: f'{{potential: "{p[0]}"{p[1]}}}'
    ),
    st.tuples(FORMULAS, FORMULAS, st.sampled_from(["20", "population"])).map(
        lambda p: f'{{model: "{p[0]}", truth: "{p[1]}", inputs: {{x: "normal(0, 1)"}}, samples: {p[2]}}}'
    ),
    FORMULAS.map(lambda f: f'{{contrast: "{f}", inputs: {{x: "uniform(-1, 1)"}}, samples: 20}}'),
)


@LAW
@given(LOSSES, PRIORS, FORMULAS, FORMULAS, st.sampled_from(["gradient_descent", "langevin"]))
def test_a_scenario_of_any_formulas_is_checked_or_refused_soon(loss, prior, zero, derived, rule):
    rate = "step_size" if rule == "langevin" else "learning_rate"
    text = (
        f'question: q\nparameters: {{a: "{prior}", b: "uniform(-1, 1)"}}\nloss: {loss}\nnbeta: 10\n'
        f'strata: {{s: {{zero: ["{zero}"]}}}}\nderived: {{d: "{derived}"}}\n'
        f"populations: {{p: {{rule: {rule}, {rate}: 0.01}}}}\nsteps: 3\nparticles: 128\n"
    )
    began = time.process_time()
    said = said_of(text)
    assert not said or said.startswith("scenario:")
    assert time.process_time() - began < 5, text
