"""`safety-tax status` beside a real `dvc repro`: before, during, after a fault, after a kill, and when all is done."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
import warm
from conftest import ROOT, real_params

from safety_tax.checkup.duration import LAST, seconds_of_one
from safety_tax.checkup.progress import StageState, dvc_at_work, stage_states
from safety_tax.checkup.time_left import expected_seconds, read_expected, time_left
from safety_tax.commands.status import screen, sentence
from safety_tax.core.clock import FOLDER, Record, read_record
from safety_tax.core.errors import PipelineError
from safety_tax.core.workspace import EXPECTED
from safety_tax.params import Params

# Of a library of DVC's, which a person does not see.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")
STAGE = """
import pathlib, sys, time
from safety_tax.core.console import run_stage
from safety_tax.core.progress import progress_bar
from safety_tax.core.errors import PipelineError

def main():
    name = sys.argv[1]
    wait = pathlib.Path(f"wait-{name}")
    with progress_bar() as bar:
        task = bar.add_task("questions", total=10)
        bar.advance(task, 4)
        while wait.exists():
            time.sleep(0.05)
        bar.advance(task, 6)
    if pathlib.Path(f"fail-{name}").exists():
        raise PipelineError(f"Expected {name} to work, found a fault; mend it.")
    pathlib.Path("out").mkdir(exist_ok=True)
    pathlib.Path("metrics.txt" if name == "metrics" else f"out/{name}.txt").write_text(name)

run_stage(main)
"""
PIPELINE = """
stages:
  judge:
    foreach: [m-x, m-y]
    do:
      cmd: python stage.py ${item}
      params: [size, depth.of]
      deps: [stage.py]
      outs: ["out/${item}.txt"]
  metrics:
    cmd: python stage.py metrics
    deps: [out]
    outs: [metrics.txt]
"""


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stages that wait and fail when they are told to, in DVC without Git; the last reads what both others wrote."""
    monkeypatch.chdir(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    dvc("init", "--no-scm", "--quiet")
    dvc("config", "core.analytics", "false")
    Path("stage.py").write_text(STAGE, encoding="utf-8")
    Path("dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    Path("params.yaml").write_text("size: quick\ndepth: {of: 3}\n", encoding="utf-8")
    yield tmp_path


def dvc(*arguments: str, status: int = 0) -> None:
    done = warm.python("-m", "dvc", *arguments, cwd=Path.cwd())
    assert done.returncode == status, done.stdout + done.stderr


def repro() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "dvc", "repro"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def states() -> dict[str, str]:
    return {of.name: of.state for of in stage_states()}


def until(fact: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.05)


def record(name: str) -> Record | None:
    return read_record(FOLDER / f"{name}.json")


def test_a_run_is_seen_from_outside_at_every_moment(pipeline: Path) -> None:
    assert states() == {"judge@m-x": "to come", "judge@m-y": "to come", "metrics": "to come"}
    assert "0 of 3 stages are done: nothing has run; `dvc repro` begins" in sentence(stage_states())
    Path("wait-m-y").touch()
    running = repro()
    try:
        until(lambda: (found := record("judge@m-y")) is not None and found.part is not None)
        assert states() == {"judge@m-x": "done", "judge@m-y": "running", "metrics": "to come"}
        told = sentence(stage_states())
        assert "1 of 3 stages are done; judge@m-y has run for" in told and "doctor" in told  # metrics: not known
        (row,) = [row for row in screen(stage_states()).columns[2].cells if "running" in str(row)]
        assert str(row) == "running m-y, questions 4 of 10"
    finally:
        Path("wait-m-y").unlink()
        assert running.wait(60) == 0
    assert set(states().values()) == {"done"}
    told = sentence(stage_states())
    assert "3 of 3 stages are done: nothing is to run" in told
    # A change of an input is a change of what is to come, and the times of what ran before say how long it takes.
    Path("stage.py").write_text(Path("stage.py").read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert set(states().values()) == {"to come"}
    left = time_left(stage_states(), expected_seconds(stage_states(), {}))
    assert left.unknown == 0 and 0 < left.seconds < 60
    assert "and nothing runs now; `dvc repro` goes on with the others, about" in sentence(stage_states())


def test_a_lock_file_that_dvc_is_writing_is_waited_for(pipeline: Path) -> None:
    dvc("repro")
    content = Path("dvc.lock").read_text(encoding="utf-8")

    def write() -> None:
        with Path("dvc.lock").open("w", encoding="utf-8") as stream:
            for start in range(0, len(content), 100):  # cut at any line, it is YAML with fewer stages
                time.sleep(0.1)
                stream.write(content[start : start + 100])
                stream.flush()

    writing = Thread(target=write)
    writing.start()
    time.sleep(0.15)
    assert set(states().values()) == {"done"}
    writing.join()


def test_between_two_stages_the_run_is_seen_by_its_process(pipeline: Path) -> None:
    assert not dvc_at_work()
    running = repro()
    until(dvc_at_work)
    assert running.wait(60) == 0
    assert not dvc_at_work()


def test_after_a_fault_the_stage_and_its_reason_are_named(pipeline: Path) -> None:
    Path("fail-m-y").touch()
    dvc("repro", status=255)
    assert states() == {"judge@m-x": "done", "judge@m-y": "failed", "metrics": "to come"}
    assert "judge@m-y failed: Expected m-y to work, found a fault; mend it; then" in sentence(stage_states())
    Path("fail-m-y").unlink()
    dvc("repro")
    assert set(states().values()) == {"done"}
    Path("params.yaml").write_text("size: quick\ndepth: {of: 4}\n", encoding="utf-8")
    assert states() == {"judge@m-x": "to come", "judge@m-y": "to come", "metrics": "to come"}
    Path("params.yaml").write_text("size: quick\ndepth: {of: 3}\n", encoding="utf-8")
    Path("out/m-x.txt").unlink()
    assert states()["judge@m-x"] == "to come"


def test_a_stage_that_was_killed_is_stopped_and_not_running(pipeline: Path) -> None:
    Path("wait-m-x").touch()
    running = repro()
    until(lambda: record("judge@m-x") is not None)
    found = record("judge@m-x")
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    assert running.wait(60) != 0
    assert states()["judge@m-x"] == "stopped"
    assert "judge@m-x stopped: its process was ended from outside" in sentence(stage_states())


def test_the_command_prints_plain_lines_into_a_log_and_refuses_another_folder(pipeline: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "safety_tax.cli", "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout and "0 of 2" in done.stdout and "0 of 3 stages are done" in done.stdout
    (tmp_path / "other").mkdir()
    other = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert other.returncode == 1 and "Expected a pipeline that DVC reads in /" in other.stderr
    assert "Traceback" not in other.stderr


def state(name: str, state: str, seconds: float | None = None, same: bool = True, **fields: float | str) -> StageState:
    """A stage whose last whole run took so long."""
    about = {"stage": name, "started": 100.0, "pid": 1, "machine": "here", "seconds": seconds, **fields}
    return StageState(name, state, Record(**about), same)  # type: ignore[arg-type]


def test_a_stage_takes_as_long_as_it_did_or_as_its_like_or_as_doctor_expected() -> None:
    doctors = {"a": {"export": 7.0, "judge": 1.0}, "b-c": {"infer": 70.0}}
    found = expected_seconds(
        [
            state("infer@a-ties", "to come", 30.0),
            state("infer@a-half", "to come"),
            state("baseline@a", "done", 40.0),
            state("export@a-ties", "to come"),
            state("infer@b-ties", "to come"),
            state("judge@a-ties", "to come", 100.0, same=False),
            state("tune@a-safety", "to come"),
        ],
        doctors,
    )
    assert found == {
        "infer@a-ties": 30.0,
        "infer@a-half": 35.0,  # the median of its like for the model, the base's run among them
        "baseline@a": 40.0,
        "export@a-ties": 7.0,
        "infer@b-ties": 35.0,
        "judge@a-ties": 1.0,  # it took 100 s for another size
    }


def test_doctors_times_of_a_kind_are_shared_out_among_its_stages() -> None:
    params = Params.model_validate(real_params())
    assert (len(params.recipes), len(params.donors)) == (3, 2)
    kinds = {"fetch_model": 3.0, "tune": 10.0, "merge": 9.0, "export": 8.0, "infer": 400.0, LAST: 6.0}
    assert seconds_of_one(kinds, params) == {
        **{"fetch_model": 3.0, "tune": 5.0, "merge": 3.0, "export": 2.0, "export_base": 2.0},
        **{"infer": 100.0, "baseline": 100.0, "judge": 1.0, "judge_base": 1.0, "metrics": 1.0, "plots": 1.0},
    }


def test_what_is_left_of_a_running_stage_is_what_its_bar_says_where_that_is_more() -> None:
    bar = {"part": "answers", "part_started": 110.0, "done": 30.0, "total": 90.0, "taken_up": 10.0}
    running = state("infer@a-ties", "running", **bar)  # type: ignore[arg-type]
    # 20 in 10 s since the bar began, the other 10 were taken up: 60 more take 30 s
    assert time_left([running], {"infer@a-ties": 25.0}, now=120.0) == (30.0, 0)
    assert time_left([running], {"infer@a-ties": 90.0}, now=120.0) == (70.0, 0)
    assert time_left([running], {}, now=120.0) == (30.0, 0)
    assert time_left([state("infer@a-ties", "running")], {}, now=120.0) == (0.0, 1)
    assert time_left([state("infer@a-ties", "done", 5.0)], {"infer@a-ties": 5.0}, now=120.0) == (0.0, 0)


def test_what_doctor_expected_counts_for_its_size_alone(pipeline: Path) -> None:
    assert read_expected("quick") == {}
    EXPECTED.parent.mkdir()
    EXPECTED.write_text(json.dumps({"size": "quick", "a": {"infer": 3.0}}), encoding="utf-8")
    assert read_expected("quick") == {"a": {"infer": 3.0}} and read_expected("standard") == {}
    EXPECTED.write_text("[1]", encoding="utf-8")
    assert read_expected("quick") == {}


def test_a_record_that_cannot_be_read_is_none_and_a_folder_without_a_pipeline_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"", b"[]", b'{"stage": 1}', b"\xff"):
        (tmp_path / "x.json").write_bytes(content)
        assert read_record(tmp_path / "x.json") is None
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="Expected a pipeline"):
        stage_states()
