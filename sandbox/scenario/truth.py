"""From settings to W0 with its strata, the derived quantities and the view: all expressions in the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy

from sandbox.expressions.conditions import parse_conditions
from sandbox.expressions.parsing import check_name, symbol, written_out
from sandbox.expressions.quantity import Quantity
from sandbox.model.loss import Loss
from sandbox.model.lowest import lowest
from sandbox.model.prior import Prior
from sandbox.model.regression import Contrast
from sandbox.model.strata import DIVERGED, ELSEWHERE, Stratum, Symmetry, ZeroSet, lattice
from sandbox.scenario.build import Builder
from sandbox.scenario.document import Path
from sandbox.scenario.schema import Potential
from sandbox.scenario.schema import Stratum as StratumSettings
from sandbox.scenario.values import fraction
from sandbox.tools.errors import InputError, InputProblem, nearest

MAX_IMAGES = 48
"""The largest order of the group that the declared symmetries may generate, identity included."""
MAX_OPERATIONS, MAX_DEPTH = 5_000, 150
"""The largest derived quantity: one with others in it may double in each line."""
_ROUNDING = 1e-9


class Truth:
    """W0, the derived quantities and the view of a scenario; faults are added to the builder's `problems`."""

    def __init__(self, builder: Builder):
        self.builder = builder
        self.names = builder.names
        self.known: dict[Any, Any] = self._support()
        self.derived = self._derived()
        self.view = self._view()
        self.zero_set = self._zero_set()

    def _support(self) -> dict[Any, Any]:
        """Return the finite ends of the inputs' supports, keyed by their symbols, such as x_min."""
        ends: dict[Any, Any] = {}
        model = self.builder.model
        for name, source in (model.inputs if model else {}).items():
            values = (
                (min(source.arguments), max(source.arguments))
                if source.family == "choice"
                else (source.low, source.high)
            )
            for end, value in zip(("min", "max"), values, strict=True):
                if np.isfinite(value):
                    ends[symbol(f"{name}_{end}")] = sympy.Rational(repr(float(value)))
        return {s: value for s, value in ends.items() if s.name not in self.names}

    def _derived(self) -> tuple[Quantity, ...]:
        found, sizes = [], dict[Any, tuple[int, int]]()
        for name, text in self.builder.settings.derived.items():
            before = len(self.builder.problems)
            try:
                check_name(name)
            except InputError as error:
                self.builder.at_key(error.problems[0].message, "derived", name)
            taken = {
                *self.names,
                *(self.builder.model.inputs if self.builder.model else ()),
                *(s.name for s in self.known),
            }
            if name in taken:
                self.builder.at_key(f"'{name}' has a meaning already; choose another name", "derived", name)
            expressions = self._derivable(text, sizes, "derived", name)
            if len(self.builder.problems) == before:
                self.known[symbol(name)] = expressions[0]
                found.append(Quantity(name, expressions[0], self.names))
        return tuple(found)

    def _derivable(self, text: Any, sizes: dict[Any, tuple[int, int]], *path: str) -> tuple[Any, ...]:
        """Return a derived quantity unless it is huge once those in it, whose `sizes` are given, are written out."""
        parsed = self.builder.expressions(text, [*self.names, *(s.name for s in self.known)], *path)
        for expression in parsed:
            operations, depth = sizes[symbol(path[-1])] = written_out(expression, sizes)
            if operations > MAX_OPERATIONS or depth > MAX_DEPTH:
                allowed = f"{MAX_OPERATIONS:,} operations, nested {MAX_DEPTH} deep"
                message = (
                    f"with the quantities in it written out this has {operations:,}, {depth} deep; allowed: {allowed}"
                )
                self.builder.problems.append(InputProblem(message, path))
                # Its name stays known, so that later lines are not refused as well.
                self.known[symbol(path[-1])] = sympy.S.Zero
                sizes[symbol(path[-1])] = (1, 1)
        return tuple(e.xreplace(self.known) for e in parsed)

    def _expressions(self, text: Any, *path: str | int) -> tuple[Any, ...]:
        """Return one or several expressions in the parameters; derived quantities and supports are substituted."""
        allowed = [*self.names, *(s.name for s in self.known)]
        return tuple(e.xreplace(self.known) for e in self.builder.expressions(text, allowed, *path))

    def _view(self) -> tuple[Quantity, Quantity] | None:
        if self.builder.settings.view is None:
            return None
        before = len(self.builder.problems)
        texts = self.builder.settings.view
        found = self._expressions(texts, "view")
        if len(self.builder.problems) > before:
            return None
        first, second = (Quantity(str(t), e, self.names) for t, e in zip(texts, found, strict=True))
        return first, second

    def _zero_set(self) -> ZeroSet | None:
        """Return W0 with its strata; the population loss on each must be the stratum's `excess`, else a problem."""
        builder = self.builder
        before = len(builder.problems)
        strata = tuple(self._stratum(name, chosen) for name, chosen in builder.settings.strata.items())
        symmetries = self._symmetries()
        if len(builder.problems) > before or builder.prior is None or builder.population_loss is None:
            return None
        if isinstance(builder.model, Contrast):
            with builder.at("loss", "contrast"):
                _check_contrast(builder.population_loss, builder.prior.quantile(lattice(512, len(self.names))))
        zero_set = ZeroSet(self.names, strata, builder.settings.tube, symmetries)
        with builder.at("loss", *(["potential"] if isinstance(builder.settings.loss, Potential) else [])):
            _check_minimum(builder.population_loss, builder.prior, zero_set, is_potential=builder.model is None)
        if len(builder.problems) == before:
            with builder.at("strata"):
                zero_set.check(builder.population_loss, builder.prior)
        return zero_set

    def _stratum(self, name: str, chosen: StratumSettings) -> Stratum:
        builder, path = self.builder, ("strata", name)
        builder.check_label(name, "strata")
        if name in (ELSEWHERE, DIVERGED):
            builder.at_key(f"'{name}' is the name for particles on no stratum; choose another name", *path)
        zero = self._expressions(chosen.zero, *path, "zero")
        along = () if chosen.along is None else self._expressions(chosen.along, *path, "along")
        coefficient = None
        if chosen.learning_coefficient is not None:
            with builder.at(*path, "learning_coefficient"):
                coefficient = fraction(chosen.learning_coefficient)
        elif chosen.multiplicity is not None:
            message = "multiplicity needs learning_coefficient, which is missing"
            builder.at_key(message, *path, "multiplicity")
        return Stratum(
            name,
            zero,
            along[0] if along else None,
            coefficient,
            chosen.multiplicity,
            self._where(chosen.where, (*path, "where")),
            chosen.excess,
        )

    def _where(self, texts: str | tuple[str, ...], path: Path) -> tuple[Any, ...]:
        allowed = [*self.names, *(s.name for s in self.known)]
        found: list[Any] = []
        for k, text in enumerate((texts,) if isinstance(texts, str) else texts):
            with self.builder.at(*path, *(() if isinstance(texts, str) else (k,))):
                found += parse_conditions(text, allowed)
        return tuple(e.xreplace(self.known) for e in found)

    def _symmetries(self) -> tuple[Symmetry, ...]:
        """Return the group generated by the declared symmetries, without the identity."""
        builder = self.builder
        declared = []
        for name, images in builder.settings.symmetries.items():
            before = len(builder.problems)
            symmetry = self._symmetry(images, ("symmetries", name))
            if symmetry is not None and builder.population_loss is not None and builder.prior is not None:
                with builder.at("symmetries", name):
                    _check_symmetry(
                        symmetry, builder.population_loss, builder.prior.quantile(lattice(64, len(self.names)))
                    )
            if symmetry is not None and len(builder.problems) == before:
                declared.append(symmetry)
        identity = Symmetry(tuple(range(len(self.names))), (1,) * len(self.names))
        group = {identity}
        while fresh := {s.after(g) for s in declared for g in group} - group:
            group |= fresh
            if len(group) > MAX_IMAGES:
                builder.problems.append(
                    InputProblem(f"these generate more than {MAX_IMAGES} symmetries", ("symmetries",))
                )
                return ()
        return tuple(sorted(group - {identity}, key=lambda s: (s.axes, s.signs)))

    def _symmetry(self, images: Mapping[str, str], path: Path) -> Symmetry | None:
        """Return the map from w to its image; parameters that are not named stay fixed."""
        before = len(self.builder.problems)
        self.builder.check_known(images, *path)
        axes, signs = list(range(len(self.names))), [1] * len(self.names)
        for name, text in images.items():
            bare = text.strip().removeprefix("-").strip()
            if bare not in self.names:
                hint = nearest(bare, self.names)
                message = f"found '{text[:60]}'{hint}; allowed: a parameter or its negative, such as -a"
                self.builder.problems.append(InputProblem(message, (*path, name)))
            elif name in self.names:
                axes[self.names.index(name)] = self.names.index(bare)
                signs[self.names.index(name)] = -1 if text.strip().startswith("-") else 1
        if len(self.builder.problems) == before and sorted(axes) != list(range(len(self.names))):
            message = "not an exchange: each parameter must be the image of exactly one (give both: a1: a2, a2: a1)"
            self.builder.problems.append(InputProblem(message, path))
        return Symmetry(tuple(axes), tuple(signs)) if len(self.builder.problems) == before else None


def _check_contrast(loss: Loss, points: np.ndarray) -> None:
    """Raise InputError if the mean over the truth is negative anywhere: a Kullback-Leibler divergence never is."""
    excess = loss.excess(points)
    if not np.isfinite(excess).any():
        raise InputError("its mean over the inputs is a finite number at none of the points that were tried")
    worst = int(np.argmin(np.where(np.isnan(excess), np.inf, excess)))
    if excess[worst] < -_ROUNDING * (1 + np.nanmedian(np.abs(excess))):
        at = ", ".join(f"{n} = {v:.4g}" for n, v in zip(loss.parameters, points[worst], strict=True))
        raise InputError(
            f"its mean over the inputs is {excess[worst]:.4g} at {at}; allowed is log q(x) - log p(x | w) with the "
            "density q of the inputs, whose mean is nowhere negative"
        )


def _check_minimum(loss: Loss, prior: Prior, zero_set: ZeroSet, *, is_potential: bool) -> None:
    """Raise InputError if the loss does not depend on the parameters, or a potential's minimum is not 0."""
    on_strata = [zero_set.sample(prior, k, 16) for k, stratum in enumerate(zero_set.strata) if stratum.excess == 0]
    if not is_potential:
        heights = loss.excess(np.concatenate([prior.quantile(lattice(512, len(prior.names))), *on_strata]))
        heights = heights[np.isfinite(heights)]
        if len(heights) and np.ptp(heights) == 0:
            raise InputError(f"K = {heights[0]:.4g} at every point: it does not depend on the parameters")
        return
    found = lowest(loss, prior, np.concatenate([np.empty((0, len(prior.names))), *on_strata]))
    if found.is_flat:
        raise InputError(f"K = {found.value:.4g} at every point: it does not depend on the parameters")
    if not found.is_zero:
        at = ", ".join(f"{name} = {v:.4g}" for name, v in zip(prior.names, found.point, strict=True))
        raise InputError(
            f"K = potential - offset is as low as {found.value:.6g} at {at}; allowed: a minimum of 0 over the prior's "
            "support. `offset: auto` beside `potential` subtracts the minimum"
        )


def _check_symmetry(symmetry: Symmetry, loss: Loss, points: np.ndarray) -> None:
    """Raise InputError if the loss differs between a point and its image."""
    here, there = loss.excess(points), loss.excess(symmetry(points))
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(here - there) <= _ROUNDING * (np.abs(here) + np.abs(there) + np.nanmedian(np.abs(here))))
    if wrong.any():
        k = int(np.argmax(wrong))
        raise InputError(
            f"this does not leave the loss as it is: K = {here[k]:.6g} at a point, {there[k]:.6g} at its image"
        )
