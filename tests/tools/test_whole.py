"""A folder takes its place whole, in one step; nothing is lost, whatever appears there, fails or dies."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from sandbox.tools import whole
from sandbox.tools.errors import InputError, UnwrittenError
from sandbox.tools.whole import folder_beside, remove_unfinished, write_whole

fcntl = pytest.importorskip("fcntl")


def is_result(folder: Path) -> bool:
    return (folder / "result").is_file()


def never(_: Path) -> bool:
    return False


def make(folder: Path, content: str, name: str = "result") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)
    return folder


def write(
    target: Path,
    may_replace: Callable[[Path], bool],
    content: str = "mine",
    then: Callable[[Path], object] = Path.exists,
) -> None:
    """Write a folder with one file; then do something while it is not yet in its place."""
    with folder_beside(target, may_replace) as part:
        if content:
            make(part, content)
        then(part)


def tree_of(folder: Path) -> dict[str, str]:
    """Return the content of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


@pytest.fixture(params=["one step", "two steps"])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use the call of the system that exchanges two names, or do without it."""
    if request.param == "two steps":
        monkeypatch.setattr(whole, "_renamed", lambda *_: False)
    elif sys.platform != "linux":
        pytest.skip("renameat2 is a call of Linux")
    return str(request.param)


@pytest.mark.usefixtures("steps")
def test_a_folder_is_new_or_takes_the_place_of_one_that_it_may_replace(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with folder_beside(target, never) as part:
        make(part, "first")
        assert not target.exists()
    assert tree_of(tmp_path) == {"a/result": "first"}
    with folder_beside(target, is_result) as part:
        make(part, "second")
        assert tree_of(target) == {"result": "first"}
    assert tree_of(tmp_path) == {"a/result": "second"}


APPEARING: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: make(path, "yours", "thesis"),
    "result": lambda path: make(path, "yours"),
    "file": lambda path: path.write_text("yours"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "empty folder": lambda path: path.mkdir(),
}


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("kind", APPEARING)
def test_nothing_that_has_appeared_is_deleted(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "a"
    with pytest.raises(UnwrittenError) as told:
        write(target, never, then=lambda _: APPEARING[kind](target))
    words = f"{target} could not be written: something has appeared there meanwhile"
    assert str(told.value) == f"{words}; kept in {tmp_path / 'a-2'}: result"
    kept = tree_of(tmp_path)
    assert kept.pop("a-2/result") == "mine"
    assert set(kept.values()) <= {"yours"}
    assert os.path.lexists(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a-2"]


@pytest.mark.usefixtures("steps")
def test_leave_to_replace_a_result_is_none_to_replace_other_things(tmp_path: Path) -> None:
    for k, kind in ((2, "folder"), (3, "file")):
        target = tmp_path / kind
        with pytest.raises(UnwrittenError, match=f"kept in .*{kind}-2: result"):
            write(target, is_result, then=lambda _, kind=kind, target=target: APPEARING[kind](target))  # type: ignore[misc]
        assert len(tree_of(tmp_path)) == 2 * (k - 1)
    write(tmp_path / "result", is_result, then=lambda _: APPEARING["result"](tmp_path / "result"))
    assert tree_of(tmp_path / "result") == {"result": "mine"}


@pytest.mark.usefixtures("steps")
def test_what_appears_between_question_and_exchange_is_put_back(tmp_path: Path) -> None:
    target = make(tmp_path / "a", "old")

    def may_replace(found: Path) -> bool:
        answer = is_result(found)
        if found == target:
            # Another process is quicker.
            (target / "result").rename(target / "thesis")
        return answer

    with pytest.raises(UnwrittenError, match=r"kept in .*a-2: result"):
        write(target, may_replace)
    assert tree_of(tmp_path) == {"a/thesis": "old", "a-2/result": "mine"}


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", [1, 2])
def test_the_old_folder_is_put_back_if_the_exchange_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, step: int
) -> None:
    target = make(tmp_path / "a", "old")
    calls: list[Path] = []
    rename = Path.rename

    def failing(path: Path, to: Path) -> Path:
        calls.append(path)
        if len(calls) == step:
            raise failure
        return rename(path, to)

    monkeypatch.setattr(whole, "_renamed", lambda *_: False)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((UnwrittenError, KeyboardInterrupt)):
        write(target, is_result)
    kept = {"a-2/result": "mine"} if isinstance(failure, OSError) else {}
    assert tree_of(tmp_path) == {"a/result": "old", **kept}


def test_a_failure_of_the_body_leaves_nothing_but_what_an_os_error_keeps(tmp_path: Path) -> None:
    target = make(tmp_path / "a", "old")
    full = OSError(errno.ENOSPC, "No space left")
    with pytest.raises(ZeroDivisionError):
        write(target, is_result, then=raising(ZeroDivisionError()))
    with pytest.raises(UnwrittenError, match="a could not be written: no space left; nothing was written"):
        write(target, is_result, content="", then=raising(full))
    assert tree_of(tmp_path) == {"a/result": "old"}
    with pytest.raises(UnwrittenError, match=r"no space left; kept in .*a-2: result"):
        write(target, is_result, then=raising(full))
    assert tree_of(tmp_path) == {"a/result": "old", "a-2/result": "mine"}


DYING = """
import os, sys
from pathlib import Path
from sandbox.tools import whole
if "two" in sys.argv:
    whole._renamed = lambda *_: False
rename = Path.rename
def dying(path, target):
    found = rename(path, target)
    if ".old-" in target.name:
        os._exit(9)  # between the two steps
    return found
Path.rename = dying
with whole.folder_beside(Path(sys.argv[1]), lambda found: True) as part:
    (part / "result").write_text("mine")
    if "two" not in sys.argv:
        os._exit(9)
"""


@pytest.mark.parametrize("where", ["one", "two"])
def test_leftovers_of_the_dead_are_cleaned_and_what_they_moved_away_is_put_back(tmp_path: Path, where: str) -> None:
    target = make(tmp_path / "a", "old")
    assert subprocess.run([sys.executable, "-c", DYING, str(target), where], check=False).returncode == 9
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 2
    # Between the two steps the old result is away: that is the price without a call that exchanges names.
    assert target.exists() == (where == "one")
    seen: set[str] = set()
    write(target, is_result, then=lambda part: seen.update({path.name for path in tmp_path.iterdir()} - {part.name}))
    assert seen == {"a"}
    assert tree_of(tmp_path) == {"a/result": "mine"}


def test_the_folder_of_a_living_run_is_no_leftover(tmp_path: Path) -> None:
    """Its lock tells, not the number of its process: here both runs have the same."""
    target = tmp_path / "a"

    def another(one: Path) -> None:
        write(target, never, "two", then=lambda _: one.rename(one))
        assert tree_of(target) == {"result": "two"}

    with pytest.raises(UnwrittenError, match=r"kept in .*a-2: result"):
        write(target, never, "one", another)
    assert tree_of(tmp_path) == {"a/result": "two", "a-2/result": "one"}


def test_only_names_of_leftovers_are_cleaned(tmp_path: Path) -> None:
    names = ["a.part-1", "a.part-0123456789abcdef0", "ba.part-0123456789abcdef", "a.part-0123456789ABCDEF", "a.old"]
    for name in names:
        make(tmp_path / name, "precious")
    make(tmp_path / "a.part-0123456789abcdef", "left")
    make(tmp_path / "a.old-0123456789abcdef", "left")
    write(tmp_path / "a", lambda _: True)
    assert tree_of(tmp_path) == {"a/result": "mine", **{f"{name}/result": "precious" for name in names}}


def test_without_locks_nothing_is_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On some network drives a lock is an error: then nobody can tell a leftover."""
    make(tmp_path / "a.part-0123456789abcdef", "left or alive")
    for place, name, value in (
        (fcntl, "flock", raising(OSError(errno.ENOLCK, "No locks available"))),
        (whole, "fcntl", None),
    ):
        monkeypatch.setattr(place, name, value)
        write(tmp_path / "a", is_result)
        assert tree_of(tmp_path) == {"a.part-0123456789abcdef/result": "left or alive", "a/result": "mine"}


def test_many_runs_to_one_folder_lose_nothing(tmp_path: Path) -> None:
    """Without leave to replace, each result is somewhere; with it, the last stays."""

    def attempt(k: int, may_replace: Callable[[Path], bool], target: Path, kept: list[str]) -> None:
        try:
            write(target, may_replace, str(k))
        except UnwrittenError as error:
            kept.append(str(error))

    for name, may_replace, count in (("a", never, 8), ("b", is_result, 1)):
        kept: list[str] = []
        target = tmp_path / name / "run"
        threads = [threading.Thread(target=attempt, args=(k, may_replace, target, kept)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = tree_of(tmp_path / name)
        assert "run/result" in found
        assert len(found) == len(set(found.values())) == count
        assert len(kept) == count - 1


def test_a_process_that_must_end_at_once_leaves_nothing(tmp_path: Path) -> None:
    make(tmp_path / "a", "old")

    def end(_: Path) -> None:
        remove_unfinished()
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    with pytest.raises(UnwrittenError, match="nothing was written"):
        write(tmp_path / "a", is_result, then=end)
    assert tree_of(tmp_path) == {"a/result": "old"}


def test_where_nothing_can_be_written_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file"):
        write(tmp_path / "file" / "a", never)


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    write_whole(tmp_path / "a", b"old")

    def half(path: Path, data: bytes) -> int:
        path.write_text(data.decode()[:1])
        raise failure

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(type(failure)):
        write_whole(tmp_path / "a", b"new")
    assert tree_of(tmp_path) == {"a": "old"}
