"""The update rules. To add one, write its class in a new or a related file, then list it in `RULES`."""

from sandbox.dynamics.rules.adam import Adam
from sandbox.dynamics.rules.base import Rule
from sandbox.dynamics.rules.gradient_descent import GradientDescent
from sandbox.dynamics.rules.langevin import Langevin, LeimkuhlerMatthews
from sandbox.dynamics.rules.mala import Mala
from sandbox.dynamics.rules.sgd import Sgd
from sandbox.dynamics.rules.sgd_models import IsotropicSgd, LabelNoiseSgd, SgdSde
from sandbox.dynamics.rules.sgld import Psgld, Sgld
from sandbox.dynamics.rules.underdamped import Underdamped

RULES: dict[str, type[Rule]] = {
    rule.model_fields["rule"].default: rule
    for rule in (
        *(Sgd, GradientDescent, Adam, SgdSde, IsotropicSgd, LabelNoiseSgd),
        *(Langevin, LeimkuhlerMatthews, Underdamped, Mala, Sgld, Psgld),
    )
}
"""Every rule, by its name in scenarios."""
