"""A command's process: its settings take effect, leave users their choice, and no library call makes them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="pages are kept by the GNU C library only")

_COMMAND = "from sandbox.tools.process import set_up; set_up()"
_LIBRARY = "import sandbox"


def said(first: str, then: str, **environment: str) -> str:
    """Return the output of a fresh process: `first`, then NumPy, then the rest."""
    known = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, "-c", f"{first}\nimport os\nimport numpy as np\n{then}"]
    return subprocess.run(command, env={**known, **environment}, check=True, capture_output=True, text=True).stdout


def fresh_pages(first: str) -> int:
    """Return the number of pages that the system fills anew while a hundred arrays of 2 MB are made and freed."""
    then = """import resource
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    np.zeros(2**18) + np.ones(2**18)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"""
    return int(said(first, then))


def test_arrays_of_a_command_use_the_same_pages_again() -> None:
    """Three arrays of 512 pages, a hundred times: 153,600 pages if each is fresh, as for a caller of the library."""
    assert fresh_pages(_COMMAND) < min(10_000, fresh_pages(_LIBRARY) / 5)


def test_linear_algebra_of_a_command_stays_in_the_thread_that_asks() -> None:
    then = "np.ones((500, 500)) @ np.ones((500, 500)); print(len(os.listdir('/proc/self/task')))"
    assert said(_COMMAND, then) == "1\n"


def test_a_user_may_choose_other_threads() -> None:
    assert said(_COMMAND, "print(os.environ['OPENBLAS_NUM_THREADS'])", OPENBLAS_NUM_THREADS="2") == "2\n"


def test_a_library_leaves_its_callers_settings() -> None:
    then = "import gc; print(gc.get_threshold()[0] == before, 'OPENBLAS_NUM_THREADS' in os.environ)"
    assert said(f"import gc; before = gc.get_threshold()[0]; {_LIBRARY}; sandbox.run", then) == "True False\n"
