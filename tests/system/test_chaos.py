"""`dvc repro`, killed at fifty random moments over all of its stages, ends with the bytes of an undisturbed run.

Where the kills landed: `python -m pytest -m slow -s tests/system/test_chaos.py`. CHAOS_SEED chooses other moments.
"""

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import NamedTuple

import pytest
from conftest import Project, stored_as, tiny_params

SEED = int(os.environ.get("CHAOS_SEED", "0"))
KILLS = int(os.environ.get("CHAOS_KILLS", "50"))
OUTPUTS = ("data/benchmarks", "data/responses", "data/verdicts", "models", "metrics", "dvc.lock")
STARTED = "Running stage '"


class Event(NamedTuple):
    """A stage began, at that many seconds after `dvc repro` was started; None: it ended."""

    stage: str | None
    seconds: float


class Reproduction:
    """A `dvc repro` under way, in a process group of its own."""

    def __init__(self, project: Project, *arguments: str) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", *arguments],
            cwd=project.folder,
            env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        self.said: list[str] = []
        self.events: Queue[Event] = Queue()
        self.reader = Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith(STARTED):
                self.events.put(Event(line.split("'")[1], time.monotonic() - self.begin))
        self.events.put(Event(None, time.monotonic() - self.begin))

    def until(self, seconds: float | None) -> Iterator[Event]:
        """Stages as they begin, up to the end or for so many seconds from now."""
        limit = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                event = self.events.get(timeout=None if limit is None else max(0.0, limit - time.monotonic()))
            except Empty:
                return
            yield event
            if event.stage is None:
                return

    def kill(self) -> None:
        """SIGKILL to DVC, the stage and whatever it started, at once."""
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self.reader.join()
        assert self.process.stdout
        self.process.stdout.close()

    def text(self) -> str:
        """What was printed so far."""
        return "".join(self.said)

    def finish(self) -> list[Event]:
        """Wait for a good end; every stage's beginning and the end."""
        events = list(self.until(None))
        self.process.wait()
        self._close()
        assert self.process.returncode == 0, self.text()[-6000:]
        return events


def started(project: Project, mended: Counter[str], target: list[str]) -> tuple[Reproduction, str]:
    """A reproduction that has come to one of the target stages, and which; does what docs/limits.md says on the way.

    DVC writes dvc.lock and its rwlock in place, without a copy: killed in the middle, it refuses what it left. Where
    earlier kills came so late that all stages are done, the first target runs once more.
    """
    again: list[str] = []
    for _ in range(3):
        run = Reproduction(project, *again)
        for event in run.until(None):
            if event.stage in target:
                return run, event.stage
        run.process.wait()
        run.kill()
        if run.process.returncode == 0:  # nothing to do, or taken from DVC's run cache
            again = ["--force", "--single-item", target[0]]
            continue
        if "Unable to read RWLock-file" in run.text():
            (project.folder / ".dvc/tmp/rwlock").unlink()
            mended["rwlock"] += 1
            continue
        assert re.search("dvc.lock' (validation failed|is invalid)", run.text()), run.text()[-6000:]
        (project.folder / "dvc.lock").unlink()
        mended["dvc.lock"] += 1
    raise AssertionError(run.text()[-6000:])


def contents(project: Project) -> dict[str, str]:
    """Digest of every file that the stages wrote, and of dvc.lock."""
    found = {}
    for name in OUTPUTS:
        place = project.folder / name
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and file.name != ".gitignore":
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                found[file.relative_to(project.folder).as_posix()] = digest
    return found


def damaged_objects(project: Project) -> list[str]:
    """Objects of DVC's cache whose content is not what their name says."""
    objects = (project.folder / ".dvc/cache/files/md5").glob("??/*")
    return [
        str(file)
        for file in objects
        if hashlib.md5(file.read_bytes()).hexdigest() != file.parent.name + file.name.removesuffix(".dir")
    ]


def moments(spans: dict[str, float], chance: random.Random) -> list[tuple[str, float]]:
    """Moments in the order of the run, each a stage and a share of its span: two a stage, the rest by the spans.

    The first in a stage is in its first half, so that it lands there on a machine that is faster now and then.
    """
    stages = list(spans)
    drawn = 2 * stages + chance.choices(stages, list(spans.values()), k=max(0, KILLS - 2 * len(stages)))
    count = Counter(drawn)
    return [
        (stage, share)
        for stage in stages
        for share in sorted([chance.random() / 2, *(chance.random() for _ in range(count[stage] - 1))])
    ]


@pytest.mark.slow
def test_fifty_kills_over_all_stages_change_no_byte(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    shards = stored_as(tiny_models["tiny_llama"], tmp_path / "shards", "float32", 50_000)
    params = tiny_params({"tiny_llama": shards})
    params["recipes"] = {"ties": params["recipes"]["ties"]}
    # So that there is something to resume in stages that are soon over: many checkpoints, many shards.
    params["tune"]["save_steps"] = 2
    params["donors"]["safety"]["epochs"] = params["donors"]["utility"]["epochs"] = 6
    folders = [tmp_path / "undisturbed", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    undisturbed, killed = (Project(folder, params) for folder in folders)

    events = Reproduction(undisturbed).finish()
    spans = {str(event.stage): following.seconds - event.seconds for event, following in pairwise(events)}
    order = list(spans)
    landed: Counter[str] = Counter()
    mended: Counter[str] = Counter()

    def strike(target: list[str], seconds: float) -> None:
        """Kill a reproduction so many seconds after it has come to one of the target stages."""
        run, now = started(killed, mended, target)
        for event in run.until(seconds):
            now = event.stage or "after the last stage"
        run.kill()
        landed[now] += 1

    for stage, share in moments(spans, random.Random(SEED)):
        # Where an earlier kill came too late, its stage is done, and this one lands in a later stage.
        strike(order[order.index(stage) :], share * spans[stage])
    for stage in order:
        # Spans taken while the machine was slower make kills late: sooner and sooner, until one hits.
        for share in (1 / 2, 1 / 4, 1 / 8, 1 / 16):
            if not landed[stage]:
                strike([stage], share * spans[stage])
    started(killed, mended, order)[0].finish()
    Reproduction(killed).finish()
    where = ", ".join(f"{count} {stage}" for stage, count in landed.items())
    print(
        f"\n{sum(landed.values())} kills with the seed {SEED}: {where}; torn: dvc.lock "
        f"{mended['dvc.lock']} times, DVC's rwlock {mended['rwlock']} times"
    )

    assert sum(landed.values()) >= KILLS
    assert set(landed) >= set(order), set(order) - set(landed)
    assert contents(killed) == contents(undisturbed)
    assert damaged_objects(killed) == []
    assert [str(path) for path in killed.folder.rglob("*.partial") if ".dvc" not in path.parts] == []
    assert [path.name for kind in ("merge", "tune") for path in (killed.folder / "runs" / kind).glob("*/*")] == []
    assert "up to date" in killed.dvc("status")
