"""Rules of motion, one file each. To add one: write its file, list it here."""

from sandbox.rules.base import Rule
from sandbox.rules.langevin import Langevin
from sandbox.rules.sgd import Sgd

RULES: dict[str, type[Rule]] = {"sgd": Sgd, "langevin": Langevin}
"""Every rule by the name that scenarios use."""

__all__ = ["RULES", "Langevin", "Rule", "Sgd"]
