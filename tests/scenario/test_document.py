"""The YAML reader: the core schema of YAML 1.2, places, and refusals that are always an InputError."""

import json
import math
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.scenario.document import AtKey, read, scalar
from sandbox.tools.errors import InputError, InputProblem

# Text -> value, from the tables of the core schema (YAML 1.2.2, section 10.3.2).
SCALARS = {
    "1e-3": 0.001,
    "1e5": 1e5,
    "1E+5": 1e5,
    "-1.": -1.0,
    ".5": 0.5,
    "+12": 12,
    "012": 12,
    "0o12": 10,
    "0x1F": 31,
    "-0": 0,
    ".inf": math.inf,
    "-.INF": -math.inf,
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    # Values that YAML 1.1 would read as something else:
    "off": "off",
    "yes": "yes",
    "Y": "Y",
    "1_000": "1_000",
    "1:30": "1:30",
    "190:20:30.15": "190:20:30.15",
    "0b11": "0b11",
    "2020-01-01": "2020-01-01",
    "=": "=",
    "tRue": "tRue",
    "inf": "inf",
    "nan": "nan",
    "1e": "1e",
    "e5": "e5",
    ".": ".",
    "0o8": "0o8",
    "-0x1": "-0x1",
    "1/4": "1/4",
}

# Text -> the message, with its line and column.
REFUSED = {
    "": (1, 1, "a mapping"),
    "# nothing\n": (1, 1, "a mapping"),
    "- a\n- b\n": (1, 1, "found a list"),
    "a:1\n": (1, 1, "found the text"),
    "a: 1\nb:\n  c: 2\n  c: 3\n": (4, 3, "b.c: the key 'c' is given twice, first in line 3"),
    "a: 1\n'a': 2\n": (2, 1, "given twice, first in line 1"),
    "a: &x 1\n": (1, 4, "anchors and aliases"),
    "a: 1\nb: *a\n": (2, 4, "anchors and aliases"),
    "&a b: 1\n": (1, 1, "anchor"),
    "*a : 1\n": (1, 1, "a key must be text"),
    "a: !!python/object/apply:os.system ['true']\n": (1, 4, "tags are not read"),
    "a: !x 1\n": (1, 4, "tags are not read"),
    "a: ! 1\n": (1, 4, "tags are not read"),
    "a: 1\n---\nb: 2\n": (2, 1, "a second document"),
    "b: {<<: {c: 1}}\n": (1, 5, "merge keys"),
    "? [a]\n: 1\n": (1, 3, "a key must be text"),
    "? {a: 1}\n: 1\n": (1, 3, "a key must be text"),
    "? \n: 1\n": (1, 2, "a key is missing"),
    "a:\n\tb: 1\n": (2, 1, "a tab cannot indent"),
    "a: b: c\n": (1, 5, "put text that holds it in quotes"),
    "a: 1\n b: 2\n": (2, 3, "indent"),
    "a: [1, 2\n": (2, 1, "not closed"),
    "a: 'x\n": (2, 1, "a quotation is not closed"),
    "a: @x\n": (1, 4, "needs quotes"),
    "a: b\n\x00": (2, 1, "U+0000"),
    "a: \x07\n": (1, 4, "U+0007"),
    'a: "\\UFFFFFFFF"\n': (1, 1, "out of range"),
    'a: "\\ud800"\n': (1, 4, "half a character"),
    'a: "\\q"\n': (1, 6, "escape"),
    "%YAML " + "9" * 5000 + ".1\n---\na: 1\n": (1, 1, "out of range"),
    "a: " + "9" * 5000: (1, 4, "5000 characters"),
    "a: " + "[" * 1000: (1, 24, "nested more than 20 deep"),
    "[" * 100_000: (1, 22, "nested more than 20 deep"),
    "- " * 100_000: (1, 43, "nested more than 20 deep"),
    "{" * 100_000: (1, 2, "a key must be text"),
    "a: [" + "1, " * 20_000 + "]": (1, None, "more than 10000 values"),
    "x" * 1_000_001: (1, 1, "1000001 characters"),
    "a: {x: normal(0, 1)}\n": (1, 8, "a.x: YAML has cut 'normal(0' off at its comma"),
    "a: [max(w1, w2)]\n": (1, 5, "a.0: YAML has cut 'max(w1' off at its comma"),
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_follow_the_core_schema(text):
    value = read(f"key: {text}\n", "f.yaml").data["key"]
    assert value == SCALARS[text]
    assert type(value) is type(SCALARS[text])
    assert scalar(text) == value


def test_the_table_tells_yaml_1_1_apart():
    """Broken specimen: PyYAML's own loader, which reads YAML 1.1, fails many rows of the table."""
    texts = [text for text in SCALARS if text != "="]
    wrong = [text for text in texts if yaml.safe_load(f"key: {text}")["key"] != SCALARS[text]]
    assert {"1e-3", "off", "012", "1:30", "1_000", "0b11", "2020-01-01"} <= set(wrong)


def test_not_a_number_is_read_as_one():
    assert math.isnan(read("a: .nan\n", "f.yaml").data["a"])


def test_quoted_and_block_scalars_are_text():
    data = read("a: '1'\nb: \"off\"\nc: |\n  x\n  y\nd: >\n  x\n  y\n", "f.yaml").data
    assert data == {"a": "1", "b": "off", "c": "x\ny\n", "d": "x y\n"}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text[:30]))
def test_what_has_no_place_is_refused_where_it_stands(text):
    line, column, words = REFUSED[text]
    began = time.perf_counter()
    with pytest.raises(InputError) as caught:
        read(text, "f.yaml")
    assert time.perf_counter() - began < 5
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"f.yaml:{line}:{column}: " if column else f"f.yaml:{line}:")


def test_all_duplicates_come_at_once():
    with pytest.raises(InputError) as caught:
        read("b: 1\nb: 2\na:\n  c: 1\n  d: 1\n  c: 2\n  d: 2\n", "f.yaml")
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        "f.yaml:2:1",
        "f.yaml:6:3",
        "f.yaml:7:3",
    ]


TEXT = """\
# comment
model: w1 * x
quoted: "w1 * x"
escaped: "w1 \\x2a x"
block: |
  w1 * x
list: [1, {a: 2}]
map:
  inner: text
"""


def test_places_of_values_and_keys():
    document = read(TEXT, "f.yaml")
    assert document.place(("model",)) == (2, 8)
    assert document.place(("model",), key=True) == (2, 1)
    assert document.place(("list", 1, "a")) == (7, 15)
    assert document.place(("list", 1, "a"), key=True) == (7, 12)
    assert document.place(("map", "inner")) == (9, 10)


def test_what_is_missing_is_placed_at_the_key_around_it():
    document = read(TEXT, "f.yaml")
    assert document.place(("map", "missing")) == (8, 1)
    assert document.place(("map", "missing", "deeper", 3)) == (8, 1)
    assert document.place(("list", 1, "b")) == (7, 11)
    assert document.place(("missing",)) == (2, 1)


def test_columns_inside_a_value_count_where_the_text_stands_as_it_reads():
    document = read(TEXT, "f.yaml")
    assert document.place(("model",), column=5) == (2, 13)
    assert document.place(("quoted",), column=5) == (3, 15)
    assert document.place(("escaped",), column=5) == (4, 10)
    assert document.place(("block",), column=5) == (5, 8)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_editors_do(end):
    document = read("\ufeff" + TEXT.replace("\n", end), "f.yaml")
    assert document.place(("map", "inner")) == (9, 10)
    assert read("\ufeffa: 1\n", "f.yaml").place(("a",)) == (1, 4)


def test_problems_come_sorted_one_line_each():
    late, early = InputProblem("late", ("map", "inner")), InputProblem("early", ("model",), column=3)
    problems = [late, AtKey("early", ("model",)), early]
    assert str(read(TEXT, "f.yaml").locate(problems)).splitlines() == [
        "f.yaml:2:1: model: early",
        "f.yaml:2:11: model: early",
        "f.yaml:9:10: map.inner: late",
    ]


# Control characters and YAML's own line breaks need escapes that JSON lacks.
WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"]), min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(WORDS, VALUES, min_size=1, max_size=4), st.sampled_from([None, 1]))
def test_json_is_read_as_json(data, indent):
    """JSON is a part of YAML 1.2."""
    assert read(json.dumps(data, ensure_ascii=False, indent=indent), "f.yaml").data == data


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="ab:{}[],-?&*!|>'\"%@`#\n \t\\u0\x85\ud7ff~<.", max_size=60))
def test_any_text_reads_or_is_refused(text):
    try:
        outcome = read(text, "f.yaml").data
    except InputError as error:
        outcome = str(error)
    assert isinstance(outcome, dict) or outcome.startswith("f.yaml:")
