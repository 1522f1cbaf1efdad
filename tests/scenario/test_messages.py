"""All faults of a scenario are reported at once, each at its place, and never as a traceback."""

import re
import time

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.scenario_texts import GOOD, POTENTIAL

from sandbox.dynamics.rules.registry import RULES
from sandbox.scenario.scenario import loads
from sandbox.tools.errors import InputError

# A text in GOOD, its replacement -> the message's line, column, path and words, one tuple for each problem.
BAD = {
    ("steps:", "stpes:"): [
        (1, 1, "steps", "this key is missing"),
        (20, 1, "stpes", "unknown key 'stpes' (did you mean 'steps'?); allowed: question, "),
    ],
    ("steps: 1000", "steps: -3"): [(20, 8, "steps", "found the number -3; allowed: a number of at least 1")],
    ("steps: 1000", "steps: many"): [(20, 8, "steps", "found the text 'many'; allowed: a whole number")],
    ("steps: 1000", "steps: 4294967296"): [(20, 8, "steps", "below 4294967296")],
    ("steps: 1000", "steps: true"): [(20, 8, "steps", "found the truth value true")],
    ("steps: 1000", "steps:"): [(20, 7, "steps", "found nothing; allowed: a whole number")],
    ("steps: 1000", "steps: 10\nseed: -1"): [(21, 7, "seed", "at least 0")],
    ("steps: 1000", "steps: 10\nseed: 18446744073709551616"): [(21, 7, "seed", "below 18446744073709551616")],
    ("steps: 1000", "steps: 10\ntube: .inf"): [(21, 7, "tube", "found the number inf; allowed: a finite number")],
    ("frames: 50", "frmes: 50"): [
        (21, 10, "record.frmes", "unknown key 'frmes' (did you mean 'frames'?); allowed: frames, spacing")
    ],
    ("frames: 50", "spacing: lag"): [(21, 19, "record.spacing", "(did you mean 'log'?); allowed: 'log' or 'linear'")],
    ("rule: sgd", "rule: sdg"): [
        (16, 15, "populations.sgd.rule", f"unknown rule 'sdg' (did you mean 'sgd'?); allowed: {', '.join(RULES)}")
    ],
    ("rule: sgd, ", ""): [(16, 3, "populations.sgd.rule", "this key is missing")],
    ("learning_rate: 0.05", "learning_rte: 0.05"): [
        (16, 3, "populations.sgd.learning_rate", "this key is missing"),
        (16, 20, "populations.sgd.learning_rte", "(did you mean 'learning_rate'?)"),
    ],
    ("learning_rate: 0.05", "learning_rate: -1"): [(16, 35, "populations.sgd.learning_rate", "a number above 0")],
    ("learning_rate: 0.05", "learning_rate: fast"): [
        (16, 35, "populations.sgd.learning_rate", "'fast'; allowed: a number")
    ],
    ("learning_rate: 0.05", "learning_rate: 0.05, schedule: cosin"): [
        (16, 51, "populations.sgd.schedule", "found the text 'cosin'; allowed: 'constant' or a mapping")
    ],
    ("learning_rate: 0.05", "learning_rate: 0.05, schedule: {cosine: {finl: 0}}"): [
        (16, 61, "populations.sgd.schedule.cosine.finl", "(did you mean 'final'?)")
    ],
    ("learning_rate: 0.05", "learning_rate: 0.05, schedule: {step: {every: -5, factor: 0.5}}"): [
        (16, 66, "populations.sgd.schedule.step.every", "a number above 0")
    ],
    ("minibatch: 8", "minibatch: 800"): [
        (16, 63, "populations.sgd.gradient.minibatch", "a batch of 800 is larger than n = 100")
    ],
    ("{minibatch: 8, draw: reshuffled}", "ful"): [
        (16, 51, "populations.sgd.gradient", "found the text 'ful' (did you mean 'full'?)")
    ],
    (", gradient: {minibatch: 8, draw: reshuffled}", ""): [(16, 3, "populations.sgd.gradient", "this key is missing")],
    ("reshuffled", "fresh"): [(16, 72, "populations.sgd.gradient.draw", "fresh")],
    ("samples: 100", "samples: population"): [
        (1, 1, "nbeta", "this key is missing"),
        (16, 72, "populations.sgd.gradient.draw", "'reshuffled'"),
    ],
    ("  langevin:", "  SGD:"): [(17, 3, "populations.SGD", "'SGD' and 'sgd' would share a folder")],
    ("  langevin:", "  ../up:"): [(17, 3, "populations.../up", "cannot be a name here")],
    ("step_size: 1e-4", "step_size: 1e-4\n    start: {w1: 3, w3: 1}"): [
        (20, 12, "populations.langevin.start", "missing: w2"),
        (20, 17, "populations.langevin.start.w1", "the start 3 lies outside the box [-1, 1]"),
        (20, 20, "populations.langevin.start.w3", "unknown parameter 'w3'"),
    ],
    ("model: w1", "model: w4"): [(6, 10, "loss.model", "unknown name 'w4'")],
    ("model: w1 * w2**2 * x", "model: [w1, w2 * sine(x)]"): [(6, 20, "loss.model.1", "did you mean 'sin'")],
    ("model: w1 * w2**2 * x", "model: '__import__(1)'"): [(6, 11, "loss.model", "unknown function '__import__'")],
    ("truth: 0", "truth: w1"): [(7, 10, "loss.truth", "unknown name 'w1'")],
    ("noise: 0.5", "noise: 0"): [(10, 10, "loss.noise", "found the number 0")],
    ("samples: 100", "samples: 2.5"): [(11, 12, "loss.samples", "allowed: a whole number or 'population'")],
    ("samples: 100", "samples: 10000000000"): [(11, 12, "loss.samples", "at most 10000000")],
    ("    x: normal", "    w1: normal"): [
        (6, 23, "loss.model", "'x'"),
        (9, 5, "loss.inputs.w1", "a parameter already"),
    ],
    ("x: normal(0, 1)", "x: normal(0, -1)"): [(9, 8, "loss.inputs.x", "must be positive")],
    ("w1: uniform(-1, 1)", "w1: unifrom(-1, 1)"): [(3, 7, "parameters.w1", "(did you mean 'uniform'?)")],
    ("w1: uniform(-1, 1)", "w1: uniform(1, -1)"): [(3, 7, "parameters.w1", "is empty")],
    ("w1: uniform(-1, 1)", "w1: 0.5"): [(3, 7, "parameters.w1", "a distribution with a density")],
    ("w1: uniform(-1, 1)", "w1: normal(0, 1e-320)"): [(3, 7, "parameters.w1", "magnitude")],
    ("w1: uniform(-1, 1)", f"w1: normal(0, 1{'0' * 400})"): [(3, 7, "parameters.w1", "finite")],
    ("steps: 1000", "steps: 10\nbox: {bounds: {w1: [2, 3], w2: [1, 0], w3: [0, 1]}}"): [
        (21, 20, "box.bounds.w1", "holds none of the mass"),
        (21, 32, "box.bounds.w2", "the box [1, 0] is empty"),
        (21, 40, "box.bounds.w3", "unknown parameter 'w3'"),
    ],
    ("flat: {zero: [w2]", "flat: {zero: [w2 - 1]"): [
        (13, 16, "strata.flat.zero", "the loss is not zero on this stratum")
    ],
    ("flat: {zero: [w2]", "flat: {zero: [w2**2 + 1]"): [(13, 16, "strata.flat.zero", "no point of this stratum")],
    ("[w2], along: w1", "[w22], along: v"): [
        (13, 17, "strata.flat.zero.0", "unknown name 'w22' (did you mean 'w2'?)"),
        (13, 30, "strata.flat.along", "unknown name 'v'"),
    ],
    ("  flat:", "  elsewhere:"): [(13, 3, "strata.elsewhere", "choose another name")],
    ("along: w1", "learning_coefficient: 1/0"): [
        (13, 44, "strata.flat.learning_coefficient", "a fraction such as 1/4")
    ],
    ("along: w1", "multiplicity: 2"): [(13, 22, "strata.flat.multiplicity", "learning_coefficient")],
    ("zero: [w2]", "zero: []"): [(13, 16, "strata.flat.zero", "found an empty list; allowed: at least 1 entry")],
}
BAD_POTENTIAL = {
    ("nbeta: 100\n", ""): [(1, 1, "nbeta", "this key is missing")],
    ("noisy", "{minibatch: 8, draw: reshuffled}"): [(11, 51, "populations.sgd.gradient", "no samples")],
    (", gradient_noise: {isotropic: 0.5}", ""): [(11, 51, "populations.sgd.gradient", "gradient_noise")],
    ("{isotropic: 0.5}", "{matrix: [[1], [w1], [w2]]}"): [
        (5, 59, "loss.gradient_noise.matrix", "one row per parameter")
    ],
    ("{isotropic: 0.5}", "{matrix: [[1], [w3]]}"): [(5, 66, "loss.gradient_noise.matrix.1.0", "unknown name 'w3'")],
    ("{potential:", "{model: w1, potential:"): [
        (5, 8, "loss.model", "unknown key 'model'; allowed: potential, offset, gradient_noise")
    ],
    ("w1: 0.5", "w1: 2"): [(11, 70, "populations.sgd.start.w1", "outside the box")],
}
CASES = [(GOOD, *change, found) for change, found in BAD.items()]
CASES += [(POTENTIAL, *change, found) for change, found in BAD_POTENTIAL.items()]


@pytest.mark.parametrize(("text", "old", "new", "expected"), CASES, ids=[repr(case[2][:40]) for case in CASES])
def test_bad_input_is_said_where_it_stands(text, old, new, expected):
    assert old in text
    with pytest.raises(InputError) as caught:
        loads(text.replace(old, new, 1), "f.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(expected), lines
    for message, (line, column, path, words) in zip(lines, expected, strict=True):
        assert message.startswith(f"f.yaml:{line}:{column}: {path}: ")
        assert words in message
        assert "Input should" not in message


def test_problems_of_all_parts_come_at_once():
    text = (
        GOOD.replace("x: normal", "x: nrmal").replace("along: w1", "along: v").replace("minibatch: 8", "minibatch: 0")
    )
    assert len(_error(text).splitlines()) == 1, "a wrong number stops before meanings are compared"
    text = text.replace("minibatch: 0", "minibatch: 800").replace("langevin:\n", "a b:\n")
    assert [line.split(": ")[1] for line in _error(text).splitlines()] == [
        "loss.inputs.x",
        "strata.flat.along",
        "populations.a b",
    ]


def _error(text):
    with pytest.raises(InputError) as caught:
        loads(text, "f.yaml")
    return str(caught.value)


TEXTS = [GOOD, POTENTIAL]
LETTERS = "aw12xe.,:;-+*/()[]{}'\"#&!|>%@~^<=_ \n\t\0é"


@st.composite
def mutations(draw):
    """Return a good text with a few lines or characters deleted, repeated, swapped or replaced."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 3))):
        lines = text.split("\n")
        k, j = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        i = draw(st.integers(0, max(0, len(text) - 1)))
        length = draw(st.integers(0, 8))
        text = draw(
            st.sampled_from(
                [
                    "\n".join(lines[:k] + lines[k + 1 :]),
                    "\n".join(lines[:k] + lines[j : j + 1] + lines[k:]),
                    "\n".join([*lines[:k], "  " + lines[k], *lines[k + 1 :]]),
                    text[:i] + text[i + length :],
                    text[:i] + draw(st.text(LETTERS, max_size=3)) + text[i + 1 :],
                    text[:i]
                    + draw(st.sampled_from(["null", "1e400", "[]", "{}", "-1", "0.5", "w1", "off"]))
                    + text[i + length :],
                ]
            )
        )
    return text


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(mutations())
def test_a_mutated_scenario_loads_or_is_refused_at_a_place(text):
    assume(text.strip())
    began = time.process_time()
    try:
        loads(text, "f.yaml")
        message = "f.yaml:1:1: it loads"
    except InputError as error:
        message = str(error)
    assert all(re.match(r"f\.yaml:\d+:\d+: ", line) for line in message.split("\n")), message
    assert "Input should" not in message
    assert time.process_time() - began < 1
