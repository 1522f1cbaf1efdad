"""The figure of the atlas: a point with its interval for every row and reference, coloured by group."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_hex
from support.made_up_answers import answered

from sandbox.comparison.atlas import COMPARED, rows_of
from sandbox.comparison.verdict import UNDECIDED
from sandbox.pictures.atlas import COLOURS, atlas_figure


def test_every_row_has_its_point_and_its_interval() -> None:
    rows = rows_of("line", answered({"sgd": ("flatter", "undecided")}, {"line": (0.5, 1)}), 2)
    rows += rows_of("cross", answered({"sgd": ("sharper", "flatter"), "langevin": ("undecided", "undecided")}), 2)
    panels = atlas_figure(rows).axes
    # The rows stand in the order of the groups: different λ first.
    ordered = [*rows[1:], rows[0]]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == [
        f"{row.scenario}: {row.population}" for row in ordered
    ]
    for axes, reference in zip(panels, COMPARED, strict=True):
        points = [line for line in axes.lines if line.get_marker() != "None"]
        intervals = [line for line in axes.lines if np.ptp(line.get_xdata()) > 0 and line.get_color() != "#8c8c8c"]
        assert len(points) == len(intervals) == len(rows)
        for height, (row, point, interval) in enumerate(zip(ordered, points, intervals, strict=True)):
            found = row.against[reference]
            assert (list(point.get_xdata()), list(point.get_ydata())) == ([found.estimate], [height])
            assert (list(interval.get_xdata()), list(interval.get_ydata())) == ([found.low, found.high], [height] * 2)
            assert to_hex(point.get_color()) == to_hex(COLOURS[row.group])
            assert (point.get_markerfacecolor() == "white") == (found.verdict == UNDECIDED)
            assert point.get_marker() == ("o" if row.is_sgd else "s")


def test_a_row_without_a_preference_has_no_point() -> None:
    answer = answered({"sgd": ("undecided", "undecided")})
    answer["populations"]["sgd"]["against"]["level_set"]["preference"] = dict.fromkeys(("estimate", "low", "high"))
    level_set, posterior = atlas_figure(rows_of("cross", answer, 2)).axes
    assert [len([x for x in axes.lines if x.get_marker() != "None"]) for axes in (level_set, posterior)] == [0, 1]
