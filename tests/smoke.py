"""Commands of an installed package in an empty folder: `python tests/smoke.py`, with no test tools and no repository.

`make oldest` and `make newest` run it with the oldest and the newest dependencies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import xarray as xr

import sandbox


def said(*arguments: str) -> str:
    """Return the output of a command, which must succeed."""
    print("sandbox", *arguments, flush=True)
    command = [sys.executable, "-m", "sandbox", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def check_run(name: str) -> xr.DataTree:
    """Run a shipped scenario quickly, check its files, and return the record as xarray opens it."""
    answer = json.loads(said("run", name, "--quick", "--no-progress", "--json"))
    folder = Path("results", name)
    assert json.loads(said("answer", str(folder), "--json")) == answer
    assert answer["populations"]
    said("figure", str(folder), "--out", "again.png")
    assert Path("again.png").read_bytes() == (folder / "figure.png").read_bytes()
    assert (folder / "animation.gif").read_bytes().startswith(b"GIF89a")
    with xr.open_datatree(folder / "run.zarr") as record:
        return record.load()


def main() -> None:
    """Try the commands, then Python."""
    names = [line.split()[0] for line in said("list").splitlines()]
    assert "crossing" in names
    for name in names:
        sandbox.load(name)
    assert "λ = 1/2" in said("check", "crossing")
    assert said("rlct", "(x**2 - y**3)**2").startswith("λ = 5/12, m = 1\n")
    check_run("relu_two_neurons_zero")
    record = check_run("crossing")
    assert sandbox.run("crossing", quick=True)["populations"].equals(record["populations"])
    print("sandbox, from", Path(str(sandbox.__file__)).parent, "with", record.attrs["versions"])


with tempfile.TemporaryDirectory() as empty:
    os.chdir(empty)
    main()
