"""The cores that a process may use are those that the scheduler grants it."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from safety_tax.core.processors import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system ties no process to cores")
def test_a_process_on_one_core_has_one() -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))
    one = min(os.sched_getaffinity(0))
    code = f"import os\nos.sched_setaffinity(0, [{one}])\n"
    code += "from safety_tax.core.processors import usable_cores\nprint(usable_cores())\n"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout == "1\n"
