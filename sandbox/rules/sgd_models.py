"""Models of SGD: the stochastic differential equation that it approximates, noise alike in all directions, label noise.

The estimator that a scenario names for SGD is named here too, and says what is modelled: its covariance C(w) / B of a
minibatch of B samples. One Gaussian step w' = w - eta grad L_n + eta (C/B)^(1/2) xi has SGD's first two moments; Ito's
equation dW = -grad L_n dt + sqrt(eta C/B) dW, in whose time a step is eta, approximates SGD weakly to order 1 (Li, Tai
and E 2017, 1511.06251; Mandt, Hoffman and Blei 2017, 1704.04289), and is integrated by Euler and Maruyama. Noise of
the same trace but no direction tells the two roles of C apart (Zhu, Wu, Yu, Wu and Ma 2019, 1803.00195).
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from sandbox.rules.sgd import GradientStep


class SgdSde(GradientStep):
    """SGD with Gaussian noise of a minibatch's covariance; with many substeps, SGD's Ito equation."""

    rule: Literal["sgd_sde"]
    substeps: int = Field(default=1, ge=1, description="Euler steps of eta / substeps that make up a step")

    @property
    def moves_per_step(self) -> int:
        """The substeps."""
        return self.substeps

    @property
    def models_noise(self) -> Literal["gaussian"]:
        """Gaussian noise of the same covariance."""
        return "gaussian"

    @property
    def noise_factor(self) -> float:
        """Return sqrt(substeps): k moves of eta / k add up to the variance of one of eta."""
        return math.sqrt(self.substeps)


class IsotropicSgd(GradientStep):
    """SGD with isotropic Gaussian noise of the same trace as a minibatch's covariance."""

    rule: Literal["isotropic_sgd"]

    @property
    def models_noise(self) -> Literal["isotropic"]:
        """Gaussian noise of the same trace."""
        return "isotropic"


class LabelNoiseSgd(GradientStep):
    """SGD on interpolated data f0(x) with fresh label noise: each use of a sample has noise of its own on its label.

    The noise does not vanish on W0, along which it drives SGD towards a smaller trace of the Hessian (Blanc, Gupta,
    Valiant and Valiant 2020, 1904.09080; Damian, Ma and Lee 2021, 2106.06530; Li, Wang and Arora 2022, 2110.06914).
    """

    rule: Literal["label_noise_sgd"]
    label_noise: float = Field(ge=0, description="standard deviation of the labels' noise, in place of the data's own")

    @property
    def label_deviation(self) -> float:
        """The noise on the labels."""
        return self.label_noise
