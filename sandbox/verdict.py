"""The verdict: does a population reach simpler solutions than a reference would, and how sure is that?"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import xarray as xr

from sandbox import stability
from sandbox.compare import BOUNDS
from sandbox.reference import REFERENCES
from sandbox.scenario import Population, Scenario
from sandbox.zero_set import DIVERGED, ELSEWHERE

SIMPLER, SAME, LESS_SIMPLE, UNDECIDED = "simpler", "same", "less simple", "undecided"

MEANING = {
    SIMPLER: "reaches simpler solutions than",
    SAME: "is as simple as",
    LESS_SIMPLE: "reaches less simple solutions than",
    UNDECIDED: "is undecided against",
}


def decide(scenario: Scenario, population: Population, comparison: xr.Dataset, posterior: xr.Dataset) -> xr.Dataset:
    """Return a comparison with a verdict and its reason for every reference, and warnings, added."""
    verdicts = [_verdict(scenario, comparison, posterior, k) for k in range(len(REFERENCES))]
    products = stability.products(scenario, population)
    names = [stratum.name for stratum in scenario.zero_set.strata]
    strata = comparison.sizes["stratum"]
    padded = np.full((strata, 2), math.nan)
    padded[: len(products)] = products
    said = {
        "verdicts": {name: verdict for name, (verdict, _) in zip(REFERENCES, verdicts, strict=True)},
        "reasons": {name: reason for name, (_, reason) in zip(REFERENCES, verdicts, strict=True)},
        "warnings": [*_stability_warnings(names, products), *_other_warnings(scenario, comparison)],
    }
    return comparison.assign(
        step_times_sharpness=(("stratum", "statistic"), padded), words=((), np.array(json.dumps(said), dtype=object))
    ).assign_coords(statistic=np.array(["median", "largest"], dtype=object))


def _verdict(scenario: Scenario, comparison: xr.Dataset, posterior: xr.Dataset, k: int) -> tuple[str, str]:
    """Return the verdict against the k-th reference and why it is that."""
    rules = scenario.verdict
    row, last = comparison.isel(reference=k), comparison.isel(time=-1).occupancy.sel(bound="estimate")
    gone, away = float(last.sel(stratum=DIVERGED)), float(last.sel(stratum=ELSEWHERE))
    if gone > rules.diverged:
        return UNDECIDED, f"{gone:.2%} of the particles diverged; at most {rules.diverged:.2%} may"
    value, low, high = (float(bound) for bound in row.preference)
    if not math.isfinite(value):
        return UNDECIDED, "nothing of the population or of the reference lies on W0 at this loss"
    expected = float(row.reference_mass.sel(stratum=ELSEWHERE))
    if away > expected + rules.elsewhere:
        share = f"{away:.1%} of the particles but {expected:.1%} of the reference are in no stratum's tube"
        return UNDECIDED, f"{share}; at most {rules.elsewhere:.0%} more may"
    unknown = [
        str(name)
        for name, value in zip(posterior.stratum.values, posterior.learning_coefficient.values, strict=True)
        if name not in (ELSEWHERE, DIVERGED) and not math.isfinite(value)
    ]
    if unknown:
        return UNDECIDED, f"λ is neither known nor stated for {', '.join(unknown)}"
    kinds = {
        (float(value), float(m))
        for name, value, m in zip(
            posterior.stratum.values, posterior.learning_coefficient.values, posterior.multiplicity.values, strict=True
        )
        if name not in (ELSEWHERE, DIVERGED)
    }
    if len(kinds) == 1:
        return SAME, "all strata have the same λ and m: none is simpler, whatever the shares"
    if not float(row.reference_fact.sel(fact="converged")) > 0:
        return UNDECIDED, f"the witness did not converge ({posterior.attrs['witness']})"
    interval = f"preference {value:+.3f}, {rules.level:.0%} interval [{low:+.3f}, {high:+.3f}]"
    if -rules.margin <= low and high <= rules.margin:
        return SAME, f"{interval} lies within the margin of {rules.margin:g}"
    if low <= 0 <= high:
        return UNDECIDED, f"{interval} holds 0 and exceeds the margin of {rules.margin:g}"
    signs = np.sign(row.preference_by_tube.values)
    if not (signs == np.sign(value)).all():
        return UNDECIDED, f"{interval}, but its sign changes with the tubes' radius halved or doubled"
    return (SIMPLER, f"{interval} lies above 0") if value > 0 else (LESS_SIMPLE, f"{interval} lies below 0")


def _stability_warnings(names: list[str], products: np.ndarray) -> list[str]:
    return [
        f"step size times sharpness reaches {largest:.3g} on {name} (median {median:.3g}): above {stability.EDGE:g} "
        "a step overshoots, and where particles end there is the step's doing"
        for name, (median, largest) in zip(names, products, strict=True)
        if largest > stability.EDGE
    ]


def _other_warnings(scenario: Scenario, comparison: xr.Dataset) -> list[str]:
    warnings = []
    gone = float(comparison.occupancy.isel(time=-1).sel(stratum=DIVERGED, bound="estimate"))
    if gone > 0:
        warnings.append(f"{round(gone * scenario.particles)} of {scenario.particles} particles diverged")
    half = int(np.argmin(np.abs(comparison.time.values - comparison.time.values[-1] / 2)))
    change = float(comparison.preference_over_time[-1] - comparison.preference_over_time[half])
    if abs(change) > scenario.verdict.margin:
        warnings.append(f"still moving: the preference changed by {change:+.3f} over the last half of the run")
    if float(comparison.reference_fact.sel(reference="tempered", fact="capped")) > 0:
        warnings.append("the population's mean loss is below what the tempered posterior was followed to")
    return warnings


def words(comparison: xr.Dataset) -> dict[str, Any]:
    """Return what `decide` said of one population: "verdicts" and "reasons" by reference, and "warnings"."""
    said: dict[str, Any] = json.loads(comparison.words.item())
    return said


def answer(tree: xr.DataTree) -> dict[str, Any]:
    """Return the answer of a run as plain data, ready for JSON: numbers, intervals, verdicts, warnings."""
    posterior = tree["posterior"].to_dataset()
    populations, measurements = {}, {}
    for name in map(str, tree["comparison"].population.values if "comparison" in tree.children else ()):
        comparison = tree["comparison"].to_dataset().sel(population=name)
        populations[name] = _population_answer(tree[f"populations/{name}"].to_dataset(), comparison)
    for name, node in tree["measurements"].children.items() if "measurements" in tree.children else ():
        measurements[name] = {key: _measured(value) for key, value in node.attrs.items()}
    return {
        "title": tree.attrs["title"],
        "question": tree.attrs["question"],
        "seed": tree.attrs["seed"],
        "strata": {
            str(name): {
                "learning_coefficient": _number(posterior.learning_coefficient[k]),
                "multiplicity": _number(posterior.multiplicity[k]),
                "posterior_mass": _number(posterior.mass[k]),
            }
            for k, name in enumerate(posterior.stratum.values)
            if name != DIVERGED
        },
        "posterior": {key: _measured(value) for key, value in posterior.attrs.items()}
        | {"mean_excess": _number(posterior.mean_excess)},
        "populations": populations,
        "measurements": measurements,
    }


def _population_answer(data: xr.Dataset, comparison: xr.Dataset) -> dict[str, Any]:
    last = comparison.isel(time=-1)
    said = words(comparison)
    return {
        "rule": data.attrs["rule"],
        "settings": json.loads(data.attrs["settings"]),
        "gradient": json.loads(data.attrs["gradient"]),
        "particles": _plain(data.attrs["particles"]),
        "steps": int(data.time[-1]),
        "mean_excess": _number(data.mean_excess[-1]),
        "mean_excess_error": _number(data.excess_error[-1]),
        "occupancy": {
            str(name): {bound: _number(last.occupancy.sel(bound=bound)[k]) for bound in BOUNDS}
            for k, name in enumerate(comparison.stratum.values)
        },
        "diverged": int(data["count"].sel(stratum=DIVERGED)[-1]),
        "step_times_sharpness": {
            str(name): {"median": _number(row[0]), "largest": _number(row[1])}
            for name, row in zip(comparison.stratum.values, comparison.step_times_sharpness.values, strict=True)
            if name not in (ELSEWHERE, DIVERGED)
        },
        "against": {
            name: {
                "verdict": said["verdicts"][name],
                "reason": said["reasons"][name],
                **_reference_answer(comparison.sel(reference=name)),
            }
            for name in REFERENCES
        },
        "warnings": said["warnings"],
    }


def _reference_answer(row: xr.Dataset) -> dict[str, Any]:
    return {
        "preference": {bound: _number(row.preference.sel(bound=bound)) for bound in BOUNDS},
        "nbeta": _number(row.reference_fact.sel(fact="nbeta")),
        "mean_excess": _number(row.reference_fact.sel(fact="mean_excess")),
        "mass": {str(n): _number(v) for n, v in zip(row.stratum.values, row.reference_mass.values, strict=True)},
        "distance_along": {str(n): _number(v) for n, v in zip(row.arm.values, row.distance_along.values, strict=True)},
    }


def _number(value: Any) -> float | None:
    """Return a float that JSON can say: None for nan and infinities."""
    number = float(value)
    return number if math.isfinite(number) else None


def _measured(value: Any) -> Any:
    plain = _plain(value)
    return _number(plain) if isinstance(plain, float) else plain


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def markdown(found: dict[str, Any]) -> str:
    """Return an answer, as `answer` gives it, as a page of Markdown."""
    lines = [f"# {found['title']}", "", found["question"], ""]
    for name, population in found["populations"].items():
        for reference, row in population["against"].items():
            lines.append(f"- **{name}** {MEANING[row['verdict']]} the {_REFERENCE[reference]}: {row['reason']}.")
    for name, population in found["populations"].items():
        lines += [f"- Warning, {name}: {warning}." for warning in population["warnings"]]
    for name, measured in found["measurements"].items():
        lines.append(f"- **{name}**: {measured['summary']}.")
    if found["populations"]:
        lines += _particles(found)
    posterior = found["posterior"]
    lines += [
        "",
        f"Posterior: nbeta = {posterior['nbeta']:g}, log evidence = {posterior['log_evidence']:.6f} "
        f"(relative error {posterior['evidence_error']:.1e}), mean K_n = {posterior['mean_excess']:.3e}.",
        "",
    ]
    return "\n".join(lines)


def _particles(found: dict[str, Any]) -> list[str]:
    """Return the tables of shares and of stability."""
    lines = ["", "Shares of all particles at the last step (with intervals), and of the references' mass:", ""]
    lines += _share_table(found)
    lines += ["", "Step size times sharpness, median (largest) on each stratum; 2 is the edge of stability:", ""]
    lines += _table(
        ["population", *(name for name in found["strata"] if name != ELSEWHERE)],
        [
            [name, *(f"{_text(v['median'])} ({_text(v['largest'])})" for v in p["step_times_sharpness"].values())]
            for name, p in found["populations"].items()
        ],
    )
    return lines


_REFERENCE = {
    "posterior": "posterior",
    "tempered": "posterior tempered to the same mean loss",
    "uniform": "uniform law on the weights with at most that loss",
}


def _share_table(found: dict[str, Any]) -> list[str]:
    strata = found["strata"]
    rows = [
        ["λ (m)", *(f"{_text(s['learning_coefficient'])} ({_text(s['multiplicity'])})" for s in strata.values()), ""],
        ["posterior", *(_text(s["posterior_mass"]) for s in strata.values()), ""],
    ]
    for name, population in found["populations"].items():
        rows.append([f"**{name}**", *(_interval(v) for v in population["occupancy"].values())])
        for reference in ("tempered", "uniform"):
            row = population["against"][reference]
            rows.append([f"{reference} at the loss of {name}", *(_text(v) for v in row["mass"].values())])
    return _table(["", *strata, DIVERGED], rows)


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def _interval(bounds: dict[str, float | None]) -> str:
    return f"{_text(bounds['estimate'])} [{_text(bounds['low'])}, {_text(bounds['high'])}]"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
