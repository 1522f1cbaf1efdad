"""A run's record: one DataTree that holds inputs and outputs, on disk as a Zarr store that plain xarray opens."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from sandbox.errors import InputError
from sandbox.scenario import Scenario

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

STORE = "run.zarr"
CONVENTIONS = "sandbox-1"
GROUPS = ("posterior",)
TOGETHER = ("populations", "comparison")

_VERSIONS = ("numpy", "numba", "llvmlite", "scipy", "sympy", "xarray", "zarr")


def assemble(
    scenario: Scenario,
    populations: Mapping[str, xr.Dataset],
    posterior: xr.Dataset,
    comparisons: Mapping[str, xr.Dataset],
    measurements: Mapping[str, xr.Dataset],
) -> xr.DataTree:
    """Return the tree of a run; coordinates that its groups share stand at the root.

    Without populations there is no comparison, without measurements no group of theirs.
    """
    groups = {f"/populations/{name}": data for name, data in populations.items()} | {"/posterior": posterior}
    sharing = [posterior]
    if populations:
        comparison = xr.concat(comparisons.values(), "population").assign_coords(
            population=np.array(list(comparisons), dtype=object)
        )
        groups["/comparison"] = comparison
        # The first comes last: it says what time and the tubes' factors are, the others only repeat their values.
        sharing = [comparison, posterior, next(iter(populations.values()))]
    shared = {name: c for data in sharing for name, c in data.coords.items()}
    root = xr.Dataset(coords=shared, attrs=_provenance(scenario))
    groups |= {f"/measurements/{name}": data for name, data in measurements.items()}
    return xr.DataTree.from_dict({"/": root, **groups})


def _provenance(scenario: Scenario) -> dict[str, str]:
    versions = {"python": platform.python_version(), **{name: version(name) for name in _VERSIONS}}
    return {
        "title": scenario.name,
        "question": scenario.question,
        "source": scenario.source,
        "scenario": scenario.text,
        "scenario_file": scenario.filename,
        "seed": str(scenario.seed),
        "Conventions": CONVENTIONS,
        "sandbox_version": version("sandbox-slt"),
        "versions": json.dumps(versions),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def save(tree: xr.DataTree, path: Path) -> None:
    """Write a tree as a new Zarr store at `path`. Raises OSError."""
    from zarr.storage import MemoryStore

    # Through memory: Zarr hands each of a hundred small files from thread to thread, which takes twice as long.
    files: dict[str, Buffer] = {}
    tree.to_zarr(MemoryStore(files), consolidated=False)
    path.mkdir(parents=True)
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.to_bytes())


def folder_of(path: str | Path) -> Path:
    """Return the result folder that a path means: itself, or the folder around its run.zarr."""
    path = Path(path)
    return path.parent if path.name == STORE else path


def open_result(path: str | Path) -> xr.DataTree:
    """Return the tree of a finished run: a result folder or its run.zarr.

    Raises InputError where there is none, or a damaged one.
    """
    store = folder_of(path) / STORE
    if not (store / "zarr.json").is_file():
        raise InputError(f"{path} holds no finished run: there is no {STORE} in it")
    try:
        with xr.open_datatree(store, engine="zarr", consolidated=False) as tree:
            tree.load()
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        # What Zarr and its codecs raise for text that is cut, keys that are missing, bytes that do not decode.
        raise InputError(f"{store} is damaged and cannot be read: {error}") from None
    found = tree.attrs.get("Conventions")
    if found != CONVENTIONS:
        raise InputError(f"{store} has the conventions {found!r}; this version reads {CONVENTIONS!r}")
    needed = GROUPS + TOGETHER * any(group in tree.children for group in TOGETHER)
    missing = [group for group in needed if group not in tree.children]
    if missing:
        raise InputError(f"{store} is damaged: it has no group {', '.join(missing)}")
    return tree


@contextmanager
def written_beside(target: Path, *, force: bool) -> Iterator[Path]:
    """Give an empty folder beside `target`, which becomes `target` when the body ends well and vanishes when not.

    Raises InputError at once where `target` exists without `force`, or is not a result, or where nothing can be written
    beside it.
    """
    if target.exists() and not force:
        raise InputError(f"{target} exists already; --force replaces it, --out DIRECTORY writes elsewhere")
    # What --force removes must be a result: a wrong path must not cost somebody a folder of other things.
    if target.exists() and not (target / STORE).is_dir() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} is not a result (no {STORE} in it), so --force does not replace it")
    # A relative path such as `.` has no name of its own.
    target = target.resolve()
    part = target.with_name(f"{target.name}.part-{os.getpid()}")
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write to {target.parent}: {(error.strerror or 'unknown reason').lower()}") from None
    try:
        yield part
        if target.exists():
            old = target.with_name(f"{target.name}.old-{os.getpid()}")
            target.rename(old)
            part.rename(target)
            shutil.rmtree(old)
        else:
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
