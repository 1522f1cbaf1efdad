"""Minibatch gradients: the mean over a few samples, drawn in one of four ways.

The ways differ by up to 10x in stationary variance, so a scenario has to name one:
- with_replacement: independent uniform indices;
- without_replacement: distinct indices, a new random subset each step;
- reshuffled: epochs; each is a new permutation of the data cut into n // B batches, the rest left out (as PyTorch's
  DataLoader does with drop_last). The permutation is a pure function of (particle, epoch); nothing is stored;
- fresh: new samples from the truth at every step, the only way if the loss is the population's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import sympy
from pydantic import Field

from sandbox.compiled.random_numbers import MAX_INDEXED, STREAM_BATCH, STREAM_INPUT, indices_per_word
from sandbox.dynamics.codegen.lane_code import paired, planes, sum_code
from sandbox.dynamics.gradients.base import GRADIENT, Estimator, Formula, Stage
from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.functions import Relu, Step
from sandbox.model.loss import Loss
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

Draw = Literal["with_replacement", "without_replacement", "reshuffled", "fresh"]


class Minibatch(Estimator):
    """The estimator `gradient: {minibatch: 8, draw: with_replacement}`."""

    name: ClassVar[str] = "minibatch"

    minibatch: int = Field(gt=0, description="samples in a batch, B")
    draw: Draw = Field(description="with_replacement, without_replacement, reshuffled, or fresh (population)")

    def check(self, loss: Loss) -> None:
        """Raise InputError if the loss has no samples that can be drawn in this way, or fewer than a batch."""
        if not loss.sources:
            raise InputError("a bare potential has no samples; use `full` or, with `gradient_noise`, `noisy`")
        if (self.draw == "fresh") != (loss.samples is None):
            kind = (
                "the population's loss draws"
                if loss.samples is None
                else f"a data set of n = {loss.samples} does not draw"
            )
            raise InputError(f"{kind} fresh samples; found '{self.draw}'").within("draw")
        if loss.samples is not None and loss.samples > MAX_INDEXED:
            raise InputError(f"minibatches index at most {MAX_INDEXED} samples; found n = {loss.samples}").within(
                "minibatch"
            )
        if loss.samples is not None and self.minibatch > loss.samples:
            raise InputError(f"a batch of {self.minibatch} is larger than n = {loss.samples}").within("minibatch")

    def stage(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return the loop over the batch, GROUP samples at a time: draw them for each lane, then add their terms."""
        sums = _separated(loss)
        source = (
            _fresh(loss, constant) if self.draw == "fresh" else _indexed(loss, list(sums.columns), self.draw, constant)
        )
        columns = {c: e.xreplace(source.data) for c, e in sums.columns.items()} if source.data else {}
        outputs = {f"s[{j} * LANES + i]": term.xreplace(columns) for j, term in enumerate(sums.terms)}
        arguments = ("w", *source.arguments, "s")
        names = planes("w", loss.symbols)
        whole, rest = divmod(self.minibatch, GROUP)
        # A kernel has only the functions that its batches need: one that is never called would be compiled too.
        counts = [GROUP] * bool(whole) + [rest] * bool(rest)
        functions = [
            sum_code(f"add_{count}", arguments, count, outputs, names, source.names, source.scalars) for count in counts
        ]
        adding = [f"add_{count}({', '.join(arguments)})" for count in counts]
        if len(adding) > 1:
            adding = [f"if count == {GROUP}:", f"    {adding[0]}", "else:", f"    {adding[1]}"]
        loop = (f"count = min({GROUP}, batch - sample)", *source.draw, *adding)
        return Stage(
            imports=("sandbox.compiled.lanes.fill", "sandbox.compiled.lanes.scale", *source.imports),
            functions=tuple(functions),
            allocate=(f"batch = int({constant(self.minibatch)})", "share = real(1) / real(batch)", *source.allocate),
            estimate=(
                "fill(s, 0)",
                *source.prepare,
                f"for sample in range(0, batch, {GROUP}):",
                *(f"    {line}" for line in loop),
                "scale(s, share)",
                GRADIENT,
            ),
            formula=sums.formula,
        )

    def rows(self, loss: Loss) -> tuple[Array, Array]:
        """Return each sample's columns that the terms of a batch need (rows, columns), and the weights (rows,)."""
        columns = tuple(_separated(loss).columns.values())
        if columns == loss.column_expressions:
            return loss.table, loss.weights
        return np.stack(numpy_function(loss.data_symbols, columns)(*loss.data.T), axis=1), loss.weights


GROUP = 4
"""The number of samples drawn and added in one pass over the lanes: that of the words of one Philox call."""


@dataclass(frozen=True)
class _Terms:
    """The parts of a batch's gradient: `terms` in w and in the columns, and a `formula` in their means over the batch.

    `columns` maps the columns' symbols to expressions in the loss's data symbols.
    """

    terms: tuple[Any, ...]
    formula: Formula
    columns: Mapping[Any, Any]


@functools.lru_cache(maxsize=8)
def _separated(loss: Loss) -> _Terms:
    """Return the terms of a batch's gradient, with factors that need not be in the sum over the batch taken out.

    If the data enter through means only, the terms are the columns. Otherwise each derivative is c(w) t(w, data), and
    only t is summed. A part that depends on the data alone (a truth plus its noise) is made a column, unless that
    makes more columns: to fetch a column takes longer than a multiplication.
    """
    columns = dict(zip(loss.columns, loss.column_expressions, strict=True))
    if loss.is_affine:
        return _Terms(loss.columns, Formula(loss.gradient_expressions, loss.columns), columns)
    forms = [_averaged(loss.gradient_expressions, loss.columns, split) for split in (_whole, _by_sides)]
    gradient, means = min(forms, key=lambda form: len(form[1]))
    parts: dict[Any, Any] = {}
    shorter = [_without_data(term, frozenset(loss.symbols), parts) for term in means]
    if len(parts) <= len(columns):
        columns = {part: expression.xreplace(columns) for expression, part in parts.items()}
    terms = shorter if len(parts) <= len(columns) else means
    return _Terms(tuple(terms), Formula(gradient, list(means.values())), columns)


def _averaged(
    derivatives: Sequence[Any], columns: Sequence[Any], split: Callable[[Any], Sequence[Any]]
) -> tuple[list[Any], dict[Any, Any]]:
    """Return the derivatives in symbols for the means of the parts that `split` returns, and each part's symbol."""
    means: dict[Any, Any] = {}
    gradient = []
    for derivative in derivatives:
        parts = [part.as_independent(*columns, as_Add=False) for part in split(sympy.factor_terms(derivative))]
        symbols = [means.setdefault(term, sympy.Symbol(f"_m{len(means)}", real=True)) for _, term in parts]
        gradient.append(sympy.Add(*(c * symbol for (c, _), symbol in zip(parts, symbols, strict=True))))
    return gradient, means


def _whole(product: Any) -> tuple[Any, ...]:
    return (product,)


def _by_sides(product: Any) -> Sequence[Any]:
    """Split r relu(b x + c) into b r x step + c r step: a neuron's other derivatives need the same two means."""
    factors = sympy.Mul.make_args(product)
    slopes = sympy.expand(sympy.Mul(*(factor.args[0] for factor in factors if isinstance(factor, Relu))))
    if not slopes.is_Add:
        return (product,)
    rest = sympy.Mul(*(Step(*factor.args) if isinstance(factor, Relu) else factor for factor in factors))
    return [rest * part for part in slopes.args]


def _without_data(expression: Any, parameters: frozenset[Any], parts: dict[Any, Any]) -> Any:
    """Return the expression with a symbol for each part in data alone; add these parts and symbols to `parts`."""
    if not expression.free_symbols:
        return expression
    if not expression.free_symbols & parameters:
        return parts.setdefault(expression, sympy.Symbol(f"_p{len(parts)}", real=True))
    arguments = list(expression.args)
    if expression.is_Add or expression.is_Mul:
        data = [a for a in arguments if a.free_symbols and not a.free_symbols & parameters]
        arguments = [a for a in arguments if a not in data] + ([expression.func(*data)] if data else [])
    return expression.func(*(_without_data(a, parameters, parts) for a in arguments)) if arguments else expression


@dataclass(frozen=True)
class _Source:
    """Source lines that give each lane samples: `prepare` once a step, `draw` for `count` of them from `sample` on.

    `names` maps symbols of drawn sample k to elements of the arrays `arguments`. The symbols are the columns; or, if
    `data` is given, random numbers, in which `data` expresses the loss's data symbols, with `scalars` from constants.
    """

    arguments: tuple[str, ...]
    names: dict[Any, str]
    imports: tuple[str, ...]
    allocate: tuple[str, ...]
    draw: tuple[str, ...]
    prepare: tuple[str, ...] = ()
    data: dict[Any, Any] = field(default_factory=dict)
    scalars: dict[Any, str] = field(default_factory=dict)


_BITS = "sandbox.compiled.random_numbers.fill_bits"


def _indexed(loss: Loss, columns: Sequence[Any], draw: Draw, constant: Callable[[float], str]) -> _Source:
    """Return the source lines that draw indices and gather these rows of the table."""
    size = len(columns)
    gather = f"gather_row(rows[k * {size} * LANES :], table, %s, {size})"
    # An array, not scratch: if LLVM knows that table and rows do not overlap, it vectorises the gathering without gain.
    allocate = (f"rows = np.empty({GROUP} * {size} * LANES, real)",)
    arguments, names = ("rows",), paired("rows", columns, f"k * {size}")
    if draw == "with_replacement":
        return _Source(
            arguments,
            names,
            imports=(
                "sandbox.compiled.lanes.gather_row",
                "sandbox.compiled.random_numbers.draw_indices",
                "sandbox.compiled.random_numbers.next_indices",
            ),
            allocate=(
                *allocate,
                "indices = scratch(4 * LANES, np.uint64)",
                f"per_word = int({constant(indices_per_word(len(loss.table)))})",
            ),
            draw=(
                "group = sample // 4",
                "if group % per_word == 0:",
                f"    draw_indices(indices, group // per_word, particle, tick, {STREAM_BATCH}, key, table.shape[0])",
                "else:",
                "    next_indices(indices, table.shape[0])",
                "for k in range(count):",
                f"    {gather % 'indices[k * LANES :], 32'}",
            ),
        )
    permutation, position = {
        "without_replacement": ("tick", "sample"),
        "reshuffled": ("tick // batches", "tick % batches * batch + sample"),
    }[draw]
    return _Source(
        arguments,
        names,
        imports=("sandbox.compiled.lanes.gather_row", _BITS, "sandbox.compiled.random_numbers.fill_permuted"),
        allocate=(
            *allocate,
            "bits = scratch(4 * LANES, np.uint32)",
            "indices = scratch(3 * LANES, np.uint32)",
            "batches = table.shape[0] // batch",
        ),
        prepare=(f"fill_bits(bits, 0, 1, particle, {permutation}, {STREAM_BATCH}, key)",),
        draw=(
            "for k in range(count):",
            f"    fill_permuted(indices, {position} + k, table.shape[0], bits)",
            f"    {gather % 'indices, 0'}",
        ),
    )


def _fresh(loss: Loss, constant: Callable[[float], str]) -> _Source:
    """Return the lines that draw inputs and noise; a group's samples share Philox calls, so that no word is unused."""
    standard = [sympy.Symbol(f"_d{k}", real=True) for k in range(len(loss.sources))]
    normals = [d for d, source in zip(standard, loss.sources, strict=True) if source.standard == "normal"]
    uniforms = [d for d, source in zip(standard, loss.sources, strict=True) if source.standard == "uniform"]
    even = len(normals) + len(normals) % 2
    words = even + len(uniforms)
    scalars: dict[Any, str] = {}
    values: dict[Any, Any] = {}
    for k, source in enumerate(loss.sources):
        arguments = [sympy.Symbol(f"_c{k}_{j}", real=True) for j in range(len(source.arguments))]
        scalars |= {symbol: constant(value) for symbol, value in zip(arguments, source.arguments, strict=True)}
        values[loss.data_symbols[k]] = source.from_standard(standard[k], arguments)
    kinds = [
        _Standard("normals", "np.float32", normals, 0, even, even // 2),
        _Standard("uniforms", "real", uniforms, even, len(uniforms), len(uniforms)),
    ]
    # A kind without symbols has no array and no call, which would be compiled without use.
    kinds = [kind for kind in kinds if kind.symbols]
    names = [planes(kind.array, kind.symbols, f"k * {kind.size}") for kind in kinds]
    return _Source(
        arguments=(*(kind.array for kind in kinds), "constants"),
        names={symbol: text for texts in names for symbol, text in texts.items()},
        imports=(_BITS, *(f"sandbox.compiled.random_numbers.fill_{kind.array}" for kind in kinds)),
        allocate=(
            f"bits = scratch({GROUP} * {words} * LANES, np.uint32)",
            *(f"{kind.array} = scratch({GROUP} * {kind.size} * LANES, {kind.dtype})" for kind in kinds),
        ),
        draw=(
            f"calls = (count * {words} + 3) // 4",
            f"fill_bits(bits, sample // 4 * {words}, calls, particle, tick, {STREAM_INPUT}, key)",
            "for k in range(count):",
            *(
                f"    fill_{kind.array}({kind.array}[k * {kind.size} * LANES :], "
                f"bits[(k * {words} + {kind.start}) * LANES :], {kind.filled})"
                for kind in kinds
            ),
        ),
        data=values,
        scalars=scalars,
    )


class _Standard(NamedTuple):
    """Standard random numbers of a sample: `size` planes of `array`, from its planes of bits from `start` on.

    `filled` is the number that the filling function takes: of planes or, for normals, of pairs of planes.
    """

    array: str
    dtype: str
    symbols: Sequence[Any]
    start: int
    size: int
    filled: int
