"""Runs of the command line in forked processes, perhaps as number 1 of a PID namespace, as in a container.

`python forked_runs.py` imports all that a run needs once, and then forks a process for each line of stdin: a place, and
the arguments of the command. It answers with the process's number, and with its exit code when it has ended.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

NEW_USER, NEW_PID = 0x10000000, 0x20000000
"""Flags of Linux's unshare."""


def forked(place: str, arguments: list[str]) -> int:
    """Run a command in a fork, print its number, and return its exit code."""
    number = os.fork()
    if number == 0 and place == "container":
        # The children of this process are in the new namespace; their numbers are those outside.
        if ctypes.CDLL(None, use_errno=True).unshare(NEW_USER | NEW_PID):
            os._exit(99)
        number = os.fork()
        if number:
            print(number, flush=True)
            code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
            os._exit(128 - code if code < 0 else code)
        assert os.getpid() == 1
    if number == 0:
        from sandbox.commands.cli import main

        main(arguments)
    if place != "container":
        print(number, flush=True)
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    return 128 - code if code < 0 else code


def serve(scenarios: list[str]) -> None:
    """Run each scenario twice, print the second run's seconds, and those of a processor; then fork runs."""
    from sandbox.commands.cli import main

    for scenario in scenarios:
        command = ["run", scenario, "--out", str(Path(scenario).with_suffix("")), "--force"]
        main(command, standalone_mode=False)
        wall, processor = time.monotonic(), time.process_time()
        main(command, standalone_mode=False)
        print("took", time.monotonic() - wall, time.process_time() - processor, flush=True)
    while line := sys.stdin.readline():
        place, *arguments = line.split()
        print(forked(place, arguments), flush=True)


@dataclass
class Ended:
    """The end of a run: its exit code as a shell gives it, and the seconds from the signal to the end."""

    number: int
    code: int
    took: float


class Runs:
    """A server of runs of some scenarios, whose results stand beside them.

    `duration` is the time of a run; it is `slowness` times that of a processor, if the machine does other things too.
    """

    def __init__(self, scenarios: list[Path]):
        command = [sys.executable, __file__, *map(str, scenarios)]
        self._log = scenarios[0].with_suffix(".log")
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.duration, self.slowness = {}, 1.0
        while len(self.duration) < len(scenarios):
            line = self._line()
            assert line, self.said()
            if line.startswith("took "):
                wall, processor = map(float, line.split()[1:])
                self.duration[scenarios[len(self.duration)]] = wall
                self.slowness = max(self.slowness, wall / processor)

    def _line(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline()

    def said(self) -> str:
        """Return all that the runs have said on stderr."""
        return self._log.read_text()

    def ended(self, place: str, arguments: list[str], moment: float, signal_: signal.Signals) -> Ended:
        """Run a command, send it a signal after so many seconds, and wait for its end."""
        assert self._server.stdin is not None
        self._server.stdin.write(" ".join([place, *arguments]) + "\n")
        self._server.stdin.flush()
        number = int(self._line())
        ready, _, _ = select.select([self._server.stdout], [], [], moment)
        if not ready:
            os.kill(number, signal_)
        sent = time.monotonic()
        # The answer of a run that has come to its end stands before the code.
        while not (line := self._line()).strip().isdigit():
            assert line, self.said()
        return Ended(number, int(line), time.monotonic() - sent)

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


if __name__ == "__main__":
    serve(sys.argv[1:])
