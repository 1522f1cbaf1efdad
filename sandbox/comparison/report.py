"""The answer of a run as plain data: headline, verdicts, numbers, intervals and warnings. `page` writes it as text."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import xarray as xr

from sandbox.comparison.headline import headline
from sandbox.comparison.law import SGD
from sandbox.comparison.local_posterior import NBETA_FACTORS
from sandbox.comparison.occupancy import BOUNDS
from sandbox.comparison.references import REFERENCES
from sandbox.comparison.simplicity import MIDDLE, SCORES
from sandbox.dynamics.stability.map import NUMBERS
from sandbox.model.strata import DIVERGED, ELSEWHERE


def answer(tree: xr.DataTree) -> dict[str, Any]:
    """Return the answer of a run as plain data for JSON: numbers, intervals, verdicts, warnings."""
    posterior = tree["posterior"].to_dataset()
    populations, measurements = {}, {}
    for name in map(str, tree["comparison"].population.values if "comparison" in tree.children else ()):
        comparison = tree["comparison"].to_dataset().sel(population=name)
        populations[name] = _population_answer(tree[f"populations/{name}"].to_dataset(), comparison, posterior)
    for name, node in tree["measurements"].children.items() if "measurements" in tree.children else ():
        measurements[name] = {key: _measured(value) for key, value in node.attrs.items()}
        measurements[name]["values"] = _named_values(node.to_dataset())
    return {
        "title": tree.attrs["title"],
        "question": tree.attrs["question"],
        "reading": tree.attrs["reading"],
        "seed": tree.attrs["seed"],
        "is_look": tree.attrs["look"] == "yes",
        "headline": headline(populations)._asdict() if populations else None,
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
        "scores": {
            "radii": [float(radius) for radius in posterior.radius.values],
            "nbeta": [float(factor * posterior.nbeta) for factor in posterior.nbeta_factor.values],
        },
        "populations": populations,
        "measurements": measurements,
    }


def _population_answer(data: xr.Dataset, comparison: xr.Dataset, posterior: xr.Dataset) -> dict[str, Any]:
    last = comparison.isel(time=-1)
    law = {"name": comparison.law.item(), "sentence": comparison.law_words.item()}
    return {
        "kind": comparison.kind.item(),
        "confidence": comparison.confidence.item(),
        "is_sgd": comparison.kind.item() == SGD,
        "simplicity": {
            **{str(score): _number(comparison.median_score.sel(score=score)) for score in SCORES},
            "not_reached": _number(comparison.not_reached),
        },
        "agreement": _bounds(comparison.agreement) | {"sentence": comparison.agreement_words.item()},
        "law": law if law["name"] else None,
        "rule": data.attrs["rule"],
        "settings": json.loads(data.attrs["settings"]),
        "gradient": json.loads(data.attrs["gradient"]),
        "particles": _plain(data.attrs["particles"]),
        "steps": int(data.time[-1]),
        "mean_excess": _number(data.mean_excess[-1]),
        "mean_excess_error": _number(data.excess_error[-1]),
        "occupancy": {str(name): _bounds(last.occupancy[k]) for k, name in enumerate(comparison.stratum.values)},
        "tube_dependent": _tube_dependent(data, posterior),
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


def _tube_dependent(data: xr.Dataset, posterior: xr.Dataset) -> list[str]:
    """Return the strata with a larger share than the posterior's at one radius of tubes, and a smaller at another."""
    shares = data.tube_count / data.tube_count.sum("stratum")
    more = shares - posterior.tube_mass
    # A share is known to about one particle's weight times the root of their number.
    unsure = 3 * np.sqrt(shares * (1 - shares) / data.tube_count.sum("stratum"))
    mixed = (more > unsure).any("tube_factor") & (more < -unsure).any("tube_factor")
    return [str(name) for name in data.stratum.values[mixed.values] if name not in (ELSEWHERE, DIVERGED)]


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
    score = row.deciding_score.item() or SCORES[-1]
    return {
        "verdict": row.verdict.item(),
        "reason": row.reason.item(),
        "hindrance": row.hindrance.item(),
        "score": score,
        "median": {str(each): _number(row.reference_score.sel(score=each)) for each in SCORES},
        "preferences": {each: _bounds(_shown(row.preference.sel(score=each))) for each in SCORES},
        "preference": _bounds(_shown(row.preference.sel(score=score))),
        "nbeta": _number(row.nbeta),
        "mean_excess": _number(row.mean_excess),
        "mass": {str(n): _number(v) for n, v in zip(row.stratum.values, row.reference_mass.values, strict=True)},
        "distance_along": {
            str(n): _number(v) for n, v in zip(row.along_stratum.values, row.distance_along.values, strict=True)
        },
    }


def _shown(preference: xr.DataArray) -> xr.DataArray:
    """Return the preference at nbeta and the middle radius."""
    return preference.sel(nbeta_factor=NBETA_FACTORS[0]).isel(radius=MIDDLE)


def _bounds(values: xr.DataArray) -> dict[str, float | None]:
    """Return an estimate with the ends of its interval, by name."""
    return {bound: _number(values.sel(bound=bound)) for bound in BOUNDS}


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
