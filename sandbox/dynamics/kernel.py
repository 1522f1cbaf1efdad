"""The kernel: a compiled `advance`, built from a loss, a prior, a gradient estimator and a rule.

The kernel is a small module of generated text: the loss's gradient, the stages of the estimator and the rule, and
the one loop below that drives them. In a block, the rule's states (a velocity, for example) follow the positions. A
call moves a range of blocks through a range of steps. Its arguments alone decide the result, so the caller may divide
blocks and steps in any way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy
from numba import types

from sandbox.compiled.functions import LANES, compile_module
from sandbox.dynamics.codegen.lane_code import lane_code, planes
from sandbox.dynamics.codegen.step_code import Update, planes_of, prior_potential, sizes, walls_part
from sandbox.dynamics.gradients.base import GRADIENT, Estimator, Formula, Stage
from sandbox.dynamics.gradients.gaussian import model_of
from sandbox.dynamics.gradients.label_noise import labelled
from sandbox.dynamics.rules.base import Potential, Rule
from sandbox.expressions.emission import functions_used
from sandbox.expressions.evaluation import numpy_function
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.tools.arrays import Array

Blocks = npt.NDArray[Any]
"""Numbers in the kernel's precision."""

_NO_KEY = np.zeros(2, np.uint32)

_TEXT = '''\
"""A kernel of the sandbox, generated: {title}."""

import numpy as np

from sandbox.compiled.functions import lane_function
{imports}

real = np.{dtype}


{functions}


def advance(positions, first_block, last_block, first_step, last_step, key, rates, constants, table, weights):
    w = scratch({planes} * LANES, real)
    x = w[{first} * LANES : {last} * LANES]
    width = {slopes} * LANES
    g = scratch(width, real)
    s = scratch({columns} * LANES, real)
    {allocate}
    for block in range(first_block, last_block):
        particle = block * LANES
        copy(x, positions[block])
        for tick in range(first_step, last_step):
            rate = rates[tick - first_step]
            {each_step}
        copy(positions[block], x)
'''


@dataclass
class _Constants:
    """Numbers that the kernel gets at run time, so that another value needs no other kernel."""

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
    constants: Blocks
    table: Blocks
    weights: Blocks
    potential: Potential

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the particles' numbers, float64 or float32."""
        return self.constants.dtype

    @property
    def from_cache(self) -> bool:
        """Whether the machine code was read from disk."""
        return bool(self.compiled.stats.cache_hits)  # type: ignore[attr-defined]

    @property
    def planes(self) -> int:
        """The count of numbers stored for a particle: D coordinates, then the rule's states and scalars."""
        return planes_of(self.rule, self.dimension)

    def pack(self, points: Array, key: npt.NDArray[np.uint32] = _NO_KEY) -> Blocks:
        """Return points (N, D) as blocks, shape (blocks, planes * LANES); copies of the last particle fill the end.

        The blocks include the rule's states at the start of a run; `key` is for the random numbers of these states.
        """
        carried = np.concatenate([points, self.rule.initial_state(points, key, self.potential)], axis=1)
        count, size = carried.shape
        blocks = -(-count // LANES)
        padded = np.concatenate([carried, np.repeat(carried[-1:], blocks * LANES - count, axis=0)])
        lanes = padded.reshape(blocks, LANES, size).transpose(0, 2, 1)
        return np.ascontiguousarray(lanes.reshape(blocks, -1), dtype=self.dtype)

    def unpack(self, positions: Blocks, count: int) -> Array:
        """Return the first `count` particles of the blocks as points (count, D)."""
        return self._carried(positions, count)[:, : self.dimension]

    def state(self, positions: Blocks, count: int) -> dict[str, Array]:
        """Return the rule's states (count, D) and scalars (count,) of the first `count` particles, by name."""
        names = [name for name, size in sizes(self.rule, self.dimension).items() for _ in range(size)]
        carried = self._carried(positions, count)[:, self.dimension :]
        columns = {name: [k for k, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
        scalars = set(self.rule.scalars)
        return {name: carried[:, k[0]] if name in scalars else carried[:, k] for name, k in columns.items()}

    def _carried(self, positions: Blocks, count: int) -> Array:
        lanes = positions.reshape(len(positions), self.planes, LANES).transpose(0, 2, 1)
        return lanes.reshape(-1, self.planes)[:count].astype(np.float64)

    def advance(
        self,
        positions: Blocks,
        blocks: tuple[int, int],
        steps: tuple[int, int],
        total: int,
        key: npt.NDArray[np.uint32],
    ) -> None:
        """Move blocks[0] <= block < blocks[1], in place, through steps[0] <= step < steps[1] of `total`."""
        moves = self.rule.moves_per_step
        first, last = (moves * step for step in steps)
        numbers = np.arange(first, last)
        rates = np.column_stack([self.rule.rates(numbers, moves * total), self.rule.numbers(numbers)])
        arguments = (rates.astype(self.dtype), self.constants, self.table, self.weights)
        self.compiled(positions, *blocks, first, last, key, *arguments)


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

    `nbeta` is the inverse temperature times n of a rule that follows the posterior; without it, ValueError is raised.
    With `reflecting`, particles are kept in the prior's box; a rule that accepts or rejects proposals stays there
    anyway. Raises InputError if the rule cannot use this gradient.
    """
    if rule.follows == "posterior" and nbeta is None:
        raise ValueError("a rule that follows the posterior needs nbeta")
    constant = _Constants()
    gradient, sampled = _as_modelled(loss, rule, gradient)
    estimator = _stage(sampled, rule, gradient, constant)
    estimate = list(estimator.estimate)
    # If the estimate ends with the loss's gradient, one pass over the block replaces two.
    is_last = estimate[-1] == GRADIENT
    del estimate[len(estimate) - is_last :]
    formula = estimator.formula or Formula(loss.gradient_expressions, loss.columns)
    direct = formula.expressions if is_last else None
    update = Update(loss.symbols, prior, rule, nbeta or 1.0, constant, formula.symbols, direct)
    parts = [*update.parts(), *([walls_part(prior, rule, constant)] if reflecting and not rule.is_metropolized else [])]
    functions = list(estimator.functions)
    if any("gradient(" in line for line in estimate):
        names = planes("w", loss.symbols) | planes("s", formula.symbols)
        outputs = {f"g[{j} * LANES + i]": e for j, e in enumerate(formula.expressions)}
        functions.append(lane_code("gradient", ("w", "s", "g"), outputs, names))
    functions += [text for part in parts for text in part.functions]
    imports = [
        "sandbox.compiled.lanes.copy",
        "sandbox.compiled.scratch.scratch",
        *estimator.imports,
        *(name for part in parts for name in part.imports),
    ]
    imports += [f"sandbox.compiled.elementary.{name}" for name in functions_used("\n".join(functions).split("\n"))]
    each_step = [*(line for part in parts for line in part.before), *estimate]
    each_step += [line for part in parts for line in part.lines]
    text = _TEXT.format(
        title=f"{rule.rule} with {gradient.name} gradients, D = {len(loss.parameters)}",
        imports=_import_lines(imports),
        dtype=dtype,
        functions="\n\n\n".join(functions),
        planes=update.planes,
        first=update.first,
        last=update.first + planes_of(rule, len(loss.parameters)),
        slopes=len(loss.parameters) + rule.is_metropolized,
        columns=len(formula.symbols),
        allocate="\n    ".join([*(line for part in parts for line in part.allocate), *estimator.allocate]),
        each_step="\n            ".join(each_step),
    )
    # `scratch` needs a literal: Python folds 3 * 128 but not 3 * LANES. Each product left also costs a millisecond.
    text = re.sub(r"\bLANES\b", str(LANES), text)
    modules = {name.rpartition(".")[0] for name in imports}
    # Numba has another type for an array that must not be written to.
    table, weights = (np.require(array, dtype, ["C", "W"]) for array in gradient.rows(sampled))
    return Kernel(
        compiled=compile_module(text, modules, "advance", _signature(dtype)),
        text=text,
        rule=rule,
        dimension=len(loss.parameters),
        constants=np.array([*constant.values, 0.0], dtype=dtype),
        table=table,
        weights=weights,
        potential=lambda points: _potential(loss, prior, nbeta or 1.0, points),
    )


def check(loss: Loss, rule: Rule, gradient: Estimator) -> None:
    """Raise InputError if the rule cannot use this gradient of this loss."""
    modelled, sampled = _as_modelled(loss, rule, gradient)
    if rule.is_metropolized or rule.noise_factor != 1:
        _stage(sampled, rule, modelled, str)


def _as_modelled(loss: Loss, rule: Rule, gradient: Estimator) -> tuple[Estimator, Loss]:
    """Return the estimator and the loss that it samples, with the noise that the rule needs."""
    if rule.models_noise is not None:
        gradient = model_of(gradient, "isotropic" if rule.models_noise == "isotropic" else "minibatch")
    sampled = loss if rule.label_deviation is None else labelled(loss, gradient, rule.label_deviation)
    return gradient, sampled


def _stage(loss: Loss, rule: Rule, gradient: Estimator, constant: Callable[[float], str]) -> Stage:
    if rule.is_metropolized:
        return gradient.stage_with_energy(loss, constant)
    if rule.noise_factor != 1:
        return gradient.stage_with_noise(loss, constant, rule.noise_factor)
    return gradient.stage(loss, constant)


def _potential(loss: Loss, prior: Prior, nbeta: float, points: Array) -> tuple[Array, Array]:
    """Return nbeta (L_n - S_n) - log φ (N,), up to a constant that the kernels leave out, and its gradient (N, D)."""
    inside = np.isfinite(prior.log_density(points))
    pairs = zip(loss.symbols, prior.distributions, strict=True)
    (own,) = numpy_function(loss.symbols, [sympy.Add(*(prior_potential(d, w, d.arguments) for w, d in pairs))])(
        *points.T
    )
    energy = np.where(inside, nbeta * loss.excess(points) + own, np.inf)
    return energy, nbeta * loss.gradient(points) - prior.log_density_gradient(points)


def _import_lines(names: list[str]) -> str:
    pairs = sorted({tuple(name.rsplit(".", 1)) for name in names})
    return "\n".join(f"from {module} import {function}" for module, function in pairs)


def _signature(dtype: str) -> Any:
    real = getattr(types, dtype)
    flat, rows = types.Array(real, 1, "C"), types.Array(real, 2, "C")
    counts = (types.int64,) * 4
    return types.void(rows, *counts, types.Array(types.uint32, 1, "C"), rows, flat, rows, flat)
