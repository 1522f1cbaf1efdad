"""The words of a picture of a run: the question above it; below it the verdict on each population, in its colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from sandbox.pictures.panels import population_handle
from sandbox.pictures.scene import Scene, wrapped

NAMES = {
    "posterior": "the posterior",
    "tempered": "the tempered posterior",
    "level_set": "the level set",
}
"""The references in words."""

_BESIDE = {"equally simple": "as simple as", "undecided": "undecided against"}
"""The words before a reference, if they are not the verdict and "than"."""
_CHARACTERS = 13.5
"""The number of characters of a caption that fit into an inch."""


def canvas(scene: Scene, width: float, height: float) -> tuple[Figure, SubplotSpec]:
    """Return an empty figure, with room for the words around a place of this size in inches, and the place."""
    lines = sum(text.count("\n") + 1 for text in (_title(scene, width), *_captions(scene, width)))
    result = Figure(figsize=(width, height + 0.3 + 0.17 * max(lines, 5) + 0.06 * len(scene.populations)))
    FigureCanvasAgg(result)
    result.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06, wspace=0.03)
    return result, result.add_gridspec(1, 1)[0, 0]


def write_words(result: Figure, scene: Scene, handles: Mapping[str, Any], **options: Any) -> None:
    """Write the question above; below, the verdicts (the legend of the populations) and another legend."""
    width = float(result.get_figwidth())
    result.suptitle(_title(scene, width), fontsize=11, parse_math=False)
    below: Any = {"frameon": False, "borderaxespad": 0}
    colours = [population_handle(colour) for colour in scene.colours.values()]
    verdicts = result.legend(colours, _captions(scene, width), loc="outside lower left", **below)
    for text in verdicts.get_texts():
        text.set_parse_math(False)
    result.legend([*handles.values()], [*handles], loc="outside lower right", **below, **options)


def _title(scene: Scene, width: float) -> str:
    return wrapped(scene.scenario.question, int(11 * width))


def _captions(scene: Scene, width: float) -> list[str]:
    return [wrapped(caption(scene, name), int(_CHARACTERS * (width - 3.4))) for name in scene.populations]


def caption(scene: Scene, name: str) -> str:
    """Return a population's name with its verdict against each reference, and the reason of the first."""
    row = scene.comparison.sel(population=name)
    found: dict[str, list[str]] = {}
    for reference, verdict in zip(row.reference.values, row.verdict.values, strict=True):
        found.setdefault(str(verdict), []).append(NAMES[str(reference)])
    parts = [f"{_BESIDE.get(verdict, f'{verdict} than')} {', '.join(names)}" for verdict, names in found.items()]
    lost = float(row.not_reached)
    parts += [f"{lost:.0%} of its solutions are not reached by the posterior"] * (lost >= 0.005)
    reason = row.reason.sel(reference="posterior").item()
    return f"{scene.caption(name)}: {'; '.join(parts)}" + f" ({reason})" * bool(reason)
