"""Which stages of dvc.yaml are done, run now, failed or are to come, without any of DVC's locks.

DVC itself answers this with `dvc status`, which a running `dvc repro` keeps out. So the pipeline and dvc.lock are read
through DVC's own index, and who runs now from `runs/stages/`.
"""

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml
from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo

from safety_tax.core.clock import FOLDER, Record, read_record
from safety_tax.core.errors import PipelineError
from safety_tax.core.workspace import PARAMS_FILE
from safety_tax.core.yaml_text import parse_yaml

State = Literal["done", "running", "failed", "stopped", "to come"]
LOCK = Path("dvc.lock")
RECENT, QUIET, LONGEST = 1.5, 0.5, 5.0
"""Seconds: a dvc.lock as young as the first may still be written, and is whole when it did not grow for the second."""
AMOUNT = ("size", "sizes.")
"""Keys of params.yaml that say how much a stage does: where they changed, its last time says nothing."""


@dataclass(frozen=True)
class StageState:
    """Where a stage stands; `record` is of its last run on this machine, where it had one."""

    name: str
    state: State
    record: Record | None = None
    same_amount: bool = True
    """Whether the last run did as much as the next one would."""

    @property
    def verb(self) -> str:
        """The stage's name in dvc.yaml."""
        return self.name.split("@")[0]


def stage_states() -> list[StageState]:
    """Every stage that has work to do, in the order of dvc.yaml. Raises PipelineError where DVC reads no pipeline."""
    for last in (False, False, True):
        written = settled()
        try:
            with Repo(".") as repo:
                states = list(_states(repo))
            if last or written == settled():
                return states
        except (DvcException, OSError, yaml.YAMLError) as error:
            if last:
                raise PipelineError(
                    f"Expected a pipeline that DVC reads in {Path.cwd()}, found: {error}; run this in the project's "
                    "root."
                ) from None
    raise AssertionError


def alive(record: Record) -> bool:
    """Whether the process of a record still runs; one of another machine is believed to."""
    if record.ended is not None:
        return False
    if record.machine != platform.node():
        return True
    try:
        born: float = psutil.Process(record.pid).create_time()
    except psutil.Error:
        return False
    return born <= record.started + 1  # else another process has its number


def dvc_at_work() -> bool:
    """Whether a `dvc repro` or `dvc exp run` runs in this project: between two stages no record says so."""
    return any({"repro", "exp"} & set(words) for _, words in _dvc_processes())


def settled() -> float:
    """When dvc.lock was written last. Waits while DVC writes it: it does so in pieces, and each is YAML, too."""
    size, since = -1, time.monotonic()
    end = since + LONGEST
    while LOCK.exists():
        found, now = LOCK.stat(), time.monotonic()
        writing = not found.st_size or _is_open(LOCK)
        if not writing and time.time() - found.st_mtime > RECENT:
            return found.st_mtime
        if writing or found.st_size != size:
            size, since = found.st_size, now
        if now - since > QUIET or now > end:
            return found.st_mtime
        time.sleep(0.05)
    return 0.0


def _is_open(file: Path) -> bool:
    """Whether a process of DVC has the file open."""
    path = str(file.resolve())
    for process, _ in _dvc_processes():
        with suppress(psutil.Error, OSError):
            if any(opened.path == path for opened in process.open_files()):
                return True
    return False


def _dvc_processes() -> Iterator[tuple[psutil.Process, list[str]]]:
    """Processes of DVC in this project, and their command lines; those that may not be looked at are left out."""
    here = Path.cwd()
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "dvc" in {Path(word).name for word in words[:3]} or any(word.endswith("dvc/__main__.py") for word in words):
            with suppress(psutil.Error, OSError):
                if Path(process.cwd()).is_relative_to(here):
                    yield process, words


def _states(repo: Any) -> Iterator[StageState]:
    graph = repo.index.graph  # from a stage to those that it reads
    stages = list(repo.index.stages)
    found = {}
    params = parse_yaml(PARAMS_FILE.read_bytes())
    made = {out.fs_path: out for stage in stages for out in stage.outs}
    hashes: dict[str, Any] = {}
    done: set[int] = set()
    for stage in TopologicalSorter({of: list(graph.successors(of)) for of in stages}).static_order():
        name = stage.addressing
        record = read_record(FOLDER / f"{name}.json")
        changed = _changed_params(stage, params)
        amount = not any(key.startswith(AMOUNT) for key in changed)
        state: State = "to come"
        if record is not None and alive(record):
            state = "running"
        elif not changed and all(id(of) in done for of in graph.successors(stage)) and _is_whole(stage, made, hashes):
            state = "done"
            done.add(id(stage))
        elif record is not None and record.ended is None:
            state = "stopped"
        elif record is not None and record.error is not None:
            state = "failed"
        found[name] = StageState(name, state, record, amount)
    for of in (found[stage.addressing] for stage in stages):
        if is_asked(of.name, params) or of.state in ("failed", "stopped"):
            yield of


def is_asked(stage: str, params: Any) -> bool:
    """Whether a stage `verb@model-variant` has work to do: its recipe, or its donor, is for the model."""
    verb, _, cell = stage.partition("@")
    model, _, name = cell.partition("-")
    models = _value(params, f"{'donors' if verb == 'tune' else 'recipes'}.{name}.models")
    return not isinstance(models, list) or model in models


def _changed_params(stage: Any, params: Mapping[str, Any]) -> list[str]:
    """Keys of params.yaml whose values are not those that dvc.lock has; all of them where it has none."""
    return [
        key
        for dep in stage.deps
        if isinstance(dep, ParamsDependency)
        for key in dep.params
        if key not in (dep.hash_info.value or {}) or dep.hash_info.value[key] != _value(params, key)
    ]


def _value(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params.get(part) if isinstance(params, Mapping) else None
    return params


def _is_whole(stage: Any, made: Mapping[str, Any], hashes: dict[str, Any]) -> bool:
    """Whether dvc.lock has the stage with the inputs as they are, and its outputs are there.

    What another stage wrote is compared as dvc.lock has it: to hash weights takes longer than a look may.
    """
    if stage.changed_stage() or not all(out.hash_info and os.path.lexists(out.fs_path) for out in stage.outs):
        return False
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            continue
        if not dep.hash_info or not os.path.lexists(dep.fs_path):
            return False
        if dep.fs_path not in hashes:
            source = made.get(dep.fs_path)
            hashes[dep.fs_path] = source.hash_info if source is not None else dep.get_hash()
        if hashes[dep.fs_path] != dep.hash_info:
            return False
    return True
