"""The files of scenarios: their folders, names and texts. Only this module opens one; it imports no heavy library."""

from __future__ import annotations

import errno
import json
from pathlib import Path

from sandbox.scenario.document import MAX_CHARACTERS, read
from sandbox.tools.errors import InputError, nearest, reason_of
from sandbox.tools.seal import SEAL, sealed

FOLDER = Path("scenarios")
"""The folder of a user's own scenarios, relative to the current directory."""

STORE = "run.zarr"
"""The record in the folder of a result; its attributes hold the scenario's text."""

_INSTALLED = Path(__file__).with_name("shipped")
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "scenarios"
"""The folder of the shipped scenarios: a wheel has them inside the package, the repository at its top."""


def find(name_or_path: str | Path) -> Path:
    """Return the path of an existing file, or of the available scenario of that name.

    Raises InputError with the nearest name.
    """
    path, known = Path(name_or_path), available()
    try:
        # A folder of that name, perhaps with the results of a run, does not hide the scenario.
        found = path if path.is_file() else known.get(str(name_or_path), path)
        if found.exists():
            return found
    except (OSError, ValueError):
        # The name is too long for a file system, or has a NUL byte.
        raise InputError(f"'{str(name_or_path)[:60]}' cannot be the name of a file") from None
    raise InputError(
        f"no scenario '{name_or_path}'{nearest(path.stem, known)}; allowed: a path, or one of {', '.join(known)}"
    )


def available() -> dict[str, Path]:
    """Return the path of each scenario by name, in alphabetical order; one in `scenarios/` here hides a shipped one."""
    found = {path.stem: path for folder in (SHIPPED, FOLDER) for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def question(path: Path) -> str:
    """Return the question of a scenario file, whose other keys are read but not checked. Raises InputError."""
    return str(read(text_of(path), str(path)).data.get("question", ""))


def described(path: Path) -> tuple[str, str]:
    """Return the text and the file name of the scenario in a file, or in the record of a finished result.

    Raises InputError if there is none.
    """
    store = path if path.name == STORE else path / STORE
    if not store.is_dir():
        return text_of(path), str(path)
    found = attributes(store)
    return found["scenario"], found["scenario_file"]


def attributes(store: Path) -> dict[str, str]:
    """Return the attributes of the record of a finished result. Raises InputError if it holds no scenario.

    A record of an older version has no seal.
    """
    is_sealed = (store / SEAL).is_file()
    text = sealed(store, "zarr.json")["zarr.json"].decode() if is_sealed else text_of(store / "zarr.json")
    try:
        found = json.loads(text)["attributes"]
        return {"scenario": found["scenario"], "scenario_file": found["scenario_file"], **found}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{store / 'zarr.json'} is damaged: it holds no scenario") from None


def text_of(path: Path) -> str:
    """Return the text of a file. Raises InputError if it cannot be read, or is not UTF-8."""
    try:
        with path.open("rb") as file:
            # A character takes up to four bytes; one more byte shows that the text is too long.
            data = file.read(4 * MAX_CHARACTERS + 1)
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        message = f"byte {error.object[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        raise InputError(f"{path}:{line}:{column}: {message}") from None
    except OSError as error:
        reason = "it is a folder" if error.errno == errno.EISDIR else reason_of(error)
        raise InputError(f"{path} cannot be read: {reason}") from None
