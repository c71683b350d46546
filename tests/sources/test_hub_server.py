"""The loopback Hub against the unmodified clients: what they ask for, they get."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Fault, Hub, git_blob, serving, sha256

COMMIT = "5" * 40
CHUNK = 10 * 1024 * 1024  # bytes that the client writes at once; a part of one is lost
ROWS = "".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(20)).encode()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving() as hub:
        folder = tmp_path / "repository"
        (folder / "data/deep").mkdir(parents=True)
        (folder / "config.json").write_text("{}", encoding="utf-8")
        (folder / "data/deep/rows.jsonl.gz").write_bytes(gzip.compress(ROWS))
        hub.add("models", "own/model", folder, COMMIT)
        hub.add("datasets", "own/rows", folder, COMMIT)
        yield hub


def client(hub: Hub, home: Path, code: str, **more: str) -> Any:
    """What a client program prints as JSON, in a process of its own: it reads its settings on import."""
    environment = {**os.environ, **hub.environment(home, **more)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_info_tree_and_paths_agree_on_sizes_and_digests(hub: Hub, tmp_path: Path) -> None:
    code = f"""
import json
from huggingface_hub import HfApi
api = HfApi()
info = api.model_info("own/model", revision="{COMMIT}", files_metadata=True)
siblings = {{s.rfilename: [s.size, s.blob_id, s.lfs and s.lfs.sha256] for s in info.siblings}}
def entry(found):
    return [found.size, found.blob_id, found.lfs and found.lfs.sha256]
tree = {{f.path: entry(f) for f in api.list_repo_tree("own/model", revision="{COMMIT}", recursive=True)
        if hasattr(f, "size")}}
paths = {{f.path: entry(f) for f in api.get_paths_info("own/model", list(siblings), revision="{COMMIT}")}}
top = sorted(f.path for f in api.list_repo_tree("own/rows", repo_type="dataset"))
print(json.dumps([info.sha, siblings, tree, paths, top]))
"""
    commit, siblings, tree, paths, top = client(hub, tmp_path / "home", code)
    stored = (tmp_path / "repository/data/deep/rows.jsonl.gz").read_bytes()
    assert commit == COMMIT
    assert siblings["config.json"] == [2, git_blob(b"{}"), None]
    assert siblings["data/deep/rows.jsonl.gz"] == [len(stored), git_blob(stored), sha256(stored)]
    assert siblings == tree == paths
    assert top == ["config.json", "data"]


def test_a_download_goes_on_where_it_was_cut_off(hub: Hub, tmp_path: Path) -> None:
    stored = os.urandom(12 * CHUNK // 5)
    (tmp_path / "repository/large.bin").write_bytes(stored)
    hub.faults.append(Fault("large", "truncated", times=1))
    code = f"""
import json
from huggingface_hub import hf_hub_download
name = dict(repo_id="own/model", filename="large.bin", revision="{COMMIT}")
try:
    hf_hub_download(**name)
    print("null")
except Exception as error:
    path = hf_hub_download(**name)
    print(json.dumps([type(error).__name__, path]))
"""
    error, path = client(hub, tmp_path / "home", code)
    assert error == "ChunkedEncodingError"
    assert Path(path).read_bytes() == stored
    assert Path(path).resolve().name == sha256(stored)
    assert f"GET /store/{sha256(stored)} bytes={CHUNK}-" in hub.requests


def test_the_datasets_client_loads_a_dataset(hub: Hub, tmp_path: Path) -> None:
    code = f"""
import json
from datasets import load_dataset
rows = load_dataset("own/rows", data_files="data/deep/rows.jsonl.gz", revision="{COMMIT}", split="train")
print(json.dumps(rows["text"][:]))
"""
    assert client(hub, tmp_path / "home", code) == [f"row {n}" for n in range(20)]


def test_faults_come_as_the_errors_that_clients_know(hub: Hub, tmp_path: Path) -> None:
    hub.add("models", "own/gated", tmp_path / "repository", COMMIT, gated=True)
    hub.approved.add("hf_approved")
    hub.faults.append(Fault("/api/models/own/busy", "status", 429, {"Retry-After": "7"}))
    code = f"""
import json
from huggingface_hub import HfApi, hf_hub_download
api = HfApi()
def error(call):
    try:
        return call() and None
    except Exception as error:
        return [type(error).__name__, error.response.status_code]
def download(name, file="config.json", revision="{COMMIT}", token=None):
    return error(lambda: hf_hub_download(name, file, revision=revision, token=token))
print(json.dumps([
    download("own/gated"),
    download("own/gated", token="hf_other"),
    download("own/gated", token="hf_approved"),
    download("own/none"),
    download("own/none", token="hf_other"),
    download("own/model", revision="0" * 40),
    download("own/model", file="none.json"),
    error(lambda: api.model_info("own/busy")),
]))
"""
    assert client(hub, tmp_path / "home", code) == [
        ["GatedRepoError", 401],
        ["GatedRepoError", 403],
        None,
        ["RepositoryNotFoundError", 401],
        ["RepositoryNotFoundError", 404],
        ["RevisionNotFoundError", 404],
        ["EntryNotFoundError", 404],
        ["HfHubHTTPError", 429],
    ]
