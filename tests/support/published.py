"""Published learning coefficients: K, the point, the prior, and the citation."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

WATANABE = "Watanabe 2009, Algebraic Geometry and Statistical Learning Theory, sections 2.4 and 4.4 (normal crossings)"
SUMS = "Lin 2011, Algebraic Methods for Evaluating Integrals in Bayesian Statistics (disjoint variables add up)"
ADE = "Arnold, Gusein-Zade, Varchenko 1988, Singularities of Differentiable Maps II: lct = 1/2 + 1/h, halved for f^2"
POLYGON = "Varchenko 1976, Newton polyhedra and estimation of oscillating integrals"
ADAPTED = "Ikromov, Mueller 2011, On adapted coordinate systems (the polygon in other coordinates)"
AOYAGI_WATANABE = "Aoyagi, Watanabe 2005, Stochastic complexities of reduced rank regression"
LAYERED = "Aoyagi, Watanabe 2006, Resolution of singularities ... for layered neural network"
WBIC = "Watanabe 2013, A widely applicable Bayesian information criterion, 1208.6338"
STICKY = "Corlouer, Mace 2024, Degeneracies are sticky for SGD"
REGULAR = "Schwarz 1978, Estimating the dimension of a model: D/2"


@dataclass(frozen=True)
class Row:
    """K, or a model f(x, w) with truth 0 and x ~ normal(0, 1); a point, by default the origin; λ and m."""

    value: Fraction
    multiplicity: int
    citation: str
    loss: str = ""
    model: str = ""
    at: dict[str, str] = field(default_factory=dict)
    prior: str = "1"

    def __str__(self) -> str:
        place = " at " + ",".join(f"{k}={v}" for k, v in self.at.items()) if self.at else ""
        return (self.loss or f"E ({self.model})**2") + place + (f" prior {self.prior}" if self.prior != "1" else "")


def row(value: str, m: int, citation: str, loss: str = "", prior: str = "1", model: str = "", **at: str) -> Row:
    return Row(Fraction(value), m, citation, loss, model, at, prior)


NORMAL_CROSSINGS = [
    row("1/2", 1, WATANABE, "x**2"),
    row("1/4", 1, WATANABE, "x**4"),
    row("1/6", 1, WATANABE, "x**6"),
    row("1/2", 1, WATANABE, "x**2 * (y + 2)**2"),
    row("1/2", 2, WATANABE, "x**2 * y**2"),
    row("1/4", 1, WATANABE, "x**2 * y**4"),
    row("1/4", 2, WATANABE, "x**4 * y**4"),
    row("1/6", 1, WATANABE, "x**6 * y**2"),
    row("1/4", 1, WATANABE, "x**2 * y**4", x="1/2", y="0"),
    row("1/2", 1, WATANABE, "x**2 * y**4", x="0", y="1/2"),
    row("1/2", 1, WATANABE, "x**2 * y**2", x="0", y="-1/3"),
    row("1/2", 2, WATANABE, "(x**2 - y**2)**2"),
    row("1/2", 3, WATANABE, "x**2 * y**2 * z**2"),
    row("1/4", 2, WATANABE, "x**2 * y**4 * z**4"),
    row("1/2", 1, WATANABE, "(y - x**2)**2"),
]

REGULAR_AND_SUMS = [
    row("1", 1, REGULAR, "x**2 + y**2"),
    row("1", 1, REGULAR, "2*x**2 + 2*x*y + y**2"),
    row("3/2", 1, REGULAR, "x**2 + y**2 + (x + z)**2"),
    row("3/4", 1, SUMS, "x**2 + y**4"),
    row("2/3", 1, SUMS, "x**2 + y**6"),
    row("1/2", 1, SUMS, "x**4 + y**4"),
    row("5/12", 1, SUMS, "x**4 + y**6"),
    row("11/12", 1, SUMS, "x**2 + y**4 + z**6"),
    row("1", 2, SUMS, "x**2 + y**2 * z**2"),
]

# A_k: x^2 +- y^(k+1), h = k + 1; D_k: x^2 y +- y^(k-1), h = 2k - 2; E6, E7, E8: h = 12, 18, 30.
PLANE_CURVES = [
    row("1/2", 1, ADE, "(x**2 + y**2)**2"),
    row("5/12", 1, ADE, "(x**2 - y**3)**2"),
    row("3/8", 1, ADE, "(x**2 - y**4)**2"),
    row("3/8", 1, ADE, "(x**2 + y**4)**2"),
    row("7/20", 1, ADE, "(x**2 - y**5)**2"),
    row("1/3", 1, ADE, "(x**2 - y**6)**2"),
    row("9/28", 1, ADE, "(x**2 - y**7)**2"),
    row("5/16", 1, ADE, "(x**2 + y**8)**2"),
    row("1/3", 1, ADE, "(x**2 * y - y**3)**2"),
    row("1/3", 1, ADE, "(x**2 * y + y**3)**2"),
    row("5/16", 1, ADE, "(x**2 * y - y**4)**2"),
    row("3/10", 1, ADE, "(x**2 * y + y**5)**2"),
    row("7/24", 1, ADE, "(x**2 * y - y**6)**2"),
    row("7/24", 1, ADE, "(x**3 + y**4)**2"),
    row("5/18", 1, ADE, "(x**3 + x * y**3)**2"),
    row("4/15", 1, ADE, "(x**3 + y**5)**2"),
]

POLYGONS = [
    row("1/2", 1, POLYGON, "x**4 + x**2 * y**2 + y**4"),
    row("1/2", 2, POLYGON, "x**6 + x**2 * y**2 + y**6"),
    row("7/20", 1, ADAPTED, "((y - x**2)**2 - x**5)**2"),
    row("1/4", 1, ADAPTED, "(x + y)**4 * x**2"),
    row("5/12", 1, ADAPTED, "((x + y)**2 - y**3)**2"),
]

PRIORS = [
    row("1", 1, WATANABE, "x**2", prior="x"),
    row("3/4", 1, WATANABE, "x**4", prior="x**2"),
    row("1/4", 1, WATANABE, "x**2", prior="abs(x)**-0.5"),
    row("1/2", 1, WATANABE, "x**2 * y**2", prior="abs(x)"),
    row("1", 2, WATANABE, "x**2 * y**2", prior="abs(x) * abs(y)"),
    row("1/2", 2, WATANABE, "x**2 * y**4", prior="abs(y)"),
    row("1/2", 1, WATANABE, "x**2 * y**4", prior="y**2"),
    row("3/4", 1, WATANABE, "x**4 + y**4", prior="abs(x)"),
]

NETWORKS = [
    row("1/2", 2, LAYERED, model="a * tanh(b * x)"),
    row("1/2", 1, LAYERED, model="a * tanh(b * x)", a="0", b="1/2"),
    row("1/2", 1, LAYERED, model="a * tanh(b * x)", a="1/2", b="0"),
    row("2/3", 1, LAYERED, model="a * tanh(b * x) + c * tanh(d * x)"),
    row("3/4", 1, WBIC, "(a*b + c)**2 + a**2 * b**4"),
    row("1/5", 1, STICKY, "(x**2 + y**2)**4 * x**2"),
    row("1/6", 1, STICKY, "(x**2 + y**2)**4 * x**4"),
    row("1/2", 1, STICKY, "(x**2 + y**2)**4 * x**2", x="0", y="1/2"),
    row("1/4", 1, STICKY, "(x + 1)**4 * (x - 1)**2", x="-1"),
    row("1/2", 1, STICKY, "(x + 1)**4 * (x - 1)**2", x="1"),
    row("1/2", 2, WATANABE, "t**2 * (t**2 / 4 + k**2)"),
]

REDUCED_RANK_LOSSES = [
    row("1/2", 1, AOYAGI_WATANABE, "(a*b + c*d)**2"),
    row("1", 2, AOYAGI_WATANABE, "(a**2 + b**2) * (c**2 + d**2)"),
]

ROWS = [
    *NORMAL_CROSSINGS,
    *REGULAR_AND_SUMS,
    *PLANE_CURVES,
    *POLYGONS,
    *PRIORS,
    *NETWORKS,
    *REDUCED_RANK_LOSSES,
]

# (M, H, N; r): λ, m. Every branch of the theorem: balanced with M + H + N + r even and odd, each side too small.
REDUCED_RANK = {
    (1, 1, 1, 0): ("1/2", 2),
    (1, 2, 1, 0): ("1/2", 1),
    (2, 1, 2, 0): ("1", 2),
    (2, 2, 2, 0): ("3/2", 1),
    (2, 2, 2, 1): ("2", 2),
    (2, 1, 2, 1): ("3/2", 1),
    (1, 1, 4, 0): ("1/2", 1),
    (4, 1, 1, 0): ("1/2", 1),
    (1, 4, 1, 0): ("1/2", 1),
    (5, 1, 2, 0): ("1", 1),
}
"""Aoyagi, Watanabe 2005, main theorem."""
