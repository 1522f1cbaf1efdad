"""Answers made up by hand, with the fields of answer.json that the atlas reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ESTIMATES = {"more singular": 0.8, "flatter": 0.3, "equally simple": 0.0, "sharper": -0.3, "less singular": -0.8}
CROSS = {"crossing": (0.5, 2), "arm": (0.5, 1)}


def answered(
    verdicts: Mapping[str, tuple[str, str]], strata: Mapping[str, tuple[float | None, int | None]] = CROSS
) -> dict[str, Any]:
    """Return an answer with a population for each name, and its verdicts against the posterior and the level set.

    `sgd` in a population's name makes it one of SGD.
    """
    return {
        "title": "made up",
        "question": "Is it made up?",
        "strata": {
            name: {"learning_coefficient": coefficient, "multiplicity": multiplicity}
            for name, (coefficient, multiplicity) in {**strata, "elsewhere": (None, None)}.items()
        },
        "populations": {name: _population(name, *pair) for name, pair in verdicts.items()},
        "measurements": {} if verdicts else {"llc": {"summary": "λ = 0.34"}},
    }


def _population(name: str, posterior: str, level_set: str) -> dict[str, Any]:
    return {
        "is_sgd": "sgd" in name,
        "law": {"name": f"the law of {name}", "sentence": f"It moves {name}."},
        "agreement": {"estimate": 0.02, "low": 0.0, "high": 0.05, "sentence": "They agree."},
        "against": {"posterior": _against(posterior), "level_set": _against(level_set)},
    }


def _against(verdict: str) -> dict[str, Any]:
    estimate = ESTIMATES.get(verdict, 0.1)
    bounds = {"estimate": estimate, "low": estimate - 0.05, "high": estimate + 0.05}
    return {"verdict": verdict, "reason": "made up", "preference": bounds}
