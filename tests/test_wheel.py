"""The wheel: it holds all that a user needs and nothing else, and works in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the unpacked wheel, built without network."""
    pytest.importorskip("hatchling", reason="hatchling, the build backend, is in the extra `dev`")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    zipfile.ZipFile(file).extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_holds_the_package_the_scenarios_and_the_glossary_alone(wheel: Path) -> None:
    found = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    assert {path.split("/")[0] for path in found} == {"sandbox", *(path.name for path in wheel.glob("*.dist-info"))}
    package = {p.relative_to(ROOT).as_posix() for p in (ROOT / "sandbox").rglob("*") if p.suffix in (".py", ".typed")}
    scenarios = {f"sandbox/scenario/shipped/{path.name}" for path in (ROOT / "scenarios").iterdir()}
    assert {path for path in found if path.startswith("sandbox/")} == package | scenarios | {
        "sandbox/comparison/glossary.md"
    }


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(wheel)}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    assert said("-c", "import sandbox; print(sandbox.__file__)") == f"{wheel / 'sandbox' / '__init__.py'}\n"
    listed = [line.split()[0] for line in said("-m", "sandbox", "list").splitlines()]
    assert listed == sorted(path.stem for path in (ROOT / "scenarios").iterdir())
    assert "λ = 1/2, m = 2" in said("-m", "sandbox", "check", "crossing")
    assert said("-c", "import sandbox; print(sandbox.load('crossing').name)") == "crossing\n"
