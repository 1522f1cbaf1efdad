"""The full gradient plus the Gaussian noise that a potential declares: g = grad K + B(w) xi."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import sympy

from sandbox.compiled.random_numbers import STREAM_GRADIENT_NOISE
from sandbox.dynamics.codegen.lane_code import lane_code, normals_code, planes
from sandbox.dynamics.gradients.base import Estimator, Stage
from sandbox.dynamics.gradients.full import Full
from sandbox.model.loss import Loss
from sandbox.tools.errors import InputError


class Noisy(Estimator):
    """The estimator `gradient: noisy`, for a loss with `gradient_noise`."""

    name: ClassVar[str] = "noisy"

    def check(self, loss: Loss) -> None:
        """Raise InputError if the loss declares no noise."""
        if not loss.gradient_noise:
            raise InputError("'noisy' needs a potential with `gradient_noise`; this loss declares none")

    def stage(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return the full gradient's stage, followed by the noise: one normal per column of B(w)."""
        return _stage(loss, constant, _add_noise(loss, None))

    def stage_with_noise(self, loss: Loss, constant: Callable[[float], str], factor: float) -> Stage:
        """Return the same stage with the noise multiplied by `factor`."""
        return _stage(loss, constant, _add_noise(loss, constant(factor)))


def _stage(loss: Loss, constant: Callable[[float], str], add_noise: str) -> Stage:
    full = Full().stage(loss, constant)
    normals = normals_code("noise", len(loss.gradient_noise[0]), STREAM_GRADIENT_NOISE)
    return Stage(
        imports=(*full.imports, *normals.imports),
        functions=(add_noise,),
        allocate=(*full.allocate, *normals.allocate),
        estimate=(*full.estimate, *normals.lines, f"add_noise(w, {normals.value}, g, constants)"),
    )


def _add_noise(loss: Loss, factor: str | None) -> str:
    size, columns = len(loss.parameters), len(loss.gradient_noise[0])
    gradients = [sympy.Symbol(f"_g{j}", real=True) for j in range(size)]
    normals = [sympy.Symbol(f"_z{k}", real=True) for k in range(columns)]
    scale = sympy.Symbol("_scale", real=True) if factor else sympy.S.One
    outputs = {
        f"g[{j} * LANES + i]": gradients[j] + scale * sum(b * z for b, z in zip(row, normals, strict=True))
        for j, row in enumerate(loss.gradient_noise)
    }
    names = planes("w", loss.symbols) | planes("g", gradients) | planes("noise", normals)
    scalars = {scale: factor} if factor else {}
    return lane_code("add_noise", ("w", "noise", "g", "constants"), outputs, names, scalars)
