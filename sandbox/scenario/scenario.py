"""The Scenario: a text that is read, checked and frozen."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sandbox.dynamics.frames import Sizes
from sandbox.dynamics.population import Population
from sandbox.expressions.quantity import Quantity
from sandbox.measurements.base import Measurement
from sandbox.model.problem import Problem
from sandbox.scenario.build import Builder
from sandbox.scenario.document import read
from sandbox.scenario.files import described, find
from sandbox.scenario.messages import problems
from sandbox.scenario.override import override
from sandbox.scenario.schema import Decomposition, ScenarioSettings, Verdict, Witness
from sandbox.scenario.truth import Truth
from sandbox.scenario.writing import write
from sandbox.tools.errors import InputError


@dataclass(frozen=True)
class Scenario:
    """A question with all that its run depends on. Everything follows from `text`; a changed copy has a changed text.

    `filename` stands in error messages, and its stem is the name; without one, errors name keys but no lines. `view`
    are two expressions to draw over. Raises InputError with every fault of the text.
    """

    text: str
    filename: str = "scenario"
    name: str = field(init=False, compare=False)
    question: str = field(init=False, compare=False)
    source: str = field(init=False, compare=False)
    answer: str = field(init=False, compare=False)
    problem: Problem = field(init=False, compare=False)
    view: tuple[Quantity, Quantity] | None = field(init=False, compare=False)
    populations: tuple[Population, ...] = field(init=False, compare=False)
    sizes: Sizes = field(init=False, compare=False)
    measurements: tuple[Measurement, ...] = field(init=False, compare=False)
    decomposition: Decomposition | None = field(init=False, compare=False)
    witness: Witness = field(init=False, compare=False)
    verdict: Verdict = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in _parts(self.text, self.filename).items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return loads, (self.text, self.filename)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scenario:
        """Return the scenario that a mapping describes, with the keys of a scenario file.

        Raises InputError with every fault, each at its path of keys.
        """
        return loads(write(data), "")

    def changed(self, *overrides: str) -> Scenario:
        """Return a copy with each `key.path=value` applied to its text. Raises InputError."""
        return loads(override(self.text, overrides, self.filename), self.filename)


@functools.lru_cache(maxsize=8)
def loads(text: str, filename: str = "scenario") -> Scenario:
    """Return the scenario that a text describes. Raises InputError with every fault, each at its line and column."""
    return Scenario(text, filename)


def _parts(text: str, filename: str) -> dict[str, Any]:
    """Return the fields of the scenario that a text describes. Raises InputError with every fault found."""
    document = read(text, filename)
    try:
        settings = ScenarioSettings.model_validate(document.data)
    except ValidationError as error:
        raise document.locate(problems(error, document.data)) from None
    builder = Builder(settings)
    truth = Truth(builder)
    populations = builder.populations()
    measurements, decomposition = builder.measurements(), builder.decomposition(populations)
    problem = builder.problem(truth.zero_set, truth.derived)
    if builder.problems or problem is None:
        raise document.locate(builder.problems)
    for measurement in measurements:
        try:
            measurement.check(problem, settings.record if populations else None)
        except InputError as error:
            raise document.locate(error.within("measurements", measurement.name).problems) from None
    return {
        "name": Path(filename).stem or "scenario",
        "question": settings.question,
        "source": settings.source,
        "answer": settings.answer,
        "problem": problem,
        "view": truth.view,
        "populations": populations,
        "sizes": Sizes(settings.particles, settings.steps, settings.record, settings.precision),
        "measurements": measurements,
        "decomposition": decomposition,
        "witness": settings.witness,
        "verdict": settings.verdict,
    }


def load(name_or_path: str | Path, overrides: str | Iterable[str] = ()) -> Scenario:
    """Return the scenario of a file, a name (see `find`) or a finished result, after applying each `key.path=value`.

    A result is a folder with STORE in it, or STORE itself, written by this or an older version. Raises InputError if
    the file cannot be read, or if the scenario or an override is wrong.
    """
    path = find(name_or_path)
    text, filename = described(path)
    overrides = [overrides] if isinstance(overrides, str) else overrides
    return loads(override(text, overrides, filename), filename)
