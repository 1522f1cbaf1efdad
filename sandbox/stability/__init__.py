"""Where a step is too long for the landscape: the rule's own step, linearised at points of each stratum.

Near a point of W0 a step is linear in the way there: delta' = J delta, J = A + G H_hat, with H_hat the Hessian that the
estimator drew and A, G the derivatives of the rule's sentence by position, state and gradient. J may shrink in three
senses:

- deterministic: the spectral radius of J at the mean Hessian is at most 1; of gradient descent, step size times
  curvature <= 2;
- mean square: that of E[J (x) J], which moves second moments, is. It is the deterministic one squared plus what noise
  adds, so never the later to fail; with minibatches it fails earlier (Ziyin, Liu, Mori and Ueda 2022, 2102.05375);
- almost sure: the top Lyapunov exponent of products of independent J, what a typical particle sees, is not above 0. It
  may be below 0 where second moments explode (Ziyin, Li, Galanti and Ueda 2023, 2303.13093; Chemnitz and Engel 2024,
  2407.20209).

Only directions across the stratum count, those in which its equations change: along it nothing pulls.
"""

from sandbox.stability.growth import NEUTRAL, NOTIONS
from sandbox.stability.map import EDGE, NUMBERS, mapped, products, thresholds

__all__ = ["EDGE", "NEUTRAL", "NOTIONS", "NUMBERS", "mapped", "products", "thresholds"]
