"""What an operator sees: one line at the start, a progress bar, one line of counts at the end."""

import errno
import os
import re
import select
import signal
import sys
import unicodedata
import warnings
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from safety_tax.core.clock import clock
from safety_tax.core.errors import PipelineError
from safety_tax.core.interrupt import STOPPED, stop_at_once

console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
if not console.is_terminal:
    console.width = 240  # a file has no edge to fold a table at
error_console = Console(stderr=True, highlight=False, soft_wrap=True)
LOG_EVERY = 30.0  # seconds between two lines of a bar in a log file
QUIET, QUIET_VARIABLE = "--quiet", "SAFETY_TAX_QUIET"


class RateColumn(ProgressColumn):
    """Units a second, over the last moments; the unit comes from the task's `unit` field."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        done = task.completed - task.fields.get("taken_up", 0)
        if speed is None and done > 0 and task.elapsed:
            speed = done / task.elapsed  # all of it came at once
        if speed is None:
            return Text("")
        return Text(f"{speed:,.{0 if speed >= 10 else 1}f} {task.fields.get('unit', 'items')}/s")


class LoggedProgress(Progress):
    """A bar that is drawn anew on a terminal, and in a log file is a line now and then and one at the end."""

    _logged: float | None = None

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Advance a task by a number of steps."""
        super().advance(task_id, advance)
        self._log_now_and_then()

    def take_up(self, task_id: TaskID, count: float) -> None:
        """Count what an earlier run has done: it is done, and no part of this run's rate."""
        task = self.tasks[self.task_ids.index(task_id)]
        fields = task.fields | {"taken_up": task.fields.get("taken_up", 0) + count}
        self.reset(task_id, completed=int(task.completed + count), **fields)

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """Set a task's fields, as rich does."""
        super().update(task_id, **fields)
        self._log_now_and_then()

    def _log_now_and_then(self) -> None:
        now = self.get_time()
        self._logged = now if self._logged is None else self._logged
        for task in self.tasks:
            if not task.finished and task.total:
                clock.note(task.description, task.completed, task.total, task.fields.get("taken_up", 0))
        if not self.console.is_terminal and now - self._logged >= LOG_EVERY and not self.finished:
            self._logged = now
            self.console.print(self.get_renderable())


def progress_bar() -> LoggedProgress:
    """A bar with count, rate and time left."""
    return LoggedProgress(
        TextColumn("  {task.description:<12}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=False,
    )


def printable(text: str, keep: str = "") -> str:
    """The text with its code for every character that a terminal might obey or hide, but for those in `keep`."""
    return "".join(
        character.encode("unicode_escape", "surrogatepass").decode("ascii")
        if character not in keep and (unicodedata.category(character)[0] == "C" or character in "\u2028\u2029")
        else character
        for character in text
    )


def say(message: str) -> None:
    """Print a message for the operator; square brackets are text, not markup, and control characters are codes."""
    console.print(printable(message, keep="\n"), markup=False)


def _reader_is_gone() -> bool:
    """Whether it is the standard output that nobody reads any more, and no other pipe that broke."""
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0))


def _cannot_write(error: Exception) -> str | None:
    """Why an output could not be written, if that is what the error says."""
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        known = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
        return f"{error.strerror}{where}" if known else None
    # Libraries in Rust and C++ raise types of their own, and say it in the system's words.
    full = os.strerror(errno.ENOSPC)
    # torch does not say why its writer failed, and there is hardly another reason.
    torch = re.search(r"PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+", str(error))
    return full if torch or full in str(error) else None


def _be_quiet_if_asked() -> None:
    """Print errors only, after `--quiet`, which every stage takes, or under `SAFETY_TAX_QUIET=1 dvc repro`."""
    if QUIET in sys.argv[1:]:
        sys.argv.remove(QUIET)
        os.environ[QUIET_VARIABLE] = "1"  # for the stages that this one may start
        console.quiet = True
    # The variable is for the pipeline: what somebody asks by hand, they want to read.
    elif os.environ.get(QUIET_VARIABLE, "0") not in ("", "0") and "DVC_STAGE" in os.environ:
        console.quiet = True


def run_stage(main: Callable[[], None], torch: bool = True) -> None:
    """Run a stage's `main`; turn what a person can mend into one sentence on stderr.

    Without `torch`, Transformers does not import it, which saves 4 s. `--quiet` leaves nothing but that sentence.
    Exit status: 0, 1 for bad input or a full or read-only disk, 130 for Ctrl-C.
    """
    _be_quiet_if_asked()
    if not sys.warnoptions:  # python -W and PYTHONWARNINGS bring them back; numerical ones always show
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            warnings.simplefilter("ignore", category)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not torch:
        os.environ["USE_TORCH"] = "0"
        os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # that there is no torch
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        if signal.getsignal(signal.SIGINT) is stop_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        clock.begin()
        main()
        sys.stdout.flush()
    except PipelineError as error:
        sentence = str(error)
    except SystemExit as end:
        clock.end(None if end.code in (None, 0) else f"ended with status {end.code}")
        if not end.code and {"-h", "--help"} & set(sys.argv[1:]):
            print(f"  {QUIET:<20}  print errors only")
        raise
    except KeyboardInterrupt:
        clock.end("stopped by Ctrl-C")
        error_console.print(STOPPED)
        sys.exit(130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():  # as `head`, which has had enough
            clock.end()
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains while it ends
            sys.exit(1)
        reason = _cannot_write(error)
        if reason is None:
            clock.end(f"{type(error).__name__}: {error}")
            raise
        sentence = f"Expected to write an output, found: {reason}; make room or give access, then retry."
    else:
        clock.end()
        return
    clock.end(sentence)
    error_console.print(printable(sentence), markup=False)
    sys.exit(1)
