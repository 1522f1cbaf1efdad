"""The source text of a kernel's step, generated from a rule's update: each symbol's place in memory, and the walls.

A block holds the D coordinates of a particle, then the rule's states, then its scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy

from sandbox.compiled.random_numbers import STREAM_ACCEPTANCE, STREAM_RULE
from sandbox.dynamics.codegen.lane_code import lane_code, normals_code, planes
from sandbox.dynamics.rules.base import Particle, Rule
from sandbox.expressions.functions import Absolute
from sandbox.model.prior import Distribution, Prior

Constant = Callable[[float], str]


def sizes(rule: Rule, dimension: int) -> dict[str, int]:
    """Return the number of planes of each state and scalar of a rule, in their order."""
    return dict.fromkeys(rule.state, dimension) | dict.fromkeys(rule.scalars, 1)


def planes_of(rule: Rule, dimension: int) -> int:
    """Return the count of numbers stored for a particle: its coordinates, states and scalars."""
    return dimension + sum(sizes(rule, dimension).values())


@dataclass(frozen=True)
class Part:
    """Lines of the loop's body, run `before` the gradient is estimated or after it, with the code that they need."""

    lines: tuple[str, ...]
    before: tuple[str, ...] = ()
    allocate: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass
class Update:
    """A rule's update in symbols, with the source text of each symbol.

    `symbols` are the loss's parameters. g holds the gradient of L_n, and L_n for a metropolized rule, unless `outputs`
    gives both as expressions in `columns`, which are in s. Both are taken at the first planes of w. These hold the
    particle; for a metropolized rule they hold the proposed particle, the particle comes next, and the log ratio last.
    Several arrays in place of w would make the compiler check for overlaps, and it gives up.
    """

    symbols: Sequence[Any]
    prior: Prior
    rule: Rule
    nbeta: float
    constant: Constant
    columns: Sequence[Any]
    outputs: Sequence[Any] | None
    names: dict[Any, str] = field(default_factory=dict)
    scalars: dict[Any, str] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """The first plane of w that belongs to the particle."""
        return planes_of(self.rule, len(self.symbols)) if self.rule.is_metropolized else 0

    @property
    def planes(self) -> int:
        """The number of planes in w."""
        return 2 * self.first + 1 if self.rule.is_metropolized else planes_of(self.rule, len(self.symbols))

    def parts(self) -> tuple[Part, ...]:
        """Return the lines of the move, or of the proposal and its acceptance."""
        p = self._particle()
        size = len(self.symbols)
        normals = normals_code("xi", size, STREAM_RULE) if self.rule.uses_normals else None
        drawn = Part((), normals.lines, normals.allocate, normals.imports) if normals else Part(())
        given = [*(["xi"] if normals else []), "rate", "constants"]
        handed = ([normals.value] if normals else []) + given[-2:]
        if self.rule.is_metropolized:
            return drawn, self._metropolized(p, given, handed)
        code = self._code("move", ("w", "s", "g", *given), self._moved(p))
        return Part(drawn.before, (), drawn.allocate, drawn.imports), Part(
            (f"move(w, s, g, {', '.join(handed)})",), functions=(code,)
        )

    def _metropolized(self, p: Particle, given: list[str], handed: list[str]) -> Part:
        """Return the lines that propose coordinates, complete the proposed particle, and accept or reject it."""
        proposal = {f"w[{j} * LANES + i]": e for j, e in enumerate(self.rule.proposal(p))}
        outputs = self._moved(p) | {f"w[{2 * self.first} * LANES + i]": self.rule.log_acceptance(p)}
        ratio = f"w[{2 * self.first} * LANES :]"
        coins = normals_code("coins", 2, STREAM_ACCEPTANCE)
        rejected = [
            f"reject_outside({ratio}, w[{j} * LANES : {j + 1} * LANES], {self.constant(low)}, {self.constant(high)})"
            for j, (low, high) in enumerate(self.prior.bounds)
            if np.isfinite(low) or np.isfinite(high)
        ]
        lanes = ["accept", *(["reject_outside"] if rejected else [])]
        return Part(
            before=(f"propose(w, {', '.join(handed)})",),
            lines=(
                f"weigh(w, s, g, {', '.join(handed)})",
                *rejected,
                *coins.lines,
                f"accept(w, {self.first}, {coins.value})",
            ),
            allocate=coins.allocate,
            imports=(*coins.imports, *(f"sandbox.dynamics.codegen.step_lanes.{name}" for name in lanes)),
            functions=(
                self._code("propose", ("w", *given), proposal),
                self._code("weigh", ("w", "s", "g", *given), outputs),
            ),
        )

    def _code(self, name: str, arguments: Sequence[str], outputs: dict[str, Any]) -> str:
        return lane_code(name, arguments, outputs, self.names, self.scalars)

    def _moved(self, p: Particle) -> dict[str, Any]:
        """Return the new expression of each number that changes in the step, by the source text of its target in w."""
        moved = self.rule.step(p)
        size = len(p.w)
        outputs = {f"w[{j} * LANES + i]": expression for j, expression in enumerate(moved.w)}
        for name, count in sizes(self.rule, size).items():
            start = _start_of(self.rule, size, name)
            outputs |= {f"w[{start + j} * LANES + i]": e for j, e in enumerate(moved.state.get(name, ()))}
            assert name not in moved.state or len(moved.state[name]) == count
        return outputs

    def _particle(self) -> Particle:
        """Return the symbols that the rule gets, and store the source text of each."""
        rule, symbols = self.rule, self.symbols
        size = len(symbols)
        metropolized = rule.is_metropolized
        held, xi = _symbols("g", size + metropolized), _symbols("xi", size) if rule.uses_normals else []
        here = _symbols("x", size) if metropolized else list(symbols)
        state = {name: _symbols(f"state_{name}", count) for name, count in sizes(rule, size).items()}
        self.names |= planes("w", symbols) | planes("s", self.columns) | planes("g", held) | planes("xi", xi)
        carried = [*here, *(symbol for group in state.values() for symbol in group)]
        self.names |= planes("w", carried, str(self.first) if metropolized else "")
        gradients: Sequence[Any] = held if self.outputs is None else self.outputs
        (rate,) = _symbols("rate", 1)
        constants = _symbols("k", len(rule.constants()))
        numbers = _symbols("number", rule.numbers(np.arange(0)).shape[1])
        followed = self._posterior(gradients) if rule.follows == "posterior" else gradients
        self.scalars |= {symbol: f"rate[{j}]" for j, symbol in enumerate([rate, *numbers])}
        self.scalars |= {k: self.constant(value) for k, value in zip(constants, rule.constants(), strict=True)}
        return Particle(
            w=here,
            g=followed[:size],
            loss_gradient=gradients[:size],
            state=state,
            xi=xi,
            rate=rate,
            numbers=numbers,
            constants=constants,
            proposal=list(symbols) if metropolized else (),
            energy=followed[size] if metropolized else None,
        )

    def _posterior(self, outputs: Sequence[Any]) -> list[Any]:
        """Return the gradient of nbeta L_n - log φ, then the function itself if L_n follows in `outputs`."""
        (temperature,) = _symbols("nbeta", 1)
        self.scalars[temperature] = self.constant(self.nbeta)
        result, own = [], []
        for j, (w, distribution) in enumerate(zip(self.symbols, self.prior.distributions, strict=True)):
            arguments = _symbols(f"c{j}_", len(distribution.arguments))
            self.scalars |= {s: self.constant(v) for s, v in zip(arguments, distribution.arguments, strict=True)}
            result.append(temperature * outputs[j] + distribution.potential_gradient(w, arguments))
            own.append(prior_potential(distribution, w, arguments))
        return result + [temperature * energy + sympy.Add(*own) for energy in outputs[len(result) :]]


def prior_potential(distribution: Distribution, w: Any, arguments: Sequence[Any]) -> Any:
    """Return -log density inside the support, up to a constant; `potential_gradient` is its derivative."""
    if distribution.family == "normal":
        return (w - arguments[0]) ** 2 / (2 * arguments[1] ** 2)
    return Absolute(w - arguments[0]) / arguments[1] if distribution.family == "laplace" else sympy.S.Zero


def _start_of(rule: Rule, dimension: int, state: str) -> int:
    """Return the first plane of a state."""
    found = sizes(rule, dimension)
    names = list(found)
    return dimension + sum(found[name] for name in names[: names.index(state)])


def _symbols(name: str, count: int) -> list[Any]:
    """Return `count` real symbols with names that a user cannot give."""
    return [sympy.Symbol(f"_{name}{j}", real=True) for j in range(count)]


def walls_part(prior: Prior, rule: Rule, constant: Constant) -> Part:
    """Return the lines that reflect at the finite sides of the prior's box, and change the sign of odd states there."""
    lines: list[str] = []
    size = len(prior.distributions)
    flipped = [_start_of(rule, size, name) for name in rule.state if name in rule.flips_at_wall]
    for j, (low, high) in enumerate(prior.bounds):
        if np.isfinite(low) or np.isfinite(high):
            walls = f"w[{j} * LANES : {j + 1} * LANES], {constant(low)}, {constant(high)}"
            lines += [f"flip_at_wall(w[{k + j} * LANES : {k + j + 1} * LANES], {walls})" for k in flipped]
            lines.append(f"reflect({walls})")
    imports = ["sandbox.compiled.lanes.reflect"] * bool(lines) + [
        "sandbox.dynamics.codegen.step_lanes.flip_at_wall"
    ] * bool(lines and flipped)
    return Part(tuple(lines), imports=tuple(imports))
