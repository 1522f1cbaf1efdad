"""The panels of measurements: each shows the measured quantity, with the exact value beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sandbox.model.strata import ELSEWHERE
from sandbox.pictures import particle_panels
from sandbox.pictures.particle_panels import Panel
from sandbox.pictures.scene import GREY, INK, colour, printable, wrapped
from sandbox.pictures.style import style, write_figure
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

BLUE, ORANGE, GREEN = colour(0), colour(1), colour(2)
COLUMNS = 3


def measurement_figure(tree: xr.DataTree) -> Figure:
    """Return the figure of a run's measurements, one to three panels each. Raises InputError if there are none."""
    if "measurements" not in tree.children:
        raise InputError("this run has no measurements to draw")
    found = {name: node.to_dataset() for name, node in tree["measurements"].children.items()}
    panels = [(panel, data) for name, data in found.items() for panel in PANELS[name]]
    columns = 2 if len(panels) in (2, 4) else min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with style():
        width = max(4.2 * columns, 6.0)
        title = wrapped(tree.attrs["question"], int(10.5 * width))
        said = "\n".join(wrapped(f"{name}: {data.attrs['summary']}", int(12 * width)) for name, data in found.items())
        result = Figure(figsize=(width, 3.5 * rows + 0.3 + 0.15 * (title + said).count("\n")))
        FigureCanvasAgg(result)
        result.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)
        for k, (panel, data) in enumerate(panels):
            panel(result.add_subplot(rows, columns, k + 1), data)
        result.suptitle(title, fontsize=10)
        result.supxlabel(said, fontsize=8, x=0.01, ha="left")
    return result


def save_measurements(tree: xr.DataTree, path: str | Path) -> None:
    """Write `measurement_figure(tree)` to .png, .pdf or .svg, whole or not at all. Raises InputError and OSError."""
    write_figure(measurement_figure(tree), path)


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _exact(axes: Axes, data: xr.Dataset, *, name: str = "exact λ") -> None:
    """Draw the exact λ, if known, as a horizontal line."""
    value = float(data.attrs.get("exact", math.nan))
    if math.isfinite(value):
        axes.axhline(value, color=INK, linestyle="--", linewidth=1, label=f"{name} = {value:.4g}")


def _make_room(axes: Axes) -> None:
    """Extend the y axis so that the upper third is free for the legend."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + (high - low) / 2)


def _fit(data: xr.Dataset) -> str:
    return f"fit: λ = {data.attrs['estimate']:.4f}"


def _legend(axes: Axes) -> None:
    axes.legend(loc="best", framealpha=0.85, edgecolor="none")


def _log_volume(axes: Axes, data: xr.Dataset) -> None:
    decades = data["log_level"] / math.log(10)
    axes.errorbar(
        decades, data["log_volume"] / math.log(10), 1.96 * data["log_volume_error"] / math.log(10),
        color=BLUE, marker=".", linestyle="none", label="measured, 95%",
    )  # fmt: skip
    axes.plot(decades, data["fitted_log_volume"] / math.log(10), color=ORANGE, label=_fit(data))
    _label(axes, "Volume of the weights with loss below e", "log10 e (e in nats)", "log10 V(e)")
    _legend(axes)


def _volume_slope(axes: Axes, data: xr.Dataset) -> None:
    decades = data["bin_log_level"] / math.log(10)
    axes.errorbar(
        decades, data["slope"], 1.96 * data["slope_error"], color=BLUE, marker=".", linestyle="none",
        label="local slope, 95%",
    )  # fmt: skip
    axes.plot(decades, data["fitted_slope"], color=ORANGE, label="fit")
    _exact(axes, data)
    _label(axes, "Its slope in log e tends to λ", "log10 e (e in nats)", "d log V / d log e")
    _legend(axes)


def _free_energy(axes: Axes, data: xr.Dataset) -> None:
    n = data["n"]
    axes.plot(n, data["free_energy"], color=INK, marker=".", label="free energy F - n S, exact")
    axes.plot(n, data["bic"], color=ORANGE, linestyle="--", label="BIC: (D/2) log n")
    if np.isfinite(data["singular"]).all():
        shift = float(data["free_energy"][-1] - data["singular"][-1])
        law = "λ log n - (m-1) log log n + c"
        axes.plot(n, data["singular"] + shift, color=BLUE, linestyle=":", linewidth=2, label=law)
    if np.isfinite(data["laplace"]).all():
        axes.plot(n, data["laplace"], color=GREEN, linestyle="-.", label="Laplace")
    else:
        axes.plot([], [], " ", label="Laplace: infinite (singular Hessian)")
    axes.set_xscale("log")
    _label(axes, "Free energy against log n", "n (samples)", "nats")
    _legend(axes)


def _free_energy_slope(axes: Axes, data: xr.Dataset) -> None:
    axes.plot(data["n"], data["slope"], color=BLUE, marker=".", label="n E[K], the slope of F in log n")
    axes.plot(data["n"], data["fitted_slope"], color=ORANGE, linewidth=1, label=_fit(data))
    _exact(axes, data)
    steps = np.diff(np.log(data["n"][:2]))
    slope = float(np.diff(data["bic"][:2])[0] / steps[0])
    axes.axhline(slope, color=GREEN, linestyle="--", linewidth=1, label=f"D/2 = {slope:g}, BIC's slope")
    axes.set_xscale("log")
    _label(axes, "Its slope tends to λ, like 1/log n where m > 1", "n (samples)", "nats")
    _legend(axes)


def _pole_lines(axes: Axes, data: xr.Dataset) -> None:
    found, value = float(data.attrs["estimate"]), float(data.attrs["exact"])
    axes.axvline(-found, color=ORANGE, label=f"pole found at {-found:.4f}")
    if math.isfinite(value):
        axes.axvline(-value, color=INK, linestyle="--", linewidth=1, label=f"-λ = {-value:.4f}")


def _zeta(axes: Axes, data: xr.Dataset) -> None:
    z, slope = data["z"].to_numpy(), data["log_derivative"].to_numpy()
    logs = _integral(slope, z)
    # ζ(0) = 1, the mass of the prior.
    zero = np.interp(0.0, z, logs)
    axes.plot(z, np.exp(logs - zero), color=BLUE, label="ζ(z), the integral")
    between = data.sel(z_continued=slice(-0.97 * float(data.attrs["estimate"]), z[0]))
    steps = _integral(between["continued"].to_numpy(), between["z_continued"].to_numpy())
    axes.plot(between["z_continued"], np.exp(steps - steps[-1] - zero), color=BLUE, linestyle=":", label="continued")
    _pole_lines(axes, data)
    axes.set_yscale("log")
    _label(axes, "The mean of K^z: finite up to the pole", "z", "ζ(z) = E[K^z]")
    _legend(axes)


def _integral(values: Array, z: Array) -> Array:
    """Return the integral from the first z to each z, by the trapezoidal rule; same shape as `z`."""
    return np.append(0.0, np.cumsum(np.diff(z) * (values[1:] + values[:-1]) / 2))


def _zeta_continued(axes: Axes, data: xr.Dataset) -> None:
    axes.plot(data["z_continued"], data["continued"], color=BLUE, linestyle=":", label="ζ'/ζ continued")
    axes.plot(data["z"], data["log_derivative"], color=BLUE, label="ζ'/ζ, the integral")
    _pole_lines(axes, data)
    axes.set_ylim(-30, 30)
    _label(axes, f"Continued through it: residue {-float(data.attrs['residue']):.3f} = -m", "z", "d log ζ / dz")
    _legend(axes)


def _llc(axes: Axes, data: xr.Dataset) -> None:
    how = "samples" if float(data.get("llc_exact_standard_error", 0)) > 0 else "exact"
    names = {
        "llc_exact": f"{how} at this n, these data",
        "llc_population": f"{how} at this n, population",
        "learning_coefficient": "λ (n to infinity)",
    }
    rows = [(words, float(data[name])) for name, words in names.items() if name in data]
    axes.errorbar(
        [float(data["llc"])], [0], xerr=1.96 * float(data["llc_standard_error"]), color=BLUE, marker="o", capsize=3
    )
    for k, (_, value) in enumerate(rows, start=1):
        axes.plot([value], [k], color=INK, marker="D", linestyle="none")
        axes.axvline(value, color=GREY, linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(rows) + 1), ["Langevin chains, 95%", *(words for words, _ in rows)])
    axes.invert_yaxis()
    _label(axes, "Local learning coefficient: error and bias apart", "nbeta (E[L] - L(w*)) in nats", "")


def _wbic(axes: Axes, data: xr.Dataset) -> None:
    axes.plot(data["n"], data["free_energy_excess"], color=INK, marker=".", label="F - n S, exact")
    axes.plot(data["n"], data["wbic_excess"], color=BLUE, marker="s", linestyle="--", label="WBIC - n S")
    axes.set_xscale("log")
    _label(axes, "WBIC beside the free energy", "n (samples)", "nats")
    _legend(axes)


def _wbic_lambda(axes: Axes, data: xr.Dataset) -> None:
    for name, words, shade in (
        ("learning_coefficient_one", "one temperature and the truth", BLUE),
        ("learning_coefficient_two", "two temperatures", ORANGE),
    ):
        axes.plot(data["n"], data[name], color=shade, marker=".", label=words)
    _exact(axes, data)
    axes.set_xscale("log")
    _label(axes, "λ from posteriors at beta near 1/log n", "n (samples)", "λ estimate")
    _legend(axes)


def _waic_means(axes: Axes, data: xr.Dataset) -> None:
    names = [str(q).replace("_", " ") for q in data["quantity"].values]
    places = np.arange(len(names))
    axes.errorbar(
        data["mean"], places, xerr=1.96 * data["standard_error"], color=BLUE, marker="o", linestyle="none", capsize=3,
        label="mean over data sets, 95%",
    )  # fmt: skip
    axes.plot(
        data["theory"], places, color=INK, marker="D", linestyle="none", fillstyle="none", label="theory, with λ and ν"
    )
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    _label(axes, "In sample and out, n times the excess", "nats", "")
    _legend(axes)


def _waic_scatter(axes: Axes, data: xr.Dataset) -> None:
    n = float(data["n"])
    axes.scatter(n * data["waic"], n * data["generalisation"], color=BLUE, s=6, label="one data set")
    axes.scatter(
        [n * float(data["waic"].mean())],
        [n * float(data["generalisation"].mean())],
        color=ORANGE,
        marker="s",
        label="their mean",
    )
    _label(axes, "WAIC predicts the mean, not each data set", "n (WAIC - S_n) in nats", "n (G_n - S) in nats")
    _legend(axes)


def _laplace(k: int) -> Panel:
    def draw(axes: Axes, data: xr.Dataset) -> None:
        if k >= data.sizes["parameter"]:
            axes.set_axis_off()
            return
        row = data.isel(parameter=k)
        axes.stairs(row["posterior_density"], row["edge"], fill=True, color="#d0d0d0", label="posterior")
        if np.isfinite(row["laplace_density"]).all():
            axes.stairs(row["laplace_density"], row["edge"], color=BLUE, label="Laplace's Gaussian")
        else:
            axes.plot([], [], " ", label="Laplace: none (singular Hessian)")
        axes.axvline(float(row["minimiser"]), color=INK, linestyle="--", linewidth=1, label="minimiser of L_n")
        _make_room(axes)
        _label(axes, "Posterior and Laplace's Gaussian", printable(str(data["parameter"].values[k])), "density")
        _legend(axes)

    return draw


def _curvatures(axes: Axes, data: xr.Dataset) -> None:
    for j, stratum in enumerate(data["stratum"].values):
        row = data.sel(stratum=stratum)
        x = _places(row)
        for e in range(row.sizes["eigenvalue"]):
            name = printable(str(stratum)) if e == 0 else None
            curvature = row["hessian_eigenvalue"].isel(eigenvalue=e)
            axes.plot(x, curvature, color=colour(j), marker="o" if e else ".", markersize=3, label=name)
            if "fisher_eigenvalue" in row:
                axes.plot(
                    x,
                    row["fisher_eigenvalue"].isel(eigenvalue=e),
                    color=INK,
                    marker="x",
                    markersize=3,
                    linestyle="none",
                )
    _label(
        axes, "Hessian (lines) and Fisher (crosses) on W0", "position along the stratum", "eigenvalue (nats per sample)"
    )
    _legend(axes)


def _local_coefficients(axes: Axes, data: xr.Dataset) -> None:
    for j, stratum in enumerate(data["stratum"].values):
        row, name = data.sel(stratum=stratum), printable(str(stratum))
        axes.plot(_places(row), row["llc"], color=colour(j), marker=".", label=f"{name}: LLC")
        axes.plot(_places(row), row["llc_quadratic"], color=colour(j), marker="x", markersize=4, linestyle="none")
        value = float(row["learning_coefficient"].max())
        if math.isfinite(value):
            axes.axhline(value, color=colour(j), linestyle="--", linewidth=1)
    axes.plot([], [], color=INK, marker="x", linestyle="none", label="predicted from the curvatures alone")
    axes.plot([], [], color=INK, linestyle="--", label="λ of the stratum")
    _make_room(axes)
    _label(axes, "Curvature misses behaviour beyond second order", "position along the stratum", "local λ")
    _legend(axes)


def _trace_against_lambda(axes: Axes, data: xr.Dataset) -> None:
    for j, stratum in enumerate(data["stratum"].values):
        row = data.sel(stratum=stratum)
        axes.scatter(row["trace"], row["llc"], color=colour(j), s=12, label=printable(str(stratum)))
    singular = int(np.isneginf(data["log_determinant"]).sum())
    points = int(np.isfinite(data["trace"]).sum())
    axes.plot([], [], " ", label=f"determinant 0, basin volume infinite: {singular} of {points} points")
    axes.set_xscale("symlog", linthresh=1e-6)
    _make_room(axes)
    _label(axes, "Flatness by trace, determinant and volume", "trace of the Hessian (nats per sample)", "local λ")
    _legend(axes)


def _places(row: xr.Dataset) -> Array:
    """Return the positions of points along a stratum, or the points' numbers if it has no such position."""
    along = row["along"].to_numpy() if "along" in row else np.full(row.sizes["point"], np.nan)
    return along if np.isfinite(along).any() else np.arange(row.sizes["point"], dtype=np.float64)


def _phases(axes: Axes, data: xr.Dataset) -> None:
    for k, name in enumerate(data["stratum"].values):
        share = data["share"].sel(stratum=name)
        axes.errorbar(
            data["n"], share, data["share_error"], color=GREY if name == ELSEWHERE else colour(k), marker=".",
            linestyle=":" if name == ELSEWHERE else "-", label=printable(str(name)),
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(-0.02, 1.02)
    _label(axes, "The posterior's share of each stratum", "n", "share")
    _legend(axes)


PANELS: dict[str, Sequence[Panel]] = {
    "volume": (_log_volume, _volume_slope),
    "free_energy": (_free_energy, _free_energy_slope),
    "zeta": (_zeta, _zeta_continued),
    "llc": (_llc,),
    "wbic": (_wbic, _wbic_lambda),
    "waic": (_waic_means, _waic_scatter),
    "laplace": (_laplace(0), _laplace(1)),
    "flatness": (_curvatures, _local_coefficients, _trace_against_lambda),
    "phases": (_phases,),
    **particle_panels.PANELS,
}
"""The panels of each measurement."""
