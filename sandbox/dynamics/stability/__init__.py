"""Stability maps: whether a rule's own step, linearised at points of each stratum, makes small distances grow.

Near a point of W0 a step is linear in the distance from it: delta' = J delta, J = A + G H_hat, with H_hat the Hessian
that the estimator drew and A, G the derivatives of the update by position, state, gradient. Three senses of stability:

- deterministic: the spectral radius of J at the mean Hessian is at most 1; for gradient descent, step size times
  curvature <= 2;
- mean square: the spectral radius of E[J (x) J], which moves second moments, is at most 1. It is the deterministic one
  squared plus a term from noise, so it never fails later; with minibatches it fails earlier (Ziyin, Liu, Mori and Ueda
  2022, 2102.05375);
- almost sure: the top Lyapunov exponent of products of independent J, the growth rate for a typical particle, is not
  above 0. It may be below 0 while second moments explode (Ziyin, Li, Galanti and Ueda 2023, 2303.13093; Chemnitz and
  Engel 2024, 2407.20209).

Only the directions across the stratum count, those in which its equations change: along it no force acts.
"""
