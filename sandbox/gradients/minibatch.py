"""Minibatch gradients: the mean over a few samples, drawn in one of four ways.

The ways differ by up to 10x in stationary variance, so a scenario says which:
- with_replacement: independent uniform indices;
- without_replacement: distinct indices, a new random subset each step;
- reshuffled: epochs; each is a new permutation of the data cut into n // B batches, the rest left out (as PyTorch's
  DataLoader does with drop_last). The permutation is a pure function of (particle, epoch), nothing is stored;
- fresh: new samples from the truth at every step, the only way where the loss is the population's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import sympy
from pydantic import Field

from sandbox.block import lane_code, planes
from sandbox.draws import STREAM_BATCH, STREAM_INPUT
from sandbox.errors import InputError
from sandbox.gradients.base import GRADIENT, SAMPLE_GRADIENT, Estimator, Stage
from sandbox.loss import Loss

Draw = Literal["with_replacement", "without_replacement", "reshuffled", "fresh"]

MAX_INDEXED = 1 << 24
"""Most samples that 32-bit draws index: beyond, some indices would be likelier than others by more than 0.4%."""


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
        """Return the loop over the batch: draw one sample per lane, then add its share."""
        source = _fresh(loss, constant) if self.draw == "fresh" else _INDEXED[self.draw]
        each: tuple[str, ...]
        end: tuple[str, ...]
        blocks: tuple[str, ...]
        # Where the data enter through means only, the batch's mean row is all that the gradient needs.
        if loss.is_affine:
            start, each, end, blocks = "clear(s)", (source.add_row,), (GRADIENT,), ()
        else:
            each = (source.set_row, "gradient(w, s, h)", "accumulate(g, h, share)")
            start, end, blocks = "clear(g)", (), (SAMPLE_GRADIENT,)
        loop = tuple(f"    {line}" for line in (*source.draw, *each))
        return Stage(
            imports=("sandbox.block.clear", "sandbox.block.accumulate", *source.imports),
            functions=source.functions,
            allocate=(
                f"batch = int({constant(self.minibatch)})",
                "share = real(1) / real(batch)",
                *blocks,
                *source.allocate,
            ),
            estimate=(start, *source.prepare, "for sample in range(batch):", *loop, *end),
        )


@dataclass(frozen=True)
class _Source:
    """Source lines that give each lane a sample: `prepare` once a step, `draw` once a sample, then the columns' row."""

    imports: tuple[str, ...]
    allocate: tuple[str, ...]
    prepare: tuple[str, ...]
    draw: tuple[str, ...]
    set_row: str = "gather_row(s, table, row)"
    add_row: str = "add_rows(s, table, row, share)"
    functions: tuple[str, ...] = ()


_ROWS = ("sandbox.block.gather_row", "sandbox.block.add_rows", "sandbox.draws.fill_bits")
_BITS = "bits = np.empty(4 * LANES, np.uint32)"


def _permuted(step: str, position: str) -> _Source:
    return _Source(
        imports=(*_ROWS, "sandbox.draws.fill_permuted"),
        allocate=(_BITS, "row = np.empty(3 * LANES, np.uint32)", "batches = table.shape[0] // batch"),
        prepare=(f"fill_bits(bits, 0, 1, particle, {step}, {STREAM_BATCH}, key)",),
        draw=(f"fill_permuted(row, {position}, table.shape[0], bits)",),
    )


_INDEXED = {
    "with_replacement": _Source(
        imports=(*_ROWS, "sandbox.draws.fill_indices"),
        allocate=(_BITS, "indices = np.empty(4 * LANES, np.uint32)"),
        prepare=(),
        draw=(
            "if sample % 4 == 0:",
            f"    fill_bits(bits, sample // 4, 1, particle, step, {STREAM_BATCH}, key)",
            "    fill_indices(indices, bits, 4, table.shape[0])",
            "row = indices[sample % 4 * LANES : (sample % 4 + 1) * LANES]",
        ),
    ),
    "without_replacement": _permuted("step", "sample"),
    "reshuffled": _permuted("step // batches", "step % batches * batch + sample"),
}


def _fresh(loss: Loss, constant: Callable[[float], str]) -> _Source:
    """Inputs and noise from standard draws; a group of samples shares Philox calls, so that no word is thrown away."""
    normals = [k for k, source in enumerate(loss.sources) if source.standard == "normal"]
    uniforms = [k for k, source in enumerate(loss.sources) if source.standard == "uniform"]
    pairs = (len(normals) + 1) // 2
    words = 2 * pairs + len(uniforms)
    group = 4 // math.gcd(words, 4)
    calls = group * words // 4
    return _Source(
        imports=("sandbox.draws.fill_bits", "sandbox.draws.fill_normals", "sandbox.draws.fill_uniforms"),
        allocate=(
            f"bits = np.empty({4 * calls} * LANES, np.uint32)",
            f"normals = np.empty({2 * pairs} * LANES, np.float32)",
            f"uniforms = np.empty({len(uniforms)} * LANES, real)",
            "row = np.empty(s.size, real)",
        ),
        prepare=(),
        draw=(
            f"if sample % {group} == 0:",
            f"    fill_bits(bits, sample // {group} * {calls}, {calls}, particle, step, {STREAM_INPUT}, key)",
            f"start = sample % {group} * {words} * LANES",
            f"fill_normals(normals, bits[start:], {pairs})",
            f"fill_uniforms(uniforms, bits[start + {2 * pairs} * LANES :], {len(uniforms)})",
        ),
        set_row="fresh_row(normals, uniforms, constants, s)",
        add_row="fresh_row(normals, uniforms, constants, row); accumulate(s, row, share)",
        functions=(_fresh_row(loss, normals, uniforms, constant),),
    )


def _fresh_row(loss: Loss, normals: list[int], uniforms: list[int], constant: Callable[[float], str]) -> str:
    standard = {k: sympy.Symbol(f"_d{k}", real=True) for k in range(len(loss.sources))}
    names = planes("normals", [standard[k] for k in normals]) | planes("uniforms", [standard[k] for k in uniforms])
    scalars: dict[Any, str] = {}
    values: dict[Any, Any] = {}
    for k, source in enumerate(loss.sources):
        arguments = [sympy.Symbol(f"_c{k}_{j}", real=True) for j in range(len(source.arguments))]
        scalars |= {symbol: constant(value) for symbol, value in zip(arguments, source.arguments, strict=True)}
        values[loss.data_symbols[k]] = source.from_standard(standard[k], arguments)
    outputs = {f"row[{c} * LANES + i]": e.xreplace(values) for c, e in enumerate(loss.column_expressions)}
    return lane_code("fresh_row", ("normals", "uniforms", "constants", "row"), outputs, names, scalars)
