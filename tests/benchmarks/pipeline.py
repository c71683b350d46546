"""How long does everything take?  `python -m tests.benchmarks.pipeline [--scratch FOLDER]`

Clones this repository's HEAD, installs it there in a virtual environment of its own, runs `dvc repro`, and then once
more with nothing to do. Prints the seconds of the installation, of every stage and verb and of each recipe, and the
peak resident memory of all processes together, with the disk that the clone takes, and keeps them in
`metrics/benchmarks/pipeline.json`. Exit status 1 where a bar is missed: 15 minutes with the installation, 4 GB of
memory, 4 GB of disk beside the environment, 5 seconds with nothing to do.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil
from rich.table import Table

from safety_tax.core.console import console, run_stage, say
from safety_tax.core.errors import PipelineError
from tests.benchmarks.results import keep

ROOT = Path(__file__).parents[2]
MOST_SECONDS, MOST_BYTES, MOST_DISK, MOST_IDLE_SECONDS = 900, 4e9, 4e9, 5
SAMPLED_EVERY = 0.25


class Run(NamedTuple):
    """Of one `dvc repro`: seconds in all and by stage, in order; the largest resident size of all its processes."""

    seconds: float
    stages: dict[str, float]
    peak_bytes: int


def install(folder: Path) -> tuple[Path, float]:
    """Make a virtual environment in the clone and install the project there; returns its Python, and the seconds.

    Raises PipelineError when that fails.
    """
    started = time.monotonic()
    python = folder / ".venv/bin/python"
    try:
        subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-e", folder], check=True, stderr=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        raise PipelineError(
            f"Expected the project to install in {folder}, found exit status {error.returncode}."
        ) from None
    return python, time.monotonic() - started


def reproduce(folder: Path, python: Path) -> Run:
    """Run `dvc repro`. Raises PipelineError when it fails."""
    started = time.monotonic()
    process = subprocess.Popen(
        [python, "-m", "dvc", "repro"],
        env={**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peaks = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks))
    watcher.start()
    marks: list[tuple[str, float]] = []
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        last = line.strip() or last
        found = re.search(r"Running stage '([^']+)'", line)
        if found:
            marks.append((found[1], time.monotonic()))
            say(f"{marks[-1][1] - started:6.0f} s  {found[1]}")
    status = process.wait()
    ended = time.monotonic()
    watcher.join()
    if status:
        raise PipelineError(f"Expected `dvc repro` to succeed in {folder}, found: {last}")
    ends = [*(at for _, at in marks), ended][1:]  # none where no stage ran
    stages = {name: end - at for (name, at), end in zip(marks, ends, strict=True)}
    return Run(ended - started, stages, peaks[0])


def _watch(pid: int, peaks: list[int]) -> None:
    """Note the largest sum of resident sizes of a process and what it started, until it ends."""
    parent = psutil.Process(pid)
    while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
        total = 0
        for process in [parent, *parent.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        peaks[0] = max(peaks[0], total)
        time.sleep(SAMPLED_EVERY)


def disk_bytes(folder: Path) -> int:
    """What the files below a folder take on the disk, as `du` counts: a file with several names once."""
    sizes: dict[tuple[int, int], int] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found = os.lstat(os.path.join(place, name))
            sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(sizes.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, help="where the clone is made and removed, 20 GB")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="safety-tax-", dir=arguments.scratch) as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        python, installation = install(clone)
        say(f"installation: {installation:.0f} s")
        whole = reproduce(clone, python)
        idle = reproduce(clone, python)
        disk, environment = disk_bytes(clone), disk_bytes(clone / ".venv")
    by_verb: dict[str, list[float]] = defaultdict(list)
    for name, spent in whole.stages.items():
        by_verb[name.split("@")[0]].append(spent)
    table = Table("stage", "runs", "median, s", "in all, s", title="a clean clone's `dvc repro`")
    for verb, times in sorted(by_verb.items(), key=lambda entry: -sum(entry[1])):
        table.add_row(verb, str(len(times)), f"{statistics.median(times):.1f}", f"{sum(times):.0f}")
    console.print(table)
    recipes: dict[str, float] = defaultdict(float)
    for name, spent in whole.stages.items():
        verb, _, of = name.partition("@")
        if verb in ("merge", "export", "infer", "judge"):
            recipes[of] += spent
    for name, spent in recipes.items():
        say(f"merge, export, answers and labels of {name}: {spent:.0f} s")
    say(
        f"{installation + whole.seconds:.0f} s in all, {installation:.0f} of them to install; "
        f"{whole.peak_bytes / 1e9:.1f} GB resident at most; {disk / 1e9:.1f} GB of disk, {environment / 1e9:.1f} of "
        f"them the environment; {idle.seconds:.1f} s with nothing to do"
    )
    result = {
        "seconds": round(installation + whole.seconds, 1),
        "installation": round(installation, 1),
        "peak_bytes": whole.peak_bytes,
        "disk_bytes": disk,
        "environment_bytes": environment,
        "idle_seconds": round(idle.seconds, 2),
        "recipes": {name: round(spent, 1) for name, spent in recipes.items()},
        "stages": {name: round(spent, 1) for name, spent in whole.stages.items()},
    }
    keep("pipeline", repro=result)
    missed = (
        installation + whole.seconds > MOST_SECONDS
        or whole.peak_bytes > MOST_BYTES
        or disk - environment > MOST_DISK
        or idle.seconds > MOST_IDLE_SECONDS
    )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    run_stage(main)
