"""When each stage ran on this machine, and how far one has come: a small file a stage in `runs/stages/`.

`safety-tax status` reads them. They decide no result, and a stage never fails for one that cannot be written.
"""

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from safety_tax.core.files import written_atomically
from safety_tax.core.workspace import RUNS

FOLDER = RUNS / "stages"
STAGE = "DVC_STAGE"
"""The variable in which DVC tells a command the name of its stage."""
EVERY = 1.0
"""Seconds between two notes of how far a stage has come."""


@dataclass(frozen=True)
class Record:
    """One run of a stage; times are those of `time.time()`, in seconds."""

    stage: str
    started: float
    pid: int
    machine: str
    ended: float | None = None
    error: str | None = None
    """Why it ended without its output; None for one that did, or runs."""
    seconds: float | None = None
    """How long its last whole run took."""
    part: str | None = None
    """What its progress bar counts, since when, and how far it is."""
    part_started: float = 0.0
    done: float = 0.0
    total: float = 0.0
    taken_up: float = 0.0
    """What an earlier run had done of it."""


class Clock:
    """Keeps the record of the stage that this process runs; without one, as by hand, it does nothing."""

    def __init__(self) -> None:
        self._record: Record | None = None
        self._noted = 0.0
        self._idle = False

    def begin(self) -> None:
        """A stage begins."""
        name = os.environ.get(STAGE)
        if name is None:
            return
        before = read_record(FOLDER / f"{name}.json")
        known = before.seconds if before else None
        started = psutil.Process().create_time()  # its libraries take seconds
        self._record = Record(name, started, os.getpid(), platform.node(), seconds=known)
        self._write()

    def note(self, part: str, done: float, total: float, taken_up: float) -> None:
        """How far one of its parts has come; written now and then."""
        if self._record is None:
            return
        now = time.time()
        if part != self._record.part:
            self._record = replace(self._record, part=part, part_started=now)
            self._noted = 0.0
        if now - self._noted >= EVERY:
            self._noted = now
            self._record = replace(self._record, done=done, total=total, taken_up=taken_up)
            self._write()

    def did_nothing(self) -> None:
        """The stage had nothing to do: how long it takes says nothing of a run that has."""
        self._idle = True

    def end(self, error: str | None = None) -> None:
        """The stage ends, whole or for the reason given."""
        if self._record is None:
            return
        ended = time.time()
        seconds = self._record.seconds if error or self._idle else ended - self._record.started
        self._record = replace(self._record, ended=ended, error=error, seconds=seconds, part=None)
        self._write()
        self._record = None

    def _write(self) -> None:
        assert self._record is not None
        with suppress(OSError), written_atomically(FOLDER / f"{self._record.stage}.json") as partial:
            partial.write_text(json.dumps(asdict(self._record)), encoding="utf-8")


def read_record(path: Path) -> Record | None:
    """The record in a file; None where there is none, or what is there is no such record."""
    try:
        return Record(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


clock = Clock()
"""Of this process."""
