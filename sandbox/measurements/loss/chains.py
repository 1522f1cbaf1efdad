"""Expectations under the tempered posterior from Langevin chains, in any dimension, with error bars.

Every particle is a chain of its own; the chains use the same kernels as the populations of a scenario. The chains
share no random numbers, so the spread of their means gives the error of the overall mean, for any autocorrelation
within a chain. The spread does not include two systematic errors: that of the start (`drift` shows it), and that of
the step, of first order in h: on a quadratic of curvature a the variance is 1 / (a (1 - h a / 2)).

The default step comes from the curvature at the working temperature, where the chains spend their time. Over the whole
prior a steep loss has a curvature thousands of times larger; chains with a step for that would hardly move.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from pydantic import Field

from sandbox.compiled import random_numbers
from sandbox.dynamics import kernel
from sandbox.dynamics.gradients.base import Estimator
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.rules.langevin import Langevin
from sandbox.measurements.loss.minimum import minimise
from sandbox.measurements.particles.mixing import GOOD, r_hat
from sandbox.model.labelled import labelled, scalar
from sandbox.model.loss import Loss
from sandbox.model.prior import Distribution, Prior
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError
from sandbox.tools.settings import Settings

STEP = 0.02
"""The default step size times the largest curvature found: it gives a bias of about one part in a hundred."""

_TRIED = 256
"""The number of draws from the prior that are moved to the working temperature, where the curvature is computed."""

_USUAL, _HALVINGS = 3.0, 60
"""At the working temperature nbeta K is below _USUAL per parameter; a draw has at most _HALVINGS steps to get there."""

_FEWEST = 4
"""The fewest draws of a chain that have an R-hat."""

_MOVING = 4.0
"""Standard errors of a drift, or of a difference from the exact value, that chance gives once in 16,000 results."""


class ChainSettings(Settings):
    """The number and the length of the chains."""

    particles: int = Field(default=1024, ge=2, description="independent chains")
    burn_in: int = Field(default=20_000, ge=0, description="steps before the first draw")
    draws: int = Field(default=100, ge=2, description="draws kept from each chain")
    thinning: int = Field(default=200, ge=1, description="steps from one draw to the next")
    step_size: float | None = Field(default=None, gt=0, description="h; by default 0.02 / largest curvature at nbeta")
    seed: int = Field(default=0, ge=0, description="seed of the chains' noise and start")


def default_nbeta(samples: int | None) -> float:
    """Return n / log n, the inverse temperature 1 / log n (Watanabe 2013, 1208.6338) times n.

    Raises InputError if there are fewer than two samples.
    """
    if samples is None or samples < 2:
        raise InputError(f"nbeta = n / log n needs n of at least 2 samples, here n is {samples}: give nbeta")
    return samples / math.log(samples)


def localised(prior: Prior, reference: Array, localization: float) -> Prior:
    """Return the prior times exp(-localization / 2 |w - reference|^2), normalised: normals, cut to the prior's box.

    reference: shape (D,). Raises InputError for a Laplace density: no family contains its product with a normal.
    """
    if localization == 0:
        return prior
    return Prior(
        prior.names,
        tuple(_times_normal(d, float(w), localization) for d, w in zip(prior.distributions, reference, strict=True)),
    )


def _times_normal(distribution: Distribution, centre: float, precision: float) -> Distribution:
    if distribution.family not in ("uniform", "normal"):
        raise InputError(f"chains are localised under uniform and normal priors only, found {distribution}")
    if distribution.family == "normal":
        mean, deviation = distribution.arguments
        total = precision + deviation**-2
        centre, precision = (precision * centre + mean * deviation**-2) / total, total
    return Distribution("normal", (centre, precision**-0.5), distribution.low, distribution.high)


def sample(
    loss: Loss,
    prior: Prior,
    nbeta: float,
    settings: ChainSettings | None = None,
    *,
    start: Array | None = None,
    gradient: Estimator | None = None,
) -> xr.Dataset:
    """Return K_n along Langevin chains on exp(-nbeta L_n) φ, reflected at the walls of the prior's box.

    start: the point (D,) at which all chains start; by default each starts at a draw from the prior, moved towards the
    minimum until its loss is usual at nbeta.
    gradient: the estimator, by default the full gradient; with minibatches this is SGLD (Welling and Teh 2011).

    The Dataset has `excess` (chain, draw), in nats per sample; `step_size`; `step_times_curvature`, h times the
    largest curvature of nbeta L_n - log φ at the last draws and the start, whose stability edge is 2. A diverged chain
    stays in `excess` as inf or nan, and makes `step_times_curvature` inf. Raises InputError if the curvature is zero.
    """
    settings = settings or ChainSettings()
    key = random_numbers.key(settings.seed, "measured chains")
    drawn = prior.draw(settings.particles, settings.seed, "measured chains")
    centre = minimise(loss, prior).point if start is None else start
    usual = _at_work(loss, nbeta, centre, drawn if start is None else drawn[:_TRIED])
    points = usual if start is None else np.tile(start, (settings.particles, 1))
    first = np.concatenate([centre[None], usual[:_TRIED]])
    step_size = settings.step_size or STEP / _largest_curvature(loss, prior, nbeta, first)
    compiled = kernel.build(
        loss, prior, Langevin(rule="langevin", step_size=step_size), gradient or Full(), nbeta=nbeta, reflecting=True
    )
    blocks = compiled.pack(points)
    times = settings.burn_in + settings.thinning * np.arange(1, settings.draws + 1)
    excess = np.empty((settings.particles, settings.draws))
    done = 0
    for k, time in enumerate(times.tolist()):
        compiled.advance(blocks, (0, len(blocks)), (done, time), int(times[-1]), key)
        done = time
        points = compiled.unpack(blocks, settings.particles)
        excess[:, k] = loss.excess(points)
    diverged = not np.isfinite(points).all()
    met = math.inf if diverged else _largest_curvature(loss, prior, nbeta, np.concatenate([points, first[:1]]))
    return xr.Dataset(
        {
            "excess": labelled(("chain", "draw"), excess, "K_n = L_n - S_n", "nat per sample"),
            "step_size": scalar(step_size, "Langevin step size h"),
            "step_times_curvature": scalar(step_size * met, "h times the largest curvature; edge at 2"),
        },
        coords={"draw": labelled("draw", times, "steps taken", "step")},
        attrs={"nbeta": nbeta, "gradient": (gradient or Full()).name, "seed": settings.seed},
    )


def mean_and_error(values: xr.DataArray) -> tuple[float, float]:
    """Return the mean of values (chain, draw), and its standard error from the means of the independent chains."""
    means = values.mean("draw", skipna=False).to_numpy()
    with np.errstate(invalid="ignore"):
        return float(means.mean()), float(means.std(ddof=1) / math.sqrt(len(means)))


def drift_z(values: xr.DataArray) -> float:
    """Return the mean of the second half of the draws minus the first, in standard errors over the chains.

    Beyond about 3 the chains were still moving away from their start. The result is 0 if nothing moves.
    """
    half = values.sizes["draw"] // 2
    later, earlier = values.isel(draw=slice(-half, None)), values.isel(draw=slice(None, half))
    with np.errstate(invalid="ignore"):
        rise = (later.mean("draw", skipna=False) - earlier.mean("draw", skipna=False)).to_numpy()
        error = rise.std(ddof=1) / math.sqrt(len(rise))
    return 0.0 if error == 0 else float(rise.mean() / error)


def unmixed(values: xr.DataArray, z: float = 0.0) -> str:
    """Return the reasons, in words, why chains with these values (chain, draw) have not mixed; "" if there is none.

    z: the difference of their result from the exact one, in standard errors.
    """
    if not np.isfinite(values).all():
        return "a chain has diverged"
    drift, reduction = drift_z(values), r_hat(values.to_numpy().T) if values.sizes["draw"] >= _FEWEST else math.nan
    reasons = [
        f"they drift by {drift:.1f} standard errors" * (not abs(drift) < _MOVING),
        f"R-hat is {reduction:.2f}" * (reduction >= GOOD),
        f"they are {abs(z):.1f} standard errors from the exact value" * (not abs(z) < _MOVING),
    ]
    said = ", ".join(reason for reason in reasons if reason)
    return f"the chains have not mixed: {said}" if said else ""


def _at_work(loss: Loss, nbeta: float, centre: Array, points: Array) -> Array:
    """Return the points (N, D), each moved towards the centre until its loss is usual at this temperature."""
    usual, floor = points.copy(), loss.excess(centre[None])[0]
    for _ in range(_HALVINGS):
        high = ~(nbeta * (loss.excess(usual) - floor) < _USUAL * len(centre))
        if not high.any():
            break
        usual[high] = (usual[high] + centre) / 2
    return usual


def _largest_curvature(loss: Loss, prior: Prior, nbeta: float, points: Array) -> float:
    """Return the largest |curvature| of nbeta L_n - log φ, among those points (N, D) at which it is finite."""
    own = np.array([d.arguments[1] ** -2 if d.family == "normal" else 0.0 for d in prior.distributions])
    hessian = nbeta * loss.hessian(points) + np.diag(own)
    finite = hessian[np.isfinite(hessian).all(axis=(1, 2))]
    largest = float(np.abs(np.linalg.eigvalsh(finite)).max()) if len(finite) else 0.0
    if not largest > 0:
        raise InputError("the loss has no curvature at the points tried: give a step size")
    return largest
