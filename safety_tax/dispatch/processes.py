"""Worker processes on this machine: one for each CUDA device, or several on the CPU. Only the parent writes."""

import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.dispatch.slices import slices
from safety_tax.engine.opening import open_engine
from safety_tax.engine.protocol import Budget, Choice, Hooks, Part, Result
from safety_tax.engine.running import run_items
from safety_tax.settings.stages import Run

# A worker tells of its progress so often, in seconds.
TELLING = 0.2


class Processes:
    """Workers with a session each; they end with this process, however it ends."""

    def __init__(self, folder: Path, settings: Run, count: int, devices: Sequence[str]) -> None:
        """Start `count` workers, each on its own of `devices`, or on its share of the cores where there are none.

        Raises PipelineError when one does not start.
        """
        self._budget = Budget.of(settings)
        self._workers: dict[Connection, SpawnProcess] = {}
        context = multiprocessing.get_context("spawn")
        for number in range(count):
            ours, theirs = context.Pipe()
            share = () if devices else _share_of_cores(number, count)
            process = context.Process(target=_work, args=(theirs, folder, settings, share), daemon=True)
            with _environment("CUDA_VISIBLE_DEVICES", devices[number % len(devices)] if devices else None):
                process.start()
            theirs.close()
            self._workers[ours] = process
        try:
            choices = {Choice(*self._hear(connection)[1]) for connection in self._workers}
        except BaseException:
            self.close()
            raise
        if len(choices) > 1:
            self.close()
            raise PipelineError(
                f"Expected all workers on one provider, found {' and '.join(sorted(one.provider for one in choices))}; "
                "set run.provider to cuda or cpu in params.yaml."
            )
        (self.choice,) = choices

    def run(self, part: Part, wanted: Sequence[int], hooks: Hooks) -> None:
        """See Runner: every worker gets a slice."""
        cut = slices(part, wanted, self.choice, self._budget, len(self._workers))
        busy = set()
        for connection, of_worker in zip(self._workers, cut, strict=False):
            try:
                connection.send((part, of_worker))
            except OSError:
                self._raise_of(connection)
            busy.add(connection)
        try:
            while busy:
                heard = wait(list(busy))
                for connection in [one for one in self._workers if one in heard]:
                    kind, value = self._hear(connection)
                    if kind == "done":
                        busy.discard(connection)
                    else:
                        _pass_on(kind, value, hooks)
        except PipelineError:
            self._keep_what_is_heard(busy, hooks)
            raise

    def close(self) -> None:
        """End the workers."""
        for connection, process in self._workers.items():
            connection.close()
            process.kill()
            process.join()
        self._workers.clear()

    def _hear(self, connection: Connection) -> tuple[str, Any]:
        """A worker's next message. Raises PipelineError when it is an error, or when the worker has died."""
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            self._raise_of(connection)
        if kind == "error":
            raise PipelineError(value)
        return kind, value

    def _raise_of(self, connection: Connection) -> None:
        process = self._workers[connection]
        process.join()
        status = process.exitcode or 0
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        number = list(self._workers).index(connection) + 1
        raise PipelineError(
            f"Expected worker {number} of {len(self._workers)} of run.processes to go on, found it ended by {how}; "
            "what was finished is kept: run `dvc repro` again, with fewer processes if memory was short."
        )

    def _keep_what_is_heard(self, busy: set[Connection], hooks: Hooks) -> None:
        """What the other workers have said by now is finished, too."""
        for connection in busy:
            try:
                while connection.poll():
                    kind, value = connection.recv()
                    _pass_on(kind, value, hooks)
            except (EOFError, OSError):
                continue


def _pass_on(kind: str, value: Any, hooks: Hooks) -> None:
    if kind == "finished":
        hooks.finished(*value)
    elif kind == "advance":
        hooks.advance(value)
    elif kind == "say":
        hooks.say(value)


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Set a variable for a process that is started inside; None changes nothing."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before
        elif value is not None:
            del os.environ[name]


def _share_of_cores(number: int, count: int) -> tuple[int, ...]:
    """The cores of one of `count` workers; a core is shared where there are fewer cores than workers."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = sorted(os.sched_getaffinity(0))
    return tuple(cores[number::count]) or (cores[number % len(cores)],)


def _work(connection: Connection, folder: Path, settings: Run, cores: tuple[int, ...]) -> None:
    """A worker's life: parts and their items come in, results go out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends us
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        engine = open_engine(folder, settings)
        connection.send(("ready", engine.choice))
        while True:
            part, wanted = connection.recv()
            telling = _Telling(connection)
            hooks = Hooks(telling.advance, telling.finished, telling.say)
            run_items(engine, part, wanted, Budget.of(settings), hooks)
            telling.tell()
            engine.require_provider()
            connection.send(("done", None))
    except PipelineError as error:
        connection.send(("error", str(error)))
    except (EOFError, ConnectionError):
        sys.exit(0)  # the parent has closed its end


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


class _Telling:
    """Sends results at once and progress now and then."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._untold = 0
        self._told_at = time.monotonic()

    def advance(self, count: int) -> None:
        self._untold += count
        if time.monotonic() - self._told_at > TELLING:
            self.tell()

    def tell(self) -> None:
        self._connection.send(("advance", self._untold))
        self._untold, self._told_at = 0, time.monotonic()

    def finished(self, item: int, result: Result) -> None:
        self._connection.send(("finished", (item, result)))

    def say(self, message: str) -> None:
        self._connection.send(("say", message))
