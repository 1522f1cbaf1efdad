"""A scenario: read, checked and frozen. The only reader of scenario files."""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from sandbox import exact
from sandbox.errors import InputError, nearest
from sandbox.gradients import Estimator
from sandbox.loss import Contrast, Loss, Regression
from sandbox.measured.base import Measurement
from sandbox.prior import Prior
from sandbox.quantity import Quantity
from sandbox.rules import Rule
from sandbox.scenario.build import Builder
from sandbox.scenario.document import MAX_CHARACTERS, read
from sandbox.scenario.messages import problems
from sandbox.scenario.override import override
from sandbox.scenario.schema import Decomposition, Record, ScenarioSettings, Verdict, Witness
from sandbox.scenario.start import Start
from sandbox.scenario.truth import Truth
from sandbox.zero_set import ZeroSet

FOLDER = Path("scenarios")
"""Where scenarios are found by name, relative to the current directory."""


@dataclass(frozen=True)
class Population:
    """Particles with one rule. `start` has one distribution per parameter, or says where else; None is the prior."""

    name: str
    rule: Rule
    gradient: Estimator
    start: Start


@dataclass(frozen=True)
class Scenario:
    """All that a run depends on.

    `text` reproduces it: `loads(text, filename)` returns an equal scenario. `prior` is cut to the box; `walls` says
    what the edge of its support does to particles. `population_loss` is the limit of `loss` for many samples;
    `model` makes both, None for a potential. `nbeta` is the posterior's inverse temperature times n.
    """

    name: str
    filename: str
    text: str
    question: str
    source: str
    answer: str
    prior: Prior
    walls: Literal["reflecting", "open"]
    loss: Loss = field(compare=False)
    population_loss: Loss = field(compare=False)
    model: Regression | Contrast | None = field(compare=False)
    zero_set: ZeroSet = field(compare=False)
    derived: tuple[Quantity, ...]
    view: tuple[Quantity, Quantity] | None
    nbeta: float
    populations: tuple[Population, ...]
    measurements: tuple[Measurement, ...]
    decomposition: Decomposition | None
    particles: int
    steps: int
    record: Record
    seed: int
    precision: Literal["float64", "float32"]
    witness: Witness
    verdict: Verdict

    @functools.cached_property
    def theory(self) -> exact.LearningCoefficient | None:
        """λ and m of all of W0, where known."""
        return exact.whole(self.population_loss, self.prior, self.zero_set)


@functools.lru_cache(maxsize=8)
def loads(text: str, filename: str) -> Scenario:
    """Return the scenario that a text describes; its name is the file's. Raises InputError with every fault found."""
    document = read(text, filename)
    try:
        settings = ScenarioSettings.model_validate(document.data)
    except ValidationError as error:
        raise document.locate(problems(error, document.data)) from None
    builder = Builder(settings)
    truth = Truth(builder)
    zero_set = truth.zero_set
    populations = tuple(Population(*parts) for parts in builder.populations())
    measurements, decomposition = (
        builder.measurements(),
        builder.decomposition({p.name: (p.rule, p.gradient, p.start) for p in populations}),
    )
    prior, loss, population_loss, nbeta = builder.prior, builder.loss, builder.population_loss, builder.nbeta
    if builder.problems or not (prior and loss and population_loss and zero_set and nbeta):
        raise document.locate(builder.problems)
    scenario = Scenario(
        name=Path(filename).stem,
        filename=filename,
        text=text,
        question=settings.question,
        source=settings.source,
        answer=settings.answer,
        prior=prior,
        walls=settings.box.walls,
        loss=loss,
        population_loss=population_loss,
        model=builder.model,
        zero_set=zero_set,
        derived=truth.derived,
        view=truth.view,
        nbeta=nbeta,
        populations=populations,
        measurements=measurements,
        decomposition=decomposition,
        particles=settings.particles,
        steps=settings.steps,
        record=settings.record,
        seed=settings.seed,
        precision=settings.precision,
        witness=settings.witness,
        verdict=settings.verdict,
    )
    for measurement in measurements:
        try:
            measurement.check(scenario)
        except InputError as error:
            raise document.locate(error.within("measurements", measurement.name).problems) from None
    return scenario


def load(name_or_path: str | Path, overrides: Iterable[str] = ()) -> Scenario:
    """Return the scenario in a file, or of a name in `scenarios/`, after each `key.path=value` of `overrides`.

    Raises InputError, also where the file cannot be read.
    """
    path = find(name_or_path)
    text = _file_text(path)
    return loads(override(text, overrides, str(path)), str(path))


def find(name_or_path: str | Path) -> Path:
    """Return the path of an existing file, or of `scenarios/<name>.yaml`. Raises InputError naming the nearest."""
    path = Path(name_or_path)
    named = FOLDER / f"{name_or_path}.yaml"
    try:
        if path.exists():
            return path
        if named.is_file():
            return named
    except (OSError, ValueError):
        # A name that no file system takes: too long, or with a NUL byte.
        raise InputError(f"'{str(name_or_path)[:60]}' cannot be the name of a file") from None
    known = available()
    allowed = f"a path, or one of {', '.join(known)}" if known else f"a path (there is no folder {FOLDER} here)"
    raise InputError(f"no scenario '{name_or_path}'{nearest(path.stem, known)}; allowed: {allowed}")


def available() -> list[str]:
    """Return the names of the scenarios in `scenarios/`, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _file_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # Characters take up to four bytes.
            data = file.read(4 * MAX_CHARACTERS + 1)
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        message = f"byte {error.object[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        raise InputError(f"{path}:{line}:{column}: {message}") from None
    except OSError as error:
        reason = "it is a folder" if error.errno == errno.EISDIR else (error.strerror or "unknown reason").lower()
        raise InputError(f"{path} cannot be read: {reason}") from None
