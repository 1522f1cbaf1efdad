"""`--set key.path=value` has the effect of the same text in the file."""

import functools
import re

import pytest
from support.scenario_texts import GOOD

from sandbox.scenario.document import read
from sandbox.scenario.override import override
from sandbox.scenario.scenario import loads
from sandbox.tools.errors import InputError

OVERRIDES = {
    "populations.sgd.learning_rate=0.1": lambda s: s.populations[0].rule.learning_rate == 0.1,
    "populations.sgd.gradient=full": lambda s: s.populations[0].gradient.name == "full",
    "populations.sgd.gradient.minibatch=1e1": None,
    "populations.langevin.nbeta=3": lambda s: s.populations[1].rule.nbeta == 3,
    "populations.langevin.start={w1: 0, w2: 0}": lambda s: s.populations[1].start is not None,
    "loss.model=w1 * w2 * x": lambda s: str(s.problem.loss.residual_jacobian[0][0]) == "2*w2*x",
    "parameters.w1=normal(0, 2)": lambda s: s.problem.prior.distributions[0].arguments == (0, 2),
    "strata.flat.zero.0=3 * w2": lambda s: str(s.problem.zero_set.strata[0].zero[0]) == "3*w2",
    "record.bins=5": lambda s: s.sizes.record.bins == 5 and s.sizes.record.frames == 50,
    "verdict.level=0.9": lambda s: s.verdict.level == 0.9,
    "box.walls=open": lambda s: s.problem.walls == "open",
    "question=off": lambda s: s.question == "off",
    'question="a: b # c"': lambda s: s.question == "a: b # c",
    "loss.samples=population": None,
}


@pytest.mark.parametrize("assignment", OVERRIDES)
def test_an_override_is_as_if_written_in_the_file(assignment):
    written = override(GOOD, [assignment], "f.yaml")
    key = assignment.partition("=")[0]
    path = tuple(int(step) if step.isdecimal() else step for step in key.split("."))
    value = read(f"value: {assignment.partition('=')[2]}", "value").data["value"]
    assert functools.reduce(lambda inner, step: inner[step], path, read(written, "f.yaml").data) == value
    holds = OVERRIDES[assignment]
    if holds is None:
        with pytest.raises(InputError, match=re.escape(key.rpartition(".")[0])):
            loads(written, "f.yaml")
    else:
        assert holds(loads(written, "f.yaml"))
    assert override(written, [assignment], "f.yaml") == written, "a second time changes nothing"


def test_the_last_of_two_overrides_counts_and_others_keep_their_place():
    one = override(GOOD, ["steps=5", "loss.noise=2", "steps=6"], "f.yaml")
    assert one == override(override(GOOD, ["loss.noise=2"], "f.yaml"), ["steps=6"], "f.yaml")
    assert one == GOOD.replace("steps: 1000", "steps: 6").replace("noise: 0.5", "noise: 2")
    assert override(GOOD, [], "f.yaml") == GOOD


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("populations.sdg.learning_rate=1", "unknown key 'sdg' in populations (did you mean 'sgd'?)"),
        ("populations.sgd.learning_rat=1", "(did you mean 'learning_rate'?)"),
        ("stpes=1", "unknown key 'stpes' in the scenario (did you mean 'steps'?)"),
        ("parameters.w3=1", "allowed: w1, w2"),
        ("steps.x=1", "set steps as a whole"),
        ("strata.flat.zero.1=w1", "'1' is not a position in strata.flat.zero; allowed: 0 to 0"),
        ("steps", "not of the form key.path=value"),
        ("=1", "not of the form key.path=value"),
        ("steps=[1", "not closed"),
        ("steps=*x", "anchors and aliases"),
        ("steps=!!int 3", "tags are not read"),
    ],
)
def test_an_override_of_what_is_not_there_names_the_nearest(assignment, words):
    with pytest.raises(InputError) as caught:
        override(GOOD, [assignment], "f.yaml")
    assert words in str(caught.value)


def test_overridden_values_pass_the_same_checks():
    with pytest.raises(InputError, match=r"f.yaml:16:35: populations.sgd.learning_rate: found the number -1"):
        loads(override(GOOD, ["populations.sgd.learning_rate=-1"], "f.yaml"), "f.yaml")
