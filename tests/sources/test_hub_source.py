"""Models from a loopback Hub, through the unmodified client in its own process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import warm
import yaml
from conftest import ROOT, SIZES, real_params
from hub_server import Fault, Hub, serving, sha256
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from safety_tax.core.tensor_files import INDEX

COMMIT = "27d67f1b5f57dc0953326b2601d68371d40ea8da"
NAME = "own/model"
# The stage up to its gate, which imports torch: what comes from the Hub is there by then, or was refused.
DOWNLOAD = """
from safety_tax.core.console import run_stage
from safety_tax.core.files import folder_written_atomically
from safety_tax.core.workspace import BASES
from safety_tax.model_files.bringing import bring
from safety_tax.params import load_params

def main():
    with folder_written_atomically(BASES / "mistral_7b") as folder:
        bring(load_params().model("mistral_7b"), folder)

run_stage(main, torch=False)
"""


def make_repository(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Two shards, their index, a tokenizer, and what a repository has besides."""
    (folder / "original").mkdir(parents=True)
    network = MistralForCausalLM(MistralConfig(**SIZES | {"num_hidden_layers": 1}, sliding_window=None))
    network.save_pretrained(folder, max_shard_size=300_000)
    tokenizer.save_pretrained(folder)
    unwanted = [
        "README.md",
        "modeling.py",
        "pytorch_model.bin",
        "consolidated.safetensors",
        "original/model.safetensors",
    ]
    for name in unwanted:
        (folder / name).write_bytes(b"unwanted")
    return folder


@pytest.fixture
def repository(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    return make_repository(tmp_path / "repository", tokenizer)


WANTED = {"chat_template.jinja", "config.json", "generation_config.json", "model-00001-of-00002.safetensors"}
WANTED |= {"model-00002-of-00002.safetensors", INDEX, "special_tokens_map.json", "tokenizer.json"}
WANTED |= {"tokenizer_config.json"}


@pytest.fixture
def hub(repository: Path) -> Iterator[Hub]:
    with serving() as hub:
        hub.add("models", NAME, repository, COMMIT)
        yield hub


Result = subprocess.CompletedProcess[str]


def run(
    program: list[str], hub: Hub, folder: Path, source: dict[str, Any] | None, more: dict[str, str], fresh: bool = False
) -> Result:
    """Python with the arguments in a project whose catalogue has an entry with the source."""
    params = real_params()
    # As the repository stores its weights: they are kept as they are.
    params["catalog"]["mistral_7b"] |= {"chat_template": "own", "dtype": "float32"}
    params["catalog"]["mistral_7b"]["source"] = {"kind": "hub", "repository": NAME, "commit": COMMIT, **(source or {})}
    work = folder / "work"
    work.mkdir(exist_ok=True)
    (work / "dvc.yaml").touch()
    (work / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **hub.environment(folder / "home", **more)}
    return warm.python(*program, cwd=work, env=environment, fresh=fresh)


def fetch(hub: Hub, folder: Path, source: dict[str, Any] | None = None, fresh: bool = False, **more: str) -> Result:
    """`python -m stages.fetch_model`."""
    return run(["-m", "stages.fetch_model", "mistral_7b"], hub, folder, source, more, fresh)


def download(hub: Hub, folder: Path, **more: str) -> Result:
    """What the stage brings before its gate."""
    return run(["-c", DOWNLOAD], hub, folder, None, more)


def fetched(folder: Path) -> set[str]:
    model = folder / "work/models/base/mistral_7b"
    return {file.relative_to(model).as_posix() for file in model.rglob("*")} if model.exists() else set()


def refused(result: Result, folder: Path) -> str:
    """The one sentence; nothing was written."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("Expected ")
    assert fetched(folder) == set()
    return result.stderr


def shard_digest(repository: Path) -> str:
    return sha256((repository / "model-00001-of-00002.safetensors").read_bytes())


def test_only_what_is_needed_is_downloaded_and_kept(hub: Hub, repository: Path, tmp_path: Path) -> None:
    result = fetch(hub, tmp_path, fresh=True)
    assert result.returncode == 0, result.stderr
    assert "113,856 parameters" in result.stdout
    assert fetched(tmp_path) == WANTED
    asked = {request.partition("/resolve/")[2].partition("/")[2] for request in hub.requests if "/resolve/" in request}
    assert asked == WANTED
    assert all(COMMIT in request for request in hub.requests if "/store/" not in request)
    for name in WANTED - {"tokenizer_config.json"}:  # which says what the tokenizer gives, for the plain idiom
        assert (tmp_path / "work/models/base/mistral_7b" / name).read_bytes() == (repository / name).read_bytes()


def test_what_another_program_put_into_the_cache_stays_out(hub: Hub, tmp_path: Path) -> None:
    code = f"import huggingface_hub; huggingface_hub.snapshot_download('{NAME}', revision='{COMMIT}')"
    environment = {**os.environ, **hub.environment(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, timeout=120)
    assert len(list((tmp_path / "home").rglob("pytorch_model.bin"))) == 1
    assert download(hub, tmp_path).returncode == 0
    assert fetched(tmp_path) == WANTED


def test_a_whole_copy_in_the_cache_needs_no_connection(hub: Hub, tmp_path: Path) -> None:
    assert download(hub, tmp_path).returncode == 0
    for more in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        shutil.rmtree(tmp_path / "work")
        result = download(hub, tmp_path, **more)
        assert result.returncode == 0, result.stderr
        assert "taken from the cache" in result.stdout
        assert fetched(tmp_path) == WANTED


def test_a_part_of_a_copy_is_not_taken_for_the_whole(hub: Hub, tmp_path: Path) -> None:
    assert download(hub, tmp_path).returncode == 0
    shutil.rmtree(tmp_path / "work")
    next((tmp_path / "home").rglob("model-00002-of-00002.safetensors")).unlink()
    assert "no whole copy" in refused(fetch(hub, tmp_path, HF_HUB_OFFLINE="1"), tmp_path)


def test_a_token_of_an_approved_account_opens_a_gated_repository(hub: Hub, repository: Path, tmp_path: Path) -> None:
    hub.add("models", NAME, repository, COMMIT, gated=True)
    hub.approved.add("hf_approved")
    assert "found it gated (401); set HF_TOKEN" in refused(fetch(hub, tmp_path), tmp_path)
    assert "found it gated (403); ask for access" in refused(fetch(hub, tmp_path, HF_TOKEN="hf_other"), tmp_path)
    assert download(hub, tmp_path, HF_TOKEN="hf_approved").returncode == 0
    assert fetched(tmp_path) == WANTED


@pytest.mark.parametrize(
    ("source", "more", "words"),
    [
        ({"repository": "no/such"}, {}, "no/such@27d67f1b on the Hub, found no such repository"),
        ({"repository": "no/such"}, {"HF_TOKEN": "hf_any"}, "found no such repository"),
        ({"commit": "0" * 40}, {}, "own/model@00000000 on the Hub, found no such commit; correct `commit`"),
        ({}, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids to download it"),
    ],
)
def test_what_is_not_to_be_had_is_one_sentence(
    hub: Hub, tmp_path: Path, source: dict[str, Any], more: dict[str, str], words: str
) -> None:
    assert words in refused(fetch(hub, tmp_path, source, **more), tmp_path)


class Waited(NamedTuple):
    """How a stage or its download ended, and where it ran."""

    result: Result
    folder: Path


@pytest.fixture(scope="module")
def waited(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> dict[str, Waited]:
    """What is tried again, seconds later, by name; each from a Hub of its own, and all at a time: they only wait."""
    repository = make_repository(tmp_path_factory.mktemp("repository"), tokenizer)
    cases: dict[str, tuple[Callable[..., Result], list[Fault], dict[str, str]]] = {
        "rate limit": (
            download,
            [
                Fault("/api/", "status", 429, {"Retry-After": "1"}, times=2),
                Fault("resolve/.*tokenizer", "status", 429, {"RateLimit": '"resolvers";r=0;t=1'}, times=1),
            ],
            {},
        ),
        "server": (download, [Fault("/api/", "status", 500, times=1), Fault("/store/", "status", 503, times=1)], {}),
        "cut off": (download, [Fault("model-00001", "truncated", times=1)], {}),
        "cut off for good": (fetch, [Fault("model-00001", "truncated")], {}),
        "nobody there": (fetch, [], {"HF_ENDPOINT": "http://127.0.0.1:9"}),
    }

    def tried(name: str) -> Waited:
        bring, faults, more = cases[name]
        folder = tmp_path_factory.mktemp(name.replace(" ", "_"))
        with serving() as hub:
            hub.add("models", NAME, repository, COMMIT)
            hub.faults += faults
            return Waited(bring(hub, folder, **more), folder)

    with ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(tried, cases), strict=True))


def test_a_rate_limit_is_waited_for(waited: dict[str, Waited]) -> None:
    result, folder = waited["rate limit"]
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("the Hub answered 429 (too many requests); trying again in 1 s") == 3
    assert fetched(folder) == WANTED


def test_a_long_rate_limit_is_said(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("/api/", "status", 429, {"Retry-After": "3600"}))
    assert "rate limit reached (429); wait 3600 seconds" in refused(fetch(hub, tmp_path), tmp_path)


def test_a_fault_of_the_server_that_passes_is_no_matter(waited: dict[str, Waited]) -> None:
    result, folder = waited["server"]
    assert result.returncode == 0, result.stderr
    assert fetched(folder) == WANTED


@pytest.mark.slow
def test_a_fault_of_the_server_that_stays_is_said(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", "status", 500))
    assert f"found that {hub.address} answered 500; run again later" in refused(fetch(hub, tmp_path), tmp_path)


def test_a_connection_that_breaks_off_is_taken_up_again(waited: dict[str, Waited]) -> None:
    result, folder = waited["cut off"]
    assert result.returncode == 0, result.stderr
    assert "the download was cut off; trying again in 1 s" in result.stdout
    assert fetched(folder) == WANTED


def test_a_connection_that_always_breaks_off_is_said(waited: dict[str, Waited]) -> None:
    result, folder = waited["cut off for good"]
    assert "the connection cut off in the middle of a file, 4 times" in refused(result, folder)


def test_an_address_where_nobody_answers_is_said(waited: dict[str, Waited]) -> None:
    result, folder = waited["nobody there"]
    assert "found no answer from http://127.0.0.1:9" in refused(result, folder)


def test_a_changed_file_is_refused_and_leaves_the_cache(hub: Hub, repository: Path, tmp_path: Path) -> None:
    hub.faults.append(Fault("model-00001", "changed", times=1))
    words = f"model-00001-of-00002.safetensors to have the sha256 {shard_digest(repository)}, as the Hub says, found"
    assert words in refused(fetch(hub, tmp_path), tmp_path)
    assert download(hub, tmp_path).returncode == 0  # fetched anew
    assert fetched(tmp_path) == WANTED


def test_a_changed_file_outside_of_the_large_files_store_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("^config.json", "changed", times=1))
    assert "Expected config.json to have the SHA-1 " in refused(fetch(hub, tmp_path), tmp_path)
    assert download(hub, tmp_path).returncode == 0  # fetched anew
    assert fetched(tmp_path) == WANTED


def test_a_copy_that_changed_in_the_cache_is_refused(hub: Hub, repository: Path, tmp_path: Path) -> None:
    assert download(hub, tmp_path).returncode == 0
    shutil.rmtree(tmp_path / "work")
    stored = next((tmp_path / "home").rglob(shard_digest(repository)))
    stored.write_bytes(stored.read_bytes()[:-1] + b"\x01")
    assert "found" in refused(fetch(hub, tmp_path, HF_HUB_OFFLINE="1"), tmp_path)
    assert not stored.exists()


def test_a_disk_without_room_is_said_before_the_download(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("model-00001", "huge"))
    sentence = refused(fetch(hub, tmp_path), tmp_path)
    assert "Expected 1,000,000.0 GB of free disk" in sentence
    assert "set HF_HOME to a folder on a larger disk" in sentence
    assert not any("/resolve/" in request for request in hub.requests)


def test_pickled_weights_are_refused_before_the_download(hub: Hub, repository: Path, tmp_path: Path) -> None:
    for file in repository.glob("model-*.safetensors"):
        file.unlink()
    sentence = refused(fetch(hub, tmp_path), tmp_path)
    assert "found pickled pytorch_model.bin, which runs code when it is read" in sentence
    assert not any("/resolve/" in request for request in hub.requests)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_the_repositorys_own_is_refused(hub: Hub, repository: Path, tmp_path: Path, file: str) -> None:
    config = json.loads((repository / file).read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForCausalLM": "modeling.BetterForCausalLM"}
    (repository / file).write_text(json.dumps(config), encoding="utf-8")
    assert f"found `auto_map` in {file}" in refused(download(hub, tmp_path), tmp_path)
    assert not any("/store/" in request for request in hub.requests)  # no weights were downloaded for nothing


def test_code_beside_a_class_that_transformers_has_is_left_alone(hub: Hub, repository: Path, tmp_path: Path) -> None:
    """As in Phi's repositories: the class of that very name is Transformers' own, and nothing else is run."""
    config = json.loads((repository / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForCausalLM": "modeling.MistralForCausalLM"}
    (repository / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert fetch(hub, tmp_path).returncode == 0


def test_an_index_that_names_a_missing_file_is_refused(hub: Hub, repository: Path, tmp_path: Path) -> None:
    (repository / "model-00002-of-00002.safetensors").unlink()
    assert "found no model-00002-of-00002.safetensors" in refused(fetch(hub, tmp_path), tmp_path)


def test_an_index_that_names_no_files_is_refused(hub: Hub, repository: Path, tmp_path: Path) -> None:
    index = {"weight_map": {"one": 1, "other": ["model-00001-of-00002.safetensors"], "third": "a.safetensors"}}
    (repository / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert "Expected every file that model.safetensors.index.json of" in refused(fetch(hub, tmp_path), tmp_path)
