"""Wrong input and broken runs: the exit code, one message with its place, no traceback, no files left behind."""

from __future__ import annotations

import errno
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from support.small_runs import ARMS, WELLS, process, sandbox

from sandbox.commands import run as run_job

# A text in ARMS, its replacement -> the beginning of the only line on stderr.
BAD = {
    ("particles: 300", "partciles: 300"): r"bad\.yaml:19:1: partciles: unknown key 'partciles' \(did you mean 'partic",
    ("steps: 200", "steps: many"): r"bad\.yaml:20:8: steps: found the text 'many'; allowed: a whole number",
    ("steps: 200", "steps: -5"): r"bad\.yaml:20:8: steps: found the number -5; allowed: a number of at least 1",
    (
        "step_size: 1e-3",
        "step_size: -1e-3",
    ): r"bad\.yaml:18:41: populations\.langevin\.step_size: found the number -0\.001",
    ("w1 * w2**2 * x", "w1 * w3**2 * x"): r"bad\.yaml:6:15: loss\.model: unknown name 'w3'; known are w1, w2, x",
    (
        "w1 * w2**2 * x",
        "w1 * tann(w2) * x",
    ): r"bad\.yaml:6:15: loss\.model: unknown function 'tann' \(did you mean 'tan",
    ("w2: uniform(-1, 1)", "w2: uniform(1, 1)"): r"bad\.yaml:4:7: parameters\.w2: 'uniform\(1, 1\)' is empty",
    ("seed: 3", "box: {bounds: {w1: [1, -1]}}"): r"bad\.yaml:22:20: box\.bounds\.w1: the box \[1, -1\] is empty",
    ("seed: 3", "box: {bounds: {w1: [2, 3]}}"): r"bad\.yaml:22:20: box\.bounds\.w1: the box \[2, 3\] holds none",
    ("{zero: [w2], along: w1}", "{zero: [w2 - 1], along: w1}"): (
        r"bad\.yaml:14:20: strata\.flat_arm\.zero: the loss is not zero on this stratum"
    ),
    ("minibatch: 8", "minibatch: 800"): (
        r"bad\.yaml:17:\d+: populations\.sgd\.gradient\.minibatch: a batch of 800 is larger than n = 100"
    ),
    ("rule: sgd", "rule: sdg"): r"bad\.yaml:17:15: populations\.sgd\.rule: unknown rule 'sdg' \(did you mean 'sgd'\?\)",
    ("along: w2}", "along: w2, learning_coefficient: 1/3}"): (
        r"bad\.yaml:15:\d+: strata\.sharp_arm\.learning_coefficient: λ = 1/3, m = 1 is stated, but"
    ),
    ("  w1: uniform(-1, 1)", "  w1: {uniform(-1, 1)"): r"bad\.yaml:\d+:\d+: this is not YAML",
}


@pytest.mark.parametrize(("change", "begins"), BAD.items())
@pytest.mark.parametrize("command", ["run", "check"])
def test_wrong_input_is_one_message_that_says_where(
    command: str, change: tuple[str, str], begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ARMS.count(change[0]) == 1
    Path("bad.yaml").write_text(ARMS.replace(*change))
    monkeypatch.setattr(run_job, "run_populations", lambda *_, **__: pytest.fail("work began"))
    said = sandbox(command, "bad.yaml")
    assert said.exit_code == 2
    assert re.match(begins, said.stderr), said.stderr
    assert said.stderr.count("\n") == 1
    assert said.stdout == ""
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left <= {"bad.yaml", "results"}


def test_all_faults_come_at_once(wells: Path) -> None:
    text = WELLS.replace("steps:", "stpes:").replace("tube: 0.2", "tube: wide")
    wells.write_text(text)
    said = sandbox("run", "wells.yaml")
    assert said.exit_code == 2
    assert [line.split(": ")[1] for line in said.stderr.splitlines()] == ["steps", "tube", "stpes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "wels"], r"no scenario 'wels' \(did you mean 'wells'\?\); allowed: a path, or one of .*, wells, "),
        (["check", "missing.yaml"], r"no scenario 'missing.yaml'.*; allowed: a path, or one of .*, wells, "),
        (["run", "."], r"\. cannot be read: it is a folder\n"),
        (["run", "wells", "--set", "stpes=3"], r"--set stpes: unknown key 'stpes' .*\(did you mean 'steps'\?\)"),
        (["run", "wells", "--set", "steps"], r"'steps' is not of the form key\.path=value\n"),
        (["run", "wells", "--set", "steps=-3"], r"scenarios/wells\.yaml:\d+:\d+: steps: found the number -3"),
        (["run", "wells", "--out", "wells.yaml/run"], r"cannot write to .*wells\.yaml: "),
        (["run", "wells", "--out", "wells.yaml"], r"wells\.yaml exists already; --force"),
        (["answer", "nowhere"], r"nowhere holds no finished run: there is no run\.zarr in it\n"),
        (["figure", "nowhere"], r"nowhere holds no finished run"),
        (["animate", "nowhere"], r"nowhere holds no finished run"),
    ],
)
def test_wrong_arguments_are_one_message(wells: Path, arguments: list[str], message: str) -> None:
    Path("scenarios").mkdir()
    Path("scenarios/wells.yaml").write_text(WELLS)
    said = sandbox(*arguments)
    assert said.exit_code == 2
    assert re.match(message, said.stderr), said.stderr
    assert said.stderr.count("\n") == 1
    assert said.stdout == ""
    assert {path.name for path in wells.parent.iterdir()} <= {"wells.yaml", "scenarios"}


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "wells.yaml", "--seed", "-1"], ["run", "wells.yaml", "--sed", "1"], ["rum"], []]
)
def test_wrong_options_are_clicks_to_refuse(wells: Path, arguments: list[str]) -> None:
    said = sandbox(*arguments)
    assert said.exit_code == 2
    assert "Usage: " in said.stderr
    assert list(wells.parent.iterdir()) == [wells]


def test_a_full_disk_is_a_failed_run(wells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sandbox.pictures.figure.save_figure", full)
    said = sandbox("run", "wells.yaml", "--no-progress")
    assert said.exit_code == 1
    place = wells.parent / "results" / "wells"
    assert said.stderr.startswith(
        f"the run failed: {place} could not be written: no space left on device; kept in {place}-2"
    )
    assert said.stdout.startswith("# wells")
    assert [path.name for path in place.parent.iterdir()] == ["wells-2"]
    assert sandbox("answer", f"{place}-2").stdout == said.stdout


def limited() -> None:
    """Limit the files of the process to 4 KiB; this acts like a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_real_write_error_is_a_failed_run(wells: Path, tmp_path: Path) -> None:
    """The first run has filled the kernel cache, so the second run writes its result only."""
    assert sandbox("run", "wells.yaml", "--out", "whole").exit_code == 0
    done = process("run", "wells.yaml", "--no-progress", cwd=tmp_path, preexec_fn=limited)
    assert done.returncode == 1
    assert done.stderr.startswith("the run failed: ")
    assert done.stderr.count("\n") == 1
    # No file of a result is so small.
    assert done.stderr.endswith("; nothing was written\n")
    assert list((tmp_path / "results").iterdir()) == []
    assert done.stdout.startswith("# wells")


def test_too_little_memory_is_a_failed_run(wells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(run_job, "run_populations", exhausted)
    said = sandbox("run", "wells.yaml", "--no-progress")
    assert said.exit_code == 1
    assert said.stderr.startswith("the run failed: not enough memory")


def test_an_interrupted_run_says_so(wells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_job, "compare", interrupted)
    said = sandbox("run", "wells.yaml", "--no-progress")
    assert said.exit_code == 130
    assert said.stderr == "interrupted; nothing unfinished was written\n"
    assert list((wells.parent / "results").iterdir()) == []


def test_ctrl_c_ends_a_real_run(wells: Path) -> None:
    command = [sys.executable, "-m", "sandbox", "run", "wells.yaml", "--set", "particles=1e5", "--set", "steps=4e9"]
    with subprocess.Popen(
        command,
        cwd=wells.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell makes its background jobs ignore the signal, and child processes inherit this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "100,000 particles: started" in line:
                run.send_signal(signal.SIGINT)
                break
        out, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert said.endswith("interrupted; nothing unfinished was written\n")
    assert "Traceback" not in said
    assert out == ""
    assert list((wells.parent / "results").iterdir()) == []
