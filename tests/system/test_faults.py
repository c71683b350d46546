"""What a person meets when something outside the code goes wrong."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Project
from safetensors.numpy import save_file

from safety_tax.checkup.cache_objects import damaged_objects
from safety_tax.core.console import run_stage
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import folder_written_atomically, write_json, written_atomically


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A shell's background job ignores Ctrl-C, and so would what these tests start from one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system takes more rights than this user has")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def sentence_of(main, capsys: pytest.CaptureFixture[str]) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as stopped:
        run_stage(main)
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_full_disk_is_one_sentence_and_leaves_the_old_output(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = small_disk / "out.json"
    write_json(target, {"old": 1})

    def main() -> None:
        write_json(target, {"new": "x" * 2_000_000})

    assert "No space left on device" in sentence_of(main, capsys)
    assert target.read_text(encoding="utf-8") == '{\n  "old": 1\n}\n'
    assert [path.name for path in small_disk.iterdir()] == ["out.json"]


def test_a_full_disk_under_a_library_in_rust_is_one_sentence(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        with folder_written_atomically(small_disk / "donor") as folder:
            save_file({"a": np.zeros(1_000_000, np.float32)}, folder / "adapter_model.safetensors")

    assert "No space left on device" in sentence_of(main, capsys)
    assert list(small_disk.iterdir()) == []


def test_a_fault_of_the_code_keeps_its_traceback() -> None:
    def main() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_stage(main)


def test_bad_input_is_its_sentence_with_brackets_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise PipelineError("Expected [red]one[/red] thing, found another.")

    assert sentence_of(main, capsys) == "Expected [red]one[/red] thing, found another.\n"


def test_ctrl_c_is_a_sentence_and_130() -> None:
    code = "import os, signal; from safety_tax.core.console import run_stage\n"
    code += "run_stage(lambda: os.kill(os.getpid(), signal.SIGINT) or __import__('time').sleep(5))"
    root = ROOT
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 130
    assert "Traceback" not in result.stderr
    assert "dvc repro" in result.stderr


def test_an_output_is_never_half_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(KeyboardInterrupt), folder_written_atomically(tmp_path / "out") as folder:
        (folder / "new").touch()
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    with pytest.raises(ValueError), written_atomically(tmp_path / "file") as partial:
        partial.write_text("half", encoding="utf-8")
        raise ValueError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_metrics_never_hold_what_json_does_not_know(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            write_json(tmp_path / "metrics.json", {"tax": value})
    assert list(tmp_path.iterdir()) == []


def run_code(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    root = ROOT
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_run_killed_before_its_rename_leaves_the_old_output(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"old": 1})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    code = "import os, signal\nfrom pathlib import Path\nfrom safety_tax.core.files import *\n"
    code += "with {how}(Path('{what}')) as partial:\n"
    code += "    (partial / 'new' if partial.is_dir() else partial).write_text('half')\n"
    code += "    os.kill(os.getpid(), signal.SIGKILL)\n"
    for how, what in (("written_atomically", "file.json"), ("folder_written_atomically", "out")):
        assert run_code(code.format(how=how, what=what), tmp_path).returncode == -signal.SIGKILL
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == '{\n  "old": 1\n}\n'
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    # What was left is replaced by the next run.
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".file.json.partial", ".out.partial"]
    write_json(tmp_path / "file.json", {"new": 2})
    with folder_written_atomically(tmp_path / "out") as folder:
        assert list(folder.iterdir()) == []
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_place_that_cannot_be_written_is_one_sentence(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise OSError(number, os.strerror(number), "models/base")

    sentence = sentence_of(main, capsys)
    assert os.strerror(number) in sentence
    assert "models/base" in sentence


def test_a_read_only_file_system_is_one_sentence(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(small_disk / "out.json", {"old": 1})
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "Read-only file system" in sentence_of(lambda: write_json(small_disk / "out.json", {"new": 2}), capsys)
    assert (small_disk / "out.json").read_text(encoding="utf-8") == '{\n  "old": 1\n}\n'


def test_every_stage_ends_through_run_stage() -> None:
    stages = sorted((ROOT / "stages").glob("[!_]*.py"))
    assert len(stages) > 10
    for stage in stages:
        ending = stage.read_text(encoding="utf-8").rstrip().rpartition("\n\n\n")[2]
        assert re.fullmatch(r'if __name__ == "__main__":\n    run_stage\(main(, torch=False)?\)', ending), stage


@pytest.mark.parametrize("stage", ["judge", "metrics", "merge"])
def test_ctrl_c_at_work_is_one_clean_line_and_130(stage: str, tmp_path: Path) -> None:
    """The stage is interrupted where it reads params.yaml: a pipe that nobody writes to."""
    (tmp_path / "dvc.yaml").touch()
    os.mkfifo(tmp_path / "params.yaml")
    arguments = {"judge": ["m", "base"], "metrics": ["m"], "merge": ["m", "r"]}[stage]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Opening the writing end waits until the stage has opened the other one.
    with (tmp_path / "params.yaml").open("w", encoding="utf-8"):
        running.send_signal(signal.SIGINT)
        output, error = running.communicate(timeout=60)
    assert running.returncode == 130, error
    assert output == ""
    assert error.count("\n") == 1
    assert "Stopped by the keyboard" in error


def test_a_second_dvc_repro_is_told_of_the_first(tmp_path: Path) -> None:
    def run(*command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL
        )

    root = ROOT
    (tmp_path / ".dvc").mkdir()
    shutil.copyfile(root / ".dvc/config", tmp_path / ".dvc/config")
    wait = "import pathlib, time; pathlib.Path('began').touch(); "
    wait += "[time.sleep(0.1) for _ in range(900) if not pathlib.Path('end').exists()]; pathlib.Path('out').touch()"
    (tmp_path / "wait.py").write_text(wait, encoding="utf-8")
    stage = {"cmd": f"{sys.executable} wait.py", "outs": ["out"]}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"wait": stage}}), encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    first = run(sys.executable, "-m", "dvc", "repro")
    try:
        while not (tmp_path / "began").exists():
            assert first.poll() is None
            time.sleep(0.1)
        second = run(sys.executable, "-m", "dvc", "repro")
        said, _ = second.communicate(timeout=120)
        assert second.returncode != 0
        assert re.search("lock|busy|blocked", said), said
        assert "Traceback" not in said
    finally:
        (tmp_path / "end").touch()
        first.communicate(timeout=120)
    assert first.returncode == 0
    assert (tmp_path / "out").exists()


def test_a_full_disk_under_torch_is_one_sentence(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As where a checkpoint of the optimizer no longer fits."""

    def main() -> None:
        torch.save({"state": torch.zeros(1_000_000)}, small_disk / "optimizer.pt")

    assert "No space left on device" in sentence_of(main, capsys)


@pytest.mark.parametrize("stage", ["tune", "infer", "metrics"])
def test_ctrl_c_while_a_stage_still_imports_is_one_clean_line_and_130(stage: str, tmp_path: Path) -> None:
    """The first import that is not Python's own takes as long as one likes."""
    slow = "import pathlib, time\npathlib.Path('began').touch()\ntime.sleep(60)\n"
    for package in ("torch", "rich", "transformers"):
        (tmp_path / f"{package}.py").write_text(slow, encoding="utf-8")
    running = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", "m", "d"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "began").exists():
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    output, error = running.communicate(timeout=60)
    assert (running.returncode, output) == (130, ""), error
    assert error == "Stopped by the keyboard; finished stages are kept, run `dvc repro` to go on.\n"


def small_pipeline(folder: Path, command: str) -> None:
    """A DVC project with the stage `work`, which reads `input` and writes `data/out`, and the project's settings."""
    (folder / "input").write_text("1", encoding="utf-8")
    (folder / ".dvc").mkdir()
    shutil.copyfile(ROOT / ".dvc/config", folder / ".dvc/config")
    stage = {"cmd": command, "deps": ["input"], "outs": ["data/out"]}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": {"work": stage}}), encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_ctrl_c_in_a_terminal_stops_stage_and_dvc_without_a_traceback(tmp_path: Path) -> None:
    """A terminal sends it to the whole group."""
    code = "import pathlib, time\nfrom safety_tax.core.console import run_stage\n"
    code += "def main(): pathlib.Path('began').touch(); time.sleep(60)\nrun_stage(main)\n"
    (tmp_path / "wait.py").write_text(code, encoding="utf-8")
    small_pipeline(tmp_path, f"{sys.executable} wait.py")
    running = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    while not (tmp_path / "began").exists():
        assert running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "Stopped by the keyboard; finished stages are kept" in said
    assert "exited with" in said  # 130; dash, that waits for it, dies of its own SIGINT
    assert "Traceback" not in said


def test_a_damaged_object_of_the_cache_is_found_and_made_again(tmp_path: Path) -> None:
    """DVC takes it for whole: this is what `safety-tax doctor --cache` is for."""
    small_pipeline(tmp_path, "mkdir -p data && echo right > data/out")
    assert dvc(tmp_path, "repro").returncode == 0
    (cached,) = (tmp_path / ".dvc/cache/files/md5").glob("??/*")
    assert damaged_objects(tmp_path / ".dvc/cache", tmp_path) == []
    # A bit that turned on the disk: same size, same times, still write-protected.
    before = cached.stat()
    cached.chmod(0o644)
    cached.write_bytes(b"wrong\n")
    cached.chmod(0o444)
    os.utime(cached, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "up to date" in dvc(tmp_path, "status").stdout
    ((file, links),) = damaged_objects(tmp_path / ".dvc/cache", tmp_path)
    assert (file, links) == (cached, [tmp_path / "data/out"])
    for path in (file, *links):
        path.unlink()
    assert dvc(tmp_path, "repro").returncode == 0
    assert (tmp_path / "data/out").read_text(encoding="utf-8") == "right\n"
    assert damaged_objects(tmp_path / ".dvc/cache", tmp_path) == []


def test_a_torn_dvc_lock_is_mended_from_git_and_nothing_runs_again(tmp_path: Path) -> None:
    """DVC writes it in place; killed in the middle, it refuses what it left. docs/limits.md names this way out."""
    small_pipeline(tmp_path, "mkdir -p data && echo ran >> ran && echo right > data/out")
    assert dvc(tmp_path, "repro").returncode == 0
    (tmp_path / "dvc.lock").write_text("", encoding="utf-8")
    refused = dvc(tmp_path, "repro")
    assert refused.returncode != 0 and "dvc.lock" in refused.stderr and "Traceback" not in refused.stderr
    (tmp_path / "dvc.lock").unlink()
    (tmp_path / "data/out").unlink()
    assert dvc(tmp_path, "repro").returncode == 0
    assert (tmp_path / "data/out").read_text(encoding="utf-8") == "right\n"
    assert (tmp_path / "ran").read_text(encoding="utf-8") == "ran\n"


def test_a_clock_that_jumps_loses_nothing(project: Project) -> None:
    """Files of next year and of 1980, and the stages that wrote them are still done."""
    place = project.folder / "data/verdicts"
    files = [file for file in place.rglob("*.jsonl")]
    assert len(files) == 2 * 3
    for number, file in enumerate(files):
        # In place of the link, which shares its times with the cache.
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
        seconds = (315_532_800, 2_000_000_000)[number % 2]
        os.utime(file, (seconds, seconds))
    assert project.repro() == []


def test_no_stage_asks_for_the_time_of_day() -> None:
    """Durations are of a clock that never jumps. When a stage ran, for `status`, is noted outside of every output."""
    notes = {
        f"safety_tax/{file}.py" for file in ("core/clock", "checkup/progress", "checkup/time_left", "commands/status")
    }
    files = {file for room in ("stages", "safety_tax") for file in (ROOT / room).rglob("*.py")}
    for file in sorted(files - {ROOT / name for name in notes}):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\btime\.time\(|\b(now|today|utcnow)\(|from time import .*\btime\b", text), file
