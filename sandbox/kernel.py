"""Loss x prior x gradient x rule -> compiled `advance`.

The kernel is a small module of generated text: the loss's gradient, the stages of the estimator and the rule, and
the one loop below that drives them. It moves a range of blocks through a range of steps, and nothing but its
arguments decides the result: whoever calls it may cut blocks and steps as they please.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy
from numba import types

from sandbox import jit
from sandbox.block import lane_code, normals_code, planes
from sandbox.draws import STREAM_RULE
from sandbox.expression import functions_used
from sandbox.gradients import GRADIENT, Estimator, Formula
from sandbox.loss import Loss
from sandbox.prior import Prior
from sandbox.rules import Rule

Array = npt.NDArray[Any]

_TEXT = '''\
"""A kernel of the sandbox, generated: {title}."""

import numpy as np

from sandbox.jit import LANES, cached_kernel, lane_function
{imports}

real = np.{dtype}


{functions}


@cached_kernel
def advance(positions, first_block, last_block, first_step, last_step, key, rates, constants, table, weights):
    w = np.empty({dimension} * LANES, real)
    g = np.empty({dimension} * LANES, real)
    s = np.empty({columns} * LANES, real)
    {allocate}
    for block in range(first_block, last_block):
        particle = block * LANES
        w[:] = positions[block]
        for step in range(first_step, last_step):
            rate = rates[step - first_step]
            {each_step}
        positions[block] = w
'''


@dataclass
class _Constants:
    """Numbers that the kernel is handed at run time, so that another value needs no other kernel."""

    values: list[float] = field(default_factory=list)

    def __call__(self, value: float) -> str:
        self.values.append(float(value))
        return f"constants[{len(self.values) - 1}]"


@dataclass(frozen=True)
class Kernel:
    """A compiled `advance` with the arguments that stay the same during a run."""

    compiled: Callable[..., None]
    text: str
    rule: Rule
    dimension: int
    constants: Array
    table: Array
    weights: Array

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 or float32."""
        return self.constants.dtype

    @property
    def from_cache(self) -> bool:
        """Whether the machine code came from disk."""
        return bool(self.compiled.stats.cache_hits)  # type: ignore[attr-defined]

    def pack(self, points: npt.NDArray[np.float64]) -> Array:
        """Return points (N, D) as blocks, shape (blocks, D * LANES); the last block repeats its first particle."""
        count, size = points.shape
        blocks = -(-count // jit.LANES)
        padded = np.concatenate([points, np.repeat(points[-1:], blocks * jit.LANES - count, axis=0)])
        lanes = padded.reshape(blocks, jit.LANES, size).transpose(0, 2, 1)
        return np.ascontiguousarray(lanes.reshape(blocks, -1), dtype=self.dtype)

    def unpack(self, positions: Array, count: int) -> npt.NDArray[np.float64]:
        """Return the first `count` particles of blocks as points (N, D)."""
        lanes = positions.reshape(len(positions), self.dimension, jit.LANES).transpose(0, 2, 1)
        return lanes.reshape(-1, self.dimension)[:count].astype(np.float64)

    def advance(
        self, positions: Array, blocks: tuple[int, int], steps: tuple[int, int], total: int, key: npt.NDArray[np.uint32]
    ) -> None:
        """Move blocks[0] <= block < blocks[1] in place through steps[0] <= step < steps[1] of `total`."""
        rates = self.rule.rates(np.arange(*steps), total).astype(self.dtype)
        self.compiled(positions, *blocks, *steps, key, rates, self.constants, self.table, self.weights)


def build(
    loss: Loss,
    prior: Prior,
    rule: Rule,
    gradient: Estimator,
    *,
    nbeta: float | None = None,
    reflecting: bool = True,
    dtype: str = "float64",
) -> Kernel:
    """Return the kernel that moves particles on `loss` by `rule` with `gradient`.

    `nbeta` is the inverse temperature times n of a rule that follows the posterior. With `reflecting`, particles are
    kept in the prior's box.
    """
    constant = _Constants()
    estimator = gradient.stage(loss, constant)
    estimate = list(estimator.estimate)
    # One pass over the block instead of two, where the estimate ends with the loss's gradient.
    is_last = estimate[-1] == GRADIENT
    del estimate[len(estimate) - is_last :]
    formula = estimator.formula or Formula(loss.gradient_expressions, loss.columns)
    parts = [_step_part(loss, prior, rule, nbeta, constant, formula, is_last)]
    if reflecting:
        parts.append(_walls_part(prior, constant))
    functions = list(estimator.functions)
    if any("gradient(" in line for line in estimate):
        names = planes("w", loss.symbols) | planes("s", formula.symbols)
        outputs = {f"g[{j} * LANES + i]": e for j, e in enumerate(formula.expressions)}
        functions.append(lane_code("gradient", ("w", "s", "g"), outputs, names))
    functions += [text for part in parts for text in part.functions]
    imports = [*estimator.imports, *(name for part in parts for name in part.imports)]
    imports += [f"sandbox.elementary.{name}" for name in functions_used("\n".join(functions).split("\n"))]
    each_step = [*estimate, *(line for part in parts for line in part.lines)]
    text = _TEXT.format(
        title=f"{rule.rule} with {gradient.name} gradients, D = {len(loss.parameters)}",
        imports=_import_lines(imports),
        dtype=dtype,
        functions="\n\n\n".join(functions),
        dimension=len(loss.parameters),
        columns=len(formula.symbols),
        allocate="\n    ".join([*estimator.allocate, *(line for part in parts for line in part.allocate)]),
        each_step="\n            ".join(each_step),
    )
    modules = {name.rpartition(".")[0] for name in imports}
    table, weights = (np.ascontiguousarray(array, dtype=dtype) for array in gradient.rows(loss))
    return Kernel(
        compiled=jit.compile_module(text, modules, "advance", _signature(dtype)),
        text=text,
        rule=rule,
        dimension=len(loss.parameters),
        constants=np.array([*constant.values, 0.0], dtype=dtype),
        table=table,
        weights=weights,
    )


@dataclass(frozen=True)
class _Part:
    """A piece of the loop's body, with what it needs."""

    lines: tuple[str, ...]
    allocate: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


def _step_part(
    loss: Loss,
    prior: Prior,
    rule: Rule,
    nbeta: float | None,
    constant: _Constants,
    formula: Formula,
    from_formula: bool,
) -> _Part:
    """Move w by the rule, with the gradient of L_n in g or, `from_formula`, straight from s."""
    size = len(loss.parameters)
    held, xi = _symbols("g", size), _symbols("xi", size) if rule.uses_normals else []
    gradients: Sequence[Any] = formula.expressions if from_formula else held
    scalars: dict[Any, str] = {}
    if rule.follows == "posterior":
        if nbeta is None:
            raise ValueError("a rule that follows the posterior needs nbeta")
        gradients = _posterior_gradient(loss, prior, gradients, nbeta, constant, scalars)
    (rate,) = _symbols("rate", 1)
    constants = _symbols("k", len(rule.constants()))
    scalars |= {rate: "rate"} | {k: constant(value) for k, value in zip(constants, rule.constants(), strict=True)}
    moved = rule.step(loss.symbols, gradients, xi, rate, constants)
    names = planes("w", loss.symbols) | planes("s", formula.symbols) | planes("g", held) | planes("xi", xi)
    outputs = {f"w[{j} * LANES + i]": expression for j, expression in enumerate(moved)}
    if not xi:
        code = lane_code("move", ("w", "s", "g", "rate", "constants"), outputs, names, scalars)
        return _Part(("move(w, s, g, rate, constants)",), functions=(code,))
    code = lane_code("move", ("w", "s", "g", "xi", "rate", "constants"), outputs, names, scalars)
    normals = normals_code("xi", size, STREAM_RULE)
    call = f"move(w, s, g, {normals.value}, rate, constants)"
    return _Part((*normals.lines, call), normals.allocate, normals.imports, (code,))


def _posterior_gradient(
    loss: Loss,
    prior: Prior,
    gradients: Sequence[Any],
    nbeta: float,
    constant: _Constants,
    scalars: dict[Any, str],
) -> list[Any]:
    """Return the gradient of nbeta L_n - log φ, given that of L_n; adds what it needs to `scalars`."""
    (temperature,) = _symbols("nbeta", 1)
    scalars[temperature] = constant(nbeta)
    result = []
    for j, (w, distribution) in enumerate(zip(loss.symbols, prior.distributions, strict=True)):
        arguments = _symbols(f"c{j}_", len(distribution.arguments))
        scalars |= {s: constant(value) for s, value in zip(arguments, distribution.arguments, strict=True)}
        result.append(temperature * gradients[j] + distribution.potential_gradient(w, arguments))
    return result


def _symbols(name: str, count: int) -> list[Any]:
    """Return symbols that no user can name."""
    return [sympy.Symbol(f"_{name}{j}", real=True) for j in range(count)]


def _walls_part(prior: Prior, constant: _Constants) -> _Part:
    """Reflect at the finite sides of the prior's box."""
    lines = tuple(
        f"reflect(w[{j} * LANES : {j + 1} * LANES], {constant(low)}, {constant(high)})"
        for j, (low, high) in enumerate(prior.bounds)
        if np.isfinite(low) or np.isfinite(high)
    )
    return _Part(lines, imports=("sandbox.block.reflect",) if lines else ())


def _import_lines(names: list[str]) -> str:
    pairs = sorted({tuple(name.rsplit(".", 1)) for name in names})
    return "\n".join(f"from {module} import {function}" for module, function in pairs)


def _signature(dtype: str) -> Any:
    real = getattr(types, dtype)
    flat, rows = types.Array(real, 1, "C"), types.Array(real, 2, "C")
    counts = (types.int64,) * 4
    return types.void(rows, *counts, types.Array(types.uint32, 1, "C"), flat, flat, rows, flat)
