"""A command that is told to end does so within two seconds, by itself or by force, and leaves nothing unfinished."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sandbox.tools.ending import GRACE, INTERRUPTED, Told, ending_when_told

PROGRAM = """
import hashlib, signal, sys, time
from pathlib import Path
from sandbox.tools.ending import Told, ending_when_told
from sandbox.tools.whole import folder_beside

def begun():
    print("begun", flush=True)

def swallowed():
    try:
        begun()
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(60)

works = {
    "python": lambda: [begun(), time.sleep(60)],
    # For a minute the main thread runs no instruction of Python's, so no handler is called.
    "compiled code": lambda: [begun(), hashlib.pbkdf2_hmac("sha256", b"", b"", 80_000_000)],
    "swallowed": swallowed,
}
work, target, ctrl_c = sys.argv[1:]
signal.signal(signal.SIGINT, signal.SIG_IGN if ctrl_c == "ignored" else signal.default_int_handler)
try:
    with ending_when_told(), folder_beside(Path(target), lambda _: True) as part:
        (part / "half").write_text("half")
        works[work]()
except Told as told:
    sys.exit(told.code)
"""


def begun(work: str, target: Path, ctrl_c: str = "heard") -> subprocess.Popen[bytes]:
    """Return a process in the midst of some work."""
    command = [sys.executable, "-c", PROGRAM, work, str(target), ctrl_c]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("work", ["python", "compiled code", "swallowed"])
def test_a_command_ends_when_it_is_told(tmp_path: Path, work: str, number: signal.Signals) -> None:
    process = begun(work, tmp_path / "a")
    assert len(list(tmp_path.iterdir())) == 1
    told = time.monotonic()
    process.send_signal(number)
    # Impatience must not break off the end.
    time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    took = time.monotonic() - told
    assert process.returncode == 128 + number
    # On an idle machine it takes no second after the first; all work takes a minute.
    assert took < GRACE + 5
    if work == "swallowed":
        assert took > GRACE
        assert said.decode() == INTERRUPTED + "\n"
    assert list(tmp_path.iterdir()) == []


def test_a_command_in_the_background_hears_no_ctrl_c(tmp_path: Path) -> None:
    process = begun("python", tmp_path / "a", "ignored")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(GRACE + 1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143


def state() -> tuple[object, ...]:
    """Return all that a command changes in its process."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return *handlers, wakeup


def test_after_a_command_its_process_is_as_before() -> None:
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        before, threads = state(), threading.active_count()
        with ending_when_told():
            assert state() != before
            assert threading.active_count() == threads + 1
        assert state() == before
        end = time.monotonic() + 10
        while threading.active_count() > threads and time.monotonic() < end:
            time.sleep(0.01)
        assert threading.active_count() == threads
    finally:
        signal.signal(signal.SIGINT, usual)


def test_a_thread_of_a_caller_hears_no_signals() -> None:
    """Python calls handlers in the main thread only."""
    handlers = [signal.getsignal(signal.SIGTERM)]

    def work() -> None:
        with ending_when_told():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == handlers[:1] * 2


def test_the_code_is_that_of_the_shell() -> None:
    done = subprocess.run(["sh", "-c", "kill -TERM $$"], check=False)
    assert Told(signal.SIGTERM).code == 143 == 128 - done.returncode
