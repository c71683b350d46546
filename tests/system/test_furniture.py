"""Files that a stranger looks for say what the project says elsewhere."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))
CONTAINERS = sorted((ROOT / "docker").glob("Dockerfile.*"))
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert f"## [{citation['version']}] - {citation['date-released']}\n" in CHANGES


def test_the_changelog_begins_with_what_is_unreleased_and_then_this_version() -> None:
    sections = re.findall(r"(?m)^## \[(.+?)\]( - \d{4}-\d{2}-\d{2})?$", CHANGES)
    assert sections[0] == ("Unreleased", "")
    assert sections[1][0] == PROJECT["version"]
    kinds = set(re.findall(r"(?m)^### (.+)$", CHANGES))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.stem)
def test_an_issue_form_asks_something_and_wants_no_harmful_text(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    form = yaml.safe_load(text)
    assert {"name", "description", "body"} <= set(form)
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 1
    assert any(field.get("validations", {}).get("required") for field in fields)
    assert "harmful prompts" in text or "paste" not in text


@pytest.mark.parametrize("file", CONTAINERS, ids=lambda file: file.suffix)
def test_a_container_installs_by_hash_and_copies_nothing_private(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert "--require-hashes --requirement requirements.lock" in text
    assert ":latest" not in text
    assert re.search(r"(?m)^ENV HOME=\S+ USER=\S+$", text)  # DVC stops for a user without a name
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"  # all, but for what follows with an exclamation mark
    assert not {"!.git", "!.dvc", "!data", "!models", "!*"} & set(ignored)


def test_the_cuda_container_is_of_the_cuda_that_the_lock_pins() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    major = re.findall(r"(?m)^nvidia-cuda-runtime==(\d+)\.", lock)
    text = (ROOT / "docker/Dockerfile.cuda").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^FROM nvidia/cuda:(\d+)\.", text) == major == ["13"]
    assert re.findall(r"(?m)^nvidia-cudnn-cu13==(\d+)\.", lock) == ["9"]


def test_the_devcontainer_is_the_containers_image_with_the_tests_tools() -> None:
    folder = ROOT / ".devcontainer"
    lines = (folder / "devcontainer.json").read_text(encoding="utf-8").splitlines()
    settings = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    assert (folder / settings["build"]["dockerfile"]).resolve() in CONTAINERS
    assert "'.[test]'" in settings["postCreateCommand"]


def test_the_justfile_says_what_each_of_the_five_tasks_does() -> None:
    text = (ROOT / "justfile").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^# .+\n([a-z]+)(?: \*\w+)?:\n    ", text) == ["setup", "run", "test", "check", "docs"]
