"""Ctrl-C while a program is still importing, which takes seconds."""

import os
import signal
import sys

STOPPED = "Stopped by the keyboard; finished stages are kept, run `dvc repro` to go on."


def stop_at_once(number: int, frame: object) -> None:
    """Nothing is open yet that would have to be put away."""
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(130)


def stop_while_importing() -> None:
    """End in one line at Ctrl-C, until `console.run` takes over. A shell's background job ignores Ctrl-C: so be it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop_at_once)


def is_being_started() -> bool:
    """Whether Python looks for the module that it is to run: it then says `-m`."""
    return sys.argv[:1] == ["-m"]
