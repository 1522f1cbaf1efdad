"""The panels of measurements of particles over time; each source has its colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from sandbox.comparison.decomposition import RUNGS
from sandbox.measurements.particles.mixing import GOOD
from sandbox.measurements.particles.passage import OTHER, START
from sandbox.measurements.tracks import POSTERIOR
from sandbox.model.strata import DIVERGED, ELSEWHERE
from sandbox.pictures.scene import GREY, INK, colour, printable, wrapped

_DASHES = ("-", "--", ":", "-.")
_NAME = 24
"""The most characters of a line of a name in a legend."""

Panel = Callable[[Axes, xr.Dataset], None]


def _sources(data: xr.Dataset) -> Iterator[tuple[str, str, xr.Dataset]]:
    """Yield name, colour and record of each source; nothing if the record has no sources."""
    for k, name in enumerate(data["source"].values if "source" in data.coords else ()):
        yield _short(name), INK if name == POSTERIOR else colour(k), data.sel(source=name)


def _short(name: object) -> str:
    return wrapped(str(name), _NAME)


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", framealpha=0.85, edgecolor="none")
    else:
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", color=GREY)


def _time(axes: Axes, times: xr.DataArray) -> None:
    """Make the time axis logarithmic from the first frame after the start on, if frames span two decades."""
    later = times.values[times.values > 0]
    if len(later) > 1 and later[-1] > 100 * later[0]:
        axes.set_xscale("symlog", linthresh=float(later[0]))
        axes.set_xlim(0, float(later[-1]))


def _band(axes: Axes, times: xr.DataArray, rows: xr.DataArray, ink: str, label: str) -> None:
    """Draw the median over time, with the middle half (quantiles 0.25 to 0.75) as a band."""
    axes.plot(times, rows.sel(level=0.5), color=ink, label=label)
    axes.fill_between(times, rows.sel(level=0.25), rows.sel(level=0.75), color=ink, alpha=0.2, linewidth=0)


def _decades(axes: Axes, values: xr.DataArray) -> None:
    """Make the y axis symmetrically logarithmic if values span two decades, so that 0 and below stay visible."""
    sizes = np.abs(values.values[np.isfinite(values) & (values != 0)])
    if len(sizes) and sizes.max() > 100 * sizes.min():
        axes.set_yscale("symlog", linthresh=max(float(sizes.min()), 1e-12 * float(sizes.max())))


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    """Label the rows 0, 1, ... from above, and keep the numbers of the x axis short."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=6)
    axes.ticklabel_format(axis="x", scilimits=(-2, 4))


def _key(axes: Axes, data: xr.Dataset, dashed: Sequence[str]) -> None:
    """Add legend entries for the colour of each source and, if there are several `dashed` names, for their dashes."""
    for label, ink, _ in _sources(data):
        axes.plot([], [], color=ink, label=label)
    for k, name in enumerate(dashed if len(dashed) > 1 else ()):
        axes.plot([], [], color=GREY, linestyle=_DASHES[k % len(_DASHES)], label=_short(name))


def _spread(name: str, title: str, unit: str) -> Panel:
    def draw(axes: Axes, data: xr.Dataset) -> None:
        for label, ink, row in _sources(data):
            if np.isfinite(row[name]).any():
                _band(axes, data["step"], row[name], ink, label)
        if name == "step_times_sharpness" and "edge" in data:
            for edge in np.unique(data["edge"].values[np.isfinite(data["edge"])]):
                axes.axhline(edge, color=INK, linestyle="--", linewidth=1, label=f"edge of stability: {edge:g}")
        if "step" in data:
            _time(axes, data["step"])
        if name in data:
            _decades(axes, data[name].sel(level=0.5))
        _finish(axes, title, "steps", unit)

    return draw


def _conserved(axes: Axes, data: xr.Dataset) -> None:
    for _, ink, row in _sources(data):
        for k, quantity in enumerate(data["quantity"].values):
            axes.plot(
                data["step"], row["ratio"].sel(quantity=quantity, level=0.5), color=ink,
                linestyle=_DASHES[k % len(_DASHES)],
            )  # fmt: skip
    if "step" in data:
        _time(axes, data["step"])
    _key(axes, data, _names(data, "quantity"))
    _finish(axes, "Quantity relative to its value at the start", "steps", "median of the ratio")


def _decays(axes: Axes, data: xr.Dataset) -> None:
    labels: list[str] = []
    for label, ink, row in _sources(data):
        for quantity in data["quantity"].values:
            one = row.sel(quantity=quantity)
            axes.errorbar(
                [float(one["rate"])], [len(labels)], xerr=[1.96 * float(one["rate_error"])], color=ink, marker="o",
                capsize=3, label=None if labels else "95%",
            )  # fmt: skip
            labels.append(f"{label}: {_short(quantity)}")
    _rows(axes, labels)
    axes.axvline(0.0, color=GREY, linewidth=0.6, linestyle=":")
    _finish(axes, "Rate of decay of the median", "per step", "")


def _first_passage(axes: Axes, data: xr.Dataset) -> None:
    _survival(axes, data, {target: (START, target) for target in _strata(data)})
    _finish(axes, "Particles that have not yet reached a stratum", "steps", "share (95%)")


def _residence(axes: Axes, data: xr.Dataset) -> None:
    _survival(axes, data, {origin: (origin, OTHER) for origin in _strata(data)})
    _finish(axes, "Particles that have not reached another stratum", "steps since it was entered", "share (95%)")


def _strata(data: xr.Dataset) -> list[str]:
    return [name for name in _names(data, "destination") if name != OTHER]


def _names(data: xr.Dataset, along: str) -> list[str]:
    return [str(name) for name in data[along].values] if along in data.coords else []


def _survival(axes: Axes, data: xr.Dataset, pairs: Mapping[str, tuple[str, str]]) -> None:
    for _, ink, row in _sources(data):
        for k, (origin, target) in enumerate(pairs.values()):
            one = row.sel(departure=origin, destination=target)
            if not one["passages"]:
                continue
            dashes = _DASHES[k % len(_DASHES)]
            axes.step(one["elapsed"], one["survival"], where="post", color=ink, linestyle=dashes)
            axes.fill_between(
                one["elapsed"], one["survival_low"], one["survival_high"], step="post", color=ink, alpha=0.15, lw=0
            )
    if pairs:
        _time(axes, data["elapsed"])
        _key(axes, data, list(pairs))
    axes.set_ylim(-0.02, 1.02)


def _autocorrelation(axes: Axes, data: xr.Dataset) -> None:
    for _, ink, row in _sources(data):
        for k, quantity in enumerate(data["quantity"].values):
            axes.plot(
                data["lag"], row["autocorrelation"].sel(quantity=quantity), color=ink,
                linestyle=_DASHES[k % len(_DASHES)],
            )  # fmt: skip
    _key(axes, data, _names(data, "quantity"))
    axes.axhline(0.0, color=GREY, linewidth=0.6, linestyle=":")
    _finish(axes, "Autocorrelation over the second half", "lag in steps", "autocorrelation")


def _r_hats(axes: Axes, data: xr.Dataset) -> None:
    names = [_short(name) for name in _names(data, "quantity")]
    for label, ink, row in _sources(data):
        axes.plot(row["r_hat"], range(len(names)), color=ink, marker="o", linestyle="none", label=label)
    _rows(axes, names)
    axes.axvline(GOOD, color=INK, linestyle="--", linewidth=1)
    _finish(axes, f"R-hat: mixed below {GOOD:g}", "R-hat", "")


def _flux(axes: Axes, data: xr.Dataset) -> None:
    """Draw the flux in cells per step; the largest arrow is 1.5 cells long, and cells without flux show dots."""
    fields = []
    for label, ink, row in _sources(data):
        (x, width), (y, height) = ((row[edge].values[:-1], np.diff(row[edge])[0]) for edge in ("edge_x", "edge_y"))
        fields.append((ink, x + width / 2, y + height / 2, row["flux_x"].T / width, row["flux_y"].T / height))
        axes.plot([], [], color=ink, label=label)
    longest = max((float(np.hypot(u, v).max()) for *_, u, v in fields), default=0.0)
    for ink, x, y, u, v in fields:
        axes.quiver(x, y, u, v, color=ink, scale=(longest or 1.0) * len(x) / 1.5, width=0.005, alpha=0.7)
    _finish(axes, "Flux of particles", *(printable(str(data.attrs.get(k, ""))) for k in ("x", "y")))


def _circulation(axes: Axes, data: xr.Dataset) -> None:
    labels: list[str] = []
    for label, ink, row in _sources(data):
        value, error, z = (float(row[name]) for name in ("circulation", "circulation_error", "z"))
        axes.errorbar(
            [value], [len(labels)], xerr=[1.96 * error], color=ink, marker="o", capsize=3, label=f"z = {z:.1f}"
        )
        labels.append(label)
    _rows(axes, labels)
    axes.axvline(0.0, color=INK, linestyle="--", linewidth=1)
    _finish(axes, "Circulation: 0 in detailed balance", "mean of x dy - y dx per step (95%)", "")


def _temperatures(axes: Axes, data: xr.Dataset) -> None:
    labels: list[str] = []
    for label, ink, row in _sources(data):
        for shift, field, marker in zip((-0.15, 0.15), data["field"].values, "os", strict=True):
            one = row.sel(field=field)
            if np.isfinite(one["temperature"]):
                axes.errorbar(
                    [float(one["temperature"])], [len(labels) + shift], xerr=[1.96 * float(one["temperature_error"])],
                    color=ink, marker=marker, capsize=3, label=None if labels else _short(field),
                )  # fmt: skip
        expected = float(row["expected"])
        if math.isfinite(expected):
            axes.plot([expected], [len(labels)], color=GREY, marker="D", fillstyle="none")
        labels.append(label)
    axes.plot([], [], color=GREY, marker="D", fillstyle="none", linestyle="none", label="expected")
    _rows(axes, labels)
    _finish(axes, "Effective temperature by two identities", "nat per sample (95%)", "")


def _landed(axes: Axes, data: xr.Dataset) -> None:
    for label, ink, row in _sources(data):
        values = np.sort(row["llc"].values[row["on_zero_set"].values > 0])
        shares = (np.arange(len(values)) + 0.5) / max(len(values), 1)
        axes.step(values, shares, color=ink, where="mid", label=f"{label}: mean {float(row['mean_llc']):.2f}")
    _finish(axes, "λ around the last positions on W0", "local learning coefficient", "share at most that")


def _contributions(axes: Axes, data: xr.Dataset) -> None:
    estimate, low, high = data["contribution"].transpose("bound", "rung").values
    rows = np.arange(len(estimate))
    axes.barh(rows, estimate, color=[colour(0)] * len(RUNGS) + [GREY], height=0.6)
    label = f"all together {data.attrs['level']:.0%}"
    axes.errorbar(
        estimate, rows, xerr=[estimate - low, high - estimate], color=INK, linestyle="none", capsize=2, label=label
    )
    axes.axvline(0, color=INK, linewidth=0.8)
    _rows(axes, [_rung(name) for name in data["rung"].values])
    name = _short(data.attrs["population"])
    _finish(axes, f"Difference of {name} from the posterior, by rung", "total variation distance added", "")


def _rung_shares(axes: Axes, data: xr.Dataset) -> None:
    shares = np.concatenate([data["posterior_share"].values[None], data["share"].sel(bound="estimate").values])
    left = np.zeros(len(shares))
    for k, stratum in enumerate(data["stratum"].values):
        if shares[:, k].any():
            ink = GREY if stratum in (ELSEWHERE, DIVERGED) else colour(k)
            axes.barh(range(len(shares)), shares[:, k], left=left, color=ink, height=0.6, label=_short(stratum))
        left += shares[:, k]
    _rows(axes, [POSTERIOR, *(_rung(name) for name in data["rung"].values)])
    # Bars fill the panel, so the legend takes two rows below them.
    axes.set_ylim(len(shares) + 1.5, -0.5)
    _finish(axes, "Shares at each rung", "share of particles", "")
    axes.legend(loc="lower center", ncols=3, edgecolor="none")


def _rung(name: object) -> str:
    return str(name).replace("_", " ")


PANELS: dict[str, Sequence[Panel]] = {
    "sharpness": (
        _spread("sharpness", "Sharpness at the particles", "largest eigenvalue (nat)"),
        _spread("step_times_sharpness", "Step size times sharpness", "median and middle half"),
        _spread("gradient_norm", "Norm of the gradient of L_n", "median and middle half (nat)"),
    ),
    "conserved": (_conserved, _decays),
    "passage": (_first_passage, _residence),
    "mixing": (_autocorrelation, _r_hats),
    "current": (_flux, _circulation),
    "temperature": (_temperatures,),
    "local_llc": (_landed,),
    "decomposition": (_contributions, _rung_shares),
}
"""The panels of each measurement of particles."""
