"""Models of SGD: the stochastic differential equation that approximates it, isotropic noise, and label noise.

A scenario names the same estimator as for SGD. The noise then has the covariance C(w) / B of this estimator, for a
minibatch of B samples. One Gaussian step w' = w - eta grad L_n + eta (C/B)^(1/2) xi has SGD's first two moments. Ito's
equation dw = -grad L_n dt + sqrt(eta C/B) dW, in which a step takes the time eta, approximates SGD weakly to order 1
(Li, Tai and E 2017, 1511.06251; Mandt, Hoffman and Blei 2017, 1704.04289); the Euler-Maruyama method integrates it.
Isotropic noise of the same trace tells the two roles of C apart (Zhu, Wu, Yu, Wu and Ma 2019, 1803.00195).
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from sandbox.dynamics.rules.sgd import GradientStep


class SgdSde(GradientStep):
    """SGD with Gaussian noise of a minibatch's covariance; with many substeps, an integrator of SGD's Ito equation."""

    rule: Literal["sgd_sde"] = "sgd_sde"
    substeps: int = Field(default=1, ge=1, description="Euler steps of eta / substeps that make up a step")

    @property
    def moves_per_step(self) -> int:
        """The number of substeps."""
        return self.substeps

    @property
    def models_noise(self) -> Literal["gaussian"]:
        """Gaussian noise of the same covariance."""
        return "gaussian"

    @property
    def noise_factor(self) -> float:
        """The factor sqrt(substeps), with which k moves of eta / k add up to the variance of one move of eta."""
        return math.sqrt(self.substeps)


class IsotropicSgd(GradientStep):
    """SGD with isotropic Gaussian noise of the same trace as a minibatch's covariance."""

    rule: Literal["isotropic_sgd"] = "isotropic_sgd"

    @property
    def models_noise(self) -> Literal["isotropic"]:
        """Gaussian noise of the same trace."""
        return "isotropic"


class LabelNoiseSgd(GradientStep):
    """SGD on the exact labels f0(x) plus fresh noise: each use of a sample adds new noise to its label.

    The noise does not vanish on W0. Along W0 it drives SGD towards a smaller trace of the Hessian (Blanc, Gupta,
    Valiant and Valiant 2020, 1904.09080; Damian, Ma and Lee 2021, 2106.06530; Li, Wang and Arora 2022, 2110.06914).
    """

    rule: Literal["label_noise_sgd"] = "label_noise_sgd"
    label_noise: float = Field(ge=0, description="standard deviation of the labels' noise, in place of the data's own")

    @property
    def label_deviation(self) -> float:
        """The standard deviation of the noise on the labels."""
        return self.label_noise
