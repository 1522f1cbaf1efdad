"""Does SGD reach simple solutions? Particles on singular losses beside the exact Bayesian posterior.

tree = sandbox.run("crossing")           # scenario in, xarray.DataTree out
sandbox.answer(tree)                     # verdicts with their numbers, ready for JSON
sandbox.figure(tree); sandbox.animate(tree, "crossing.gif")
sandbox.open("results/crossing")         # a finished run
sandbox.rlct("(x**2 - y**3)**2")         # λ = 5/12, m = 1, with the argument
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.animation import animate
    from sandbox.errors import InputError, RunError
    from sandbox.figures import figure
    from sandbox.pipeline import run
    from sandbox.report import answer
    from sandbox.result import open_result as open
    from sandbox.scenario import Scenario, load, loads
    from sandbox.singularity import rlct

__version__ = "0.1.0"
__all__ = ["InputError", "RunError", "Scenario", "animate", "answer", "figure", "load", "loads", "open", "rlct", "run"]

_HOME = {
    "InputError": "errors",
    "RunError": "errors",
    "Scenario": "scenario",
    "animate": "animation",
    "answer": "report",
    "figure": "figures",
    "load": "scenario",
    "loads": "scenario",
    "open": "result",
    "rlct": "singularity",
    "run": "pipeline",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the heavy libraries would make `sandbox --help` wait."""
    if name not in _HOME:
        raise AttributeError(f"module 'sandbox' has no attribute '{name}'")
    home = importlib.import_module(f"sandbox.{_HOME[name]}")
    return getattr(home, "open_result" if name == "open" else name)
