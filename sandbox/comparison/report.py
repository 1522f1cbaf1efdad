"""The answer of a run: numbers, intervals, verdicts and warnings as plain data, and as a page of Markdown."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import xarray as xr

from sandbox.comparison.occupancy import BOUNDS
from sandbox.comparison.references import REFERENCES
from sandbox.comparison.verdict import MEANING
from sandbox.dynamics.stability.map import NUMBERS
from sandbox.model.strata import DIVERGED, ELSEWHERE


def answer(tree: xr.DataTree) -> dict[str, Any]:
    """Return the answer of a run as plain data for JSON: numbers, intervals, verdicts, warnings."""
    posterior = tree["posterior"].to_dataset()
    populations, measurements = {}, {}
    for name in map(str, tree["comparison"].population.values if "comparison" in tree.children else ()):
        comparison = tree["comparison"].to_dataset().sel(population=name)
        populations[name] = _population_answer(tree[f"populations/{name}"].to_dataset(), comparison)
    for name, node in tree["measurements"].children.items() if "measurements" in tree.children else ():
        measurements[name] = {key: _measured(value) for key, value in node.attrs.items()}
        measurements[name]["values"] = _named_values(node.to_dataset())
    return {
        "title": tree.attrs["title"],
        "question": tree.attrs["question"],
        "seed": tree.attrs["seed"],
        "strata": {
            str(name): {
                "learning_coefficient": _number(posterior.learning_coefficient[k]),
                "multiplicity": _number(posterior.multiplicity[k]),
                "learning_coefficient_method": posterior.learning_coefficient_method[k].item(),
                "posterior_mass": _number(posterior.mass[k]),
            }
            for k, name in enumerate(posterior.stratum.values)
            if name != DIVERGED
        },
        "posterior": {
            **posterior.attrs,
            **{str(name): _measured(value.item()) for name, value in posterior.data_vars.items() if not value.dims},
        },
        "populations": populations,
        "measurements": measurements,
    }


def _population_answer(data: xr.Dataset, comparison: xr.Dataset) -> dict[str, Any]:
    last = comparison.isel(time=-1)
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
        "moves": _moves(data),
        "stability": {
            str(name): _stability(last.sel(stratum=name))
            for name in comparison.stratum.values
            if name not in (ELSEWHERE, DIVERGED)
        },
        "unstable": [text for text in comparison.unstable.values if text],
        "no_linearisation": comparison.no_linearisation.item(),
        "against": {name: _reference_answer(comparison.sel(reference=name)) for name in REFERENCES},
        "warnings": [text for text in comparison.warning.values if text],
    }


def _stability(row: xr.Dataset) -> dict[str, dict[str, float | None]]:
    """Return the stability map near one stratum, nested; an edge that no step size reaches is null, with share 1."""
    return {
        name: {str(key): _number(value) for key, value in zip(row[dim].values, row[name].values, strict=True)}
        for name, dim in (("step_times_sharpness", "statistic"), *((name, "notion") for name in NUMBERS))
    }


def _moves(data: xr.Dataset) -> dict[str, dict[str, int]]:
    """Return the numbers of moves to another stratum or to diverged, by the stratum that particles came from."""
    total = data.moves.isel(time=-1)
    return {
        str(origin): {str(name): int(n) for name, n in zip(total.stratum.values, row.values, strict=True) if n}
        for origin, row in zip(total.origin.values, total, strict=True)
    }


def _reference_answer(row: xr.Dataset) -> dict[str, Any]:
    return {
        "verdict": row.verdict.item(),
        "reason": row.reason.item(),
        "preference": {bound: _number(row.preference.sel(bound=bound)) for bound in BOUNDS},
        "nbeta": _number(row.nbeta),
        "mean_excess": _number(row.mean_excess),
        "mass": {str(n): _number(v) for n, v in zip(row.stratum.values, row.reference_mass.values, strict=True)},
        "distance_along": {
            str(n): _number(v) for n, v in zip(row.along_stratum.values, row.distance_along.values, strict=True)
        },
    }


def _number(value: Any) -> float | None:
    """Return a float for JSON: None for nan and infinities."""
    number = float(value)
    return number if math.isfinite(number) else None


def _measured(value: Any) -> Any:
    plain = _plain(value)
    return _number(plain) if isinstance(plain, float) else plain


def _named_values(data: xr.Dataset) -> dict[str, Any]:
    """Return the numbers for names (of populations, strata, quantities), nested by the names."""

    def by_name(values: xr.DataArray) -> Any:
        if not values.dims:
            return _number(values)
        names = values[values.dims[0]].values
        return {str(name): by_name(row) for name, row in zip(names, values, strict=True)}

    named = {d for d in data.dims if d in data.coords and data[d].dtype.kind in "OTU"}
    chosen = {name: v for name, v in data.data_vars.items() if v.dtype.kind in "fiu" and named.issuperset(v.dims)}
    return {str(name): by_name(values) for name, values in chosen.items()}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def markdown(found: dict[str, Any]) -> str:
    """Return an answer, as `answer` gives it, as a page of Markdown."""
    lines = [f"# {found['title']}", "", found["question"], ""]
    for name, population in found["populations"].items():
        lines += [f"- Above the edge of stability, **{name}**: {text}." for text in population["unstable"]]
    for name, population in found["populations"].items():
        lines += [f"- **{name}** {text}." for text in _sentences(population["against"])]
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


def _sentences(against: dict[str, Any]) -> list[str]:
    """Return a sentence for each verdict with its reason; references with the same verdict and reason share one."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for reference, row in against.items():
        grouped.setdefault((row["verdict"], row["reason"]), []).append(f"the {_REFERENCE[reference]}")
    return [f"{MEANING[verdict]} {', '.join(names)}: {reason}" for (verdict, reason), names in grouped.items()]


def _particles(found: dict[str, Any]) -> list[str]:
    """Return the tables of shares and of stability."""
    lines = ["", "Shares of all particles at the last step (with intervals), and of the references' mass:", ""]
    lines += _share_table(found)
    lines += _moves_table(found)
    lines += _stability_table(found)
    return lines


def _stability_table(found: dict[str, Any]) -> list[str]:
    """Return the table of a step's effect near each stratum, with a note if a rule has no linearisation."""
    notions = ("deterministic", "mean square", "almost sure")
    rows = [
        [
            name,
            stratum,
            "{median} ({largest})".format(**{k: _text(v) for k, v in row["step_times_sharpness"].items()}),
            *(f"{_text(row['growth'][notion])} ({_edge(row, notion)})" for notion in notions),
        ]
        for name, population in found["populations"].items()
        for stratum, row in population["stability"].items()
    ]
    lines = [
        "",
        "Near each stratum: step size times sharpness, median (largest), 2 is the edge of gradient descent; and the "
        "logarithm by which the linearised step makes a distance grow, in three senses (the edge, as a multiple of "
        "this step size):",
        "",
        *_table(["population", "stratum", "step times sharpness", *notions], rows),
    ]
    reasons = [(n, p["no_linearisation"]) for n, p in found["populations"].items() if p["no_linearisation"]]
    return [*lines, *([""] if reasons else []), *(f"- {name}: {reason}." for name, reason in reasons)]


def _edge(row: dict[str, Any], notion: str) -> str:
    if row["stable_share"][notion] is None:
        return "-"
    return "none" if row["threshold"][notion] is None else _text(row["threshold"][notion])


_REFERENCE = {
    "posterior": "posterior",
    "tempered": "posterior tempered to the same mean loss",
    "level_set": "level set (the prior on the weights with at most that loss)",
}


def _share_table(found: dict[str, Any]) -> list[str]:
    strata = found["strata"]
    rows = [
        [
            "λ (m)",
            *(f"{_fraction(s['learning_coefficient'])} ({_text(s['multiplicity'])})" for s in strata.values()),
            "",
        ],
        ["posterior", *(_text(s["posterior_mass"]) for s in strata.values()), ""],
    ]
    for name, population in found["populations"].items():
        rows.append([f"**{name}**", *(_interval(v) for v in population["occupancy"].values())])
        for reference in ("tempered", "level_set"):
            title = f"{reference.replace('_', ' ')} at the loss of {name}"
            rows.append([title, *(_text(v) for v in population["against"][reference]["mass"].values())])
    return _table(["", *strata, DIVERGED], rows)


def _moves_table(found: dict[str, Any]) -> list[str]:
    """Return the table of moves between strata, if there are any, and of the strata that diverged particles left."""
    rows = []
    for name, population in found["populations"].items():
        for origin, goals in population["moves"].items():
            if goals:
                rows.append([name, origin, ", ".join(f"{goal} {count:,}" for goal, count in goals.items())])
        before = population["diverged"] - sum(goals.get(DIVERGED, 0) for goals in population["moves"].values())
        if before > 0:
            rows.append([name, "on no stratum before", f"{DIVERGED} {before:,}"])
    if not rows:
        return []
    return ["", "Moves between strata, as seen at the recorded times:", "", *_table(["population", "from", "to"], rows)]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def _interval(bounds: dict[str, float | None]) -> str:
    return f"{_text(bounds['estimate'])} [{_text(bounds['low'])}, {_text(bounds['high'])}]"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _fraction(value: float | None) -> str:
    """Return λ as a fraction, or as a decimal if it is not a simple one."""
    if value is None:
        return "-"
    fraction = Fraction(value).limit_denominator(1000)
    return str(fraction) if abs(float(fraction) - value) < 1e-12 else f"{value:.4g}"
