"""A run that is killed or told to end, at any moment, loses no result, leaves no process, and hinders no other run.

SANDBOX_KILLS sets the number of random moments for each signal, place and state of the folder.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr
from support.forked_runs import NEW_PID, NEW_USER, Runs
from support.small_runs import WELLS

from sandbox.comparison.record import STORE, open_result, save, verified, written_beside

KILLS = int(os.environ.get("SANDBOX_KILLS", "1"))
GONE = 2.0
"""The seconds within which a run ends, on a machine that does nothing else."""


# A run without particles and pictures of them, for most moments.
LIGHT = """\
question: Which well?
parameters: {w: "uniform(-2, 2)"}
loss: {potential: (w - 1)**2 * (w + 1)**4 / 8}
nbeta: 50
strata:
  flat: {zero: [w + 1]}
  sharp: {zero: [w - 1]}
measurements: {laplace: {bins: 10}}
"""


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("warm")
    for name, text in (("wells", WELLS), ("light", LIGHT)):
        (folder / f"{name}.yaml").write_text(text)
    return [folder / "wells.yaml", folder / "light.yaml"]


@pytest.fixture(scope="module")
def runs(scenarios: list[Path]) -> Iterator[Runs]:
    server = Runs(scenarios)
    yield server
    server.close()


def containers() -> bool:
    """Return whether this machine lets a user make a PID namespace."""
    program = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({NEW_USER | NEW_PID}))"
    known = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "unshare")
    return known and subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("k", range(KILLS))
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("before", ["a result", "nothing"])
@pytest.mark.parametrize("place", ["process", "container"])
def test_an_end_at_a_random_moment_loses_nothing(
    tmp_path: Path,
    runs: Runs,
    scenarios: list[Path],
    place: str,
    before: str,
    number: signal.Signals,
    k: int,
) -> None:
    if place == "container" and not containers():
        pytest.skip("no PID namespaces here")
    scenario = scenarios[k % 4 != 0]
    # The record of a run that nobody has ended.
    tree = open_result(scenario.with_suffix(""))
    target = tmp_path / "results" / "run"
    target.parent.mkdir()
    if before == "a result":
        save(tree, target / STORE)
    # Runs vary by a fifth, and one that has ended is no test.
    moment = 0.8 * runs.duration[scenario] * random.Random(f"{place} {before} {number} {k}").random()
    end = runs.ended(place, ["run", str(scenario), "--out", str(target), "--force"], moment, number)
    assert end.code in (0, 128 + number), runs.said()
    print(f"{end.code} after {end.took:.2f} s; a run takes {runs.slowness:.1f} times its processor's time")
    assert end.took < GONE * runs.slowness
    with pytest.raises(ProcessLookupError):
        os.kill(end.number, 0)
    if number == signal.SIGTERM:
        assert {path.name for path in target.parent.iterdir()} <= {"run"}
    # The old result is there or the new one, and both have these numbers.
    assert target.exists() or (before == "nothing" and end.code != 0)
    if target.exists():
        xr.testing.assert_identical(open_result(target), tree)
    # The next run works, and removes the leftovers.
    with written_beside(target, force=True) as folder:
        save(tree, folder / STORE)
    assert [path.name for path in target.parent.iterdir()] == ["run"]
    assert verified(target / STORE)
