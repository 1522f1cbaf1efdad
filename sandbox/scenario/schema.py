"""What a scenario may say: its keys, their types, defaults and meaning. What they mean together is for `build`."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal, Union

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, create_model, model_validator

from sandbox.gradients import ESTIMATORS
from sandbox.measured.measurements import MEASUREMENTS
from sandbox.rules import RULES
from sandbox.settings import Settings

PRIOR = "prior"
"""The start that draws from the prior."""


def _whole(value: Any) -> Any:
    """Let 1e5 count as a whole number, as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def loss_kind(value: Any) -> str:
    """Return the class of loss that is meant: no key names it, the keys that are there say so."""
    keys = {"potential": "Potential", "gradient_noise": "Potential", "contrast": "Contrast"}
    found = [kind for key, kind in keys.items() if isinstance(value, dict) and key in value]
    return (*found, "Regression")[0]


def _loss_tag(value: Any) -> str:
    return f"<{loss_kind(value)}>"


# The bounds stand before the conversion, inside it, so that JSON Schema knows them.
Positive = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
Natural = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Frames = Annotated[int, Field(ge=2), BeforeValidator(_whole)]
Samples = Annotated[int, Field(ge=1, le=10_000_000), BeforeValidator(_whole)]
Bins = Annotated[int, Field(ge=1, le=10_000), BeforeValidator(_whole)]
Word = Annotated[int, Field(ge=1, lt=2**32), BeforeValidator(_whole)]
"""What the counter of the draws can hold."""
Seed = Annotated[int, Field(ge=0, lt=2**64), BeforeValidator(_whole)]
Expression = str | int | float
"""A formula in names, numbers, + - * / ** and functions."""
Distribution = str | float
"""uniform(low, high), normal(mean, standard_deviation), laplace(centre, scale), choice(...), or a fixed number."""
Pair = Annotated[tuple[float, float], Field(strict=False)]
Expressions = Annotated[tuple[Expression, ...], Field(strict=False, min_length=1)]
Two = Annotated[tuple[Expression, Expression], Field(strict=False)]


class Box(Settings):
    """Where the parameters may be."""

    walls: Literal["reflecting", "open"] = Field(
        default="reflecting",
        description="what happens to particles at the edge of the prior's support: reflecting sends them back, "
        "open lets them through",
    )
    bounds: dict[str, Pair] = Field(
        default={}, description="parameter: [low, high]; the prior is cut to it and normalised again"
    )


class Regression(Settings):
    """y = f(x, w) + noise * e, with e standard normal."""

    model: Expression | Expressions = Field(description="f(x, w); a list gives several outputs")
    truth: Expression | Expressions = Field(description="f0(x), in the inputs; a list for several outputs")
    inputs: dict[str, Distribution] = Field(default={}, description="input: distribution")
    noise: float = Field(default=1.0, ge=1e-30, le=1e30, description="standard deviation of the observation noise")
    samples: Samples | Literal["population"] = Field(
        description="n, or population for the expected loss and fresh samples"
    )


class Contrast(Settings):
    """A model p(x | w) of any kind, by its contrast with the truth q."""

    contrast: Expression = Field(description="log q(x) - log p(x | w), in the parameters and the inputs that make up x")
    inputs: dict[str, Distribution] = Field(min_length=1, description="input: distribution; together the truth")
    samples: Samples | Literal["population"] = Field(
        description="n, or population for the expected loss and fresh samples"
    )


class Isotropic(Settings):
    """The same noise in every direction."""

    isotropic: float = Field(ge=0, description="standard deviation of each component of the gradient")


class NoiseMatrix(Settings):
    """Noise B(w) xi with xi standard normal."""

    matrix: Annotated[tuple[Expressions, ...], Field(strict=False, min_length=1)] = Field(
        description="the rows of B(w), one per parameter; entries are expressions in the parameters"
    )


class Potential(Settings):
    """K(w) itself."""

    potential: Expression = Field(description="K(w), zero at its minimum")
    gradient_noise: Isotropic | NoiseMatrix | None = Field(
        default=None, description="{isotropic: s} or {matrix: [[...], ...]}; used by `gradient: noisy`"
    )


class Stratum(Settings):
    """A piece of W0, where the loss is least."""

    zero: Expressions = Field(description="expressions in the parameters that vanish there, all of them")
    where: str | Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="inequalities that hold there, such as a1 > 0; x_min and x_max bound the input x"
    )
    excess: float = Field(
        default=0.0, ge=0, description="K there: above 0 for a local minimum that competes with W0 at small n"
    )
    along: Expression | None = Field(default=None, description="the position along it, an expression in the parameters")
    learning_coefficient: Distribution | None = Field(
        default=None, description="lambda where it cannot be derived: a number or a fraction such as 1/4"
    )
    multiplicity: Positive | None = Field(default=None, description="m, stated with the learning coefficient")


class Witness(Settings):
    """How the posterior is had: by quadrature, or by independent runs of tempered SMC."""

    method: Literal["quadrature", "sampling"] | None = Field(
        default=None, description="quadrature (up to three parameters) or sampling; unless said by quadrature up to two"
    )
    particles: int = Field(default=1024, ge=64, le=10**6, description="particles of each run")
    runs: int = Field(default=8, ge=2, le=100, description="runs, whose spread is the error")
    sweeps: int = Field(default=80, ge=3, le=10_000, description="most sweeps of moves at each temperature")


class Record(Settings):
    """What a run keeps."""

    frames: Frames = Field(
        default=100, description="recorded times, first and last step included; at most one per step"
    )
    spacing: Literal["log", "linear"] = Field(default="log", description="log or linear in time")
    positions: Natural = Field(
        default=2000, description="how many particles' positions are kept; statistics are of all"
    )
    bins: Bins = Field(default=60, description="histogram bins along W0")


class Verdict(Settings):
    """When the answer is more than 'undecided'."""

    margin: float = Field(default=0.05, ge=0, lt=1, description="a smaller difference in occupancy counts as the same")
    level: float = Field(default=0.99, gt=0, lt=1, description="confidence level of the intervals")
    diverged: float = Field(default=0.01, ge=0, le=1, description="undecided above this share of diverged particles")
    elsewhere: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="undecided when this much more of the particles than of the reference is in no tube",
    )


class Decomposition(Settings):
    """Why a population of SGD is not where the posterior is: its ingredients, added one at a time."""

    population: str = Field(description="a population that follows sgd with minibatch gradients, without momentum")
    longer: int = Field(default=4, ge=2, le=1000, description="how many times as long the last rung runs")


class _Population(Settings):
    """What a population says beside its rule's own settings."""

    gradient: Any = None
    start: Literal["prior"] | dict[str, Distribution] = Field(
        default="prior",
        description="prior; or parameter: distribution or number, for every parameter; or {stratum: name, spread: 0}, "
        "draws from the prior sent onto it; or {population: name}, where one above ends",
    )


def _gradient_type() -> Any:
    """Estimators without settings go by their name; the others are mappings."""
    bare = tuple(name for name, estimator in ESTIMATORS.items() if not estimator.model_fields)
    return Union[Literal[bare], *(e for e in ESTIMATORS.values() if e.model_fields), None]


def _population_type() -> Any:
    """One model per rule: its own settings, the gradient and the start."""
    described = Field(default=None, description=f"how the gradient is estimated: {', '.join(ESTIMATORS)}")
    models = [
        create_model(f"{name}_population", __base__=(rule, _Population), gradient=(_gradient_type(), described))
        for name, rule in RULES.items()
    ]
    return Annotated[Union[tuple(models)], Field(discriminator="rule")]  # noqa: UP007


class _Measurements(Settings):
    """What is measured. A name alone takes the defaults."""

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, value: Any) -> Any:
        return (
            {name: {} if given is None else given for name, given in value.items()}
            if isinstance(value, dict)
            else value
        )


def _measurements_type() -> Any:
    """One optional key per measurement."""
    fields: dict[str, Any] = {
        name: (measurement, Field(default=None, description=(measurement.__doc__ or name).split("\n")[0]))
        for name, measurement in MEASUREMENTS.items()
    }
    return create_model("Measurements", __base__=_Measurements, **fields)


Measurements = _measurements_type()


def _steps_where_something_moves(schema: dict[str, Any]) -> None:
    schema["required"].remove("steps")
    schema["if"], schema["then"] = {"required": ["populations"]}, {"required": ["steps"]}


class ScenarioSettings(Settings):
    """A question to SGD: a singular loss, its zero set, and the particles that are let loose on it."""

    model_config = ConfigDict(title="Scenario", json_schema_extra=_steps_where_something_moves)

    question: str = Field(description="what is asked, in words")
    source: str = Field(default="", description="where the question comes from")
    answer: str = Field(default="", description="what the answer was, in words")
    parameters: dict[str, Distribution] = Field(min_length=1, description="parameter: its prior, in order")
    box: Box = Field(default=Box(), description="cuts the prior; says what walls do to particles")
    loss: Annotated[
        Annotated[Regression, Tag("<Regression>")]
        | Annotated[Contrast, Tag("<Contrast>")]
        | Annotated[Potential, Tag("<Potential>")],
        Discriminator(_loss_tag),
    ] = Field(
        description="a regression (model, truth, inputs, noise, samples), a contrast log q - log p (contrast, inputs, "
        "samples) or a potential K(w)"
    )
    nbeta: float | None = Field(
        default=None, gt=0, description="inverse temperature times n of the posterior; n unless said"
    )
    strata: dict[str, Stratum] = Field(min_length=1, description="the pieces of W0, most degenerate first")
    derived: dict[str, Expression] = Field(
        default={}, description="name: an expression in the parameters; recorded, drawn, and known to the strata"
    )
    symmetries: dict[str, dict[str, str]] = Field(
        default={},
        description="name: {parameter: parameter or -parameter, ...}, an exchange that leaves the model as it is; "
        "strata hold their images under it",
    )
    view: Two | None = Field(
        default=None, description="two expressions to draw the particles over; the first two parameters unless said"
    )
    tube: float = Field(default=0.1, gt=0, description="radius around a stratum that counts as being on it")
    populations: dict[str, _population_type()] = Field(  # type: ignore[valid-type]
        default={}, description="particles: each population with its rule"
    )
    measurements: Measurements = Field(  # type: ignore[valid-type]
        default=Measurements(),
        description="what is measured: λ, where regular theory ends, particles over time",
    )
    decomposition: Decomposition | None = Field(
        default=None, description="splits the difference of SGD from the posterior among SGD's ingredients"
    )
    particles: Word = Field(default=10_000, description="particles per population")
    steps: Word = Field(description="steps of every rule")
    record: Record = Field(default=Record(), description="what is kept")
    seed: Seed = Field(default=0, description="the seed of every draw")
    precision: Literal["float64", "float32"] = Field(default="float64", description="numbers of the kernels")
    witness: Witness = Field(default=Witness(), description="how the posterior is had")
    verdict: Verdict = Field(default=Verdict(), description="thresholds of the answer")

    @model_validator(mode="before")
    @classmethod
    def _without_populations(cls, value: Any) -> Any:
        """Where nothing moves, nobody need say for how long."""
        return {"steps": 1, **value} if isinstance(value, dict) and not value.get("populations") else value


@functools.cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario, for editors and for the messages of errors."""
    return ScenarioSettings.model_json_schema()
