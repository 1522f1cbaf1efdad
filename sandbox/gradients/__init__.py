"""Gradient estimators, one file each: the only place where SGD's noise enters. To add one: write it, list it here."""

from sandbox.gradients.base import GRADIENT, Estimator, Formula, Stage
from sandbox.gradients.full import Full
from sandbox.gradients.gaussian import Gaussian, model_of
from sandbox.gradients.labels import labelled
from sandbox.gradients.minibatch import Minibatch
from sandbox.gradients.noisy import Noisy

ESTIMATORS: dict[str, type[Estimator]] = {
    "full": Full,
    "minibatch": Minibatch,
    "gaussian": Gaussian,
    "noisy": Noisy,
}
"""Every estimator by name. One without fields is written by its name alone."""

__all__ = [
    "ESTIMATORS",
    "GRADIENT",
    "Estimator",
    "Formula",
    "Full",
    "Gaussian",
    "Minibatch",
    "Noisy",
    "Stage",
    "labelled",
    "model_of",
]
