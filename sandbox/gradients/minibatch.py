"""Minibatch gradients: the mean over a few samples, drawn in one of four ways.

The ways differ by up to 10x in stationary variance, so a scenario says which:
- with_replacement: independent uniform indices;
- without_replacement: distinct indices, a new random subset each step;
- reshuffled: epochs; each is a new permutation of the data cut into n // B batches, the rest left out (as PyTorch's
  DataLoader does with drop_last). The permutation is a pure function of (particle, epoch), nothing is stored;
- fresh: new samples from the truth at every step, the only way where the loss is the population's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import sympy
from pydantic import Field

from sandbox.block import paired, planes, sum_code
from sandbox.draws import MAX_INDEXED, STREAM_BATCH, STREAM_INPUT, indices_per_word
from sandbox.errors import InputError
from sandbox.expression import numpy_function
from sandbox.expression.functions import Relu, Step
from sandbox.gradients.base import GRADIENT, Array, Estimator, Formula, Stage
from sandbox.loss import Loss

Draw = Literal["with_replacement", "without_replacement", "reshuffled", "fresh"]


class Minibatch(Estimator):
    """`gradient: {minibatch: 8, draw: with_replacement}`."""

    name: ClassVar[str] = "minibatch"

    minibatch: int = Field(gt=0, description="samples in a batch, B")
    draw: Draw = Field(description="with_replacement, without_replacement, reshuffled, or fresh (population)")

    def check(self, loss: Loss) -> None:
        """Raise InputError where the loss has no samples to draw so, or fewer than a batch."""
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
        """Return the loop over the batch, four samples at a time: draw them for each lane, then add their terms."""
        sums = _separated(loss)
        source = (
            _fresh(loss, constant) if self.draw == "fresh" else _indexed(loss, list(sums.columns), self.draw, constant)
        )
        columns = {c: e.xreplace(source.data) for c, e in sums.columns.items()} if source.data else {}
        outputs = {f"s[{j} * LANES + i]": term.xreplace(columns) for j, term in enumerate(sums.terms)}
        arguments = ("w", *source.arguments, "s")
        names = planes("w", loss.symbols)
        whole, rest = divmod(self.minibatch, GROUP)
        # A kernel holds only what its batches need: a function that is never called would be compiled all the same.
        counts = [GROUP] * bool(whole) + [rest] * bool(rest)
        functions = [
            sum_code(f"add_{count}", arguments, count, outputs, names, source.names, source.scalars) for count in counts
        ]
        adding = [f"add_{count}({', '.join(arguments)})" for count in counts]
        if len(adding) > 1:
            adding = [f"if count == {GROUP}:", f"    {adding[0]}", "else:", f"    {adding[1]}"]
        loop = (f"count = min({GROUP}, batch - sample)", *source.draw, *adding)
        return Stage(
            imports=("sandbox.block.fill", "sandbox.block.scale", *source.imports),
            functions=tuple(functions),
            allocate=(
                f"batch = int({constant(self.minibatch)})",
                "share = real(1) / real(batch)",
                *source.allocate,
            ),
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
        """Return what the terms of a batch need of each sample, and the weights."""
        columns = tuple(_separated(loss).columns.values())
        if columns == loss.column_expressions:
            return loss.table, loss.weights
        return np.stack(numpy_function(loss.data_symbols, columns)(*loss.data.T), axis=1), loss.weights


GROUP = 4
"""Samples drawn and added in one pass over the lanes: as many as one Philox call has words."""


@dataclass(frozen=True)
class _Terms:
    """What a batch's gradient needs: `terms` in w and in the columns, whose means over the batch are in `formula`.

    `columns` are expressions in the loss's data symbols.
    """

    terms: tuple[Any, ...]
    formula: Formula
    columns: Mapping[Any, Any]


@functools.lru_cache(maxsize=8)
def _separated(loss: Loss) -> _Terms:
    """Take out of the sum over a batch what need not be in it.

    Where the data enter through means only, the terms are the columns. Elsewhere each derivative is c(w) t(w, data),
    and only t is summed. What depends on the data alone (a truth plus its noise) is a column of its own, unless that
    makes more columns: to fetch one takes longer than a multiplication.
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
    """Return the derivatives in symbols for the means of the parts that `split` makes, and the symbol of each part."""
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
    """Return the expression with a symbol for each part that depends on data alone; `parts` names their symbols."""
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

    `names` finds the columns of sample k of those drawn in the arrays `arguments`; or else what `data`, the loss's data
    symbols, are expressions of, with `scalars` from the constants.
    """

    arguments: tuple[str, ...]
    names: dict[Any, str]
    imports: tuple[str, ...]
    allocate: tuple[str, ...]
    draw: tuple[str, ...]
    prepare: tuple[str, ...] = ()
    data: dict[Any, Any] = field(default_factory=dict)
    scalars: dict[Any, str] = field(default_factory=dict)


_BITS = "sandbox.draws.fill_bits"


def _indexed(loss: Loss, columns: Sequence[Any], draw: Draw, constant: Callable[[float], str]) -> _Source:
    """Rows of the table, whose indices are drawn."""
    size = len(columns)
    gather = f"gather_row(rows[k * {size} * LANES :], table, %s, {size})"
    # An array, not scratch: where LLVM knows that table and rows are apart it vectorises the gathering, to no good.
    allocate = (f"rows = np.empty({GROUP} * {size} * LANES, real)",)
    arguments, names = ("rows",), paired("rows", columns, f"k * {size}")
    if draw == "with_replacement":
        return _Source(
            arguments,
            names,
            imports=("sandbox.block.gather_row", "sandbox.draws.draw_indices", "sandbox.draws.next_indices"),
            allocate=(
                *allocate,
                "indices = scratch(4 * LANES, np.uint64)",
                f"per_word = int({constant(indices_per_word(len(loss.table)))})",
            ),
            draw=(
                "group = sample // 4",
                "if group % per_word == 0:",
                f"    draw_indices(indices, group // per_word, particle, step, {STREAM_BATCH}, key, table.shape[0])",
                "else:",
                "    next_indices(indices, table.shape[0])",
                "for k in range(count):",
                f"    {gather % 'indices[k * LANES :], 32'}",
            ),
        )
    permutation, position = {
        "without_replacement": ("step", "sample"),
        "reshuffled": ("step // batches", "step % batches * batch + sample"),
    }[draw]
    return _Source(
        arguments,
        names,
        imports=("sandbox.block.gather_row", _BITS, "sandbox.draws.fill_permuted"),
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
    """Inputs and noise from standard draws; the samples of a group share Philox calls, so no word is thrown away."""
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
    # What is not drawn has no array and no call, which would be compiled for nothing.
    kinds = [kind for kind in kinds if kind.symbols]
    names = [planes(kind.array, kind.symbols, f"k * {kind.size}") for kind in kinds]
    return _Source(
        arguments=(*(kind.array for kind in kinds), "constants"),
        names={symbol: text for texts in names for symbol, text in texts.items()},
        imports=(_BITS, *(f"sandbox.draws.fill_{kind.array}" for kind in kinds)),
        allocate=(
            f"bits = scratch({GROUP} * {words} * LANES, np.uint32)",
            *(f"{kind.array} = scratch({GROUP} * {kind.size} * LANES, {kind.dtype})" for kind in kinds),
        ),
        draw=(
            f"calls = (count * {words} + 3) // 4",
            f"fill_bits(bits, sample // 4 * {words}, calls, particle, step, {STREAM_INPUT}, key)",
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
    """Standard draws of a sample: `size` planes of `array`, from those of its bits that begin with plane `start`.

    `filled` is how many planes, of normals how many pairs, its function is asked for.
    """

    array: str
    dtype: str
    symbols: Sequence[Any]
    start: int
    size: int
    filled: int
