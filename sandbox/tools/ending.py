"""How a command ends when it is told to: Ctrl-C and SIGTERM remove unfinished files within two seconds.

Python's own handler raises an error in the main thread, between two instructions. That is too late where this thread
waits for a compiler or for other threads, and in vain where the error is swallowed. So a thread watches, and after
GRACE seconds it ends the process by itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sandbox.tools.whole import remove_unfinished

INTERRUPTED = "interrupted; nothing unfinished was written"
GRACE = 1.0
"""The seconds that a command has for its own end."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_USUAL = (signal.default_int_handler, signal.SIG_DFL)


class Told(KeyboardInterrupt):
    """The command was told to end; `code` is the exit code that shells give for the signal."""

    def __init__(self, number: int):
        super().__init__()
        self.code = 128 + number


@contextmanager
def ending_when_told() -> Iterator[None]:
    """Raise Told in the main thread at the first signal to end; end the process if that takes longer than GRACE.

    A signal that is ignored, or has a handler already, keeps that: shells ignore Ctrl-C for background commands.
    """
    ours = [number for number in _SIGNALS if signal.getsignal(number) in _USUAL]
    if threading.current_thread() is not threading.main_thread() or not ours:
        yield
        return
    told = False

    def tell(number: int, _: FrameType | None) -> None:
        nonlocal told
        # The end has begun: a second signal must not break it off.
        if not told:
            told = True
            raise Told(number)

    # Windows writes signals to sockets only.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    usual = {number: signal.signal(number, tell) for number in ours}
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, ours), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        if not told:
            # A process that ends hears nothing more.
            for number, handler in usual.items():
                signal.signal(number, handler)
        # The thread reads the end of the connection, and stops.
        writer.close()


def _watch(reader: socket.socket, ours: list[signal.Signals]) -> None:
    """Wait for a signal, then for the end of the process; end it after GRACE seconds."""
    while numbers := reader.recv(1):
        if numbers[0] in ours:
            time.sleep(GRACE)
            remove_unfinished()
            try:
                # Bars of progress hide the cursor of a terminal.
                os.write(2, ("\x1b[?25h" * sys.stderr.isatty() + INTERRUPTED + "\n").encode())
            finally:
                os._exit(128 + numbers[0])
    reader.close()
