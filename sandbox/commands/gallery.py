"""All available scenarios in one go: run those without a finished result, then write the page of all answers.

They run one after another: a run shares the processors among its threads.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sandbox.commands.run import lighter, run
from sandbox.comparison.atlas import DIFFERENT, GROUPS, LEGEND, MEASURED, Row, group_of, overall, rows_of, table
from sandbox.comparison.glossary import WORDS
from sandbox.comparison.record import CONVENTIONS, verified
from sandbox.scenario.files import STORE, attributes, available, text_of
from sandbox.scenario.scenario import Scenario, load
from sandbox.tools.errors import InputError, RunError, nearest
from sandbox.tools.progress import Progress, Silent
from sandbox.tools.whole import write_whole

PICTURES = {
    "animation.gif": ".gif",
    "figure.png": ".png",
    "measurements.png": ".measured.png",
}
"""The pictures of a result, and how their copies in the gallery end."""


@dataclass(frozen=True)
class Result:
    """The finished result of a scenario."""

    scenario: Scenario
    folder: Path

    @cached_property
    def answer(self) -> dict[str, Any]:
        """The content of answer.json. Raises InputError if that is damaged."""
        path = self.folder / "answer.json"
        try:
            found: dict[str, Any] = json.loads(text_of(path))
        except ValueError as error:
            again = f"`sandbox gallery --force --only {self.scenario.name}` writes it again"
            raise InputError(f"{path} is damaged ({error}); {again}") from None
        return found

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return len(self.scenario.problem.prior.names)

    @property
    def group(self) -> str:
        """The group of the atlas."""
        return group_of(self.answer, self.parameters)

    @property
    def rows(self) -> list[Row]:
        """The rows of the atlas."""
        return rows_of(self.scenario.name, self.answer, self.parameters)

    @property
    def moves(self) -> bool:
        """Whether the page shows the animation.

        There particles must be able to go to simpler strata, the plane must be the whole picture, and the populations
        must be few enough to be told apart.
        """
        return self.group == DIFFERENT and self.parameters <= 2 and len(self.scenario.populations) <= 2


def gallery(
    *,
    only: Collection[str] = (),
    quick: bool = False,
    out: Path = Path("results"),
    force: bool = False,
    answers_only: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Run the available scenarios that have no finished result in `out`; write its README.md, atlas and gallery.

    A result is finished if this version has written it for the present text of the scenario, seed included; `force`
    runs it again. `only` names the scenarios to run, `answers_only` runs none; the page has every finished result.
    Return the names of those that ran. Raises InputError for an unknown name; RunError at the end if a scenario failed.
    """
    known = available()
    for name in only:
        if name not in known:
            raise InputError(f"--only: no scenario '{name}'{nearest(name, known)}; allowed: {', '.join(known)}")
    progress = progress or Silent()
    results, ran, failed = [], [], {}
    for name, path in known.items():
        try:
            scenario = load(path)
            wanted = not answers_only and name in (only or known)
            there = not (wanted and force) and finished(out / name, scenario, quick=quick)
            if wanted and not there:
                named = _Named(progress, name)
                run(scenario, quick=quick, out=out / name, force=True, threads=threads, progress=named)
                ran.append(name)
                there = True
        # One scenario must not end the work of half an hour on the others; every failure is told below.
        except Exception as error:
            failed[name] = _told(error)
            continue
        if there:
            results.append(Result(scenario, out / name))
    missing = [name for name in known if name not in {result.scenario.name for result in results}]
    write_page(sorted(results, key=lambda result: [*GROUPS].index(result.group)), missing, out, quick=quick)
    if failed:
        told = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise RunError(f"{len(failed)} of {len(known)} scenarios failed: {told}")
    return ran


def finished(folder: Path, scenario: Scenario, *, quick: bool = False) -> bool:
    """Return whether a folder holds a result of this very scenario, written by this version.

    Raises InputError if its record is damaged.
    """
    if not (folder / STORE).is_dir():
        return False
    asked = scenario.changed(*lighter(scenario)) if quick else scenario
    expected = {
        "scenario": asked.text,
        "seed": str(asked.problem.seed),
        "Conventions": CONVENTIONS,
        "sandbox_version": version("sandbox-slt"),
    }
    return expected.items() <= attributes(folder / STORE).items() and bool(verified(folder / STORE))


def _told(error: Exception) -> str:
    """Return an error's message; print where it arose if it is no error of the package or of the system."""
    if isinstance(error, InputError | RunError | OSError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class _Named:
    """A progress that puts the scenario's name before each label."""

    progress: Progress
    name: str

    def start(self, label: str, total: float) -> None:
        self.progress.start(f"{self.name}: {label}", total)

    def advance(self, amount: float) -> None:
        self.progress.advance(amount)

    def close(self) -> None:
        self.progress.close()


def write_page(results: list[Result], missing: list[str], out: Path, *, quick: bool = False) -> None:
    """Write the page of results, their atlas and their pictures to a folder; `missing` are named on the page."""
    from sandbox.pictures.atlas import save_atlas

    (out / "gallery").mkdir(parents=True, exist_ok=True)
    rows = [row for result in results for row in result.rows]
    if rows:
        save_atlas(rows, out / "atlas.png")
    lines = ["# Answers", "", f"Written by `sandbox gallery{' --quick' * quick}` from `answer.json` of each result."]
    lines += ["", f"No finished result: {', '.join(missing)}."] * bool(missing)
    lines += ["", "## Does SGD reach simple solutions?", "", overall(rows)]
    if rows:
        lines += ["", "![The preference of every population](atlas.png)", "", LEGEND]
    for group, (title, theory) in GROUPS.items():
        inside = [result for result in results if result.group == group]
        if inside:
            lines += ["", f"### {title}", "", theory, "", _table(inside)]
    words: set[str] = set()
    for result in results:
        # The pages share one list of words: their links lead to it as they stand.
        page, _, defined = (result.folder / "answer.md").read_text(encoding="utf-8").partition(WORDS)
        words |= {line for line in defined.splitlines() if line}
        lines += ["", re.sub("^#", "##", page, flags=re.MULTILINE).strip()]
        lines += [line for file in _copied(result, out) for line in ("", f"![{result.scenario.name}]({file})")]
    lines += ["", WORDS, "", *sorted(words)] if words else []
    write_whole(out / "README.md", ("\n".join(lines) + "\n").encode())


def _table(inside: list[Result]) -> str:
    if inside[0].group != MEASURED:
        return table(row for result in inside for row in result.rows)
    rows = [
        f"| [{result.scenario.name}](#{result.scenario.name}) | {name} | {found['summary']} |"
        for result in inside
        for name, found in result.answer["measurements"].items()
    ]
    return "\n".join(["| scenario | measurement | result |", "| --- | --- | --- |", *rows])


def _copied(result: Result, out: Path) -> list[str]:
    """Copy the pictures of a result into the gallery; return their paths on the page."""
    found = []
    for file, suffix in PICTURES.items():
        source, target = result.folder / file, out / "gallery" / f"{result.scenario.name}{suffix}"
        if source.is_file() and (result.moves or file != "animation.gif"):
            write_whole(target, source.read_bytes())
            found.append(f"gallery/{target.name}")
        else:
            target.unlink(missing_ok=True)
    return found
