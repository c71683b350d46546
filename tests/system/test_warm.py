"""A command that is forked from a process with the packages imported is what it is in a fresh one."""

import os
import subprocess
from pathlib import Path

import pytest
import warm

TELLING = """
import json, os, sys, huggingface_hub, safety_tax
from huggingface_hub import constants
if __name__ == "__main__":
    print(json.dumps([sys.argv[1:], os.getcwd(), sys.path, safety_tax.__file__, constants.ENDPOINT, dict(os.environ)]))
    print("an error", file=sys.stderr)
    sys.exit({ending})
"""


@pytest.mark.parametrize(("ending", "status"), [("", 0), ("3", 3), ("'a sentence'", 1), ("1 / 0", 1)])
@pytest.mark.parametrize("how", ["-m", "-c", "script"])
def test_a_forked_command_is_what_it_is_in_a_fresh_process(how: str, ending: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "safety_tax").mkdir()
    (tmp_path / "safety_tax/__init__.py").touch()
    code = TELLING.format(ending=ending)
    (tmp_path / "telling.py").write_text(code, encoding="utf-8")
    program = {"-m": ["-m", "telling"], "-c": ["-c", code], "script": [str(tmp_path / "telling.py")]}[how]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}/more", "HF_ENDPOINT": "http://127.0.0.1:9", "MINE": "mine"}
    forked, fresh = (
        warm.python(*program, "one", "--two", cwd=tmp_path, env=env, fresh=fresh) for fresh in (False, True)
    )
    assert (forked.returncode, forked.stdout) == (fresh.returncode, fresh.stdout)
    assert forked.returncode == status and str(tmp_path / "safety_tax") in forked.stdout
    # Frames of Python's own lie between.
    assert forked.stderr.splitlines()[0] == fresh.stderr.splitlines()[0]
    assert forked.stderr.splitlines()[-1] == fresh.stderr.splitlines()[-1]


def test_what_python_or_a_package_reads_at_its_start_is_read(tmp_path: Path) -> None:
    told = warm.python("-c", "import sys; print(sys.warnoptions)", cwd=tmp_path, env={"PYTHONWARNINGS": "always"})
    assert told.stdout == "['always']\n"


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        warm.python("-c", "import time; time.sleep(60)", cwd=tmp_path, timeout=1)


def test_a_program_that_starts_python_gets_forked_processes(tmp_path: Path) -> None:
    env = {**os.environ, "PATH": f"{warm.server()}{os.pathsep}{os.environ['PATH']}"}
    command = ["python", "-c", "import sys; print('torch' in sys.modules); print(input()); sys.exit(7)"]
    done = subprocess.run(command, env=env, cwd=tmp_path, input="given", capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode, done.stderr) == ("True\ngiven\n", 7, "")
