"""The workflows for GitHub: what they may do, and the report that they write."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from test_compare import MAIN, OTHER, History, params_of

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
Job = dict[str, Any]


def parsed(file: Path) -> dict[Any, Any]:
    """A workflow; YAML reads its key `on` as True."""
    content: dict[Any, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


def jobs() -> Iterator[Job]:
    """Every job of every workflow."""
    for file in WORKFLOWS:
        yield from parsed(file)["jobs"].values()


def test_actions_are_pinned_by_commit_and_say_which_version_that_is() -> None:
    uses = [line for file in WORKFLOWS for line in file.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert len(uses) >= 6
    for line in uses:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_a_job_names_its_permissions_and_checkout_keeps_no_token() -> None:
    assert [file.name for file in WORKFLOWS] == ["metrics.yml", "tests.yml"]
    for file in WORKFLOWS:
        workflow = parsed(file)
        assert workflow["permissions"] == {}
        assert "pull_request_target" not in str(workflow[True])
    for job in jobs():
        assert job["permissions"]
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_what_may_write_runs_no_code_of_the_pull_request_and_sees_no_secret() -> None:
    writing = [job for job in jobs() if "write" in job["permissions"].values()]
    assert len(writing) == 1
    (job,) = writing
    assert job["permissions"] == {"pull-requests": "write"}
    assert "head.repo.full_name == github.repository" in job["if"]
    assert not [step for step in job["steps"] if "checkout" in step.get("uses", "")]
    assert "secrets." not in str(job)


def test_no_expression_is_pasted_into_a_shell() -> None:
    scripts = [step["run"] for job in jobs() for step in job["steps"] if "run" in step]
    assert len(scripts) >= 5
    assert not [script for script in scripts if "${{" in script]


def test_the_tests_workflow_runs_the_readme_command() -> None:
    scripts = [step["run"] for job in jobs() for step in job["steps"] if "README.md" in step.get("run", "")]
    assert len(scripts) == 1
    found = re.search(r'"\$\((grep .*)\)"', scripts[0])
    assert found
    command = subprocess.run(["bash", "-c", found[1]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert command.count("\n") == 1
    assert command.rstrip().endswith("python -m pytest --numprocesses 2")


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> History:
    """main and `other`, with a metrics file in Git as well as verdicts in DVC's cache."""
    history = History(tmp_path_factory.mktemp("branches"))
    history.start()
    for name, verdicts, safety in (("main", MAIN, 0.5), ("other", OTHER, 0.2)):
        if name != "main":
            history.run("git", "switch", "--quiet", "--create", name)
        history.commit(verdicts, params_of("ties"))
        with (history.folder / "dvc.yaml").open("a", encoding="utf-8") as stream:
            stream.write("metrics: [metrics/ties.json]\n")
        (history.folder / "metrics").mkdir(exist_ok=True)
        (history.folder / "metrics/ties.json").write_text(f'{{"safety": {safety}}}', encoding="utf-8")
        history.run("git", "add", "--all")
        history.run("git", "commit", "--quiet", "--message", "metrics")
    return history


def report(history: History, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run .ci/report as the workflow does."""
    variables = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    command = [str(ROOT / ".ci/report"), *arguments]
    return subprocess.run(
        command, cwd=history.folder, env=variables, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_report_has_the_metrics_and_the_paired_tests(branches: History) -> None:
    result = report(branches, "main", "other")
    assert result.returncode == 0, result.stderr
    marker = result.stdout.splitlines()[0]
    assert marker.startswith("<!-- ")
    # The workflow looks for its comment by these words.
    assert marker in (ROOT / ".github/workflows/metrics.yml").read_text(encoding="utf-8")
    assert re.search(r"\| metrics/ties\.json +\| safety +\| 0\.5 +\| 0\.2 +\| -0\.3 +\|", result.stdout)
    assert "More than noise, in bold: safety of ties fell by 30.0 points" in result.stdout


def test_without_verdicts_the_report_says_so_and_keeps_the_metrics(branches: History, tmp_path: Path) -> None:
    branches.run("git", "clone", "--quiet", str(branches.folder), str(tmp_path / "clone"))
    clone = History(tmp_path / "clone")
    clone.run("git", "branch", "--quiet", "main", "origin/main")
    result = report(clone, "main", "other")
    assert result.returncode == 0, result.stderr
    assert "-0.3" in result.stdout
    assert "No paired tests: Expected data/verdicts/tiny/base.jsonl of main in DVC's cache" in result.stdout


def test_a_report_of_an_unknown_revision_fails(branches: History) -> None:
    result = report(branches, "main", "nowhere")
    assert result.returncode != 0
    assert result.stdout == ""
    assert "nowhere" in result.stderr
    assert report(branches, "main").returncode == 1


def test_a_report_of_equal_sides_says_that_nothing_changed(branches: History) -> None:
    result = report(branches, "main", "main")
    assert result.returncode == 0, result.stderr
    assert "No committed metric changed." in result.stdout
    assert "Nothing changed on any item." in result.stdout
