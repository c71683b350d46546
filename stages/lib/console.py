"""What an operator sees: one line at the start, a progress bar, one line of counts at the end."""

import errno
import os
import re
import signal
import sys
import unicodedata
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from stages import STOPPED, stop_at_once
from stages.lib.errors import PipelineError

console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
if not console.is_terminal:
    console.width = 120  # a file has no edge to fold a table at
error_console = Console(stderr=True, highlight=False, soft_wrap=True)


class RateColumn(ProgressColumn):
    """Units a second, over the last moments; the unit comes from the task's `unit` field."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields.get('unit', 'items')}/s")


def progress_bar() -> Progress:
    """A bar with count, rate and time left; in a log file it prints nothing but its last state."""
    return Progress(
        TextColumn("  {task.description}"),
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


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main`; turn what a person can mend into one sentence on stderr.

    Exit status: 0, 1 for bad input or a full or read-only disk, 130 for Ctrl-C.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        if signal.getsignal(signal.SIGINT) is stop_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except PipelineError as error:
        sentence = str(error)
    except KeyboardInterrupt:
        error_console.print(STOPPED)
        sys.exit(130)
    except Exception as error:
        reason = _cannot_write(error)
        if reason is None:
            raise
        sentence = f"Expected to write an output, found: {reason}; make room or give access, then retry."
    else:
        return
    error_console.print(printable(sentence), markup=False)
    sys.exit(1)
