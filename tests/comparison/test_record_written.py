"""A result takes its place whole, replaces only results, and is kept as far as possible."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import xarray as xr
from support.small_runs import WELLS, small

from sandbox.commands import run as run_job
from sandbox.comparison.record import STORE, open_result, save, written_beside
from sandbox.tools.errors import InputError, UnwrittenError

EVERYTHING = {"run.zarr", "answer.json", "answer.md", "simplicity.png", "figure.png", "animation.gif"}


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return run_job.record(small(WELLS))


def refuse(*_: object, **__: object) -> NoReturn:
    raise AssertionError("no work may begin")


def full_disk(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


def finished(folder: Path) -> Path:
    """Make a folder that counts as a result, with a mark to know it by."""
    (folder / STORE).mkdir(parents=True)
    (folder / "mark").write_text("old")
    return folder


def test_a_finished_result_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_job, "run_populations", refuse)
    monkeypatch.setattr(run_job, "compare", refuse)
    target = finished(tmp_path / "run")
    with pytest.raises(InputError, match=r"run exists already; --force"):
        run_job.run(small(WELLS), out=target)
    assert (target / "mark").read_text() == "old"


def test_force_replaces_a_result_as_a_whole(tree: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_job, "record", lambda *_, **__: tree)
    target = finished(tmp_path / "run")
    run_job.run(small(WELLS), out=target, force=True)
    assert {path.name for path in target.iterdir()} == EVERYTHING
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_force_replaces_nothing_but_results(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong --out must not cost a folder of other things."""
    monkeypatch.setattr(run_job, "record", refuse)
    target = tmp_path / "thesis"
    if kind == "folder":
        target.mkdir()
    precious = target / "chapter" if kind == "folder" else target
    precious.write_text("years of work")
    with pytest.raises(InputError, match="thesis is not a result"):
        run_job.run(small(WELLS), out=target, force=True)
    assert precious.read_text() == "years of work"


PIECES = {
    "sandbox.commands.run.save": {"answer.json", "answer.md"},
    "sandbox.pictures.simplicity.save_simplicity": {"answer.json", "answer.md", STORE},
    "sandbox.pictures.figure.save_figure": {"answer.json", "answer.md", STORE, "simplicity.png"},
    "sandbox.pictures.animation.animate": EVERYTHING - {"animation.gif"},
}
"""The files that are whole if the next step of writing fails."""


def fail(monkeypatch: pytest.MonkeyPatch, tree: xr.DataTree, where: str, failure: Callable[..., NoReturn]) -> None:
    """Let writing fail at one step; the pictures before it are empty."""
    monkeypatch.setattr(run_job, "record", lambda *_, **__: tree)
    for picture in PIECES:
        if "pictures" in picture:
            monkeypatch.setattr(picture, lambda _, path, **__: path.write_bytes(b""))
    monkeypatch.setattr(where, failure)


def out_of(target: Path) -> tuple[tuple[Path, bool], ...]:
    """Return the two places to write to: over a finished result, and a new one."""
    return (target, True), (target.with_name("new"), False)


@pytest.mark.parametrize("where", PIECES)
def test_ctrl_c_leaves_the_old_result_and_nothing_else(
    where: str, tree: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, tree, where, interrupted)
    target = finished(tmp_path / "run")
    for out, force in out_of(target):
        with pytest.raises(KeyboardInterrupt):
            run_job.run(small(WELLS), out=out, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (target / "mark").read_text() == "old"


@pytest.mark.parametrize(("where", "whole"), PIECES.items())
def test_a_full_disk_leaves_the_old_result_and_keeps_what_is_whole(
    where: str, whole: set[str], tree: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, tree, where, full_disk)
    target = finished(tmp_path / "run")
    for out, force in out_of(target):
        kept = out.with_name(f"{out.name}-2")
        with pytest.raises(UnwrittenError) as told:
            run_job.run(small(WELLS), out=out, force=force)
        names = ", ".join(sorted(whole))
        assert str(told.value) == f"{out} could not be written: no space left on device; kept in {kept}: {names}"
        assert told.value.record is tree
        assert {path.name for path in kept.iterdir()} == whole
        if STORE in whole:
            xr.testing.assert_identical(open_result(kept), tree)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new-2", "run", "run-2"]
    assert (target / "mark").read_text() == "old"


def test_a_record_that_does_not_fit_is_not_left_in_part(
    tree: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.write_bytes
    written: list[Path] = []

    def limited(path: Path, data: bytes) -> int:
        written.append(path)
        return whole(path, data) if len(written) < 40 else full_disk()

    monkeypatch.setattr(Path, "write_bytes", limited)
    with pytest.raises(OSError, match="No space left"):
        save(tree, tmp_path / STORE)
    assert list(tmp_path.iterdir()) == []
    assert len(written) == 40


def test_two_runs_to_one_folder_keep_both_results(
    tree: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run ends first: while this one computes, a result appears."""
    target = tmp_path / "run"
    monkeypatch.setattr(run_job, "record", lambda *_, **__: finished(target) and tree)
    with pytest.raises(
        UnwrittenError, match=r"run could not be written: something has appeared there.*kept in .*run-2"
    ):
        run_job.run(small(WELLS), out=target)
    assert [path.name for path in target.iterdir() if path.is_file()] == ["mark"]
    assert {path.name for path in (tmp_path / "run-2").iterdir()} == EVERYTHING
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-2"]


def test_where_nothing_can_be_written_no_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a file there is no folder: true for every user, unlike permissions."""
    monkeypatch.setattr(run_job, "record", refuse)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file"):
        run_job.run(small(WELLS), out=tmp_path / "file" / "run")


def test_folders_on_the_way_are_made_and_the_current_one_may_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with written_beside(tmp_path / "a" / "b", force=False) as folder:
        (folder / STORE).mkdir()
    monkeypatch.chdir(tmp_path / "a" / "b")
    with written_beside(Path(), force=True) as folder:
        (folder / "new").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["new"]


def test_a_wrong_coefficient_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_job, "run_populations", refuse)
    scenario = small(WELLS, ("{zero: [w - 1]}", "{zero: [w - 1], learning_coefficient: 2/3}"))
    with pytest.raises(InputError, match=r"small\.yaml:10:48:.*λ = 2/3, m = 1 is stated"):
        run_job.run(scenario, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
