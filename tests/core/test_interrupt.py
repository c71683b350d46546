"""Ctrl-C in the seconds before a program has imported what it needs: one line, and the status of a stopped program."""

import signal
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

from safety_tax.core.interrupt import STOPPED

INTERRUPTED = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)\nprint('went on')\n"


def python(code: str) -> subprocess.CompletedProcess[str]:
    """The lines in a process of their own."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_ctrl_c_while_importing_is_one_line_and_no_traceback() -> None:
    # Where the tests are a background job, Ctrl-C is ignored, and what they start would ignore it, too.
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    stopped = python(
        f"{heard}from safety_tax.core.interrupt import stop_while_importing\nstop_while_importing()\n{INTERRUPTED}"
    )
    assert (stopped.stdout, stopped.stderr, stopped.returncode) == ("", f"{STOPPED}\n", 128 + signal.SIGINT)


def test_who_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    """As a shell's background job does."""
    going_on = python(
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from safety_tax.core.interrupt import stop_while_importing\nstop_while_importing()\n"
        "import os\nos.kill(os.getpid(), signal.SIGINT)\nprint('went on')\n"
    )
    assert (going_on.stdout, going_on.returncode) == ("went on\n", 0)


def test_a_package_knows_that_a_module_of_it_is_being_started(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from safety_tax.core.interrupt import is_being_started\nprint(is_being_started())\n",
        encoding="utf-8",
    )
    (package / "program.py").write_text("", encoding="utf-8")
    for arguments, expected in ((["-m", "package.program"], "True\n"), (["-c", "import package.program"], "False\n")):
        told = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
        assert told.stdout == expected
