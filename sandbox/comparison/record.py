"""The record of a run: a DataTree of inputs and outputs, on disk a Zarr store that xarray opens without this package.

`docs/record.md` lists its variables.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from sandbox.model.labelled import coordinates, texts
from sandbox.scenario.files import STORE
from sandbox.scenario.scenario import Scenario
from sandbox.tools.errors import InputError

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

CONVENTIONS, OLDER = "sandbox-3", ("sandbox-1", "sandbox-2")
GROUPS = ("posterior",)
TOGETHER = ("populations", "comparison")

_VERSIONS = ("numpy", "numba", "llvmlite", "scipy", "sympy", "xarray", "zarr")


def assemble(
    scenario: Scenario,
    populations: Mapping[str, xr.Dataset],
    posterior: xr.Dataset,
    comparisons: Mapping[str, xr.Dataset],
    measurements: Mapping[str, xr.Dataset],
    *,
    look: bool = False,
) -> xr.DataTree:
    """Return the tree of a run; `look` says that the run was made smaller than the scenario asks.

    Without populations there is no comparison, without measurements no group for them. The root has attributes only:
    its coordinates would be inherited by /populations, where a population may have the name of one.
    """
    groups = {
        "/": xr.Dataset(attrs={**_provenance(scenario), "look": "yes" if look else "no"}),
        "/posterior": posterior,
    }
    groups |= {f"/populations/{name}": data for name, data in populations.items()}
    if populations:
        joined = xr.concat(comparisons.values(), "population", data_vars="all")
        groups["/comparison"] = joined.assign_coords(coordinates(population=texts(comparisons)))
    groups |= {f"/measurements/{name}": data for name, data in measurements.items()}
    return xr.DataTree.from_dict(groups)


def _provenance(scenario: Scenario) -> dict[str, str]:
    versions = {"python": platform.python_version(), **{name: version(name) for name in _VERSIONS}}
    return {
        "title": scenario.name,
        "question": scenario.question,
        "reading": scenario.answer,
        "source": scenario.source,
        "scenario": scenario.text,
        "scenario_file": scenario.filename,
        "seed": str(scenario.problem.seed),
        "Conventions": CONVENTIONS,
        "sandbox_version": version("sandbox-slt"),
        "versions": json.dumps(versions),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def save(tree: xr.DataTree, path: Path) -> None:
    """Write a tree as a new Zarr store at `path`. Raises OSError."""
    from zarr.errors import ZarrUserWarning
    from zarr.storage import MemoryStore

    # Through memory: Zarr hands each of a hundred small files from thread to thread, which takes twice as long.
    files: dict[str, Buffer] = {}
    with warnings.catch_warnings():
        # Every reader for which the warning is meant ignores consolidated metadata; xarray warns if it is missing.
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", ZarrUserWarning)
        tree.to_zarr(MemoryStore(files), consolidated=True)
    path.mkdir(parents=True)
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.to_bytes())


def folder_of(path: str | Path) -> Path:
    """Return the result folder of a path: the path itself, or for a run.zarr the folder around it."""
    path = Path(path)
    return path.parent if path.name == STORE else path


def open_result(path: str | Path) -> xr.DataTree:
    """Return the tree of a finished run: a result folder or its run.zarr.

    Raises InputError if there is none, if it is damaged, or if an older version has written it.
    """
    store = folder_of(path) / STORE
    if not (store / "zarr.json").is_file():
        raise InputError(f"{path} holds no finished run: there is no {STORE} in it")
    try:
        with xr.open_datatree(store, engine="zarr", consolidated=False) as tree:
            tree.load()
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        # Zarr and its codecs raise these for text that is cut, keys that are missing, bytes that do not decode.
        raise InputError(f"{store} is damaged and cannot be read: {error}") from None
    found = tree.attrs.get("Conventions")
    if found in OLDER:
        again = f"`sandbox run {folder_of(path)} --out FOLDER` runs its scenario again"
        raise InputError(f"{store} was written by an older version (conventions {found!r}); {again}")
    if found != CONVENTIONS:
        raise InputError(f"{store} has the conventions {found!r}; this version reads {CONVENTIONS!r}")
    needed = GROUPS + TOGETHER * any(group in tree.children for group in TOGETHER)
    missing = [group for group in needed if group not in tree.children]
    if missing:
        raise InputError(f"{store} is damaged: it has no group {', '.join(missing)}")
    return tree


@contextmanager
def written_beside(target: Path, *, force: bool) -> Iterator[Path]:
    """Yield an empty folder beside `target`, which becomes `target` if the body succeeds and is removed if it fails.

    Raises InputError at once if `target` exists and `force` is false, if it is not a result, or if nothing can be
    written beside it.
    """
    if target.exists() and not force:
        raise InputError(f"{target} exists already; --force replaces it, --out DIRECTORY writes elsewhere")
    # --force removes results only, so that a wrong path costs nobody a folder of other things.
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
