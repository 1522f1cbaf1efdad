"""The command line: the output of each command, on stdout and stderr, and the files it writes."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from support.record_table import check_documented
from support.small_runs import WELLS, process, sandbox

from sandbox import __version__
from sandbox.commands import bench
from sandbox.commands.cli import main
from sandbox.comparison.page import markdown
from sandbox.comparison.record import open_result
from sandbox.comparison.references import coefficients
from sandbox.comparison.verdict import MEANING
from sandbox.model.coverage import coverage
from sandbox.scenario.scenario import load

HOUSE = Path(__file__).parents[2]
SHIPPED = sorted(path.stem for path in (HOUSE / "scenarios").glob("*.yaml"))
OUTPUTS = {"run.zarr", "answer.json", "answer.md", "simplicity.png", "figure.png", "animation.gif"}
COST = (
    r"  cost        \d+ populations x [\d,]+ particles x [\d,]+ steps, \d+ threads",
    r" {14}(no populations|\w+ about [\d.]+ s(, \w+ about [\d.]+ s)*)(; not counted: .+)?",
    r" {14}about [\d,]+ MiB for positions and record, at most [\d.]+ MiB on disk",
)
PROGRESS = re.compile(
    "|".join([r".+: (started|done in \d+\.\d s|\d+% done, about \d+ s left)", "written to .+", *COST])
)


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


def named(text: str) -> set[str]:
    """Return the commands that a page of documentation names, in code or in a line of a shell."""
    return set(re.findall(r"(?:^    |`)sandbox ([a-z]+)", text, re.MULTILINE))


def test_the_pages_name_commands_that_there_are_and_readme_the_daily_ones() -> None:
    pages = [HOUSE / "README.md", *(HOUSE / "docs").glob("*.md")]
    for page in pages:
        assert named(page.read_text(encoding="utf-8")) <= set(main.commands), page
    daily = {"list", "check", "run", "answer", "verify", "gallery", "rlct", "schema"}
    assert named(pages[0].read_text(encoding="utf-8")) >= daily
    # A command that is gone is noticed.
    assert not named("    sandbox seal results") <= set(main.commands)


def test_version() -> None:
    assert sandbox("--version").stdout == f"sandbox, version {__version__}\n"


HELP = """
import sys
from sandbox.commands.cli import main
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


# One with measurements, one with populations.
@pytest.mark.parametrize("name", ["llc", "uneven_crossing"])
def test_check_says_what_was_derived(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HOUSE)
    said = sandbox("check", name)
    assert said.exit_code == 0, said.stderr
    assert said.stderr == ""
    assert "λ = " in said.stdout
    assert "λ unknown" not in said.stdout
    assert "warning" not in said.stdout
    limit = r"(edge [\d.]+|no edge: .+)( \(of a substep\))?"
    for population in load(name).populations:
        assert re.search(rf"^    {population.name} .*; {limit}$", said.stdout, re.MULTILINE)
    assert re.search("^" + "\n".join(COST) + "$", said.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_strata_of_every_shipped_scenario_cover_its_zero_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of random points that descend onto W0, at least 99% land in a tube; λ and m are known for every stratum."""
    monkeypatch.chdir(HOUSE)
    scenario = load(name)
    found = coverage(scenario.problem.population_loss, scenario.problem.prior, scenario.problem.zero_set)
    # If most points end in local minima, a few hundred points are a weak check.
    if found.landed < 20:
        found = coverage(
            scenario.problem.population_loss, scenario.problem.prior, scenario.problem.zero_set, count=2048
        )
    assert found.landed >= 20
    assert len(found.missed) <= 0.01 * found.landed
    assert None not in coefficients(scenario)


# The crossing is the main job below.
@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "crossing"])
def test_every_shipped_scenario_runs_quickly(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HOUSE)
    said = sandbox("run", name, "--quick", "--out", str(tmp_path / name))
    assert said.exit_code == 0, said.stderr
    loaded = load(name)
    expected = {"run.zarr", "answer.json", "answer.md"}
    expected |= {"simplicity.png", "figure.png", "animation.gif"} if loaded.populations else set()
    expected |= {"measurements.png"} if loaded.measurements else set()
    assert {path.name for path in (tmp_path / name).iterdir()} == expected
    assert said.stdout.startswith(f"# {name}\n")
    check_documented(open_result(tmp_path / name))
    assert all(PROGRESS.fullmatch(line) for line in said.stderr.splitlines()), said.stderr


def test_the_main_job_end_to_end(tmp_path: Path) -> None:
    """The answer is alone on stdout and progress alone on stderr; all files are written, as for a new user."""
    folder = tmp_path / "out" / "crossing"
    done = process("run", "scenarios/crossing.yaml", "--quick", "--out", str(folder), cwd=HOUSE)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == OUTPUTS
    assert all(PROGRESS.fullmatch(line) for line in done.stderr.splitlines()), done.stderr
    found = json.loads((folder / "answer.json").read_text())
    # A terminal shows the page without its links.
    assert done.stdout == markdown(found, glossary=None) + "\n"
    assert (folder / "answer.md").read_text(encoding="utf-8") == markdown(found)
    for population in found["populations"].values():
        assert (population["particles"], population["steps"]) == (512, 2000)
        assert {row["verdict"] for row in population["against"].values()} <= set(MEANING)
    check_documented(xr.open_datatree(folder / "run.zarr"))


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
    assert page.stdout == markdown(json.loads((result / "answer.json").read_text()), glossary=None) + "\n"
    lines = sandbox("answer", "--json", str(result), str(result / "run.zarr"))
    assert [json.loads(line) for line in lines.stdout.splitlines()] == [
        json.loads((result / "answer.json").read_text())
    ] * 2


@pytest.mark.parametrize(("command", "name"), [("figure", "figure.png"), ("animate", "animation.gif")])
def test_pictures_are_drawn_again(result: Path, tmp_path: Path, command: str, name: str) -> None:
    drawn = (result / name).read_bytes()
    (result / name).unlink()
    said = sandbox(command, str(result / "run.zarr"))
    assert (said.exit_code, said.stdout, said.stderr) == (0, "", "")
    assert {path.name for path in result.iterdir()} == OUTPUTS
    assert (result / name).read_bytes() == drawn
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


def test_the_list_has_the_scenarios_of_this_folder_too(wells: Path) -> None:
    Path("scenarios").mkdir()
    wells.rename("scenarios/wells.yaml")
    Path("scenarios/line.yaml").write_text("question: Mine?")
    listed = dict(line.split(maxsplit=1) for line in sandbox("list").stdout.splitlines())
    assert set(listed) == {*SHIPPED, "wells"}
    assert (listed["wells"], listed["line"]) == ("Which well?", "Mine?")


def test_a_reader_that_has_enough_ends_the_command_in_silence() -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=HOUSE
    )
    command.stdout.close()  # type: ignore[union-attr]
    assert command.stderr.read() == b""  # type: ignore[union-attr]
    command.wait()
    command.stderr.close()  # type: ignore[union-attr]


def test_the_schema_is_json_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = json.loads(sandbox("schema").stdout)
    assert schema["title"] == "Scenario"
    assert {"question", "parameters", "loss"} <= set(schema["required"])
    assert not {"strata", "verdict"} & set(schema["required"])
    assert schema["if"] == {"required": ["populations"]}
    assert schema["then"] == {"required": ["steps"]}


def test_the_doctor_finds_the_draws_right() -> None:
    said = sandbox("doctor")
    assert said.exit_code == 0
    assert "random numbers: as published" in said.stdout
    assert f"sandbox {__version__}" in said.stdout
    assert "kernel cache: " in said.stdout


@pytest.fixture
def tiny_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PARTICLES", 512), ("NET_PARTICLES", 512), ("STEPS", 2), ("FACTOR", 1)):
        monkeypatch.setattr(bench, name, value)


def test_the_bench_prints_times_and_ratios(tiny_bench: None) -> None:
    said = sandbox("bench", "--repeats", "1")
    assert said.exit_code == 0, said.stderr
    rows = re.findall(r"^  (\S.*?)\s+(\d+\.\d\d)\s+(\d+\.\d)$", said.stdout, re.MULTILINE)
    assert [name for name, _, _ in rows].count("sandbox") == 3
    assert [name for name, _, _ in rows].count("NumPy, vectorised") == 3
    assert [name for name, _, _ in rows].count("Numba, prange and np.random") == 3
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


WARNING = """
import warnings
from sandbox.scenario import files
from sandbox.commands.cli import main
files.available = lambda: warnings.warn("the cache is cold") or {}
main(["list"])
"""


def test_warnings_are_lines_on_stderr() -> None:
    done = subprocess.run([sys.executable, "-c", WARNING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "warning: the cache is cold\n")
