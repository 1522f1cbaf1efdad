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
from typing import TYPE_CHECKING, Any

import xarray as xr

from sandbox.model.labelled import coordinates, texts
from sandbox.scenario.files import STORE, attributes
from sandbox.scenario.scenario import Scenario
from sandbox.tools.errors import InputError
from sandbox.tools.seal import SEAL, sealed, sealing
from sandbox.tools.whole import folder_beside

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer

CONVENTIONS, OLDER = "sandbox-3", ("sandbox-1", "sandbox-2")

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
    """Write a tree as a new Zarr store at `path`, whole and sealed or not at all. Raises OSError."""
    from zarr.errors import ZarrUserWarning
    from zarr.storage import MemoryStore

    # Through memory: Zarr hands each of a hundred small files from thread to thread, which takes twice as long.
    buffers: dict[str, Buffer] = {}
    with warnings.catch_warnings():
        # Every reader for which the warning is meant ignores consolidated metadata; xarray warns if it is missing.
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", ZarrUserWarning)
        tree.to_zarr(MemoryStore(buffers), consolidated=True)
    files = {name: buffer.to_bytes() for name, buffer in buffers.items()}
    path.mkdir(parents=True)
    try:
        for name, content in {**files, SEAL: sealing(files)}.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def folder_of(path: str | Path) -> Path:
    """Return the result folder of a path: the path itself, or for a run.zarr the folder around it."""
    path = Path(path)
    return path.parent if path.name == STORE else path


def open_result(path: str | Path) -> xr.DataTree:
    """Return the tree of a finished run: a result folder or its run.zarr.

    Every file is checked against the seal. Raises InputError if there is no record, if an older version has written it,
    or if it is damaged; then the damaged files are named.
    """
    from zarr.buffer import cpu
    from zarr.storage import MemoryStore

    store = folder_of(path) / STORE
    files: dict[str, Buffer] = {name: cpu.Buffer.from_bytes(content) for name, content in verified(store).items()}
    try:
        # Only bytes that were checked are read: for a file that is missing, Zarr would make up fill values.
        checked: Any = MemoryStore(files, read_only=True)
        with xr.open_datatree(checked, engine="zarr", consolidated=True) as tree:
            return tree.load()
    except (ValueError, KeyError, RuntimeError) as error:
        # Zarr and its codecs raise these.
        raise InputError(f"{store} is as it was written, but this version of Zarr cannot read it: {error}") from None


def verified(store: Path) -> dict[str, bytes]:
    """Return the content of all files of a record, each as it was written. Raises InputError as `open_result` does."""
    if not store.is_dir():
        raise InputError(f"{store.parent} holds no finished run: there is no {STORE} in it")
    found = attributes(store).get("Conventions")
    again = f"`sandbox run {store.parent} --out FOLDER` runs its scenario again"
    if found in OLDER:
        raise InputError(f"{store} was written by an older version (conventions {found!r}); {again}")
    if found != CONVENTIONS:
        raise InputError(f"{store} has the conventions {found!r}; this version reads {CONVENTIONS!r}")
    if not (store / SEAL).is_file():
        raise InputError(f"{store} is damaged, or from a version before seals: there is no {SEAL} in it; {again}")
    return sealed(store)


@contextmanager
def written_beside(target: Path, *, force: bool) -> Iterator[Path]:
    """Yield an empty folder beside `target`, which becomes `target` if the body succeeds and is removed if it fails.

    Only results and empty folders are replaced, and only with `force`: a result that appears at `target` meanwhile is
    left as it is, and the new one is kept under another name. So is all that was written before an OSError.

    Raises InputError at once if `target` exists and may not be replaced, or if nothing can be written beside it, and
    UnwrittenError at the end, which names the files that are kept.
    """
    if os.path.lexists(target) and not force:
        raise InputError(f"{target} exists already; --force replaces it, --out DIRECTORY writes elsewhere")
    # --force removes results only, so that a wrong path costs nobody a folder of other things.
    if os.path.lexists(target) and not _is_result_or_empty(target):
        raise InputError(f"{target} is not a result (no {STORE} in it), so --force does not replace it")
    with folder_beside(target, may_replace=lambda found: force and _is_result_or_empty(found)) as part:
        yield part


def _is_result_or_empty(folder: Path) -> bool:
    return (folder / STORE).is_dir() or (folder.is_dir() and not any(folder.iterdir()))
