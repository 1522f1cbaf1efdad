"""The picture of the answer shows the scores, the preferences and the verdicts of the record."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from support.made_up import CASES, Array, tree_of

from sandbox.pictures.figure import figure
from sandbox.pictures.scene import INK, Scene, colour
from sandbox.pictures.simplicity import ladder, save_simplicity, simplicity

SHAPES = ["crossing", "wells", "cube", "five"]
"""Two parameters, one, three; five populations."""


def panels(drawn: Figure, *, x: str = "", title: str = "") -> list[Axes]:
    return [axes for axes in drawn.axes if axes.get_xlabel().startswith(x) and axes.get_title().startswith(title)]


def curve(axes: Axes, ink: str) -> Array:
    (line,) = (line for line in axes.lines if to_hex(line.get_color()) == ink)
    return np.asarray(line.get_xydata(), dtype=float)


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize(
    ("score", "label"), [("free_energy", "local free energy"), ("local_learning_coefficient", "local learning")]
)
def test_a_ladder_is_the_share_of_all_solutions_that_are_at_least_as_simple(case: str, score: str, label: str) -> None:
    tree = tree_of(case)
    (axes,) = panels(simplicity(tree), x=label)
    sources = {INK: tree["posterior"], **{colour(k): tree[f"populations/{n}"] for k, n in enumerate(CASES[case][1])}}
    for ink, data in sources.items():
        values = data[score].values[:, 0, 1]
        x, y = curve(axes, ink)[1:-1].T
        weights = data.scored_weight.values if ink == INK else np.full(len(values), 1 / len(values))
        np.testing.assert_allclose(y, [weights @ (values <= v) for v in x])
        reached = weights @ np.isfinite(values)
        assert y.max() == pytest.approx(reached), "solutions not reached must count as less simple"


def test_a_ladder_that_forgets_what_was_not_reached_would_be_noticed() -> None:
    values = np.array([1.0, np.nan, 0.0, np.nan])
    x, y = ladder(values, np.full(4, 0.25))
    np.testing.assert_array_equal((x, y), ([0, 1], [0.25, 0.5]))
    assert ladder(values[np.isfinite(values)], np.full(2, 0.5))[1].max() == 1


@pytest.mark.parametrize("case", SHAPES)
def test_preferences_and_their_intervals_are_the_records(case: str) -> None:
    tree = tree_of(case)
    drawn = [axes for axes in simplicity(tree).axes if axes.containers]
    places = [(s, r) for s in ("local_learning_coefficient", "free_energy") for r in ("posterior", "level_set")]
    assert len(drawn) == len(places)
    for axes, (score, reference) in zip(drawn, places, strict=True):
        table = tree["comparison"].preference.sel(score=score, reference=reference)
        wanted = [table.sel(population=name, nbeta_factor=f) for name in CASES[case][1] for f in (1.0, 4.0)]
        for bars, rows in zip(axes.containers, wanted, strict=True):
            assert isinstance(bars, ErrorbarContainer)
            np.testing.assert_array_equal(bars[0].get_ydata(), rows.sel(bound="estimate"))
            ends = np.array(bars[2][0].get_segments())[:, :, 1]
            np.testing.assert_allclose(ends.T, [rows.sel(bound="low"), rows.sel(bound="high")], atol=1e-12)


def test_the_map_shows_lambda_and_nothing_where_it_is_rounding() -> None:
    tree = tree_of("crossing").copy()
    posterior = tree["posterior"].to_dataset()
    energy = posterior.map_free_energy.values.copy()
    energy[:8] = np.nanmin(energy) + 31
    tree["posterior"] = xr.DataTree(posterior.assign(map_free_energy=(("map_y", "map_x"), energy)))
    axes = panels(simplicity(tree), x="w1", title="ends of gradient flow")[0]
    (filled,) = (c for c in axes.collections if not isinstance(c, PathCollection))
    lowest = min(path.vertices[:, 1].min() for path in filled.get_paths() if len(path.vertices))
    assert float(posterior.map_y[0]) < lowest == pytest.approx(float(posterior.map_y[8]))


def test_solutions_are_drawn_at_their_place_and_equal_ones_apart() -> None:
    tree = tree_of("crossing")
    axes = panels(simplicity(tree), x="w1", title="ends of gradient flow")[0]
    for k, name in enumerate(CASES["crossing"][1]):
        lines = [line for line in axes.lines if to_hex(line.get_color()) == colour(k)]
        points = np.concatenate([np.asarray(line.get_xydata()) for line in lines])
        ends = tree[f"populations/{name}"].solution.values
        ends = ends[np.isfinite(ends).all(axis=1)]
        assert len(points) == len(ends)
        assert np.abs(np.sort(points, axis=0) - np.sort(ends, axis=0)).max() < 0.12
        assert len(np.unique(points, axis=0)) == len(points)


def test_more_than_two_parameters_have_a_panel_of_each_source_coloured_by_lambda() -> None:
    tree = tree_of("cube")
    drawn = simplicity(tree)
    for name in ("posterior", *CASES["cube"][1]):
        (axes,) = panels(drawn, title=f"solutions of {name}")
        data = tree["posterior"] if name == "posterior" else tree[f"populations/{name}"]
        values = data.local_learning_coefficient.values[:, 0, 1]
        crosses, dots = axes.collections
        assert len(crosses.get_offsets()) == np.isnan(values).sum()
        shown = np.asarray(dots.get_array())
        if name != "posterior":
            np.testing.assert_array_equal(shown, values[np.isfinite(values)])
        else:
            assert set(shown) <= set(values)
            assert shown.mean() == pytest.approx(data.scored_weight.values @ np.nan_to_num(values), abs=0.01)
            assert abs(np.nanmean(values) - shown.mean()) > 0.001, "draws that ignore weights would not be noticed"


@pytest.mark.parametrize("case", CASES)
def test_every_axis_is_labelled_readable_and_clear_of_its_neighbours(case: str) -> None:
    drawn = simplicity(tree_of(case))
    drawn.canvas.draw()
    renderer = drawn.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = [t for t in drawn.findobj(Text) if isinstance(t, Text) and t.get_visible() and t.get_text().strip()]
    assert min(float(text.get_fontsize()) for text in texts) >= 8
    assert not any("..." in text.get_text() for text in texts)
    boxes = [box for axes in drawn.axes if (box := axes.get_tightbbox(renderer)) is not None]
    boxes += [box.get_window_extent(renderer) for box in (*drawn.legends, *drawn.texts)]
    for one, other in combinations(boxes, 2):
        overlap = np.minimum(one.max, other.max) - np.maximum(one.min, other.min)
        assert (overlap <= 1).any(), (one, other)
    for box in boxes:
        assert (np.asarray(box.min) >= -1).all()
        assert (np.asarray(box.max) <= np.asarray(drawn.bbox.max) + 1).all()


def test_the_answer_leads_the_figure() -> None:
    tree = tree_of("crossing")
    drawn = figure(tree)
    drawn.canvas.draw()
    above = [axes.get_position().y0 for axes in drawn.axes if axes.get_title().startswith(("where", "against"))]
    below = [axes.get_position().y1 for axes in drawn.axes if axes.get_title().startswith(("particles at", "along"))]
    assert min(above) > max(below)


def test_a_saved_picture_is_the_same_every_time_and_whole(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        save_simplicity(tree_of("wells"), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]
    assert Scene.of(tree_of("wells")).shows_loss
