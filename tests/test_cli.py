"""The command line: what it prints where, its exit codes, and that wrong input leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
import xarray as xr
from click.testing import CliRunner, Result
from small_runs import ARMS, WELLS

from sandbox import __version__, bench, pipeline
from sandbox.cli import main

HOUSE = Path(__file__).parents[1]
SHIPPED = sorted(path.stem for path in (HOUSE / "scenarios").glob("*.yaml"))
OUTPUTS = {"run.zarr", "answer.json", "answer.md", "figure.png", "animation.gif"}
PROGRESS = re.compile(r".+: (started|done in \d+\.\d s|\d+% done, about \d+ s left)|written to .+")


def sandbox(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, arguments)


def process(*arguments: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "sandbox", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, **options)


@pytest.fixture
def wells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small scenario's file, alone in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "wells.yaml"
    path.write_text(WELLS)
    return path


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished small run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "wells.yaml").write_text(WELLS)
    assert sandbox("run", str(folder / "wells.yaml"), "--out", str(folder / "wells")).exit_code == 0
    return folder / "wells"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command_with_examples(flag: str) -> None:
    said = sandbox(flag)
    assert said.exit_code == 0
    for command in main.commands:
        assert f"  {command} " in said.stdout
        assert sandbox(command, flag).exit_code == 0
    assert "sandbox run scenarios/crossing.yaml" in said.stdout


def test_version() -> None:
    assert sandbox("--version").stdout == f"sandbox, version {__version__}\n"


HELP = """
import sys
from sandbox.cli import main
try:
    main(["run", "--help"])
except SystemExit as stop:
    heavy = {"numba", "sympy", "xarray", "matplotlib", "numpy", "scipy", "pydantic", "yaml"} & set(sys.modules)
    sys.exit(f"imported {heavy}" if heavy or stop.code else 0)
"""


def test_help_is_instant() -> None:
    """No heavy library is imported, and the whole process takes less than 0.3 s of a processor."""
    subprocess.run([sys.executable, "-c", HELP], check=True, capture_output=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process("--help", cwd=HOUSE).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


# What to replace in ARMS, by what -> how the only line on stderr begins.
BAD = {
    ("particles: 300", "partciles: 300"): r"bad\.yaml:19:1: partciles: unknown key 'partciles' \(did you mean 'partic",
    ("steps: 200", "steps: many"): r"bad\.yaml:20:8: steps: found the text 'many'; allowed: a whole number",
    ("steps: 200", "steps: -5"): r"bad\.yaml:20:8: steps: found the number -5; allowed: a number of at least 1",
    ("step_size: 1e-3", "step_size: -1e-3"): r"bad\.yaml:18:42: populations\.langevin\.step_size: found the number -0",
    ("w1 * w2**2 * x", "w1 * w3**2 * x"): r"bad\.yaml:6:15: loss\.model: unknown name 'w3' \(did you mean 'w",
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
    monkeypatch.setattr(pipeline, "simulate", lambda *_, **__: pytest.fail("work began"))
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
        (["run", "wels"], r"no scenario 'wels' \(did you mean 'wells'\?\); allowed: a path, or one of wells\n"),
        (["check", "missing.yaml"], r"no scenario 'missing.yaml'; allowed: a path, or one of wells\n"),
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

    monkeypatch.setattr("sandbox.figures.save_figure", full)
    said = sandbox("run", "wells.yaml", "--no-progress")
    assert said.exit_code == 1
    assert said.stderr == "the run failed: [Errno 28] No space left on device\n"
    assert said.stdout == ""
    assert list((wells.parent / "results").iterdir()) == []


def limited() -> None:
    """Let the process write no file beyond 4 KiB: what a full disk does, without one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_real_write_error_is_a_failed_run(wells: Path) -> None:
    environment = {**os.environ, "SANDBOX_CACHE": "off"}
    done = process("run", "wells.yaml", "--no-progress", cwd=wells.parent, preexec_fn=limited, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("the run failed: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list((wells.parent / "results").iterdir()) == []


def test_too_little_memory_is_a_failed_run(wells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(pipeline, "simulate", exhausted)
    said = sandbox("run", "wells.yaml", "--no-progress")
    assert said.exit_code == 1
    assert said.stderr.startswith("the run failed: not enough memory")


def test_an_interrupted_run_says_so(wells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "compare", interrupted)
    said = sandbox("run", "wells.yaml", "--no-progress")
    assert said.exit_code == 130
    assert said.stderr == "interrupted; nothing was written\n"
    assert list((wells.parent / "results").iterdir()) == []


def test_ctrl_c_ends_a_real_run(wells: Path) -> None:
    command = [sys.executable, "-m", "sandbox", "run", "wells.yaml", "--set", "particles=1e5", "--set", "steps=4e9"]
    with subprocess.Popen(command, cwd=wells.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "100,000 particles: started" in line:
                run.send_signal(signal.SIGINT)
                break
        out, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert said.endswith("interrupted; nothing was written\n")
    assert "Traceback" not in said
    assert out == ""
    assert list((wells.parent / "results").iterdir()) == []


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_scenario_passes_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HOUSE)
    said = sandbox("check", name)
    assert said.exit_code == 0, said.stderr
    assert said.stderr == ""
    assert "λ = " in said.stdout
    assert "λ unknown" not in said.stdout
    assert "2 is the edge of stability" in said.stdout
    assert re.search(r"about [\d.]+ s on \d+ threads", said.stdout)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "crossing"])
def test_every_shipped_scenario_runs_quickly(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HOUSE)
    said = sandbox("run", name, "--quick", "--out", str(tmp_path / name))
    assert said.exit_code == 0, said.stderr
    assert {path.name for path in (tmp_path / name).iterdir()} == OUTPUTS
    assert said.stdout.startswith(f"# {name}\n")
    assert all(PROGRESS.fullmatch(line) for line in said.stderr.splitlines()), said.stderr


def test_the_main_job_end_to_end(tmp_path: Path) -> None:
    """The answer alone on stdout, progress alone on stderr, everything in the folder, as a newcomer would run it."""
    folder = tmp_path / "out" / "crossing"
    done = process("run", "scenarios/crossing.yaml", "--quick", "--out", str(folder), cwd=HOUSE)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == OUTPUTS
    assert done.stdout == (folder / "answer.md").read_text(encoding="utf-8") + "\n"
    assert all(PROGRESS.fullmatch(line) for line in done.stderr.splitlines()), done.stderr
    assert sum(path.is_file() for path in folder.rglob("*")) < 100
    found = json.loads((folder / "answer.json").read_text())
    for population in found["populations"].values():
        assert (population["particles"], population["steps"]) == (1000, 2000)
        assert {row["verdict"] for row in population["against"].values()} <= {
            "simpler", "same", "less simple", "undecided",
        }  # fmt: skip
    tree = xr.open_datatree(folder / "run.zarr", engine="zarr", consolidated=False)
    assert tree.attrs["title"] == "crossing"


def test_run_prints_json_and_nothing_else(wells: Path) -> None:
    said = sandbox("run", "wells.yaml", "--json", "--no-progress", "--seed", "9", "--set", "particles=50")
    assert said.exit_code == 0
    assert said.stderr == "written to results/wells\n"
    found = json.loads(said.stdout)
    assert found["seed"] == "9"
    assert found == json.loads(Path("results/wells/answer.json").read_text())
    again = sandbox("run", "wells.yaml")
    assert again.exit_code == 2
    assert again.stderr.startswith("results/wells exists already; --force replaces it")
    assert json.loads(Path("results/wells/answer.json").read_text()) == found
    forced = sandbox("run", "wells.yaml", "--force", "--json", "--threads", "1", "--set", "particles=50")
    assert forced.exit_code == 0
    assert json.loads(forced.stdout)["seed"] == "1"
    assert [path.name for path in Path("results").iterdir()] == ["wells"]


def test_answers_of_finished_runs(result: Path) -> None:
    page = sandbox("answer", str(result))
    assert page.exit_code == 0
    assert page.stdout == (result / "answer.md").read_text(encoding="utf-8") + "\n"
    lines = sandbox("answer", "--json", str(result), str(result / "run.zarr"))
    assert [json.loads(line) for line in lines.stdout.splitlines()] == [
        json.loads((result / "answer.json").read_text())
    ] * 2


@pytest.mark.parametrize(("command", "name"), [("figure", "figure.png"), ("animate", "animation.gif")])
def test_pictures_are_drawn_again(result: Path, tmp_path: Path, command: str, name: str) -> None:
    drawn = (result / name).read_bytes()
    (result / name).unlink()
    for path in (result, result / "run.zarr"):
        said = sandbox(command, str(path))
        assert (said.exit_code, said.stdout, said.stderr) == (0, "", "")
        assert (result / name).read_bytes() == drawn
    assert {path.name for path in result.iterdir()} == OUTPUTS
    assert sandbox(command, str(result), "--out", str(tmp_path / name)).exit_code == 0
    assert (tmp_path / name).read_bytes() == drawn
    missing = sandbox(command, str(result), "--out", str(tmp_path / "no" / "folder" / name))
    assert missing.exit_code == 1
    assert missing.stderr.startswith("the run failed: ")


def test_a_shorter_animation(result: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.gif"
    assert sandbox("animate", str(result), "--out", str(path), "--frames", "2", "--fps", "5").exit_code == 0
    assert path.stat().st_size < (result / "animation.gif").stat().st_size
    assert sandbox("animate", str(result), "--frames", "1").exit_code == 2


def test_the_list_has_every_scenario_with_its_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HOUSE)
    lines = sandbox("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == SHIPPED
    assert all(line.endswith("?") for line in lines)


def test_the_schema_is_json_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = json.loads(sandbox("schema").stdout)
    assert schema["title"] == "Scenario"
    assert {"question", "parameters", "loss", "strata", "populations", "steps"} <= set(schema["required"])


def test_the_doctor_finds_the_draws_right() -> None:
    said = sandbox("doctor")
    assert said.exit_code == 0
    assert "draws: as published" in said.stdout
    assert f"sandbox {__version__}" in said.stdout
    assert "kernel cache: " in said.stdout


@pytest.fixture
def tiny_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PARTICLES", 512), ("STEPS", 2), ("FACTOR", 1)):
        monkeypatch.setattr(bench, name, value)


def test_the_bench_prints_times_and_ratios(tiny_bench: None) -> None:
    said = sandbox("bench", "--repeats", "1")
    assert said.exit_code == 0, said.stderr
    rows = re.findall(r"^  (\S.*?)\s+(\d+\.\d\d)\s+(\d+\.\d)$", said.stdout, re.MULTILINE)
    assert [name for name, _, _ in rows].count("sandbox") == 2
    assert [name for name, _, _ in rows].count("NumPy, vectorised") == 2
    assert [name for name, _, _ in rows].count("Numba, prange and np.random") == 2
    assert all(float(ratio) == 1 for name, _, ratio in rows if name == "sandbox")
    assert all(float(time) > 0 for _, time, _ in rows)


def test_a_missing_peer_is_named(tiny_bench: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    said = sandbox("bench", "--peers")
    assert said.exit_code == 2
    assert said.stderr == "--peers needs JAX: pip install 'sandbox-slt[peers]'\n"


def test_python_m_sandbox_is_sandbox() -> None:
    done = process("--version", cwd=HOUSE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sandbox, version {__version__}\n", "")


def test_warnings_are_lines_on_stderr(wells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel cache that cannot be written costs a line, never the run."""
    monkeypatch.setenv("SANDBOX_CACHE", str(wells / "cache"))
    script = "from sandbox.cli import main; main(['check', 'wells.yaml'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith(f"warning: the kernel cache {wells / 'cache'} cannot be used")
    assert done.stderr.count("\n") == 1
