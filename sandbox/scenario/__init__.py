"""YAML -> frozen, validated Scenario; the only reader of YAML."""

from sandbox.scenario.override import override
from sandbox.scenario.scenario import Population, Scenario, available, find, load, loads
from sandbox.scenario.schema import Record, Verdict, schema
from sandbox.scenario.start import AtEndOf, OnStratum
from sandbox.scenario.times import frame_steps

__all__ = [
    "AtEndOf",
    "OnStratum",
    "Population",
    "Record",
    "Scenario",
    "Verdict",
    "available",
    "find",
    "frame_steps",
    "load",
    "loads",
    "override",
    "schema",
]
