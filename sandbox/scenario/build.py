"""Settings -> Scenario: what the keys mean together. Every fault is found before the first is reported."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from sandbox import kernel
from sandbox.errors import InputError, Problem, nearest
from sandbox.expression import check_name, parse
from sandbox.gradients import ESTIMATORS, Estimator, model_of
from sandbox.loss import Contrast as ContrastLoss
from sandbox.loss import Loss
from sandbox.loss import Regression as RegressionLoss
from sandbox.loss import potential as potential_loss
from sandbox.measured.base import Measurement
from sandbox.measured.measurements import MEASUREMENTS
from sandbox.prior import Distribution, Prior
from sandbox.rules import RULES, Rule, Sgd
from sandbox.scenario.document import AtKey, Path
from sandbox.scenario.schema import (
    PRIOR,
    Contrast,
    Decomposition,
    Expression,
    Isotropic,
    NoiseMatrix,
    Potential,
    Regression,
    ScenarioSettings,
)
from sandbox.scenario.start import AtEndOf, OnStratum, Start
from sandbox.zero_set import MAX_PARAMETERS

MAX_NUMBER = 1e30
"""Numbers of distributions are 0 or have a magnitude from 1 / MAX_NUMBER to MAX_NUMBER."""

_LABEL = re.compile("[A-Za-z][A-Za-z0-9_-]{0,49}")


class Builder:
    """Builds the parts of a scenario one after the other and gathers what is wrong in `problems`.

    A part that cannot be built is None, and what needs it is left out.
    """

    def __init__(self, settings: ScenarioSettings):
        self.settings = settings
        self.problems: list[Problem] = []
        self.names = tuple(settings.parameters)
        self._check_names()
        self.prior = self._prior()
        self.model: RegressionLoss | ContrastLoss | None = None
        self.loss, self.population_loss = self._losses()
        self.nbeta = self._nbeta()

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Gather the problems that the body raises, placed below `path`."""
        try:
            yield
        except InputError as error:
            self.problems += error.within(*path).problems

    def at_key(self, message: str, *path: str | int) -> None:
        """Gather a problem with the last key of `path`."""
        self.problems.append(AtKey(message, path))

    def check_known(self, found: Collection[str], *path: str | int) -> None:
        """Gather the keys of the mapping at `path` that are not parameters."""
        for name in found:
            if name not in self.names:
                hint = nearest(name, self.names)
                self.at_key(f"unknown parameter '{name[:60]}'{hint}; known: {', '.join(self.names)}", *path, name)

    def check_label(self, name: str, *path: str) -> None:
        """Gather a name that could not be the name of a folder and a coordinate."""
        if not _LABEL.fullmatch(name):
            allowed = "at most 50 letters, digits, - and _, a letter first"
            self.at_key(f"'{name[:60]}' cannot be a name here; allowed: {allowed}", *path, name)

    def _check_names(self) -> None:
        loss = self.settings.loss
        inputs = () if isinstance(loss, Potential) else tuple(loss.inputs)
        for path, names in ((("parameters",), self.names), (("loss", "inputs"), inputs)):
            for name in names:
                try:
                    check_name(name)
                except InputError as error:
                    self.at_key(error.problems[0].message, *path, name)
        for name in inputs:
            if name in self.names:
                self.at_key(f"'{name}' is a parameter already; an input needs another name", "loss", "inputs", name)
        if len(self.names) > MAX_PARAMETERS:
            message = f"found {len(self.names)} parameters; allowed: at most {MAX_PARAMETERS}"
            self.at_key(message, "parameters", self.names[MAX_PARAMETERS])

    def _prior(self) -> Prior | None:
        before = len(self.problems)
        box = self.settings.box.bounds
        self.check_known(box, "box", "bounds")
        distributions = []
        for name, text in self.settings.parameters.items():
            with self.at("parameters", name):
                prior = distribution(text)
                if prior.family == "choice":
                    raise InputError(f"found '{prior}'; allowed: a distribution with a density, for a prior")
                distributions.append(self._boxed(name, prior))
        return Prior(self.names, tuple(distributions)) if len(self.problems) == before else None

    def _boxed(self, name: str, prior: Distribution) -> Distribution:
        if name not in self.settings.box.bounds:
            return prior
        low, high = self.settings.box.bounds[name]
        with self.at("box", "bounds", name):
            if not low < high:
                raise InputError(f"the box [{low:g}, {high:g}] is empty: low must be below high")
            return prior.truncated(low, high)
        return prior

    def _losses(self) -> tuple[Loss | None, Loss | None]:
        """Return the loss that particles follow and its limit for many samples: the same where there are no samples."""
        loss = self.settings.loss
        with self.at("loss"):
            return self._potential(loss) if isinstance(loss, Potential) else self._model_losses(loss)
        return None, None

    def _potential(self, loss: Potential) -> tuple[Loss | None, Loss | None]:
        before = len(self.problems)
        self.expressions(loss.potential, self.names, "loss", "potential")
        noise, size = loss.gradient_noise, len(self.names)
        rows: Sequence[Sequence[Any]] = ()
        if isinstance(noise, Isotropic):
            rows = [[noise.isotropic if j == k else 0 for k in range(size)] for j in range(size)]
        if isinstance(noise, NoiseMatrix):
            rows = noise.matrix
            for j, row in enumerate(rows):
                self.expressions(row, self.names, "loss", "gradient_noise", "matrix", j)
        if len(self.problems) > before:
            return None, None
        built = potential_loss(self.names, str(loss.potential), rows)
        return built, built

    def _model_losses(self, loss: Regression | Contrast) -> tuple[Loss | None, Loss | None]:
        before = len(self.problems)
        inputs = {}
        for name, text in loss.inputs.items():
            with self.at("loss", "inputs", name):
                inputs[name] = distribution(text)
        if isinstance(loss, Contrast):
            self.expressions(loss.contrast, (*self.names, *loss.inputs), "loss", "contrast")
        else:
            self.expressions(loss.model, (*self.names, *loss.inputs), "loss", "model")
            self.expressions(loss.truth, tuple(loss.inputs), "loss", "truth")
        if len(self.problems) > before:
            return None, None
        model = (
            ContrastLoss(self.names, str(loss.contrast), inputs)
            if isinstance(loss, Contrast)
            else RegressionLoss(self.names, _texts(loss.model), _texts(loss.truth), inputs, loss.noise)
        )
        self.model = model
        population = model.population()
        # A text here can only say "population".
        if isinstance(loss.samples, str):
            return population, population
        return model.sampled(loss.samples, self.settings.seed), population

    def expressions(
        self, text: Expression | Sequence[Expression], names: Sequence[str], *path: str | int
    ) -> tuple[Any, ...]:
        """Return one or several expressions as symbols; gather what is wrong with each."""
        if isinstance(text, str | int | float):
            with self.at(*path):
                return (parse(text, names),)
            return ()
        return tuple(e for k, each in enumerate(text) for e in self.expressions(each, names, *path, k))

    def _nbeta(self) -> float | None:
        if self.settings.nbeta is not None:
            return self.settings.nbeta
        if self.loss is not None and self.loss.samples is None:
            message = "this key is missing: without a number of samples n the posterior needs its inverse temperature"
            self.problems.append(Problem(message, ("nbeta",)))
        return float(self.loss.samples) if self.loss is not None and self.loss.samples is not None else None

    def measurements(self) -> tuple[Measurement, ...]:
        """Return what is measured; a scenario must ask for that or let particles go."""
        chosen = [getattr(self.settings.measurements, name) for name in MEASUREMENTS]
        asked = tuple(measurement for measurement in chosen if measurement is not None)
        if not asked and not self.settings.populations:
            self.problems.append(Problem("nothing is asked: allowed are populations, measurements, or both"))
        return asked

    def populations(self) -> list[tuple[str, Rule, Estimator, Start]]:
        """Return name, rule, gradient and start (None for the prior) of each population."""
        built: list[tuple[str, Rule, Estimator, Start]] = []
        folded: dict[str, str] = {}
        for name, chosen in self.settings.populations.items():
            path = ("populations", name)
            self.check_label(name, "populations")
            other = folded.setdefault(name.lower(), name)
            if other != name:
                self.at_key(f"'{name}' and '{other}' would share a folder where case does not count", *path)
            rule_type = RULES[chosen.rule]
            rule = rule_type(**{key: getattr(chosen, key) for key in rule_type.model_fields})
            gradient = self._gradient(chosen.gradient, rule, path)
            start = self._start(chosen.start, path)
            if gradient is not None:
                built.append((name, rule, gradient, start))
        return built

    def decomposition(self, populations: Mapping[str, tuple[Rule, Estimator, Start]]) -> Decomposition | None:
        """Return what is asked of the decomposition; it takes apart SGD whose noise is that of a minibatch alone."""
        asked = self.settings.decomposition
        if asked is None:
            return None
        path = ("decomposition", "population")
        if asked.population not in self.settings.populations:
            known = ", ".join(self.settings.populations) or "none"
            hint = nearest(asked.population, list(self.settings.populations))
            message = f"unknown population '{asked.population[:60]}'{hint}; known: {known}"
            self.problems.append(Problem(message, path))
        elif asked.population in populations:
            rule, gradient, start = populations[asked.population]
            if not isinstance(rule, Sgd) or rule.state or rule.clip:
                kind = rule.rule + " with momentum or clip" * isinstance(rule, Sgd)
                message = f"taken apart is sgd without momentum and clip; '{asked.population}' follows {kind}"
                self.problems.append(Problem(message, path))
            if isinstance(start, AtEndOf):
                message = f"taken apart is a population with a start of its own; '{asked.population}' has the {start}"
                self.problems.append(Problem(message, path))
            with self.at(*path):
                model_of(gradient, "isotropic")
        return asked

    def _gradient(self, chosen: Any, rule: Rule, path: Path) -> Estimator | None:
        written = rule.default_gradient if chosen is None else chosen
        if written is None:
            known = ", ".join(ESTIMATORS)
            message = f"this key is missing: the gradient makes the noise of this rule; known: {known}"
            self.problems.append(Problem(message, (*path, "gradient")))
            return None
        gradient = written if isinstance(written, Estimator) else ESTIMATORS[written]()
        if self.loss is not None:
            with self.at(*path, "gradient"):
                gradient.check(self.loss)
                kernel.check(self.loss, rule, gradient)
        return gradient

    def _start(self, chosen: str | Mapping[str, str | float], path: Path) -> Start:
        if isinstance(chosen, str):
            return None
        # A parameter may have such a name: then it is meant.
        if "stratum" in chosen and "stratum" not in self.names:
            return self._on_stratum(chosen, (*path, "start"))
        if "population" in chosen and "population" not in self.names:
            return self._at_end_of(chosen, (*path, "start"))
        self.check_known(chosen, *path, "start")
        missing = [name for name in self.names if name not in chosen]
        if missing:
            message = f"a start needs every parameter, or '{PRIOR}'; missing: {', '.join(missing)}"
            self.problems.append(Problem(message, (*path, "start")))
        starts = []
        for k, name in enumerate(self.names):
            if name in chosen:
                with self.at(*path, "start", name):
                    low, high = self.prior.bounds[k] if self.prior else (-float("inf"), float("inf"))
                    starts.append(_inside(distribution(chosen[name]), low, high))
        return tuple(starts)

    def _on_stratum(self, chosen: Mapping[str, str | float], path: Path) -> OnStratum | None:
        self._check_keys(chosen, ("stratum", "spread"), path)
        name, spread = str(chosen["stratum"]), chosen.get("spread", 0.0)
        self._check_named(name, "stratum", list(self.settings.strata), (*path, "stratum"))
        if isinstance(spread, str) or not 0 <= spread <= MAX_NUMBER:
            message = f"found {str(spread)[:60]!r}; allowed: a standard deviation, 0 or more"
            self.problems.append(Problem(message, (*path, "spread")))
            return None
        return OnStratum(name, float(spread))

    def _at_end_of(self, chosen: Mapping[str, str | float], path: Path) -> AtEndOf:
        self._check_keys(chosen, ("population",), path)
        name, listed = str(chosen["population"]), list(self.settings.populations)
        # Those above have run: no two can wait for each other.
        above = listed[: listed.index(str(path[1]))]
        self._check_named(name, "population above this one", above, (*path, "population"))
        return AtEndOf(name)

    def _check_keys(self, chosen: Mapping[str, str | float], allowed: Sequence[str], path: Path) -> None:
        for key in chosen:
            if key not in allowed:
                self.at_key(f"unknown key '{key[:60]}'{nearest(key, allowed)}; known: {', '.join(allowed)}", *path, key)

    def _check_named(self, name: str, kind: str, known: Sequence[str], path: Path) -> None:
        if name not in known:
            listed = ", ".join(known) or "none"
            self.problems.append(Problem(f"no {kind} is '{name[:60]}'{nearest(name, known)}; known: {listed}", path))


def distribution(text: str | float) -> Distribution:
    """Read a distribution whose numbers leave room for powers and products. Raises InputError."""
    read = Distribution.parse(text)
    if not all(number == 0 or 1 / MAX_NUMBER <= abs(number) <= MAX_NUMBER for number in read.arguments):
        limits = f"0 or of a magnitude between {1 / MAX_NUMBER:g} and {MAX_NUMBER:g}"
        raise InputError(f"found '{str(text)[:60]}'; allowed: numbers that are {limits}")
    return read


def fraction(value: str | float) -> Fraction:
    """Read "1/4", "0.25" or a number as an exact fraction. Raises InputError unless it is positive."""
    try:
        read = Fraction(str(value)) if len(str(value)) <= 50 else Fraction(0)
    except (ValueError, ZeroDivisionError):
        read = Fraction(0)
    if not read > 0:
        raise InputError(f"found '{str(value)[:60]}'; allowed: a positive number or a fraction such as 1/4")
    return read


def _inside(start: Distribution, low: float, high: float) -> Distribution:
    """Keep a start to the box. A density without bounds is cut there; what must lie outside is an error."""
    if start.family == "choice":
        lowest, highest = min(start.arguments), max(start.arguments)
    else:
        lowest, highest = start.low, start.high
    bounded = start.family in ("choice", "uniform")
    if bounded and not (low <= lowest and highest <= high):
        raise InputError(f"the start {start} lies outside the box [{low:g}, {high:g}]")
    return start if bounded else start.truncated(low, high)


def _texts(expressions: Expression | Sequence[Expression]) -> tuple[str, ...]:
    """Return one or several expressions as a tuple of texts."""
    many = (expressions,) if isinstance(expressions, str | int | float) else expressions
    return tuple(map(str, many))
