"""Closed forms that several tests compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.linalg


def crossing_llc(poles: Sequence[float], nbeta: float) -> float:
    """Return λ̂ at 0 of K = prod_j |w_j|^(2 k_j) on [-1, 1]^D under a prior like prod_j |w_j|^(h_j), for any D.

    `poles` are the (h_j + 1) / (2 k_j); λ is their minimum, attained m times. Under the prior, -log K is a sum of
    independent exponentials with these rates, so E[nbeta K] is a ratio of two integrals over its density, of phase type
    (Neuts 1981). For m poles equal to l it tends to l like (m - 1) / log nbeta.
    """
    rates = np.array(poles, dtype=np.float64)
    generator = np.diag(-rates) + np.diag(rates[:-1], 1)
    nodes, weights = np.polynomial.legendre.leggauss(16)
    width = 0.5
    inside = scipy.linalg.expm(generator * (width * (nodes + 1) / 2)[:, None, None])
    step = scipy.linalg.expm(generator * width)
    phase = np.eye(len(rates))[0]
    top = bottom = 0.0
    # The part cut off is below exp(-40) of the integrals, which fall like nbeta^(-min pole).
    for left in np.arange(0.0, math.log1p(nbeta) + 40 / rates.min() + 40, width):
        density = (phase @ inside)[:, -1] * rates[-1]
        heat = nbeta * np.exp(-(left + width * (nodes + 1) / 2))
        mass = weights * density * np.exp(-heat)
        bottom, top = bottom + mass.sum(), top + (mass * heat).sum()
        phase = phase @ step
    return float(top / bottom)
