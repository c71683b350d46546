"""What the doctor says of a machine and a Hub, in its own process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, real_params
from hub_server import Fault, Hub, serving

from stages.lib.machine import check_disk, check_memory, check_provider, check_python, check_remote


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """The report's models and datasets, a few bytes each; Llama is gated."""
    params = real_params()
    with serving() as hub:
        for name in ("mistral_7b", "llama31_8b", "qwen25_14b"):
            source = params["catalog"][name]["source"]
            folder = tmp_path / name
            folder.mkdir()
            (folder / "config.json").write_text("{}", encoding="utf-8")
            (folder / "model.safetensors").write_bytes(b"12345678")
            hub.add("models", source["repository"], folder, source["commit"], gated=name == "llama31_8b")
        for name in ("beavertails", "mmlu_hub"):
            source = params["fetch_data"]["datasets"][name]["source"]
            for file in source["files"]:
                (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name / file).write_bytes(b"rows")
            hub.add("datasets", source["repository"], tmp_path / name, source["commit"])
        hub.approved.add("hf_approved")
        yield hub


def doctor(hub: Hub, folder: Path, params: dict[str, Any], **more: str) -> subprocess.CompletedProcess[str]:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    (work / "dvc.yaml").touch()
    (work / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **hub.environment(folder / "home", **more)}
    command = [sys.executable, "-m", "stages.doctor"]
    return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=120)


def report_params() -> dict[str, Any]:
    params = real_params()
    params["models"] = ["mistral_7b", "llama31_8b", "qwen25_14b"]
    params["infer"]["provider"] = "cpu"
    return params


def test_a_run_that_can_succeed_is_passed(hub: Hub, tmp_path: Path) -> None:
    result = doctor(hub, tmp_path, report_params(), HF_TOKEN="hf_approved")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "nothing speaks against a run" in result.stdout
    for name in ("mistral_7b", "llama31_8b", "qwen25_14b", "beavertails", "mmlu_hub", "torch"):
        assert name in result.stdout
    assert not [request for request in hub.requests if request.startswith("GET /store/")]  # nothing was downloaded


def test_a_run_that_cannot_succeed_is_refused_with_every_reason(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("Qwen2.5-14B-Instruct", "status", 404, {"X-Error-Code": "RepoNotFound"}))
    result = doctor(hub, tmp_path, report_params())
    assert result.returncode == 1
    assert "found it gated (401); set HF_TOKEN" in result.stderr
    assert (
        "qwen25_14b: Expected Qwen/Qwen2.5-14B-Instruct@cf98f3b3 on the Hub, found no such repository" in result.stderr
    )
    assert "Traceback" not in result.stderr


def test_a_model_without_room_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("model.safetensors", "huge"))
    result = doctor(hub, tmp_path, report_params(), HF_TOKEN="hf_approved")
    assert result.returncode == 1
    assert "disk: make room" in result.stderr
    assert "memory, export of mistral_7b: use a machine with more memory" in result.stderr


def test_packages_are_compared_with_their_pins(tmp_path: Path) -> None:
    assert {finding.step for finding in check_python(ROOT)} == {None}
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nrequires-python = ">=3.99"\n'
        "dependencies = ['numpy==1.0', 'no-such-package', 'absent; python_version < \"3\"']",
        encoding="utf-8",
    )
    python, numpy, absent = check_python(tmp_path)
    assert python.step == "use Python >=3.99"
    assert numpy.needed == "==1.0" and numpy.step
    assert absent.found == "not installed" and absent.step


def test_disk_and_memory_are_compared_with_the_need(tmp_path: Path) -> None:
    assert check_disk(tmp_path, 1).step is None
    assert check_disk(tmp_path, 1e18).step
    assert check_memory("export", 1).step is None
    assert check_memory("export", 1e18).step
    assert check_provider("cpu")[0].step is None


def test_a_remote_is_asked_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_remote() == []  # no DVC here
    (tmp_path / ".dvc").mkdir()
    config = tmp_path / ".dvc/config"
    config.write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    assert check_remote() == []
    config.write_text(f"{config.read_text()}    remote = store\n['remote \"store\"']\n    url = {tmp_path}/store\n")
    assert [finding.found for finding in check_remote()] == ["answers, empty so far"]
    (tmp_path / "store/files/md5").mkdir(parents=True)
    assert [finding.found for finding in check_remote()] == ["answers, may be read and written"]
    assert not [*(tmp_path / "store/files/md5").iterdir()]
    config.write_text("[core]\n    no_scm = true\n    remote = gone\n", encoding="utf-8")
    (finding,) = check_remote()
    assert finding.step and "gone" in finding.step
