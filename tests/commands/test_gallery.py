"""`sandbox gallery`: what is finished is not run again, failures are named at the end, the page is made of answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.made_up_answers import answered
from support.small_runs import WELLS, sandbox

from sandbox.commands import gallery as gallery_job
from sandbox.commands.gallery import PICTURES, gallery
from sandbox.comparison.atlas import rows_of, table
from sandbox.comparison.glossary import WORDS
from sandbox.comparison.record import CONVENTIONS
from sandbox.scenario import files
from sandbox.scenario.files import STORE
from sandbox.scenario.scenario import Scenario, load
from sandbox.tools.errors import RunError
from sandbox.tools.seal import SEAL, sealing

HOUSE = Path(__file__).parents[2]
SIZES = {
    "one": WELLS,
    "two": WELLS.replace("seed: 1", "seed: 2"),
    "three": WELLS.replace("particles: 300", "particles: 200"),
}


@pytest.fixture
def scenarios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put three small scenarios in a folder, the only ones, and go to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "SHIPPED", tmp_path / "scenarios")
    (tmp_path / "scenarios").mkdir()
    for name, text in SIZES.items():
        (tmp_path / "scenarios" / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def asked(scenarios: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace each run by one that writes a made-up answer; return the list of the names that were run."""
    names: list[str] = []

    def made_up(scenario: Scenario, *, out: Path, **_: Any) -> None:
        names.append(scenario.name)
        if scenario.name == BROKEN["name"]:
            raise BROKEN["error"]
        write(scenario, out)

    BROKEN.update(name="", error=RunError("the posterior is empty"))
    monkeypatch.setattr(gallery_job, "run", made_up)
    return names


BROKEN: dict[str, Any] = {}
MADE_UP = '- <a id="well"></a>**well**: A minimum.'


def record(folder: Path, content: Any) -> None:
    """Write a made-up record and seal it."""
    files = {"zarr.json": json.dumps(content).encode()}
    for name, data in {**files, SEAL: sealing(files)}.items():
        (folder / STORE / name).write_bytes(data)


def write(scenario: Scenario, folder: Path) -> None:
    """Write a result with a made-up answer and pictures."""
    (folder / STORE).mkdir(parents=True, exist_ok=True)
    attributes = {
        "scenario": scenario.text,
        "scenario_file": scenario.filename,
        "seed": str(scenario.problem.seed),
        "Conventions": CONVENTIONS,
        "sandbox_version": gallery_job.version("sandbox-slt"),
    }
    record(folder, {"attributes": attributes})
    strata = {"flat": (0.25, 1), "sharp": (0.5, 1)}
    (folder / "answer.json").write_text(json.dumps(answered({"sgd": ("more singular", "sharper")}, strata)))
    (folder / "answer.md").write_text(
        f"# {scenario.name}\n\nWhich well?\n\n## Shares\n\nNone.\n\n{WORDS}\n\n{MADE_UP}\n"
    )
    for file in PICTURES:
        (folder / file).write_bytes(file.encode())


def test_what_is_finished_is_not_run_again(asked: list[str]) -> None:
    assert gallery() == asked == ["one", "three", "two"]
    page = Path("results/README.md").read_bytes()
    assert gallery() == []
    assert Path("results/README.md").read_bytes() == page
    assert gallery(force=True, only=["two"]) == ["two"]


def age(attribute: str, value: str) -> Any:
    def damage() -> None:
        content = json.loads(Path("results/one", STORE, "zarr.json").read_text())
        content["attributes"][attribute] = value
        record(Path("results/one"), content)

    return damage


STALE = {
    "scenario": lambda: Path("scenarios/one.yaml").write_text(WELLS + "# a remark\n"),
    "seed": lambda: Path("scenarios/one.yaml").write_text(WELLS.replace("seed: 1", "seed: 7")),
    "version": age("sandbox_version", "0.0.1"),
    "conventions": age("Conventions", "sandbox-1"),
    "gone": lambda: Path("results/one", STORE, "zarr.json").parent.rename("elsewhere"),
}


@pytest.mark.parametrize("change", STALE.values(), ids=STALE)
def test_a_result_of_another_text_version_or_seed_is_not_finished(change: Any, asked: list[str]) -> None:
    gallery()
    change()
    asked.clear()
    assert gallery(answers_only=True) == asked == []
    page = Path("results/README.md").read_text()
    assert "No finished result: one." in page
    assert "[one](#one)" not in page
    assert gallery() == ["one"]
    assert "No finished result" not in Path("results/README.md").read_text()


@pytest.mark.parametrize(
    "error", [RunError("the posterior is empty"), OSError("no space"), ZeroDivisionError("division by zero")]
)
def test_a_failed_scenario_is_named_at_the_end_and_the_others_go_on(error: Exception, asked: list[str]) -> None:
    BROKEN.update(name="one", error=error)
    said = sandbox("gallery")
    assert said.exit_code == 1
    assert asked == ["one", "three", "two"]
    last = said.stderr.splitlines()[-1]
    assert last.startswith("the run failed: 1 of 3 scenarios failed: one: ")
    assert last.endswith(str(error))
    # An error that nobody foresaw shows where it arose.
    assert ("Traceback" in said.stderr) == isinstance(error, ZeroDivisionError)
    page = Path("results/README.md").read_text()
    assert "No finished result: one." in page
    assert "[two](#two)" in page
    BROKEN.update(name="")
    assert sandbox("gallery").exit_code == 0
    assert asked[3:] == ["one"]


def test_a_damaged_result_is_named_until_it_is_forced(asked: list[str]) -> None:
    gallery()
    path = Path("results/one", STORE, "zarr.json")
    path.write_text(path.read_text() + " ")
    said = sandbox("gallery")
    assert said.exit_code == 1
    assert "1 of 3 scenarios failed: one: results/one/run.zarr is damaged: zarr.json is not as it was" in said.stderr
    assert "[two](#two)" in Path("results/README.md").read_text()
    assert gallery(force=True, only=["one"]) == ["one"]
    Path("results/one/answer.json").write_text("{")
    said = sandbox("gallery")
    assert said.exit_code == 2
    assert said.stderr.startswith("results/one/answer.json is damaged (")
    assert said.stderr.endswith("; `sandbox gallery --force --only one` writes it again\n")


def test_a_wrong_scenario_stops_no_other(asked: list[str]) -> None:
    Path("scenarios/two.yaml").write_text("question: Is it whole?\n")
    said = sandbox("gallery")
    assert said.exit_code == 1
    assert "two: " in said.stderr.splitlines()[-1] or "two.yaml" in said.stderr
    assert asked == ["one", "three"]


def test_an_unknown_name_is_wrong_input(asked: list[str]) -> None:
    said = sandbox("gallery", "--only", "tree")
    assert said.exit_code == 2
    assert said.stderr == "--only: no scenario 'tree' (did you mean 'three'?); allowed: one, three, two\n"
    assert asked == []


def test_the_page_is_made_of_the_answers(asked: list[str]) -> None:
    """Rows, sections and pictures; another answer changes the page."""
    sandbox("gallery")
    page = Path("results/README.md").read_text()
    rows = [row for name in ("one", "three", "two") for row in rows_of(name, answer_of(name), 1)]
    assert table(rows) in page
    headings = re.findall(r"^(#+ .*)$", page, re.MULTILINE)
    assert [heading for heading in headings if heading.startswith("## ")][1:] == [
        "## one", "## three", "## two", "## Words",
    ]  # fmt: skip
    assert headings.count("### Shares") == 3
    # The words of all answers are defined once.
    assert page.count(MADE_UP) == headings.count(WORDS) == 1
    linked = re.findall(r"\]\(([^)#]+)\)", page)
    assert linked
    assert all(Path("results", path).is_file() for path in linked)
    assert {path.name for path in Path("results/gallery").iterdir()} == {
        f"{name}{suffix}" for name in SIZES for suffix in PICTURES.values()
    }
    changed = answer_of("one")
    changed["populations"]["sgd"]["against"]["level_set"]["verdict"] = "flatter"
    Path("results/one/answer.json").write_text(json.dumps(changed))
    sandbox("gallery", "--answers-only")
    assert table(rows_of("one", changed, 1)).splitlines()[2] in Path("results/README.md").read_text()
    assert asked == ["one", "three", "two"]


def answer_of(name: str) -> Any:
    return json.loads(Path(f"results/{name}/answer.json").read_text())


def test_a_picture_that_a_result_lost_leaves_the_gallery(asked: list[str]) -> None:
    gallery()
    Path("results/one/measurements.png").unlink()
    gallery()
    assert not Path("results/gallery/one.measured.png").exists()
    assert Path("results/gallery/two.measured.png").exists()


def test_the_animations_on_the_page_show_planes_on_which_strata_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule of the gallery, for shipped scenarios: README.md shows the crossing's."""
    monkeypatch.chdir(HOUSE)

    def moves(name: str, strata: Any) -> bool:
        answer = answered({"sgd": ("flatter", "flatter")}, strata)
        result = gallery_job.Result(load(name), Path())
        vars(result)["answer"] = answer
        return result.moves

    different, equal = {"a": (0.5, 1), "b": (0.5, 2)}, {"a": (0.5, 1)}
    assert moves("crossing", different)
    assert not moves("line", equal)
    assert not moves("uneven_crossing", different)
    assert not moves("relu_two_neurons_one", different)


def test_the_makefile_names_no_scenario() -> None:
    words = set(re.findall(r"\w+", re.sub("#.*|scenarios/crossing.yaml", "", (HOUSE / "Makefile").read_text())))
    assert not words & {path.stem for path in (HOUSE / "scenarios").glob("*.yaml")}


RERUN = ("crossing", "line", "parabola")
"""One scenario of each group."""


def shown(page: str) -> dict[tuple[str, str], list[str]]:
    """Return the cells of the atlas's rows of a page, by scenario and population."""
    found = re.findall(r"^\| \[(\w+)\]\(#\1\) \| \**(\w+?)\** \| (.*) \|$", page, re.MULTILINE)
    return {(scenario, population): rest.split(" | ") for scenario, population, rest in found}


def test_three_rows_run_again_say_what_their_records_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped page has the same rows. A second call runs nothing.

    The table is read from answer.json; here each answer is made anew from the record.
    """
    monkeypatch.chdir(HOUSE)
    shipped = shown(Path("results/README.md").read_text())
    command = ["gallery", "--out", str(tmp_path), *(word for name in RERUN for word in ("--only", name))]
    said = sandbox(*command)
    assert said.exit_code == 0, said.stderr
    assert said.stderr.splitlines()[-1] == f"3 scenarios run; written to {tmp_path / 'README.md'}"
    table_of = shown((tmp_path / "README.md").read_text())
    answers = {name: json.loads(sandbox("answer", "--json", str(tmp_path / name)).stdout) for name in RERUN}
    populations = {(name, p): found for name in RERUN for p, found in answers[name]["populations"].items()}
    assert table_of.keys() == populations.keys()
    for key, found in populations.items():
        level_set, posterior, agrees, law = table_of[key]
        for cell, reference in ((level_set, "level_set"), (posterior, "posterior")):
            verdict, _, numbers = cell.partition(": ")
            assert verdict == found["against"][reference]["verdict"]
            written = [float(number) for number in re.findall(r"[+-][\d.]+", numbers)]
            preference = found["against"][reference]["preference"]
            assert written == pytest.approx([preference[b] for b in ("estimate", "low", "high")], abs=0.00501)
            words, _, published = shipped[key][reference != "level_set"].partition(": ")
            assert words == verdict
            # Another processor may round otherwise, and a particle end elsewhere.
            assert [float(number) for number in re.findall(r"[+-][\d.]+", published)] == pytest.approx(
                written, abs=0.03
            )
        assert agrees.startswith("yes" if found["agreement"]["low"] <= 0 else "no: ")
        assert law == shipped[key][3] == (found["law"]["name"] if found["law"] else "-")
    again = sandbox(*command)
    assert again.stderr == f"0 scenarios run; written to {tmp_path / 'README.md'}\n"
