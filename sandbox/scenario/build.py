"""From settings to the parts of a Scenario; checks that the keys fit together. All faults are reported at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import sympy

from sandbox.dynamics import kernel
from sandbox.dynamics.gradients.base import Estimator
from sandbox.dynamics.gradients.gaussian import model_of
from sandbox.dynamics.gradients.registry import ESTIMATORS
from sandbox.dynamics.population import AtEndOf, OnStratum, Population, Start, default_gradient
from sandbox.dynamics.rules.base import Rule
from sandbox.dynamics.rules.registry import RULES
from sandbox.dynamics.rules.sgd import Sgd
from sandbox.expressions.parsing import check_name, parse
from sandbox.expressions.quantity import Quantity
from sandbox.measurements.base import Measurement
from sandbox.measurements.registry import MEASUREMENTS
from sandbox.measurements.tracks import POSTERIOR
from sandbox.model.loss import Loss
from sandbox.model.lowest import lowest
from sandbox.model.prior import Distribution, Prior
from sandbox.model.problem import Problem
from sandbox.model.regression import Contrast as ContrastLoss
from sandbox.model.regression import Regression as RegressionLoss
from sandbox.model.regression import potential as potential_loss
from sandbox.model.strata import MAX_PARAMETERS, ZeroSet
from sandbox.posterior.quadrature.posteriors import MOST_PARAMETERS
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
from sandbox.scenario.values import MAX_NUMBER, distribution, inside, texts
from sandbox.tools.errors import InputError, InputProblem, nearest
from sandbox.tools.memory import check_fits

_COPIES = 3
"""The copies of the raw data that exist at a time while they are drawn."""
_LABEL = re.compile("[A-Za-z][A-Za-z0-9_-]{0,49}")


class Builder:
    """A builder of the parts of a scenario, one after the other; it collects the faults in `problems`.

    A part that cannot be built is None, and the parts that need it are left out.
    """

    def __init__(self, settings: ScenarioSettings):
        self.settings = settings
        self.problems: list[InputProblem] = []
        self.names = tuple(settings.parameters)
        self._check_names()
        self.prior = self._prior()
        self.model: RegressionLoss | ContrastLoss | None = None
        self.loss, self.population_loss = self._losses()
        self.nbeta = self._nbeta()

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Catch an InputError of the `with` block and collect its problems, placed below `path`."""
        try:
            yield
        except InputError as error:
            self.problems += error.within(*path).problems

    def at_key(self, message: str, *path: str | int) -> None:
        """Collect a problem with the last key of `path`."""
        self.problems.append(AtKey(message, path))

    def check_known(self, found: Collection[str], *path: str | int) -> None:
        """Collect a problem for each name in `found`, a key of the mapping at `path`, that is not a parameter."""
        for name in found:
            if name not in self.names:
                hint = nearest(name, self.names)
                self.at_key(f"unknown parameter '{name[:60]}'{hint}; known: {', '.join(self.names)}", *path, name)

    def check_label(self, name: str, *path: str) -> None:
        """Collect a problem if `name` cannot be the name of a folder and of a coordinate."""
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
        if self.settings.witness.method == "quadrature" and len(self.names) > MOST_PARAMETERS:
            message = (
                f"found quadrature of {len(self.names)} parameters; allowed: at most {MOST_PARAMETERS}, or sampling"
            )
            self.problems.append(InputProblem(message, ("witness", "method")))

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
        """Return the loss that particles follow, and its limit for many samples; they agree if there are no samples."""
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
        if len(self.problems) > before or self.prior is None:
            return None, None
        built = potential_loss(self.names, str(loss.potential), rows)
        offset = lowest(built, self.prior).rounded if loss.offset == "auto" else loss.offset
        built = replace(built, sample_loss=built.sample_loss - sympy.Rational(repr(offset)))
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
            else RegressionLoss(self.names, texts(loss.model), texts(loss.truth), inputs, loss.noise)
        )
        self.model = model
        population = model.population()
        # The schema allows one text here: "population".
        if isinstance(loss.samples, str):
            return population, population
        with self.at("loss", "samples"):
            numbers = len(population.columns) + _COPIES * len(population.data_symbols)
            check_fits(8.0 * loss.samples * numbers, "fewer samples need less")
            return model.sampled(loss.samples, self.settings.seed), population
        return None, population

    def expressions(
        self, text: Expression | Sequence[Expression], names: Sequence[str], *path: str | int
    ) -> tuple[Any, ...]:
        """Parse one or several expressions into SymPy; collect the faults of each, and leave out a faulty one."""
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
            self.problems.append(InputProblem(message, ("nbeta",)))
        return float(self.loss.samples) if self.loss is not None and self.loss.samples is not None else None

    def measurements(self) -> tuple[Measurement, ...]:
        """Return the measurements; a scenario needs at least one measurement or population."""
        chosen = [getattr(self.settings.measurements, name) for name in MEASUREMENTS]
        asked = tuple(measurement for measurement in chosen if measurement is not None)
        if not asked and not self.settings.populations:
            self.problems.append(InputProblem("nothing to compute; allowed: populations, measurements, or both"))
        for measurement in asked:
            if measurement.needs_strata:
                self._need_strata("measurements", measurement.name)
        return asked

    def _need_strata(self, *path: str) -> None:
        if not self.settings.strata:
            self.problems.append(InputProblem(f"{path[-1]} needs `strata`; this scenario lists none", path))

    def problem(self, zero_set: ZeroSet | None, derived: tuple[Quantity, ...]) -> Problem | None:
        """Return the problem of particles estimator and posterior, None where a part of it could not be built."""
        if not (self.prior and self.loss and self.population_loss and zero_set and self.nbeta):
            return None
        return Problem(
            loss=self.loss,
            prior=self.prior,
            zero_set=zero_set,
            nbeta=self.nbeta,
            seed=self.settings.seed,
            population_loss=self.population_loss,
            model=self.model,
            derived=derived,
            walls=self.settings.box.walls,
        )

    def populations(self) -> tuple[Population, ...]:
        """Return the populations that could be built."""
        built: list[Population] = []
        folded: dict[str, str] = {}
        for name, chosen in self.settings.populations.items():
            path = ("populations", name)
            self.check_label(name, "populations")
            if name == POSTERIOR:
                self.at_key(f"'{name}' is the name for the posterior samples; choose another name", *path)
            other = folded.setdefault(name.lower(), name)
            if other != name:
                self.at_key(f"'{name}' and '{other}' would share a folder on a file system that ignores case", *path)
            rule_type = RULES[chosen.rule]
            rule = rule_type(**{key: getattr(chosen, key) for key in rule_type.model_fields})
            gradient = self._gradient(chosen.gradient, rule, path)
            start = self._start(chosen.start, path)
            if gradient is not None:
                built.append(Population(name, rule, gradient, start))
        return tuple(built)

    def decomposition(self, populations: Sequence[Population]) -> Decomposition | None:
        """Return the decomposition's settings; it applies to SGD whose only noise comes from minibatches."""
        asked = self.settings.decomposition
        if asked is None:
            return None
        self._need_strata("decomposition")
        path = ("decomposition", "population")
        if asked.population not in self.settings.populations:
            known = ", ".join(self.settings.populations) or "none"
            hint = nearest(asked.population, list(self.settings.populations))
            message = f"unknown population '{asked.population[:60]}'{hint}; known: {known}"
            self.problems.append(InputProblem(message, path))
        for population in populations:
            if population.name != asked.population:
                continue
            rule, gradient, start = population.rule, population.gradient, population.start
            if not isinstance(rule, Sgd) or rule.state or rule.clip:
                kind = rule.rule + " with momentum or clip" * isinstance(rule, Sgd)
                message = f"the decomposition needs sgd without momentum and clip; '{asked.population}' follows {kind}"
                self.problems.append(InputProblem(message, path))
            if isinstance(start, AtEndOf):
                message = f"the decomposition needs a start of its own; '{asked.population}' starts at the {start}"
                self.problems.append(InputProblem(message, path))
            with self.at(*path):
                model_of(gradient, "isotropic")
        return asked

    def _gradient(self, chosen: Any, rule: Rule, path: Path) -> Estimator | None:
        with self.at(*path, "gradient"):
            gradient = default_gradient(rule) if chosen is None else chosen
            gradient = gradient if isinstance(gradient, Estimator) else ESTIMATORS[gradient]()
            if self.loss is not None:
                gradient.check(self.loss)
                kernel.check(self.loss, rule, gradient)
            return gradient
        return None

    def _start(self, chosen: str | Mapping[str, str | float], path: Path) -> Start:
        if isinstance(chosen, str):
            return None
        # If a parameter is called `stratum` or `population`, the key means that parameter.
        if "stratum" in chosen and "stratum" not in self.names:
            return self._on_stratum(chosen, (*path, "start"))
        if "population" in chosen and "population" not in self.names:
            return self._at_end_of(chosen, (*path, "start"))
        self.check_known(chosen, *path, "start")
        missing = [name for name in self.names if name not in chosen]
        if missing:
            message = f"a start needs every parameter, or '{PRIOR}'; missing: {', '.join(missing)}"
            self.problems.append(InputProblem(message, (*path, "start")))
        starts = []
        for k, name in enumerate(self.names):
            if name in chosen:
                with self.at(*path, "start", name):
                    low, high = self.prior.bounds[k] if self.prior else (-float("inf"), float("inf"))
                    starts.append(inside(distribution(chosen[name]), low, high))
        return tuple(starts)

    def _on_stratum(self, chosen: Mapping[str, str | float], path: Path) -> OnStratum | None:
        self._check_keys(chosen, ("stratum", "spread"), path)
        name, spread = str(chosen["stratum"]), chosen.get("spread", 0.0)
        self._check_named(name, "stratum", list(self.settings.strata), (*path, "stratum"))
        if isinstance(spread, str) or not 0 <= spread <= MAX_NUMBER:
            message = f"found {str(spread)[:60]!r}; allowed: a standard deviation, 0 or more"
            self.problems.append(InputProblem(message, (*path, "spread")))
            return None
        return OnStratum(name, float(spread))

    def _at_end_of(self, chosen: Mapping[str, str | float], path: Path) -> AtEndOf:
        self._check_keys(chosen, ("population",), path)
        name, listed = str(chosen["population"]), list(self.settings.populations)
        # Populations run in order, so a start at the end of a later one (or a cycle) is impossible.
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
            self.problems.append(
                InputProblem(f"no {kind} is '{name[:60]}'{nearest(name, known)}; known: {listed}", path)
            )
