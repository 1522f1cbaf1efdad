"""Rules of motion. To add one: write it in a file of its own or beside its kin, list it here."""

from sandbox.rules.adam import Adam
from sandbox.rules.base import Moved, Particle, Potential, Rule
from sandbox.rules.gradient_descent import GradientDescent
from sandbox.rules.langevin import Langevin, LeimkuhlerMatthews
from sandbox.rules.mala import Mala
from sandbox.rules.sgd import Sgd
from sandbox.rules.sgd_models import IsotropicSgd, LabelNoiseSgd, SgdSde
from sandbox.rules.sgld import Psgld, Sgld
from sandbox.rules.underdamped import Underdamped

RULES: dict[str, type[Rule]] = {
    "sgd": Sgd,
    "gradient_descent": GradientDescent,
    "adam": Adam,
    "sgd_sde": SgdSde,
    "isotropic_sgd": IsotropicSgd,
    "label_noise_sgd": LabelNoiseSgd,
    "langevin": Langevin,
    "langevin_lm": LeimkuhlerMatthews,
    "underdamped": Underdamped,
    "mala": Mala,
    "sgld": Sgld,
    "psgld": Psgld,
}
"""Every rule by the name that scenarios use."""

__all__ = [
    "RULES",
    "Adam",
    "GradientDescent",
    "IsotropicSgd",
    "LabelNoiseSgd",
    "Langevin",
    "LeimkuhlerMatthews",
    "Mala",
    "Moved",
    "Particle",
    "Potential",
    "Psgld",
    "Rule",
    "Sgd",
    "SgdSde",
    "Sgld",
    "Underdamped",
]
