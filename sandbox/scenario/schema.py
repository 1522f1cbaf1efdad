"""The keys of a scenario, with their types, defaults and meaning. `build` checks how they fit together."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal, Union

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, create_model, model_validator

from sandbox.dynamics.frames import Record, whole
from sandbox.dynamics.gradients.registry import ESTIMATORS
from sandbox.dynamics.rules.registry import RULES
from sandbox.measurements.registry import MEASUREMENTS
from sandbox.tools.settings import Settings

PRIOR = "prior"
"""The name of the start in which each particle is drawn from the prior."""


def loss_kind(value: Any) -> str:
    """Return the name of the class of loss that `value` describes; the keys present decide, as no key names it."""
    keys = {"potential": "Potential", "gradient_noise": "Potential", "offset": "Potential", "contrast": "Contrast"}
    found = [kind for key, kind in keys.items() if isinstance(value, dict) and key in value]
    return (*found, "Regression")[0]


def _loss_tag(value: Any) -> str:
    return f"<{loss_kind(value)}>"


# In each Annotated the bounds precede the converter; in the other order JSON Schema would not contain them.
Positive = Annotated[int, Field(ge=1), BeforeValidator(whole)]
Samples = Annotated[int, Field(ge=1, le=10_000_000), BeforeValidator(whole)]
Word = Annotated[int, Field(ge=1, lt=2**32), BeforeValidator(whole)]
"""A number that fits into one 32-bit word of the random number generator's counter."""
Seed = Annotated[int, Field(ge=0, lt=2**64), BeforeValidator(whole)]
Expression = str | int | float
"""A formula in names, numbers, + - * / ** and functions."""
Distribution = str | float
"""uniform(low, high), normal(mean, standard_deviation), laplace(centre, scale), choice(...), or a fixed number."""
Pair = Annotated[tuple[float, float], Field(strict=False)]
Expressions = Annotated[tuple[Expression, ...], Field(strict=False, min_length=1)]
_Radius = Annotated[float, Field(gt=0, le=10)]
Radii = Annotated[tuple[_Radius, _Radius, _Radius], Field(strict=False)]
Two = Annotated[tuple[Expression, Expression], Field(strict=False)]


class Box(Settings):
    """The box that bounds the parameters, and its walls."""

    walls: Literal["reflecting", "open"] = Field(
        default="reflecting",
        description="the edge of the prior's support: reflecting walls send particles back, open walls let them pass",
    )
    bounds: dict[str, Pair] = Field(
        default={}, description="parameter: [low, high]; the prior is truncated to this interval and normalised again"
    )


class Regression(Settings):
    """The regression y = f(x, w) + noise * e, with e standard normal."""

    model: Expression | Expressions = Field(description="f(x, w); a list gives several outputs")
    truth: Expression | Expressions = Field(description="f0(x), in the inputs; a list gives several outputs")
    inputs: dict[str, Distribution] = Field(default={}, description="input: distribution")
    noise: float = Field(default=1.0, ge=1e-30, le=1e30, description="standard deviation of the observation noise")
    samples: Samples | Literal["population"] = Field(
        description="n; or population, for the expected loss and fresh samples at each step"
    )


class Contrast(Settings):
    """A model p(x | w) of any kind, given by its contrast with the truth q."""

    contrast: Expression = Field(description="log q(x) - log p(x | w), an expression in the parameters and the inputs")
    inputs: dict[str, Distribution] = Field(min_length=1, description="input: distribution; jointly the truth q")
    samples: Samples | Literal["population"] = Field(
        description="n; or population, for the expected loss and fresh samples at each step"
    )


class Isotropic(Settings):
    """Gradient noise of the same strength in every direction."""

    isotropic: float = Field(ge=0, description="standard deviation of the noise in each component of the gradient")


class NoiseMatrix(Settings):
    """Gradient noise B(w) xi with xi standard normal."""

    matrix: Annotated[tuple[Expressions, ...], Field(strict=False, min_length=1)] = Field(
        description="the rows of B(w), one per parameter; entries are expressions in the parameters"
    )


class Potential(Settings):
    """A loss given directly as K(w), without a model."""

    potential: Expression = Field(description="K(w) plus `offset`; its minimum over the prior's box is `offset`")
    offset: Annotated[float, Field(ge=-1e250, le=1e250)] | Literal["auto"] = Field(
        default=0.0, description="the potential's minimum, subtracted from it; auto: the one that descents find"
    )
    gradient_noise: Isotropic | NoiseMatrix | None = Field(
        default=None, description="{isotropic: s} or {matrix: [[...], ...]}; `gradient: noisy` uses it"
    )


class Stratum(Settings):
    """A named piece of W0, the set of parameters of least loss; or of a local minimum, if `excess` is positive."""

    zero: Expressions = Field(description="expressions in the parameters that all vanish on the stratum")
    where: str | Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="inequalities that hold on it, such as a1 > 0; the input x ranges from x_min to x_max"
    )
    excess: float = Field(
        default=0.0, ge=0, description="K on the stratum: above 0 for a local minimum that competes with W0 at small n"
    )
    along: Expression | None = Field(default=None, description="position along it, an expression in the parameters")
    learning_coefficient: Distribution | None = Field(
        default=None, description="λ, if it cannot be derived: a number or a fraction such as 1/4"
    )
    multiplicity: Positive | None = Field(default=None, description="m, given together with learning_coefficient")


class Witness(Settings):
    """The posterior method: quadrature, or independent runs of tempered SMC (sequential Monte Carlo)."""

    method: Literal["quadrature", "sampling"] | None = Field(
        default=None, description="quadrature (at most 3 parameters) or sampling (SMC); default: quadrature up to 2"
    )
    particles: int = Field(default=1024, ge=64, le=10**6, description="number of SMC particles in each run")
    runs: int = Field(default=8, ge=2, le=100, description="number of SMC runs; their spread gives the error")
    sweeps: int = Field(default=80, ge=3, le=10_000, description="most sweeps of SMC moves at each temperature")
    share_tolerance: float = Field(
        default=1e-4, ge=1e-8, le=0.1, description="absolute error of the posterior's masses of strata, by quadrature"
    )


class Verdict(Settings):
    """The thresholds of the verdict."""

    margin: float = Field(default=0.05, ge=0, lt=1, description="a preference within this counts as equal")
    level: float = Field(default=0.99, gt=0, lt=1, description="confidence level of the intervals")
    diverged: float = Field(default=0.01, ge=0, le=1, description="undecided above this share of diverged particles")
    radii: Radii | None = Field(
        default=None,
        description="three radii of the kernel with which solutions are scored, in each parameter's prior scales; "
        "default: 0.05, 0.1, 0.2, enlarged together where the posterior is sampled until its draws resolve them",
    )


class Decomposition(Settings):
    """The decomposition of the difference between SGD and the posterior: SGD's ingredients, added one at a time."""

    population: str = Field(description="a population that follows sgd with minibatch gradients, no momentum, no clip")
    longer: int = Field(default=4, ge=2, le=1000, description="steps of the last rung, as a multiple of `steps`")


class _Population(Settings):
    """The settings of a population besides those of its rule."""

    gradient: Any = None
    start: Literal["prior"] | dict[str, Distribution] = Field(
        default="prior",
        description="prior; or parameter: distribution or number, for every parameter; or {stratum: name, spread: 0}: "
        "draws from the prior sent onto the stratum; or {population: name}: the end of a population listed above",
    )


def _gradient_type() -> Any:
    """Return the type of `gradient`: a name for each estimator without settings, a model for each of the others."""
    bare = tuple(name for name, estimator in ESTIMATORS.items() if not estimator.model_fields)
    return Union[Literal[bare], *(e for e in ESTIMATORS.values() if e.model_fields), None]


def _population_type() -> Any:
    """Return the union of one model per rule; each has the rule's settings, the gradient and the start."""
    described = Field(default=None, description=f"gradient estimator: {', '.join(ESTIMATORS)}")
    models = [
        create_model(f"{name}_population", __base__=(rule, _Population), gradient=(_gradient_type(), described))
        for name, rule in RULES.items()
    ]
    return Annotated[Union[tuple(models)], Field(discriminator="rule")]  # noqa: UP007


class _Measurements(Settings):
    """The measurements. A name without settings takes the defaults."""

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, value: Any) -> Any:
        return (
            {name: {} if given is None else given for name, given in value.items()}
            if isinstance(value, dict)
            else value
        )


def _measurements_type() -> Any:
    """Return a model with one optional key per measurement."""
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
    """A question about SGD: a singular loss, its zero set, and the particles that move on it."""

    model_config = ConfigDict(title="Scenario", json_schema_extra=_steps_where_something_moves)

    question: str = Field(description="the question, in words")
    source: str = Field(default="", description="the source of the question")
    answer: str = Field(default="", description="the answer that was found, in words")
    parameters: dict[str, Distribution] = Field(min_length=1, description="parameter: its prior; the order is kept")
    box: Box = Field(default=Box(), description="truncates the prior and sets the kind of walls")
    loss: Annotated[
        Annotated[Regression, Tag("<Regression>")]
        | Annotated[Contrast, Tag("<Contrast>")]
        | Annotated[Potential, Tag("<Potential>")],
        Discriminator(_loss_tag),
    ] = Field(
        description="a regression (model, truth, inputs, noise, samples), a contrast log q - log p (contrast, inputs, "
        "samples) or a potential K(w) (potential, gradient_noise)"
    )
    nbeta: float | None = Field(
        default=None, gt=0, description="inverse temperature of the posterior, times n; default: n"
    )
    strata: dict[str, Stratum] = Field(
        default={}, description="the named pieces of W0, the most degenerate first; they describe the answer"
    )
    derived: dict[str, Expression] = Field(
        default={}, description="name: an expression in the parameters; it is recorded and drawn, and strata may use it"
    )
    symmetries: dict[str, dict[str, str]] = Field(
        default={},
        description="name: {parameter: parameter or -parameter, ...}, an exchange that leaves the loss unchanged; "
        "strata contain their images under it",
    )
    view: Two | None = Field(
        default=None, description="two expressions, the axes of the pictures; default: the first two parameters"
    )
    tube: float = Field(default=0.1, gt=0, description="radius of the tubes: a particle this near is on the stratum")
    populations: dict[str, _population_type()] = Field(  # type: ignore[valid-type]
        default={}, description="name: a population of particles, with its rule"
    )
    measurements: Measurements = Field(  # type: ignore[valid-type]
        default=Measurements(),
        description="the measurements: of λ, of the limits of regular theory, of particles over time",
    )
    decomposition: Decomposition | None = Field(
        default=None, description="splits the difference between SGD and the posterior among SGD's ingredients"
    )
    particles: Word = Field(default=10_000, description="number of particles in each population")
    steps: Word = Field(description="number of steps of every population")
    record: Record = Field(default=Record(), description="the contents of the record")
    seed: Seed = Field(default=0, description="seed of all random numbers")
    precision: Literal["float64", "float32"] = Field(default="float64", description="number type of the kernels")
    witness: Witness = Field(default=Witness(), description="the posterior method and its size")
    verdict: Verdict = Field(default=Verdict(), description="thresholds of the verdict")

    @model_validator(mode="before")
    @classmethod
    def _without_populations(cls, value: Any) -> Any:
        """Return the settings with steps = 1 if there are no populations: then `steps` may be left out."""
        return {"steps": 1, **value} if isinstance(value, dict) and not value.get("populations") else value


@functools.cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario, for editors and for error messages."""
    return ScenarioSettings.model_json_schema()
