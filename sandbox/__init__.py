"""Does SGD reach simple solutions? Particles on singular losses beside the exact Bayesian posterior.

tree = sandbox.run("crossing")           # a scenario in, an xarray.DataTree out
sandbox.answer(tree)                     # verdicts with their numbers, ready for JSON
sandbox.figure(tree); sandbox.animate(tree, "crossing.gif")
sandbox.open("results/crossing")         # a finished run
sandbox.rlct("(x**2 - y**3)**2")         # λ = 5/12, m = 1, with the argument
sandbox.simulate(problem, populations, steps=1000)   # particles alone: see help(sandbox.simulate)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.commands.rlct import rlct
    from sandbox.commands.run import run
    from sandbox.comparison.record import open_result as open
    from sandbox.comparison.report import answer
    from sandbox.dynamics.frames import Record
    from sandbox.dynamics.gradients.full import Full
    from sandbox.dynamics.gradients.gaussian import Gaussian
    from sandbox.dynamics.gradients.minibatch import Minibatch
    from sandbox.dynamics.gradients.noisy import Noisy
    from sandbox.dynamics.population import AtEndOf, OnStratum, Population
    from sandbox.dynamics.rules.adam import Adam
    from sandbox.dynamics.rules.gradient_descent import GradientDescent
    from sandbox.dynamics.rules.langevin import Langevin, LeimkuhlerMatthews
    from sandbox.dynamics.rules.mala import Mala
    from sandbox.dynamics.rules.sgd import Sgd
    from sandbox.dynamics.rules.sgd_models import IsotropicSgd, LabelNoiseSgd, SgdSde
    from sandbox.dynamics.rules.sgld import Psgld, Sgld
    from sandbox.dynamics.rules.underdamped import Underdamped
    from sandbox.dynamics.simulate import simulate
    from sandbox.model.prior import Distribution, Prior
    from sandbox.model.problem import Problem
    from sandbox.model.regression import Contrast, Regression, potential
    from sandbox.model.strata import Stratum, ZeroSet
    from sandbox.pictures.animation import animate
    from sandbox.pictures.figure import figure
    from sandbox.scenario.scenario import Scenario, load, loads
    from sandbox.tools.errors import InputError, RunError, UnwrittenError

__version__ = "0.1.0"

_HOME = {
    "commands.rlct": ("rlct",),
    "commands.run": ("run",),
    "comparison.record": ("open",),
    "comparison.report": ("answer",),
    "dynamics.frames": ("Record",),
    "dynamics.gradients.full": ("Full",),
    "dynamics.gradients.gaussian": ("Gaussian",),
    "dynamics.gradients.minibatch": ("Minibatch",),
    "dynamics.gradients.noisy": ("Noisy",),
    "dynamics.population": ("AtEndOf", "OnStratum", "Population"),
    "dynamics.rules.adam": ("Adam",),
    "dynamics.rules.gradient_descent": ("GradientDescent",),
    "dynamics.rules.langevin": ("Langevin", "LeimkuhlerMatthews"),
    "dynamics.rules.mala": ("Mala",),
    "dynamics.rules.sgd": ("Sgd",),
    "dynamics.rules.sgd_models": ("IsotropicSgd", "LabelNoiseSgd", "SgdSde"),
    "dynamics.rules.sgld": ("Psgld", "Sgld"),
    "dynamics.rules.underdamped": ("Underdamped",),
    "dynamics.simulate": ("simulate",),
    "model.prior": ("Distribution", "Prior"),
    "model.problem": ("Problem",),
    "model.regression": ("Contrast", "Regression", "potential"),
    "model.strata": ("Stratum", "ZeroSet"),
    "pictures.animation": ("animate",),
    "pictures.figure": ("figure",),
    "scenario.scenario": ("Scenario", "load", "loads"),
    "tools.errors": ("InputError", "RunError", "UnwrittenError"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the heavy libraries would make `sandbox --help` wait."""
    if name not in _MODULE:
        raise AttributeError(f"module 'sandbox' has no attribute '{name}'")
    found = getattr(importlib.import_module(f"sandbox.{_MODULE[name]}"), "open_result" if name == "open" else name)
    globals()[name] = found
    return found
