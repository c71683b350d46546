"""What a person meets when something outside the code goes wrong."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from stages.lib.console import run_stage
from stages.lib.errors import PipelineError
from stages.lib.files import folder_written_atomically, write_json, written_atomically


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
    code = "import os, signal; from stages.lib.console import run_stage\n"
    code += "run_stage(lambda: os.kill(os.getpid(), signal.SIGINT) or __import__('time').sleep(5))"
    root = Path(__file__).parent.parent
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
