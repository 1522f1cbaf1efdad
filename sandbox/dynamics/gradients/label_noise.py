"""Fresh label noise: samples f0(x) + deviation * xi, with a new xi each time a sample is used."""

from __future__ import annotations

from dataclasses import replace

from sandbox.dynamics.gradients.base import Estimator
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.model.loss import Loss
from sandbox.model.prior import Distribution
from sandbox.tools.errors import InputError


def labelled(loss: Loss, gradient: Estimator, deviation: float) -> Loss:
    """Return the loss whose fresh samples have label noise of this deviation in place of the model's own.

    Its mean gradient is that of `loss`, K: the labels f0(x) can be fitted exactly. Raises InputError if there are no
    labels or no fresh samples. A finite data set of such labels is a population too, with inputs from `choice(...)`.
    """
    if loss.data_symbols and not loss.misfits:
        raise InputError("label noise needs labels; allowed: a regression (model and truth), found a contrast")
    if not isinstance(gradient, Minibatch) or gradient.draw != "fresh":
        message = "fresh labels need fresh samples, `samples: population` with {minibatch: B, draw: fresh}"
        raise InputError(f"{message}; a finite data set is a population whose inputs are choice(value, value, ...)")
    outputs = len(loss.misfits)
    labels = (Distribution("normal", (0.0, deviation)),) * outputs
    return replace(loss, sources=(*loss.sources[:-outputs], *labels))
