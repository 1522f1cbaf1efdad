"""Regular theory outside its range: Laplace's evidence, BIC, Hessian and Fisher information, and flatness along W0.

Regular theory assumes a positive definite Hessian at the minimum. Then log Z = -nbeta K_n(w^) + log φ(w^) +
(D/2) log(2 pi / nbeta) - 1/2 log det H, F_n = n L_n(w^) + (D/2) log n (Schwarz 1978), and flatness is a spectrum. On
a singular W0, det H = 0: Laplace's evidence is infinite though the true one is finite, BIC counts D/2 although
λ <= D/2, and two points of equal spectrum may differ in λ. An infinite value is returned beside the true number.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import xarray as xr
from pydantic import Field

from sandbox.dynamics.frames import Record
from sandbox.learning_coefficient.of_strata import of_stratum
from sandbox.measurements.base import OfLoss, need_quadrature
from sandbox.measurements.loss.llc import llc_quadrature, quadratic_llc
from sandbox.measurements.loss.minimum import Minimum, minimise
from sandbox.model.labelled import coordinates, labelled, scalar, texts
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.problem import Problem
from sandbox.model.strata import ZeroSet
from sandbox.posterior.quadrature.posteriors import posterior
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

FLAT = 1e-6
"""A curvature below this fraction of the loss's typical curvature counts as zero."""

_TRIED = 256
"""The number of draws from the prior at which the typical curvature is measured."""


def typical_curvature(loss: Loss, prior: Prior) -> float:
    """Return the median over the prior of the Hessian's largest |eigenvalue|, in nats per sample per w^2.

    Raises InputError if it is zero or not finite: then the loss has no scale.
    """
    hessian = loss.hessian(prior.draw(_TRIED, 0, "typical curvature"))
    finite = hessian[np.isfinite(hessian).all(axis=(1, 2))]
    typical = float(np.median(np.abs(np.linalg.eigvalsh(finite)).max(axis=1))) if len(finite) else 0.0
    if not typical > 0:
        raise InputError("the loss has no curvature on most of the prior: its curvatures have no scale")
    return typical


def laplace(
    loss: Loss, prior: Prior, nbeta: float | None = None, *, start: Array | None = None, tolerance: float | None = None
) -> xr.Dataset:
    """Return Laplace's approximation of log int exp(-nbeta K_n) φ at the minimiser of K_n, and the exact value.

    nbeta: by default the loss's number of samples n. start: the point (D,) from which the search for the minimiser
    starts; by default the lowest minimum found is used. tolerance: as for `posterior`. For one to three parameters.

    The Dataset has `minimiser` (parameter), `minimum_excess`, `at_wall` (the minimiser is on the prior's box, where
    the formula does not hold); `hessian_eigenvalue` (eigenvalue), ascending; `rank`; `log_evidence_laplace`, +inf if
    an eigenvalue is zero, nan if one is negative (a minimum only because of the wall); `log_evidence`, exact; and
    `laplace_error`, the first minus the second. Raises InputError if nbeta is unusable, or missing without samples.
    """
    nbeta = _nbeta(loss, nbeta)
    minimum = minimise(loss, prior, start)
    values, rank, guess = _laplace(loss, prior, nbeta, minimum)
    exact = posterior(loss.excess, prior, nbeta, tolerance=tolerance).log_evidence
    return xr.Dataset(
        {
            "minimiser": labelled("parameter", minimum.point, "minimiser of K_n"),
            "minimum_excess": scalar(minimum.excess, "K_n at the minimiser", "nat per sample"),
            "at_wall": scalar(minimum.at_wall, "whether the minimiser is on the prior's box"),
            "hessian_eigenvalue": labelled(
                "eigenvalue", values, "curvatures of K_n at the minimiser", "nat per sample"
            ),
            "rank": scalar(rank, "curvatures that are not zero"),
            "log_evidence_laplace": scalar(guess, "Laplace's log evidence", "nat"),
            "log_evidence": scalar(exact, "log evidence, by quadrature", "nat"),
            "laplace_error": scalar(guess - exact, "Laplace's log evidence minus the exact one", "nat"),
        },
        coords=coordinates(parameter=texts(loss.parameters)),
        attrs={"nbeta": nbeta},
    )


def flatness(
    loss: Loss,
    prior: Prior,
    zero_set: ZeroSet,
    k: int,
    *,
    count: int = 32,
    level: float = 1e-3,
    learning_coefficient: float | None = None,
) -> xr.Dataset:
    """Return curvatures and Fisher information along stratum k of W0, and the measures of flatness made from them.

    loss: the population's loss or a potential, because W0 is the set on which it vanishes. count: the most points used.

    The dimensions are `point` (in the order of the position along the stratum, if it has one), `parameter`, and
    `eigenvalue` (ascending). The variables are `position`; `along`; `hessian_eigenvalue`; `fisher_eigenvalue` and
    `fisher_difference`, the largest |H - I| (zero on W0; both for a model only); `rank`; `trace`; `sharpness`, the
    largest eigenvalue; `log_determinant`, -inf if singular; `log_pseudo_determinant` of the nonzero part;
    `log_basin_volume`, of the ellipsoid {v^T H v / 2 <= level}, +inf if singular; `regular_learning_coefficient`,
    rank / 2, the estimate of λ from a spectrum; and `learning_coefficient`, λ itself, if it is given.
    Raises InputError for a loss on samples, or a stratum without a point inside the prior's box.
    """
    points = _points(loss, prior, zero_set, k, count)
    hessians = loss.hessian(points)
    values = np.asarray(np.linalg.eigvalsh(hessians), dtype=np.float64)
    threshold = FLAT * typical_curvature(loss, prior)
    rank, log_determinant = _rank_and_log_determinant(values, threshold)
    known = np.where(values > threshold, values, 1.0)
    dimension = values.shape[1]
    ball = dimension / 2 * math.log(2 * math.pi * level) - math.lgamma(dimension / 2 + 1)
    data = {
        "position": labelled(("point", "parameter"), points, "point of W0"),
        "hessian_eigenvalue": labelled(("point", "eigenvalue"), values, "curvatures of K", "nat per sample"),
        "rank": labelled("point", rank, "curvatures that are not zero"),
        "trace": labelled("point", values.sum(axis=1), "trace of the Hessian", "nat per sample"),
        "sharpness": labelled("point", values[:, -1], "largest curvature", "nat per sample"),
        "log_determinant": labelled("point", log_determinant, "log determinant of the Hessian"),
        "log_pseudo_determinant": labelled("point", np.log(known).sum(axis=1), "log product of nonzero curvatures"),
        "log_basin_volume": labelled("point", ball - log_determinant / 2, f"log volume of the basin below {level:g}"),
        "regular_learning_coefficient": labelled("point", rank / 2, "half the rank of the Hessian"),
    }
    if loss.residual_jacobian:
        fisher = loss.fisher_information(points)
        data["fisher_eigenvalue"] = labelled(
            ("point", "eigenvalue"), np.linalg.eigvalsh(fisher), "eigenvalues of the Fisher information"
        )
        data["fisher_difference"] = labelled("point", np.abs(hessians - fisher).max(axis=(1, 2)), "largest |H - I|")
    if zero_set.strata[k].along is not None:
        data["along"] = labelled("point", zero_set.along(points, k), "position along the stratum")
    if learning_coefficient is not None:
        data["learning_coefficient"] = labelled(
            "point", np.full(len(points), float(learning_coefficient)), "learning coefficient λ"
        )
    return xr.Dataset(
        data,
        coords=coordinates(parameter=texts(loss.parameters)),
        attrs={"stratum": zero_set.strata[k].name, "level": level},
    )


def llc_along(
    loss: Loss,
    prior: Prior,
    zero_set: ZeroSet,
    k: int,
    nbeta: float,
    localization: float,
    *,
    count: int = 12,
    tolerance: float = 1e-4,
) -> xr.Dataset:
    """Return the local learning coefficient along stratum k, and its prediction from the curvatures alone.

    `llc` (point) is exact at this nbeta and γ, by quadrature. `llc_quadratic`, 1/2 sum_i nbeta h_i / (nbeta h_i + γ),
    is half MacKay's effective number of parameters (1992): the prediction of regular theory. The two differ because of
    the higher orders of K. `position`, `along`, the dimensions and the errors are those of `flatness`.
    """
    points = _points(loss, prior, zero_set, k, count)
    inside = points[np.isfinite(prior.log_density(points))]
    found = [
        float(llc_quadrature(loss, prior, point, nbeta=nbeta, localization=localization, tolerance=tolerance)["llc"])
        for point in inside
    ]
    values = np.maximum(np.linalg.eigvalsh(loss.hessian(inside)), 0.0)
    data = {
        "position": labelled(("point", "parameter"), inside, "point of W0"),
        "llc": labelled("point", np.array(found), "local learning coefficient, by quadrature"),
        "llc_quadratic": labelled(
            "point", quadratic_llc(values, nbeta, localization), "llc predicted from the curvatures alone"
        ),
    }
    if zero_set.strata[k].along is not None:
        data["along"] = labelled("point", zero_set.along(inside, k), "position along the stratum")
    return xr.Dataset(
        data,
        coords=coordinates(parameter=texts(loss.parameters)),
        attrs={"stratum": zero_set.strata[k].name, "nbeta": nbeta, "localization": localization},
    )


def _laplace(loss: Loss, prior: Prior, nbeta: float, minimum: Minimum) -> tuple[Array, int, float]:
    """Return the curvatures (D,) at the minimum, the number of nonzero ones, and Laplace's log evidence there."""
    at = minimum.point[None]
    values = np.asarray(np.linalg.eigvalsh(loss.hessian(at)[0]), dtype=np.float64)
    rank, log_determinant = _rank_and_log_determinant(values[None], FLAT * typical_curvature(loss, prior))
    height = -nbeta * minimum.excess + float(prior.log_density(at)[0])
    width = len(values) / 2 * math.log(2 * math.pi / nbeta) - float(log_determinant[0]) / 2
    return values, int(rank[0]), height + width


def _points(loss: Loss, prior: Prior, zero_set: ZeroSet, k: int, count: int) -> Array:
    """Return up to `count` points of stratum k in the order of their position along it, (M, D)."""
    if loss.samples is not None:
        raise InputError(f"W0 is the zero set of the population's loss; this is a loss on {loss.samples} samples")
    points = np.unique(zero_set.sample(prior, k, count), axis=0)
    if not len(points):
        raise InputError(f"no point of the stratum '{zero_set.strata[k].name}' was found inside the prior's box")
    if zero_set.strata[k].along is None:
        return points
    return points[np.argsort(zero_set.along(points, k), kind="stable")]


def _rank_and_log_determinant(values: Array, threshold: float) -> tuple[npt.NDArray[np.int64], Array]:
    """Return the number of nonzero curvatures in each row (N, D), and log det: -inf if one is 0, nan if one is < 0."""
    flat, negative = np.abs(values) <= threshold, values < -threshold
    logs = np.log(np.where(flat | negative, 1.0, values)).sum(axis=1)
    logs = np.where(flat.any(axis=1), -np.inf, logs)
    return (~flat).sum(axis=1), np.where(negative.any(axis=1), np.nan, logs)


def _nbeta(loss: Loss, nbeta: float | None) -> float:
    value = loss.samples if nbeta is None else nbeta
    if value is None or not (math.isfinite(value) and value > 0):
        raise InputError(f"nbeta is {value}; it must be finite and above 0, and must be given if there are no samples")
    return float(value)


class Flatness(OfLoss):
    """Hessian and Fisher information along each stratum, with measures of flatness and λ."""

    name: ClassVar[str] = "flatness"
    needs_strata: ClassVar[bool] = True
    quick: ClassVar[dict[str, int]] = {"points": 8}
    points: int = Field(default=32, ge=2, le=1000, description="points on each stratum")
    nbeta: float = Field(default=1e8, gt=0, description="nbeta of the local learning coefficients along the stratum")
    localization: float = Field(default=100.0, gt=0, description="γ of these coefficients; its radius is about γ^-1/2")

    def check(self, problem: Problem, record: Record | None) -> None:
        """Raise InputError if quadrature does not take so many parameters."""
        need_quadrature(problem)

    def measure(self, problem: Problem) -> xr.Dataset:
        """Return `flatness` and `llc_along` of each stratum, along the dimension `stratum`."""
        loss, prior, zero_set = problem.population_loss, problem.prior, problem.zero_set
        rows = []
        for k in range(len(zero_set.strata)):
            generic = of_stratum(loss, prior, zero_set, k)
            value = float(generic.value) if generic and generic.value is not None else math.nan
            spectrum = flatness(loss, prior, zero_set, k, count=self.points, learning_coefficient=value)
            local = llc_along(loss, prior, zero_set, k, self.nbeta, self.localization, count=self.points)
            both = xr.merge([_counted(spectrum), _counted(local[["llc", "llc_quadratic"]])], join="outer")
            rows.append(both)
        found = xr.concat(rows, "stratum", join="outer", combine_attrs="drop_conflicts")
        found = found.assign_coords(coordinates(stratum=texts(zero_set.names[:-1])))
        said = "ranks of the Hessian: " + ", ".join(
            f"{name} {int(np.nanmin(row))} to {int(np.nanmax(row))}"
            for name, row in zip(found.stratum.values, found["rank"].values, strict=True)
        )
        if "fisher_difference" in found:
            widest = float(found["fisher_difference"].max())
            said += f"; Hessian and Fisher information differ by at most {widest:.1e} on W0"
        return found.assign_attrs(summary=said)


def _counted(data: xr.Dataset) -> xr.Dataset:
    """Return the data with numbered points, so that a stratum with fewer points is filled up with nan."""
    return data.assign_coords(coordinates(point=range(data.sizes["point"])))
