"""From YAML text to plain data, with the line and column of every key and value. Only this module calls PyYAML.

YAML is read by the core schema of YAML 1.2.2 (section 10.3.2): `1e-3` is a number, `off` is text, `012` is twelve,
`1:30` is text. The reader uses PyYAML's stream of events, so that no Python object is constructed. Features that a
scenario does not need (anchors, tags, merge keys, several documents, keys that are not text) are errors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from sandbox.tools.errors import InputError, InputProblem

Path = tuple[str | int, ...]
"""The keys, and positions in lists (from 0), that lead from the root to a value."""

MAX_CHARACTERS = 1_000_000
"""The largest number of characters of a text."""
MAX_DEPTH = 20
"""The largest depth of nested mappings and lists."""
MAX_NODES = 10_000
"""The largest number of values in one text."""
MAX_DIGITS = 400
"""The largest number of characters of one number, and of one key."""

# PyYAML's type stubs give events no fields, and let marks be None.
_Event = Any

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN = {".nan", ".NaN", ".NAN"}
_SURROGATE = re.compile("[\ud800-\udfff]")

_IN_PLAIN_WORDS = (
    (r"character '\t'", "a tab cannot indent: use spaces"),
    ("cannot start any token", "{problem}: text that begins with a special character of YAML needs quotes"),
    ("unexpected end of stream", "a quotation is not closed"),
    (
        "mapping values are not allowed",
        "a ': ' cannot stand here: put text that holds it in quotes, or correct the indentation",
    ),
    ("but found '}'", "a '}}' without its '{{' before it"),
    ("but found ']'", "a ']' without its '[' before it"),
    ("expected <block end>", "this line does not fit the lines before it: correct the indentation"),
    ("could not find expected ':'", "a key without its ':'"),
    ("expected ',' or", "a list [...] or mapping {{...}} is not closed, or lacks a comma"),
    ("expected the node content", "a value was expected here"),
)


class _RefusedError(Exception):
    """A fault after which reading cannot go on; it carries the message and an index into the text."""

    def __init__(self, message: str, index: int):
        super().__init__(message)
        self.message, self.index = message, index


@dataclass(frozen=True)
class AtKey(InputProblem):
    """A problem with the last key of `where`, not with its value."""


@dataclass(frozen=True)
class Span:
    """The position of a value, as indices into the text; `style` is plain, quoted, block or flow."""

    start: int
    end: int
    style: str


@dataclass
class _Marks:
    values: dict[Path, Span] = field(default_factory=dict)
    keys: dict[Path, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """The data in a text and their positions. `data` holds only dict, list, str, int, float, bool and None."""

    filename: str
    text: str
    data: dict[str, Any]
    spans: Mapping[Path, Span]
    keys: Mapping[Path, int]

    def place(self, path: Path, *, key: bool = False, column: int | None = None) -> tuple[int, int]:
        """Return line and column (from 1) of the value at `path`, or, if `key`, of the key that leads to it.

        A path that is not in the text gets the key of the innermost mapping or list around it. `column` is an offset
        inside the value's text; it is used only if the value appears in the text verbatim.
        """
        if path in self.spans and not (key and path in self.keys):
            span = self.spans[path]
            return line_and_column(self.text, span.start + self._inside(path, span, column))
        while path not in self.keys and path not in self.spans:
            path = path[:-1]
        return line_and_column(self.text, self.keys[path] if path in self.keys else self.spans[path].start)

    def locate(self, problems: Iterable[InputProblem]) -> InputError:
        """Return one error, with a line `file:line:column: a.b.c: message` per problem, in the order of the text."""
        placed: dict[tuple[int, int, str, str], None] = {}
        for problem in problems:
            line, column = self.place(problem.where, key=isinstance(problem, AtKey), column=problem.column)
            placed[line, column, ".".join(map(str, problem.where)), problem.message] = None
        return InputError(
            [
                InputProblem(": ".join(part for part in (self._spot(line, column), where, message) if part))
                for line, column, where, message in sorted(placed)
            ]
        )

    def _spot(self, line: int, column: int) -> str:
        """Return a place as text; nothing for a document that was written from a mapping, whose lines nobody sees."""
        return f"{self.filename}:{line}:{column}" if self.filename else ""

    def _inside(self, path: Path, span: Span, column: int | None) -> int:
        value: Any = self.data
        for step in path:
            value = value[step]
        opening = int(span.style == "quoted")
        if column is None or not isinstance(value, str) or not self.text.startswith(value, span.start + opening):
            return 0
        return opening + column


def line_and_column(text: str, index: int) -> tuple[int, int]:
    """Return the line and column (from 1) of a position in the text, as editors count them."""
    before = re.split("\r\n|[\r\n]", text[:index])
    return len(before), len(before[-1].lstrip("\ufeff")) + 1


def read(text: str, filename: str) -> Document:
    """Read a text whose root is a mapping. Raises InputError with all duplicate keys, or the first syntax error."""
    data, marks, problems = _read_any(text, filename)
    if not isinstance(data, dict):
        found = "nothing" if data is None else kind(data)
        raise InputError(f"{filename}:1:1: a mapping (lines of 'key: value') was expected, found {found}")
    document = Document(filename, text, data, marks.values, marks.keys)
    if problems:
        raise document.locate(problems)
    return document


def read_value(text: str, filename: str) -> Any:
    """Read a text whose root may be any value, by the same rules as `read`. Raises InputError."""
    data, marks, problems = _read_any(text, filename)
    if problems:
        raise Document(filename, text, {}, marks.values, marks.keys).locate(problems)
    return data


def kind(value: Any) -> str:
    """Return the kind of `value` in plain words, together with the value; long text is cut, a long integer left out."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, int | float):
        shown = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "an integer of many digits"
        return f"the number {shown}"
    if isinstance(value, str):
        return f"the text '{value if len(value) <= 60 else value[:57] + '...'}'"
    return "a list" if isinstance(value, list) else "a mapping"


def scalar(text: str) -> str | int | float | bool | None:
    """Return the value of a plain scalar in the core schema of YAML 1.2. Raises ValueError if a number is too long."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text) or _FLOAT.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} characters; allowed are {MAX_DIGITS}")
        if not _INTEGER.fullmatch(text):
            return float(text)
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if found := _INFINITE.fullmatch(text):
        return -math.inf if found[1] == "-" else math.inf
    return math.nan if text in _NAN else text


def _read_any(text: str, filename: str) -> tuple[Any, _Marks, list[InputProblem]]:
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{filename}:1:1: the text has {len(text)} characters; allowed are {MAX_CHARACTERS}")
    try:
        return _Reader(text).whole()
    except _RefusedError as refused:
        line, column = line_and_column(text, refused.index)
        raise InputError(f"{filename}:{line}:{column}: {refused.message}") from None


class _Reader:
    """A reader that passes once over the events of one document."""

    def __init__(self, text: str):
        self.text = text
        self.marks = _Marks()
        self.problems: list[InputProblem] = []
        self.events = self._events()
        self.end = 0

    def whole(self) -> tuple[Any, _Marks, list[InputProblem]]:
        """Return the document's data, its positions, and the problems that did not stop the reading."""
        data = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _refuse("a second document begins here; allowed is one", event.start_mark)
                data = self._value(next(self.events), ())
        return data, self.marks, self.problems

    def _events(self) -> Iterator[_Event]:
        """Yield PyYAML's events; raise its errors as _RefusedError."""
        try:
            yield from yaml.parse(self.text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            _refuse(self._plain_words(error), error.problem_mark or error.context_mark)
        except yaml.reader.ReaderError as error:
            character = ord(self.text[error.position])
            raise _RefusedError(f"the character U+{character:04X} cannot stand in a text", error.position) from None
        except (ValueError, OverflowError):
            # PyYAML converts escapes such as "\UFFFFFFFF" and the digits of %YAML to numbers without a range check.
            raise _RefusedError(
                "an escape or a directive in this text holds a number that is out of range", 0
            ) from None

    def _plain_words(self, error: yaml.MarkedYAMLError) -> str:
        problem = error.problem or "a fault of syntax"
        for sign, words in _IN_PLAIN_WORDS:
            if sign in problem:
                problem = words.format(problem=problem)
                break
        begun, at = error.context_mark, error.problem_mark
        if begun is None or at is None or begun.line == at.line:
            return f"this is not YAML: {problem}"
        return f"this is not YAML: {problem} (in the part begun in line {line_and_column(self.text, begun.index)[0]})"

    def _value(self, event: _Event, path: Path) -> Any:
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            _refuse("anchors and aliases (& and *) are not read: write the value out, or put text in quotes", mark)
        if event.tag is not None:
            _refuse(f"tags are not read, found '{event.tag[:60]}': leave it out, or put text in quotes", mark)
        if len(path) > MAX_DEPTH:
            _refuse(f"nested more than {MAX_DEPTH} deep", mark)
        if len(self.marks.values) >= MAX_NODES:
            _refuse(f"more than {MAX_NODES} values", mark)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        self.marks.values[path] = Span(mark.index, mark.index, "flow" if event.flow_style else "block")
        return (self._mapping if isinstance(event, yaml.MappingStartEvent) else self._list)(event, path)

    def _scalar(self, event: _Event, path: Path) -> Any:
        start = event.start_mark
        style = {None: "plain", "'": "quoted", '"': "quoted"}.get(event.style, "block")
        # PyYAML's end mark of block text comes after the blank lines that follow the text.
        end = start.index + len(self.text[start.index : event.end_mark.index].rstrip())
        self.marks.values[path] = Span(start.index, end, style)
        self.end = end
        if _SURROGATE.search(event.value):
            _refuse("an escape stands for half a character (U+D800 to U+DFFF)", start)
        if style != "plain":
            return event.value
        try:
            return scalar(event.value)
        except ValueError as error:
            _refuse(str(error), start)

    def _list(self, start: _Event, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            at = (*path, len(items))
            items.append(self._value(event, at))
            self._check_parentheses(start, event, at)
        self._close(path, event)
        return items

    def _mapping(self, start: _Event, path: Path) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = _key(event)
            at = (*path, key)
            before = self.marks.keys.get(at)
            self.marks.keys[at] = event.start_mark.index
            following = next(self.events)
            value = self._value(following, at)
            if before is not None:
                line, _ = line_and_column(self.text, before)
                self.problems.append(AtKey(f"the key '{key}' is given twice, first in line {line}", at))
            items[key] = value
            self._check_parentheses(start, following, at)
        self._close(path, event)
        return items

    def _close(self, path: Path, event: _Event) -> None:
        span = self.marks.values[path]
        # PyYAML's end mark of a block comes after trailing comments, so the end of its last value is used.
        self.end = self.end if span.style == "block" else event.end_mark.index
        self.marks.values[path] = Span(span.start, self.end, span.style)

    def _check_parentheses(self, start: _Event, event: _Event, path: Path) -> None:
        if start.flow_style and isinstance(event, yaml.ScalarEvent) and event.style is None:
            text = event.value
            if text.count("(") > text.count(")"):
                hint = "put it in quotes, or on a line of its own outside [...] and {...}"
                self.problems.append(InputProblem(f"YAML has cut '{text}' off at its comma: {hint}", path))


def _key(event: _Event) -> str:
    mark = event.start_mark
    if not isinstance(event, yaml.ScalarEvent):
        _refuse("a key must be text", mark)
    if event.anchor is not None or event.tag is not None:
        _refuse("a key takes neither an anchor (&) nor a tag (!)", mark)
    if event.value == "<<" and event.style is None:
        _refuse("merge keys (<<) are not read: write the values out", mark)
    if not event.value:
        _refuse("a key is missing before ':'", mark)
    if _SURROGATE.search(event.value) or len(event.value) > MAX_DIGITS:
        _refuse(f"a key must be plain text of at most {MAX_DIGITS} characters", mark)
    return event.value


def _refuse(message: str, mark: Any) -> NoReturn:
    raise _RefusedError(message, mark.index)
