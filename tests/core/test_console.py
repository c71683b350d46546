"""What a stage shows: on a terminal, in a log file, and when it is asked to be quiet."""

import os
import subprocess
import sys
import unicodedata

import pytest
from conftest import ROOT

from safety_tax.core.progress import progress_bar

STAGE = """
import argparse, warnings
from safety_tax.core.console import run_stage, say
from safety_tax.core.progress import progress_bar
from safety_tax.core.errors import PipelineError

def main():
    parser = argparse.ArgumentParser(description="Counts.")
    parser.add_argument("--fail", action="store_true")
    failing = parser.parse_args().fail
    for category in (UserWarning, FutureWarning, DeprecationWarning):
        warnings.warn("a library's own", category)
    say("count: three")
    with progress_bar() as progress:
        task = progress.add_task("counting", total=3, unit="things")
        for _ in range(3):
            progress.advance(task)
    if failing:
        raise PipelineError("Expected three, found four; count again.")
    say("count: 3 counted")

run_stage(main)
"""


def stage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The stage above, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", STAGE, *arguments],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "DVC_STAGE"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_log_has_whole_lines_and_no_librarys_warnings() -> None:
    result = stage()
    first, bar, last = result.stdout.splitlines()
    assert (first, last) == ("count: three", "count: 3 counted")
    assert bar.startswith("  counting ") and "3/3" in bar and "things/s" in bar
    assert not [letter for letter in result.stdout if unicodedata.category(letter) == "Cc" and letter != "\n"]
    assert (result.stderr, result.returncode) == ("", 0)


def test_warnings_come_back_when_python_is_asked_for_them() -> None:
    assert "a library's own" in stage(PYTHONWARNINGS="default").stderr


def test_quiet_leaves_errors_only() -> None:
    for result in (stage("--quiet"), stage(SAFETY_TAX_QUIET="1", DVC_STAGE="count")):
        assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
    failed = stage("--fail", "--quiet")
    assert (failed.stdout, failed.returncode) == ("", 1)
    assert failed.stderr == "Expected three, found four; count again.\n"


def test_the_variable_silences_the_pipeline_and_not_what_is_run_by_hand() -> None:
    assert "3 counted" in stage(SAFETY_TAX_QUIET="1").stdout
    assert "3 counted" in stage(SAFETY_TAX_QUIET="0", DVC_STAGE="count").stdout


def test_help_tells_of_quiet() -> None:
    assert "--fail" in stage("--help").stdout and "--quiet" in stage("--help").stdout


def test_a_long_bar_says_in_a_log_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("safety_tax.core.progress.LOG_EVERY", 10.0)
    clock = iter(range(0, 10_000))  # a second passes whenever the bar looks
    with progress_bar() as progress:
        progress.get_time = lambda: float(next(clock))
        task = progress.add_task("answers", total=100, unit="tokens")
        for _ in range(100):
            progress.advance(task)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert "100/100" in lines[-1]
    counts = [int(line.split("/100")[0].split()[-1]) for line in lines]
    assert counts == sorted(set(counts))


def test_the_rate_after_a_resume_counts_what_this_run_did() -> None:
    from rich.progress import Task

    from safety_tax.core.progress import RateColumn, progress_bar

    progress = progress_bar()
    number = progress.add_task("answers", total=1_000_000, unit="tokens")
    progress.take_up(number, 999_990)
    (task,) = progress.tasks
    assert isinstance(task, Task) and task.completed == 999_990
    assert RateColumn().render(task).plain == ""
    progress.advance(number, 10)
    rate = RateColumn().render(task).plain
    assert task.finished_time is not None and task.fields["taken_up"] == 999_990
    assert rate == "" or float(rate.split()[0].replace(",", "")) * task.finished_time < 20


def test_a_library_that_a_stage_imports_draws_no_bar_of_its_own() -> None:
    code = "import stages.fetch_model; from tqdm.auto import tqdm; list(tqdm(range(3), desc='tensors'))"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert told.stdout + told.stderr == ""
