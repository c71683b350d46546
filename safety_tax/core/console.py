"""What an operator sees of a stage: lines of what it does, and one sentence where it cannot."""

import errno
import os
import re
import select
import signal
import sys
import unicodedata
import warnings
from collections.abc import Callable

from rich.console import Console

from safety_tax.core.clock import clock
from safety_tax.core.errors import PipelineError
from safety_tax.core.interrupt import STOPPED, stop_at_once

console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
if not console.is_terminal:
    console.width = 240  # a file has no edge to fold a table at
error_console = Console(stderr=True, highlight=False, soft_wrap=True)
QUIET, QUIET_VARIABLE = "--quiet", "SAFETY_TAX_QUIET"


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


def _run(main: Callable[[], None]) -> None:
    """Run `main`, and let its help end with the option that every stage takes."""
    try:
        main()
    except SystemExit as end:
        if not end.code and {"-h", "--help"} & set(sys.argv[1:]):
            print(f"  {QUIET:<20}  print errors only")
        sys.stdout.flush()
        raise
    sys.stdout.flush()


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
        _run(main)
    except PipelineError as error:
        sentence = str(error)
    except SystemExit as end:
        clock.end(None if end.code in (None, 0) else f"ended with status {end.code}")
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
