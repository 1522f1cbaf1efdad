"""Every measurement by the name that scenarios use. To add one: write its function and its picture, list it here."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import numpy as np
import xarray as xr
from pydantic import Field

from sandbox import exact
from sandbox.errors import InputError, nearest
from sandbox.loss import Loss
from sandbox.measured.base import Measurement, Subject
from sandbox.measured.chains import ChainSettings, default_nbeta
from sandbox.measured.conserved import Conserved
from sandbox.measured.current import Current
from sandbox.measured.free_energy import FEWEST, free_energy
from sandbox.measured.labelled import Array, labelled
from sandbox.measured.local import llc_report
from sandbox.measured.marginals import posterior_and_laplace
from sandbox.measured.mixing import Mixing
from sandbox.measured.passage import Passage
from sandbox.measured.phases import Phases
from sandbox.measured.regular import flatness, laplace, llc_along
from sandbox.measured.settled import LocalLlc
from sandbox.measured.sharpness import Sharpness
from sandbox.measured.splitting import Energy
from sandbox.measured.temperature import Temperature
from sandbox.measured.thermodynamics import SMALL_N, Thermodynamics, large_n, thermodynamics
from sandbox.measured.volume import PARTICLES, volume
from sandbox.measured.waic import expectations, waic_over_data_sets
from sandbox.measured.wbic import wbic_along
from sandbox.measured.zeta import zeta
from sandbox.prior import Prior

Count = Annotated[int, Field(ge=3, le=10**12)]


class Volume(Measurement):
    """V(e), the prior's mass of {K < e}, over many decades, by importance splitting: its exponent is λ."""

    name: ClassVar[str] = "volume"
    quick: ClassVar[dict[str, int]] = {"particles": 1024}
    particles: int = Field(default=PARTICLES, ge=512, le=10**6, description="particles, in 16 independent replicas")
    decades: float = Field(default=60.0, gt=1, le=250, description="the descent ends at e = 10^-decades at the latest")

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return the record of `volume`, with λ of W0 beside it where that is known."""
        found = volume(
            subject.population_loss.excess,
            subject.prior,
            seed=subject.seed,
            particles=self.particles,
            decades=self.decades,
        )
        return _with_theory(found, subject, "the exponent of V(e)")


@functools.lru_cache(maxsize=1)
def _table(energy: Energy, prior: Prior, largest: float) -> Thermodynamics:
    """Return the evidence over all sizes n up to the largest: the free energy and ζ are two readings of it."""
    return thermodynamics(energy, prior, np.concatenate([SMALL_N, large_n(len(prior.names), largest)]))


class _OverSizes(Measurement):
    """A reading of the evidence over many decades of n."""

    quick: ClassVar[dict[str, int]] = {"largest_n": 10**9}
    shares: ClassVar[str] = "evidence"
    largest_n: float = Field(default=1e15, description="no n exceeds it; in three dimensions 1e6 is the largest anyway")

    def check(self, subject: Subject) -> None:
        """Refuse a table in which the asymptotics does not show."""
        dimension = len(subject.prior.names)
        if len(large_n(dimension, self.largest_n)) < FEWEST:
            least = large_n(dimension)[FEWEST - 1]
            raise InputError(f"found {self.largest_n:g}; allowed: {least:g} or more").within("largest_n")

    def table(self, subject: Subject) -> Thermodynamics:
        """Return the evidence of the population's loss."""
        return _table(subject.population_loss.excess, subject.prior, self.largest_n)


class FreeEnergy(_OverSizes):
    """F_n by quadrature over n: its slope in log n is λ; BIC and Laplace beside it."""

    name: ClassVar[str] = "free_energy"

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return F_n of the population's loss with the fit of λ, and what regular and singular theory make of it."""
        loss, prior = subject.population_loss, subject.prior
        found = free_energy(loss.excess, prior, table=self.table(subject))
        n, first = found["n"].to_numpy(), float(found["n"][0])
        regular = -float(laplace(loss, prior, first)["log_evidence_laplace"])
        beside = {
            "laplace": labelled(
                "n", regular + len(prior.names) / 2 * np.log(n / first), "-log of Laplace's evidence", "nat"
            ),
            "singular": labelled("n", _singular(subject, n), "λ log n - (m - 1) log log n", "nat"),
        }
        return _with_theory(found.assign(beside), subject, "the slope of F_n in log n")


class Zeta(_OverSizes):
    """ζ(z) = int K^z φ, continued to its largest pole, which is at -λ and of order m."""

    name: ClassVar[str] = "zeta"

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return the record of `zeta`."""
        found = zeta(subject.population_loss.excess, subject.prior, table=self.table(subject))
        return _with_theory(found, subject, "the largest pole of ζ(z)")


class Llc(Measurement):
    """The local learning coefficient at a point, by Langevin chains and by quadrature, beside its exact target."""

    name: ClassVar[str] = "llc"
    at: dict[str, float] = Field(default={}, description="parameter: coordinate of the reference w*; 0 unless said")
    localization: float = Field(default=0.0, ge=0, description="γ of exp(-γ/2 |w - w*|^2)")
    nbeta: float | None = Field(default=None, gt=0, description="unless said n / log n")
    chains: ChainSettings = Field(default=ChainSettings(), description="the chains' number and length")

    def check(self, subject: Subject) -> None:
        """Refuse unknown parameters, and a potential without nbeta."""
        for name in self.at:
            if name not in subject.prior.names:
                known = ", ".join(subject.prior.names)
                raise InputError(
                    f"unknown parameter '{name}'{nearest(name, subject.prior.names)}; known: {known}"
                ).within("at")
        if self.nbeta is None:
            default_nbeta(subject.loss.samples)

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return the record of `llc_report`."""
        point = np.array([self.at.get(name, 0.0) for name in subject.prior.names])
        value = _value(subject)
        found = llc_report(
            subject.loss,
            subject.prior,
            point,
            value,
            population=subject.population_loss,
            nbeta=self.nbeta,
            localization=self.localization,
            settings=self.chains,
        )
        llc, error = float(found["llc"]), float(found["llc_standard_error"])
        said = (
            f"LLC = {llc:.4f} ± {1.96 * error:.4f} by chains, exactly {float(found['llc_exact']):.4f} at this n "
            f"and {float(found['llc_population']):.4f} without noise in the data; λ = {value:.4g}"
        )
        return found.drop_vars(["excess"], errors="ignore").assign_attrs(
            estimate=llc, low=llc - 1.96 * error, high=llc + 1.96 * error, exact=value, summary=said
        )


class Wbic(Measurement):
    """WBIC, E[n L_n] at beta = 1 / log n, beside the free energy that it stands for."""

    name: ClassVar[str] = "wbic"
    samples: tuple[Count, ...] = Field(
        default=(100, 1000, 10_000, 100_000, 1_000_000), strict=False, description="n, rising"
    )

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return the record of `wbic_along`."""
        found = wbic_along(_loss_of(subject), subject.prior, list(self.samples))
        value = float(found["learning_coefficient_two"][-1])
        said = (
            f"WBIC - F_n = {float(found['wbic_error'][-1]):+.3f} nat at n = {self.samples[-1]:,}; "
            f"λ from two temperatures there {value:.4f}"
        )
        return _with_theory(found.assign_attrs(estimate=value, summary=said), subject)


class Waic(Measurement):
    """WAIC, training and generalisation loss over data sets: in sample and out; the singular fluctuation ν."""

    name: ClassVar[str] = "waic"
    quick: ClassVar[dict[str, int]] = {"data_sets": 10}
    samples: Count = Field(default=200, description="n of each data set")
    data_sets: int = Field(default=200, ge=2, le=10_000, description="how many data sets")

    def check(self, subject: Subject) -> None:
        """Refuse a potential, which has no data."""
        if subject.model is None:
            raise InputError("WAIC needs a model with data; here is a bare potential")

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return each data set's losses, and their means beside theory with the ν that they show."""
        if subject.model is None:
            raise InputError("WAIC needs a model with data; here is a bare potential")
        seeds = range(subject.seed, subject.seed + self.data_sets)
        sets = waic_over_data_sets(subject.model, subject.prior, self.samples, list(seeds))
        value = _value(subject)
        fluctuation = float(sets["singular_fluctuation"].mean())
        means = expectations(sets, value, fluctuation)
        waic_mean, error_mean = (float(means["mean"].sel(quantity=q)) for q in ("waic", "generalisation"))
        said = (
            f"over {self.data_sets} data sets of n = {self.samples}: n E[G] = {error_mean:.3f}, n E[WAIC] = "
            f"{waic_mean:.3f}, ν = {fluctuation:.3f}; λ = {value:.4g}"
        )
        return xr.merge([sets, means], combine_attrs="override").assign_attrs(
            estimate=error_mean, singular_fluctuation=fluctuation, exact=value, summary=said
        )


class Laplace(Measurement):
    """Laplace's Gaussian at the minimiser beside the posterior: densities of each parameter, and the evidence."""

    name: ClassVar[str] = "laplace"
    bins: int = Field(default=80, ge=10, le=1000, description="bins of the densities")

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return the record of `posterior_and_laplace`."""
        found = posterior_and_laplace(subject.loss, subject.prior, subject.nbeta, bins=self.bins)
        said = (
            f"log evidence {float(found['log_evidence']):.3f}, by Laplace {float(found['log_evidence_laplace']):.3f}; "
            f"the Hessian at the minimiser has rank {int(found['rank'])} of {len(subject.prior.names)}"
        )
        return found.assign_attrs(summary=said)


class Flatness(Measurement):
    """Hessian and Fisher information along each stratum, measures of flatness, and λ beside them."""

    name: ClassVar[str] = "flatness"
    quick: ClassVar[dict[str, int]] = {"points": 8}
    points: int = Field(default=32, ge=2, le=1000, description="points looked at on each stratum")
    nbeta: float = Field(default=1e8, gt=0, description="of the local learning coefficients along the stratum")
    localization: float = Field(default=100.0, gt=0, description="their γ: they see about γ^-1/2 far")

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return `flatness` and `llc_along` of each stratum, along the dimension `sheet`."""
        loss, prior, zero_set = subject.population_loss, subject.prior, subject.zero_set
        rows = []
        for k, stratum in enumerate(zero_set.strata):
            generic = exact.of_stratum(loss, prior, zero_set, k)
            value = float(generic.value) if generic and generic.value is not None else math.nan
            spectrum = flatness(loss, prior, zero_set, k, count=self.points, learning_coefficient=value)
            local = llc_along(loss, prior, zero_set, k, self.nbeta, self.localization, count=self.points)
            both = xr.merge([_counted(spectrum), _counted(local[["llc", "llc_quadratic"]])], join="outer")
            rows.append(both.assign_coords(sheet=stratum.name))
        found = xr.concat(rows, "sheet", join="outer", combine_attrs="drop_conflicts")
        found = found.assign_coords(sheet=np.array([s.name for s in zero_set.strata], dtype=object))
        said = "ranks of the Hessian: " + ", ".join(
            f"{name} {int(np.nanmin(row))} to {int(np.nanmax(row))}"
            for name, row in zip(found.sheet.values, found["rank"].values, strict=True)
        )
        if "fisher_difference" in found:
            widest = float(found["fisher_difference"].max())
            said += f"; Hessian and Fisher information differ by at most {widest:.1e} on W0"
        return found.assign_attrs(summary=said)


MEASUREMENTS: dict[str, type[Measurement]] = {
    m.name: m
    for m in (
        *(Volume, FreeEnergy, Zeta, Llc, Wbic, Waic, Laplace, Flatness, Phases),
        *(LocalLlc, Sharpness, Conserved, Passage, Mixing, Current, Temperature),
    )
}


def _counted(data: xr.Dataset) -> xr.Dataset:
    """Number the points, so that strata with fewer of them are filled up with nan."""
    return data.assign_coords(point=np.arange(data.sizes["point"]))


def _value(subject: Subject) -> float:
    """Return λ of W0, nan where it is not known."""
    theory = subject.theory
    return float(theory.rank[0]) if theory else math.nan


def _with_theory(found: xr.Dataset, subject: Subject, what: str = "") -> xr.Dataset:
    """Add the exact λ and m of W0 to the attributes, and say both in a sentence."""
    theory = subject.theory
    attrs: dict[str, Any] = {
        "exact": float(theory.rank[0]) if theory else math.nan,
        "exact_multiplicity": -theory.rank[1] if theory else 0,
    }
    if what:
        a = found.attrs
        truth = f"exact: λ = {theory.value}, m = {theory.multiplicity}" if theory else "no exact value is known"
        attrs["summary"] = (
            f"λ = {a['estimate']:.5f}, 95% interval [{a['low']:.5f}, {a['high']:.5f}], from {what}; {truth}"
        )
    return found.assign_attrs(attrs)


def _singular(subject: Subject, n: Array) -> Array:
    """Return λ log n - (m - 1) log log n, nan where λ is not known."""
    theory = subject.theory
    if theory is None:
        return np.full(len(n), math.nan)
    result: Array = float(theory.rank[0]) * np.log(n) + (theory.rank[1] + 1) * np.log(np.log(n))
    return result


def _loss_of(subject: Subject) -> Callable[[int], Loss]:
    """Return n -> a loss on n samples where there is a model with samples, else the population's."""
    model = subject.model
    if model is None or subject.loss.samples is None:
        return lambda _: subject.population_loss
    return lambda n: model.sampled(n, subject.seed)
