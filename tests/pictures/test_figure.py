"""A figure shows what the tree holds: positions, colours, histograms, W0, shares, the user's words."""

from __future__ import annotations

import re
import unicodedata
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.mathtext import MathTextParser
from matplotlib.patches import StepPatch
from matplotlib.text import Text
from scipy import stats
from support.made_up import CASES, FIVE, QUESTION, Array, Made, tree_of

from sandbox.pictures import animation, ground, panels, scene, style
from sandbox.pictures import figure as figure_module
from sandbox.pictures.figure import figure, save_figure
from sandbox.pictures.scene import Scene, colour
from sandbox.tools.errors import InputError


def xy(line: Line2D) -> Array:
    """Return a line's finite points, shape (N, 2)."""
    points: Array = np.asarray(line.get_xydata(), dtype=float)
    return points[np.isfinite(points).all(axis=1)]


def steps(axes: Axes) -> dict[str, tuple[Array, Array]]:
    """Return the values and edges of the histograms that are drawn as lines, by colour."""
    patches = [patch for patch in axes.patches if isinstance(patch, StepPatch) and not patch.get_fill()]
    return {to_hex(patch.get_edgecolor()): patch.get_data()[:2] for patch in patches}


def panel(tree: xr.DataTree, title: str) -> Axes:
    """Return the one panel of the figure whose title begins like this."""
    (axes,) = (axes for axes in figure(tree).axes if axes.get_title().startswith(title))
    return axes


def in_order(points: Array) -> Array:
    return points[np.lexsort(points.T)]


@pytest.mark.parametrize("case", ["crossing", "cube", "five"])
def test_dots_are_the_kept_particles_in_their_populations_colour(case: str) -> None:
    tree = tree_of(case)
    lines = panel(tree, "particles at step").lines
    for k, name in enumerate(tree["populations"].children):
        points = np.concatenate([xy(line) for line in lines if to_hex(line.get_color()) == colour(k)])
        kept = tree[f"populations/{name}"].position.values[-1][CASES[case][2] :, :2]
        np.testing.assert_array_equal(in_order(points), in_order(kept.astype(float)))


def test_diverged_particles_are_not_drawn_but_said() -> None:
    words = [text.get_text() for legend in figure(tree_of("five")).legends for text in legend.get_texts()]
    assert [word.split(":")[0] for word in words[:5]] == [f"{name} (7 diverged)" for name in FIVE]


def test_a_far_particle_does_not_stretch_the_view() -> None:
    np.testing.assert_array_equal(Scene.of(tree_of("five")).view, [[-1, 1], [-1, 1]])


def test_areas_along_an_arm_are_shares_of_all_particles_and_of_the_posterior() -> None:
    tree = tree_of("crossing")
    tops = set()
    for arm in ("flat_arm", "sharp_arm"):
        axes = panel(tree, f"along {arm}")
        tops.add(axes.get_ylim())
        for k, name in enumerate(("sgd", "langevin")):
            counts = tree[f"populations/{name}"].along_count.sel(along_stratum=arm).values[-1]
            values, edges = steps(axes)[colour(k)]
            np.testing.assert_allclose(values * np.diff(edges) * 300, counts, atol=1e-9)
            assert counts.sum() < 250, "areas of 1 in each tube would not be noticed"
        values, edges = steps(axes)[scene.INK]
        mass = tree["posterior"].along_mass.sel(along_stratum=arm).values
        np.testing.assert_allclose(values * np.diff(edges), mass, atol=1e-12)
    assert len(tops) == 1, "areas of two arms must compare"


def test_of_two_populations_each_is_in_front_in_half_of_the_layers() -> None:
    lines = [line for line in panel(tree_of("five"), "particles at step").lines if line.get_marker() == "o"]
    shades = [to_hex(line.get_color()) for line in lines]
    layers = np.array(shades).reshape(-1, 5)
    for one, other in combinations(map(colour, range(5)), 2):
        ahead = (layers == one).argmax(axis=1) > (layers == other).argmax(axis=1)
        assert ahead.mean() == 0.5
    turned = np.array([np.roll(layers[0], -k) for k in range(5)])
    ahead = (turned == colour(0)).argmax(axis=1) > (turned == colour(1)).argmax(axis=1)
    assert ahead.mean() != 0.5, "layers that only take turns would not be noticed"


def test_few_particles_are_drawn_larger() -> None:
    assert panels.marker_size(4) == 8 > panels.marker_size(1000) > panels.marker_size(20000) == 3


def test_the_least_over_a_hidden_parameter_has_no_stripes() -> None:
    centres = np.linspace(-0.9, 0.9, 401)
    grid = np.linspace(-1, 1, 25)
    valley = lambda z: (z - centres) ** 2 + 0.1 * np.sin(3 * z) ** 4  # noqa: E731
    fine = np.min([valley(z) for z in np.linspace(-1, 1, 20001)], axis=0)
    np.testing.assert_allclose(scene.least(valley, grid, 401), fine, atol=1e-7)
    assert np.abs(np.min([valley(z) for z in grid], axis=0) - fine).max() > 1e-4, "a grid alone would not be noticed"


def shown_bands(excess: Array, levels: Array) -> int:
    """Return the number of bands between contours that cover at least 2% of the view."""
    return int((np.histogram(excess, levels)[0] > 0.02 * excess.size).sum())


@pytest.mark.parametrize("depth", [1.0, 30.0, 1e4])
def test_contours_show_five_bands_in_a_valley_of_any_depth(depth: float) -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 101), np.linspace(-1, 1, 101))
    plain = depth * (1 + 0.1 * x * y - np.exp(-100 * (x**2 + y**2)) * 0.999)
    for excess in (plain, depth * (x - 0.003) ** 2, depth * (x * y**2) ** 2 + 1e-30):
        assert shown_bands(excess, ground.contour_levels(excess, nbeta=100 / depth)) >= 5
    assert shown_bands(plain, depth * 10.0 ** np.arange(-4, 1, 0.5)) < 5, "even levels would not be noticed"


def test_no_text_is_cut() -> None:
    words = "Is a_very_long_name_without_a_space " * 30
    assert "".join(scene.wrapped(words, 20).split()) == "".join(words.split())
    assert max(map(len, scene.wrapped(words, 20).split("\n"))) <= 20


def test_the_posterior_of_one_parameter_is_the_exact_density() -> None:
    body = 'parameters: {w: "normal(0, 1)"}\nloss: {potential: w**2 / 2}\nnbeta: 3\nstrata: {point: {zero: [w]}}\n'
    scene_ = Scene.of(Made(body, ("sgd",), 50, 4, 0).tree)
    edges = np.linspace(-4, 4, 33)
    exact = np.diff(stats.norm(scale=0.5).cdf(edges)) / np.diff(edges)
    np.testing.assert_allclose(scene_.posterior_bins(edges), exact, atol=2e-4 * exact.max())
    flatter = np.diff(stats.norm(scale=1 / np.sqrt(3)).cdf(edges)) / np.diff(edges)
    assert np.abs(scene_.posterior_bins(edges) - flatter).max() > 0.05, "the prior's part would not be noticed"


def test_one_parameter_is_drawn_as_histograms_of_the_particles() -> None:
    tree = tree_of("wells")
    lower = panel(tree, "particles at step")
    values, edges = steps(lower)[colour(1)]
    points = tree["populations/langevin"].position.values[-1][7:, 0]
    np.testing.assert_allclose(values * np.diff(edges) * len(points), np.histogram(points, edges)[0], atol=1e-9)


@pytest.mark.parametrize("case", ["crossing", "curve"])
def test_w0_is_drawn_where_the_expected_loss_vanishes(case: str) -> None:
    tree = tree_of(case)
    population = Scene.of(tree).scenario.problem.population_loss
    lines = [line for line in panel(tree, "particles at step").lines if line.get_color() == scene.GREY]
    lines = [line for line in lines if len(xy(line))]
    assert {line.get_label() for line in lines} == {s.name for s in Scene.of(tree).scenario.problem.zero_set.strata} - {
        "crossing"
    }
    typical = np.median(population.excess(np.random.default_rng(0).uniform(-1, 1, (99, 2))))
    for line in lines:
        points = xy(line)
        assert population.excess(points).max() < 1e-9 * typical
        assert population.excess(points + 0.05).max() > 1e-4 * typical, "a shifted line would not be noticed"


def test_contours_show_the_least_loss_over_the_third_parameter() -> None:
    scene_ = Scene.of(tree_of("cube"))
    x, y, least = scene_.least_excess()
    for i, j in ((0, 0), (3, 90), (70, 11)):
        column = [[x[j], y[i], c] for c in np.linspace(0.5, 1, 25)]
        assert least[i, j] == pytest.approx(scene_.scenario.problem.loss.excess(np.array(column)).min())


def test_occupancies_and_references_are_the_comparisons() -> None:
    tree = tree_of("crossing")
    axes = panel(tree, "flat_arm")
    (line,) = (line for line in axes.lines if line.get_label() == "langevin")
    comparison = tree["comparison"].to_dataset().sel(population="langevin", stratum="flat_arm")
    np.testing.assert_array_equal(line.get_ydata(), comparison.occupancy.sel(bound="estimate"))
    np.testing.assert_array_equal(line.get_xdata(), comparison.time)
    flat = {
        (each.get_linestyle(), to_hex(each.get_color())): xy(each)[0, 1] for each in axes.lines if len(xy(each)) == 2
    }
    assert [flat["-", scene.INK], flat["--", colour(1)], flat[":", colour(1)]] == list(comparison.reference_mass)


@pytest.mark.parametrize("case", CASES)
def test_every_axis_is_labelled_readable_and_clear_of_its_neighbours(case: str) -> None:
    drawn = figure(tree_of(case))
    drawn.canvas.draw()
    renderer = drawn.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = [t for t in drawn.findobj(Text) if isinstance(t, Text) and t.get_visible() and t.get_text().strip()]
    assert min(float(text.get_fontsize()) for text in texts) >= 8
    for axes in drawn.axes:
        shared = axes.get_title() and not axes.xaxis.get_tick_params()["labelbottom"]
        assert axes.get_xlabel() or shared or axes.get_label() == "<colorbar>"
    boxes = [box for axes in drawn.axes if (box := axes.get_tightbbox(renderer)) is not None]
    boxes += [legend.get_window_extent(renderer) for legend in drawn.legends]
    boxes += [text.get_window_extent(renderer) for text in drawn.texts]
    for one, other in combinations(boxes, 2):
        overlap = np.minimum(one.max, other.max) - np.maximum(one.min, other.min)
        assert (overlap <= 1).any(), (one, other)
    for box in boxes:
        assert (np.asarray(box.min) >= -1).all()
        assert (np.asarray(box.max) <= np.asarray(drawn.bbox.max) + 1).all()


def test_the_users_words_are_shown_as_they_are() -> None:
    drawn = figure(tree_of("crossing"))
    assert drawn.get_suptitle() == QUESTION
    legend = " ".join(text.get_text() for text in drawn.legends[0].get_texts()).replace("\n", " ")
    assert "more singular than the posterior; as simple as the tempered posterior" in legend
    assert r"(7 % have $diverged_ \frac)" in legend
    assert scene.printable("a\tb\n\U0001f9ea \u4e2d λ") == "a b ? ? λ"


def test_populations_have_different_colours_and_none_is_the_posteriors() -> None:
    assert len({colour(k) for k in range(14)} | {scene.INK, scene.GREY, scene.PALE}) == 17


@pytest.mark.parametrize("kind", style.FORMATS)
def test_a_saved_figure_is_the_same_every_time_and_whole(kind: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_figure(tree_of("wells"), tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"one.{kind}", f"two.{kind}"]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean 'png'.*\.png, \.pdf, \.svg"):
        save_figure(tree_of("wells"), tmp_path / "figure.pgn")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match="folder"):
        save_figure(tree_of("wells"), tmp_path / "folder.png")
    with pytest.raises(FileNotFoundError):
        save_figure(tree_of("wells"), tmp_path / "missing" / "a.png")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.png"]


def test_a_tree_that_is_no_run_is_refused() -> None:
    with pytest.raises(InputError, match="no group 'populations'; found: none"):
        figure(xr.DataTree())


def labels(axes: Axes) -> list[str]:
    """Return what is written at the ticks across, from the left, "" where nothing is."""
    axes.figure.draw_without_rendering()
    return [tick.get_text() for minor in (False, True) for tick in axes.get_xticklabels(minor=minor)]


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(-100, 100, {"−10²", "0", "10²"}), (1e-3, 10, {"10⁻³", "10¹"}), (2, 9, {"2×10⁰", "4×10⁰"})],
)
def test_numbers_at_logarithmic_axes_are_matplotlibs_in_plain_characters(
    low: float, high: float, shown: set[str]
) -> None:
    axes = Figure().add_subplot()
    axes.set_xscale("symlog", linthresh=1) if low < 0 else axes.set_xscale("log")
    axes.set_xlim(low, high)
    before = labels(axes)
    style.prepare(axes.figure)
    after = labels(axes)
    assert shown <= set(after)
    assert [bool(label) for label in after] == [bool(label) for label in before]
    for label, formula in zip(after, before, strict=True):
        plain = re.sub(r"[${}^]|\\mathdefault", "", formula.replace(r"\times", "×"))
        assert unicodedata.normalize("NFKC", label).replace("−", "-") == plain


@pytest.mark.parametrize("case", ["crossing", "five"])
def test_no_picture_needs_mathematical_text(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: object) -> None:
        raise AssertionError("mathematical text")

    monkeypatch.setattr(MathTextParser, "parse", parse)
    save_figure(tree_of(case), tmp_path / "figure.png")
    animation.animate(tree_of(case), tmp_path / "animation.gif", frames=2)
    unspelt = Figure()
    unspelt.add_subplot().set_xscale("log")
    with pytest.raises(AssertionError, match="mathematical"):
        unspelt.savefig(tmp_path / "unspelt.png")


def test_drawing_changes_nothing_global() -> None:
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30, "text.usetex": True, "axes.grid": True}):
        assert float(figure(tree_of("wells")).axes[0].xaxis.label.get_fontsize()) < 10
    assert dict(mpl.rcParams) == before
    for module in (scene, ground, panels, figure_module, animation):
        assert "pyplot" not in Path(str(module.__file__)).read_text()
