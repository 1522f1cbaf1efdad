"""A damaged record is named by every command that reads it, or the damage changes no number.

SANDBOX_DAMAGES sets the number of random damages.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr
from support.small_runs import WELLS, sandbox, small

from sandbox.commands import run as run_job
from sandbox.comparison.record import STORE, open_result, save
from sandbox.tools.errors import InputError
from sandbox.tools.seal import SEAL

DAMAGES = int(os.environ.get("SANDBOX_DAMAGES", "20"))

Damage = Callable[[random.Random, Path], None]


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return run_job.record(small(WELLS))


@pytest.fixture
def store(tree: xr.DataTree, tmp_path: Path) -> Path:
    """Return the store of a whole record."""
    save(tree, tmp_path / "wells" / STORE)
    return tmp_path / "wells" / STORE


def flip(chance: random.Random, file: Path) -> None:
    """Flip one bit."""
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def cut(chance: random.Random, file: Path) -> None:
    """Cut a file anywhere, to nothing too."""
    file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size)])


def delete(_: random.Random, file: Path) -> None:
    """Delete a file."""
    file.unlink()


def name_it(folder: Path, named: str, commands: tuple[str, ...] = ("verify", "answer", "figure", "animate")) -> None:
    """Assert that each command names a file and no traceback, and draws nothing."""
    with pytest.raises(InputError) as told:
        open_result(folder)
    assert named in str(told.value)
    for command in commands:
        said = sandbox(command, str(folder))
        assert said.exit_code == 2
        assert said.stderr == f"{told.value}\n"
    assert [path.name for path in folder.iterdir()] == [STORE]


@pytest.mark.parametrize("seed", range(DAMAGES))
def test_a_random_damage_is_named(store: Path, seed: int) -> None:
    chance = random.Random(seed)
    file = chance.choice(sorted(path for path in store.rglob("*") if path.is_file()))
    chance.choice([flip, cut, delete])(chance, file)
    name_it(store.parent, file.relative_to(store).as_posix())


@pytest.mark.parametrize("damage", [flip, cut, delete])
@pytest.mark.parametrize("name", [SEAL, "zarr.json", "populations/sgd/position/c/0/0/0", "posterior/nbeta/zarr.json"])
def test_every_kind_of_file_is_sealed(store: Path, name: str, damage: Damage) -> None:
    damage(random.Random(1), store / name)
    name_it(store.parent, name)


def test_without_the_seal_a_lost_chunk_would_be_read_as_fill_values(store: Path, tree: xr.DataTree) -> None:
    """So plain xarray shows that the checks above can fail."""
    (store / "populations/sgd/position/c/0/0/0").unlink()
    with xr.open_datatree(store) as plain:
        assert plain["populations/sgd/position"].shape == tree["populations/sgd/position"].shape
        assert not plain["populations/sgd/position"].equals(tree["populations/sgd/position"])


def test_a_lost_group_is_named_in_a_few_lines(store: Path) -> None:
    shutil.rmtree(store / "posterior")
    name_it(store.parent, "posterior/along_edge/zarr.json is missing")
    assert len(sandbox("verify", str(store)).stderr) < 600


def test_a_file_that_no_run_has_written_is_not_read(store: Path, tree: xr.DataTree) -> None:
    """A file browser leaves such files; a chunk could replace fill values."""
    for name in (".DS_Store", "posterior/.DS_Store", "posterior/nbeta/c.part"):
        (store / name).write_bytes(b"x")
    xr.testing.assert_identical(open_result(store), tree)
    assert sandbox("verify", str(store)).exit_code == 0


def test_a_folder_without_a_record_is_named(tmp_path: Path) -> None:
    for command in ("verify", "answer", "figure", "animate"):
        said = sandbox(command, str(tmp_path))
        assert (said.exit_code, said.stdout) == (2, "")
        assert said.stderr == f"{tmp_path} holds no finished run: there is no {STORE} in it\n"


def test_a_damaged_scenario_is_not_run_again(store: Path) -> None:
    """One bit may be another learning rate."""
    text = (store / "zarr.json").read_text(encoding="utf-8")
    assert "learning_rate: 0.05" in text
    (store / "zarr.json").write_text(text.replace("learning_rate: 0.05", "learning_rate: 0.15"), encoding="utf-8")
    said = sandbox("run", str(store.parent), "--out", str(store.parent.with_name("again")))
    assert (said.exit_code, "zarr.json is not as it was written" in said.stderr) == (2, True)


def test_verify_and_sha256sum_agree(store: Path) -> None:
    files = sum(path.is_file() for path in store.rglob("*")) - 1
    said = sandbox("verify", str(store.parent), str(store))
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout == f"{store}: all {files} files are as they were written\n" * 2
    if command := shutil.which("sha256sum"):
        other = [command, "--check", "--quiet", SEAL]
        assert subprocess.run(other, cwd=store, check=False).returncode == 0
        flip(random.Random(2), store / "zarr.json")
        assert subprocess.run(other, cwd=store, check=False, capture_output=True).returncode == 1
