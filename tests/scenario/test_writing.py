"""Scenarios from Python: a mapping is written as a text that reads the same, with the same errors at its keys."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from support.scenario_texts import GOOD

import sandbox
from sandbox.scenario.document import read
from sandbox.scenario.scenario import Scenario, loads
from sandbox.scenario.writing import write
from sandbox.tools.errors import InputError

TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufffe\uffff"),
    max_size=20,
)
NUMBERS = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
KEYS = TEXTS.filter(bool)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_a_text_reads_as_the_data_that_it_was_written_from(data):
    assert read(write(data), "").data == data


@pytest.mark.parametrize("text", ["1e5", "off", "012", "null", "~", "a: b # c", "'", "1:30", "- x", "", "true", "\\n"])
def test_texts_that_look_like_other_values_stay_texts(text):
    assert read(write({"key": text, text or "k": [text]}), "").data == {"key": text, text or "k": [text]}


def test_numpy_values_and_fractions_are_written_as_plain_ones():
    data = {"a": np.float64(0.1), "b": np.arange(3), "c": (np.int64(2), True), "d": Fraction(1, 4)}
    assert read(write(data), "").data == {"a": 0.1, "b": [0, 1, 2], "c": [2, True], "d": "1/4"}


def test_a_mapping_is_the_scenario_that_its_text_describes():
    data = read(GOOD, "good.yaml").data
    scenario = Scenario.from_dict(data)
    other = loads(GOOD)
    assert scenario.name == other.name == "scenario"
    assert (scenario.populations, scenario.sizes) == (other.populations, other.sizes)
    assert loads(scenario.text).populations == scenario.populations
    assert np.array_equal(scenario.problem.loss.data, other.problem.loss.data)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("seed",), -1, "seed: found the number -1; allowed: a number of at least 0"),
        (("populations", "sgd", "rule"), "sgdd", "populations.sgd.rule: unknown rule 'sgdd' (did you mean 'sgd'?)"),
        (("loss", "model"), "w1 * q", "loss.model: unknown name 'q'"),
        (("record",), math.nan, "record: found "),
        (("derived",), {1: "w1"}, "derived: found the key 1; allowed: text"),
        (("view",), [object(), "w1"], "view.0: found an object of the type object; allowed: text, a number"),
    ],
)
def test_errors_of_a_mapping_name_keys_and_no_lines(path, value, says):
    data = read(GOOD, "good.yaml").data
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(InputError) as caught:
        sandbox.run(data)
    assert str(caught.value).startswith(says)


def test_errors_of_a_text_name_lines():
    with pytest.raises(InputError, match=r"^scenario:\d+:\d+: seed: found the number -1"):
        sandbox.loads(GOOD + "seed: -1\n")
    with pytest.raises(InputError, match=r"a mapping of keys to values was expected, found a list"):
        Scenario.from_dict([1])


def test_a_changed_copy_has_its_own_text():
    scenario = loads(GOOD, "good.yaml")
    changed = scenario.changed("particles=5", "verdict.margin=0.1")
    assert (changed.sizes.particles, changed.verdict.margin) == (5, 0.1)
    assert loads(changed.text, "good.yaml") == changed != scenario
    assert scenario.changed() == scenario
    with pytest.raises(InputError, match=r"--set partcles: unknown key 'partcles'"):
        scenario.changed("partcles=5")
