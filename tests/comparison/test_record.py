"""A result is whole or absent, opens in plain xarray, and says all that is needed to draw it again."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from support.small_runs import ARMS, WELLS, small
from zarr.errors import UnstableSpecificationWarning

import sandbox
from sandbox.commands import run as run_job
from sandbox.comparison.page import markdown
from sandbox.comparison.record import CONVENTIONS, STORE, folder_of, open_result, save
from sandbox.comparison.report import answer
from sandbox.tools.errors import InputError

EVERYTHING = {"run.zarr", "answer.json", "answer.md", "simplicity.png", "figure.png", "animation.gif"}


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return run_job.record(small(WELLS))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small run with two arms, written without a warning."""
    folder = tmp_path_factory.mktemp("results") / "arms"
    run_job.run(small(ARMS), out=folder)
    return folder


def test_a_result_folder_holds_everything(stored: Path) -> None:
    assert {path.name for path in stored.iterdir()} == EVERYTHING
    assert [path.name for path in stored.parent.iterdir()] == ["arms"]
    assert json.loads((stored / "answer.json").read_text())["title"] == "small"
    with Image.open(stored / "animation.gif") as film:
        assert film.n_frames >= 2  # type: ignore[attr-defined]


def test_what_was_saved_opens_as_it_was(stored: Path) -> None:
    scenario = small(ARMS)
    again = run_job.record(scenario)
    found = open_result(stored)
    xr.testing.assert_identical(found, again)
    for path, node in again.subtree_with_keys:
        for name, variable in node.variables.items():
            if variable.dtype != object:
                assert found[path].variables[name].dtype == variable.dtype, (path, name)


def test_a_run_without_arms_goes_there_and_back(tree: xr.DataTree, tmp_path: Path) -> None:
    """No stratum has a position along it: dimensions of length 0, a column of texts that is empty."""
    save(tree, tmp_path / STORE)
    xr.testing.assert_identical(open_result(tmp_path), tree)
    assert tree["posterior"].sizes["along_stratum"] == 0


def test_a_path_to_the_store_is_as_good_as_one_to_the_folder(stored: Path) -> None:
    assert folder_of(stored / STORE) == folder_of(str(stored)) == stored
    xr.testing.assert_identical(open_result(stored / STORE), open_result(str(stored)))


PLAIN = """
import sys, warnings
warnings.simplefilter("error")
import xarray as xr
tree = xr.open_datatree(sys.argv[1])
print(sorted(tree.children), sorted(tree["populations"].children))
counts = tree["populations/sgd"]["count"]
print(int(counts.isel(time=-1).sum()), list(counts.sel(time=0).stratum.values)[-1], counts.attrs["units"])
print(tree["posterior"].nbeta.item(), tree["comparison"].verdict.sel(population="sgd", reference="posterior").item())
print(dict(tree["posterior"].position.sizes), list(tree.coords), list(tree["populations"].coords))
print([name for name in sys.modules if name.split(".")[0] == "sandbox"])
"""


def test_it_opens_in_plain_xarray_without_an_argument_and_a_warning(stored: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(stored / STORE)], capture_output=True, text=True, check=True, cwd=stored
    )
    verdict = json.loads((stored / "answer.json").read_text())["populations"]["sgd"]["against"]["posterior"]["verdict"]
    assert done.stdout.splitlines() == [
        "['comparison', 'populations', 'posterior'] ['langevin', 'sgd']",
        "300 diverged particles",
        f"100.0 {verdict}",
        "{'chain': 4, 'draw': 500, 'parameter': 2} [] []",
        "[]",
    ]
    assert done.stderr == ""


def test_provenance_is_enough_to_run_again(stored: Path) -> None:
    found = open_result(stored)
    assert found.attrs["Conventions"] == CONVENTIONS
    assert found.attrs["scenario"] == ARMS
    assert found.attrs["seed"] == "3"
    assert (found.attrs["look"], found.attrs["reading"]) == ("no", "")
    assert found.attrs["sandbox_version"] == sandbox.__version__
    assert json.loads(found.attrs["versions"]).keys() >= {"python", "numpy", "numba", "xarray", "zarr"}
    assert sandbox.loads(found.attrs["scenario"], found.attrs["scenario_file"]) == small(ARMS)


def test_another_seed_gives_other_particles(tree: xr.DataTree) -> None:
    other = run_job.record(small(WELLS, ("seed: 1", "seed: 2")))
    assert (other["populations/sgd/position"] != tree["populations/sgd/position"]).any()


def test_saving_hides_no_warning_but_the_one_about_consolidated_metadata(tree: xr.DataTree, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(tree, tmp_path / STORE)
    fixed = tree.copy()
    # NumPy's own texts have no lasting format in a store.
    fixed["posterior"] = fixed["posterior"].assign(mass=xr.Variable("stratum", np.array(["a", "b", "c", "d"])))
    with pytest.warns(UnstableSpecificationWarning):
        save(fixed, tmp_path / "fixed.zarr")


def test_all_but_the_store_can_be_made_again_from_it(stored: Path, tmp_path: Path) -> None:
    found = open_result(stored)
    assert answer(found) == json.loads((stored / "answer.json").read_text())
    assert markdown(answer(found)) == (stored / "answer.md").read_text(encoding="utf-8")
    sandbox.animate(found, tmp_path / "again.gif")
    assert (tmp_path / "again.gif").read_bytes() == (stored / "animation.gif").read_bytes()
    from sandbox.pictures.figure import save_figure

    save_figure(found, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (stored / "figure.png").read_bytes()


@pytest.mark.parametrize(
    ("conventions", "words"),
    [
        (
            "sandbox-1",
            r"written by an older version \(conventions 'sandbox-1'\); `sandbox run .* --out FOLDER` runs its",
        ),
        ("sandbox-2", r"written by an older version \(conventions 'sandbox-2'\)"),
        ("sandbox-4", r"has the conventions 'sandbox-4'; this version reads 'sandbox-3'"),
    ],
)
def test_a_store_of_other_conventions_is_refused(
    tree: xr.DataTree, tmp_path: Path, conventions: str, words: str
) -> None:
    other = tree.copy()
    other.attrs["Conventions"] = conventions
    save(other, tmp_path / STORE)
    with pytest.raises(InputError, match=words):
        open_result(tmp_path)


@pytest.mark.parametrize("conventions", ["sandbox-1", "sandbox-2", "sandbox-3"])
def test_a_result_runs_again_from_its_attributes(tree: xr.DataTree, tmp_path: Path, conventions: str) -> None:
    """Only the text of the scenario is read: the rest of the store may be gone."""
    old = tmp_path / "old" / STORE
    old.mkdir(parents=True)
    attributes = {"scenario": WELLS, "scenario_file": "small.yaml", "Conventions": conventions}
    (old / "zarr.json").write_text(json.dumps({"attributes": attributes, "node_type": "group", "zarr_format": 3}))
    for path in (old, old.parent):
        assert sandbox.load(path) == sandbox.load(str(path)) == small(WELLS)
        assert sandbox.load(path).name == "small"
    assert sandbox.load(old, "particles=7") == small(WELLS).changed("particles=7")
    again = sandbox.run(old.parent, out=tmp_path / "new")
    xr.testing.assert_identical(again, tree)
    xr.testing.assert_identical(open_result(tmp_path / "new"), tree)


@pytest.mark.parametrize("text", ["{", "{}", '{"attributes": {"title": "x"}}', "[]"])
def test_a_result_without_its_scenario_is_not_run_again(tmp_path: Path, text: str) -> None:
    (tmp_path / STORE).mkdir()
    (tmp_path / STORE / "zarr.json").write_text(text)
    with pytest.raises(InputError, match=r"zarr\.json is damaged: it holds no scenario"):
        sandbox.load(tmp_path)
    with pytest.raises(InputError, match="it is a folder"):
        sandbox.load(tmp_path.parent)


def test_the_library_runs_files_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "wells.yaml"
    path.write_text(WELLS)
    found = sandbox.run(path, overrides=["particles=7", "populations={sgd: {rule: sgd, learning_rate: 1e-3, "
                                         "gradient: full}}"])  # fmt: skip
    assert found.attrs["title"] == "wells"
    assert found["populations/sgd"].attrs["particles"] == 7
    assert list(found["populations"].children) == ["sgd"]
    assert np.isfinite(found["comparison"].occupancy.values).all()
    changed = sandbox.run(sandbox.load(path), overrides="particles=7", seed=9, quick=True)
    assert sandbox.loads(changed.attrs["scenario"]).sizes.particles == 7
    assert "seed: 9" in changed.attrs["scenario"]
    assert changed.attrs["seed"] == "9"
    assert changed.attrs["look"] == "yes"
