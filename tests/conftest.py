"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

# There are as many test processes as processors: OpenBLAS's own threads would only wait for a processor. It reads this
# when NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from support.small_runs import WELLS


@pytest.fixture
def wells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a small scenario, the only file in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "wells.yaml"
    path.write_text(WELLS)
    return path
