"""The command `safety-tax`, as a person types it."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import warm
import yaml
from conftest import ROOT

from safety_tax.cli import COMMANDS, completion
from safety_tax.commands.init import of_installed
from safety_tax.core.registry import names_of
from safety_tax.core.workspace import VERSION


def safety_tax(*arguments: str, cwd: Path = ROOT, status: int = 0, fresh: bool = False) -> str:
    """What the command prints; its exit status must be `status`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = warm.python("-m", "safety_tax.cli", *arguments, cwd=cwd, env=env, fresh=fresh)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_without_arguments_it_lists_its_commands() -> None:
    told = safety_tax(fresh=True)
    assert all(f"  {name} " in told and purpose in told for name, purpose in COMMANDS.items())
    assert safety_tax("--version", fresh=True) == f"safety-tax {version('safety-tax')}\n"


def test_every_command_is_a_file_and_every_file_a_command() -> None:
    import safety_tax.commands

    assert set(names_of(safety_tax.commands)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    told = safety_tax(name, "--help")
    assert told.startswith(f"usage: safety-tax {name}") and "--quiet" in told


def test_a_misspelt_command_gets_near_matches() -> None:
    assert "found 'comapre'; did you mean 'compare'" in safety_tax("comapre", status=2)
    assert "found 'infre'; did you mean 'infer'" in safety_tax("stage", "infre", status=1, fresh=True)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands_and_options(shell: str) -> None:
    script = completion(shell)
    assert all(name in script for name in COMMANDS) and "--fail-on" in script


def test_init_begins_a_project_that_dvc_and_doctor_read(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    told = safety_tax("init", str(folder), cwd=tmp_path)
    assert f"Next: cd {folder} && safety-tax doctor" in told
    assert (folder / ".git").is_dir()  # of its own, inside another one, too
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    of_repository = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert set(stages) == set(of_repository)
    for name in stages:
        stage, original = (of[name].get("do", of[name]) for of in (stages, of_repository))
        assert stage["cmd"].startswith("safety-tax stage ")
        assert str(VERSION) in stage["deps"] and not [dep for dep in stage["deps"] if str(dep).endswith(".py")]
        assert stage.get("outs") == original.get("outs")
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "judge@smollm2_135m-ties" in listed.stdout
    checked = safety_tax("doctor", "--no-time", cwd=folder)
    assert "speaks against a run" in checked
    assert "found params.yaml in" in safety_tax("init", cwd=folder, status=1)


def test_init_keeps_what_a_person_lets_git_ignore_and_adds_what_stages_write(tmp_path: Path) -> None:
    folder = tmp_path / "my merges"
    folder.mkdir()
    (folder / ".gitignore").write_text("*.log\n/runs/", encoding="utf-8")
    assert f"Next: cd '{folder}' && safety-tax doctor" in safety_tax("init", str(folder), cwd=tmp_path)
    lines = (folder / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["*.log", "/runs/"] and lines.count("/runs/") == 1
    for name in ("runs/merge/x", "reports/x.html", "models/merged/x", "data/responses/x", "a.log"):
        subprocess.run(["git", "check-ignore", "--quiet", name], cwd=folder, check=True)
    for name in ("params.yaml", "data/prompts/x", "data/merges/x.yml"):
        assert subprocess.run(["git", "check-ignore", "--quiet", name], cwd=folder, check=False).returncode == 1


def test_init_where_no_project_can_begin_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"Expected a folder at {tmp_path / 'file'}, found a file" in safety_tax(
        "init", "file", cwd=tmp_path, status=1
    )
    (tmp_path / "params.yaml").touch()
    told = safety_tax("init", cwd=tmp_path, status=1)
    assert "name another folder." in told and "--upgrade" not in told


@pytest.mark.parametrize("arguments", [["audit", "labelled.jsonl", "--json"], ["audit", "--help"]], ids=" ".join)
def test_a_reader_that_has_had_enough_is_no_fault(arguments: list[str], tmp_path: Path) -> None:
    row = '{"prompt": "How do I bake bread?", "response": "I cannot help with that.", "label": "refuse"}'
    (tmp_path / "labelled.jsonl").write_text(f"{row}\n" * 12, encoding="utf-8")
    read, write = os.pipe()
    os.close(read)  # as `head` does once it has its lines
    done = subprocess.run(
        [sys.executable, "-m", "safety_tax.cli", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_init_leaves_a_project_alone_but_for_its_pipeline(tmp_path: Path) -> None:
    assert "Expected safety-tax.version of a project" in safety_tax("init", "--upgrade", cwd=tmp_path, status=1)
    safety_tax("init", cwd=tmp_path)
    (tmp_path / "params.yaml").write_text("models: [mine]\n", encoding="utf-8")
    (tmp_path / VERSION).write_text("0.0.1\n", encoding="utf-8")
    told = safety_tax("stage", "metrics", "mine", cwd=tmp_path, status=1)
    assert "Expected safety-tax 0.0.1" in told and "safety-tax init --upgrade" in told
    safety_tax("init", "--upgrade", cwd=tmp_path)
    assert (tmp_path / VERSION).read_text(encoding="utf-8").strip() == version("safety-tax")
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == "models: [mine]\n"


def test_a_project_depends_on_the_version_alone_where_the_repository_depends_on_code() -> None:
    stage = {"cmd": "python -m stages.judge m v", "deps": ["data/x.jsonl", "stages/judge.py", "safety_tax/judging"]}
    (found,) = of_installed({"stages": {"judge": stage}})["stages"].values()
    assert found == {"cmd": "safety-tax stage judge m v", "deps": ["data/x.jsonl", "safety-tax.version"]}
