"""A sealed folder: one file in it holds the digest of every other, and names each that is not as it was written.

The file has the form of `sha256sum`, so `sha256sum --check SHA256SUMS` reads it without this package. Its first line is
the digest of the lines below.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from sandbox.tools.errors import InputError, reason_of

SEAL = "SHA256SUMS"
NAMED = 5
"""The most faults that one message names."""

_LINE = re.compile(rb"([0-9a-f]{64})  ([^\n]+)\n")


def sealing(files: Mapping[str, bytes]) -> bytes:
    """Return the content of the seal of these files, by their names relative to the folder."""
    lines = b"".join(f"{_digest(content)}  {name}\n".encode() for name, content in sorted(files.items()))
    return _headed(lines)


def sealed(folder: Path, *names: str) -> dict[str, bytes]:
    """Return the content of the files of a sealed folder by name, of all or of these; other files are not read.

    The bytes returned are those that were checked: nobody can change them in between. Raises InputError, which names
    every file that is missing, changed or unreadable, the seal included.
    """
    try:
        text = (folder / SEAL).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / SEAL} cannot be read ({reason_of(error)}), so no file can be checked") from None
    _, _, lines = text.partition(b"\n")
    if _headed(lines) != text:
        raise InputError(f"{folder} is damaged: {SEAL} is not as it was written")
    digests = {name.decode(): digest.decode() for digest, name in _LINE.findall(lines)}
    files, faults = {}, []
    for name in names or digests:
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)
            faults.append(f"{name} is missing" if gone else f"{name} cannot be read ({reason_of(error)})")
            continue
        if _digest(files[name]) != digests.get(name):
            faults.append(f"{name} is not as it was written")
    if faults:
        more = f"; and {len(faults) - NAMED} more files" if len(faults) > NAMED else ""
        raise InputError(f"{folder} is damaged: {'; '.join(faults[:NAMED])}{more}")
    return files


def _headed(lines: bytes) -> bytes:
    """Return the lines of a seal below the line that seals them; `sha256sum` takes that one for a comment."""
    return f"# the lines below: {_digest(lines)}\n".encode() + lines


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
