"""Gradient estimators, one file each: SGD's noise enters only here. To add one, write its file and list it here."""

from sandbox.dynamics.gradients.base import Estimator
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.gaussian import Gaussian
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.gradients.noisy import Noisy

ESTIMATORS: dict[str, type[Estimator]] = {e.name: e for e in (Full, Minibatch, Gaussian, Noisy)}
"""Every estimator by name. In a scenario, an estimator without fields is written as its name alone."""
