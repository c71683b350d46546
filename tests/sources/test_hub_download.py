"""`fetch_data` on datasets from a loopback Hub, through the unmodified client in its own process."""

import copy
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import warm
import yaml
from conftest import ROOT, real_params
from hub_server import Hub, serving
from test_hub_datasets import CASES, REPORT, jsonl, mmlu, pair, parquet

SUBJECTS = ("anatomy", "high_school_us_history")
HARMFUL = [pair(f"Harmful request number {n % 60}?", *["animal_abuse"] * (n % 2)) for n in range(120)]


def hub_datasets() -> dict[str, dict[str, Any]]:
    """Name -> source of every dataset that comes from the Hub."""
    entries = real_params()["fetch_data"]["datasets"]
    return {name: entry["source"] for name, entry in entries.items() if entry["source"]["kind"] == "hub_dataset"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Every dataset of params.yaml, in the files that it names there."""
    root = tmp_path_factory.mktemp("hub")
    sources = hub_datasets()
    for name, source in sources.items():
        if name == "mmlu_hub":
            mmlu(root / source["repository"], SUBJECTS)
        elif name == "beavertails":
            jsonl(root / source["repository"] / source["files"][0], HARMFUL)
        elif name == "gsm8k":
            for file in source["files"]:
                solved = [{"question": f"How many in {file} {n}?", "answer": f"#### {n}"} for n in range(9)]
                parquet(root / source["repository"] / file, solved)
        elif name == "ifeval":
            told = {"key": 1, "prompt": "Write.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
            (root / source["repository"]).mkdir(parents=True)
            (root / source["repository"] / source["files"][0]).write_text(json.dumps(told) + "\n", encoding="utf-8")
        else:
            _, write, rows, _ = CASES[name]
            write(root / source["repository"] / source["files"][0], rows)
    (root / "closed").mkdir()
    with serving() as hub:
        for source in sources.values():
            hub.add("datasets", source["repository"], root / source["repository"], source["commit"])
        hub.add("datasets", "closed/gated", root / "closed", sources["beavertails"]["commit"], gated=True)
        yield hub


def params_of(folder: Path, datasets: list[str]) -> dict[str, Any]:
    """The project's params with the report's models, jailbreak texts from a folder and `datasets` beside them."""
    (folder / "texts/dan").mkdir(parents=True)
    (folder / "texts/inthewild_jailbreak_llms.json").write_text('["Answer this."]', encoding="utf-8")
    params = copy.deepcopy(real_params())
    params["models"] = REPORT
    params["sizes"]["quick"] = {kind: "all" for kind in params["sizes"]["quick"]}
    params["fetch_data"]["datasets"]["jailbreak_texts"]["source"] = {"kind": "folder", "path": "texts"}
    params["fetch_data"]["datasets"]["matched_benign"]["source"]["path"] = str(ROOT / "data/prompts")
    params["benchmark_sets"]["report"] = ["jailbreak_texts", "matched_benign", *datasets]
    return params


def fetch_data(folder: Path, params: dict[str, Any], hub: Hub, **more: str) -> subprocess.CompletedProcess[str]:
    (folder / "dvc.yaml").touch()
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **hub.environment(folder / "cache", **more)}
    return warm.python("-m", "stages.fetch_data", cwd=folder, env=environment)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = (
        (folder / ("data/tuning/prompts.jsonl" if name == "tune" else f"data/benchmarks/{name}.jsonl"))
        .read_text(encoding="utf-8")
        .splitlines()
    )
    return [row for row in map(json.loads, lines) if "id" in row]  # without the seal


def test_every_dataset_of_the_hub_is_fetched_and_read(served: Hub, tmp_path: Path) -> None:
    names = list(hub_datasets())
    result = fetch_data(tmp_path, params_of(tmp_path, names), served)
    assert result.returncode == 0, result.stderr
    files = ("harmful", "benign", "choice", "problem", "instruction", "tune")
    fetched = {row["benchmark"] for name in files for row in rows(tmp_path, name)}
    assert fetched >= set(names)
    harmful = [row for name in ("harmful", "tune") for row in rows(tmp_path, name) if row["benchmark"] == "beavertails"]
    assert 20 < len(harmful) <= 30  # 30 prompts drew an unsafe answer; some tuning rows may leak
    examples = rows(tmp_path, "shots")
    assert [row["benchmark"] for row in examples if row["kind"] == "problem"] == ["gsm8k"] * 5
    shots = [row for row in examples if row["kind"] == "choice"]
    assert [row["group"] for row in shots] == ["anatomy"] * 5 + ["high school us history"] * 5
    assert [int(row["text"].split()[1]) for row in shots] == [100, 101, 102, 103, 104] * 2


def test_a_second_run_needs_no_connection(served: Hub, tmp_path: Path) -> None:
    params = params_of(tmp_path, ["beavertails", "mmlu_hub"])
    assert fetch_data(tmp_path, params, served).returncode == 0
    first = rows(tmp_path, "harmful")
    again = fetch_data(tmp_path, params, served, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert rows(tmp_path, "harmful") == first


FAULTS = [
    ({"repository": "closed/gated"}, {}, "found it gated (401); set HF_TOKEN"),
    ({"repository": "closed/gated"}, {"HF_TOKEN": "hf_other"}, "found it gated (403); ask for access"),
    ({"repository": "no/such"}, {}, "found no such repository"),
    ({"commit": "0" * 40}, {}, "found no such commit"),
    (
        {"files": ["round0/30k/other.jsonl.gz"]},
        {},
        "round0/30k/other.jsonl.gz of the dataset PKU-Alignment/BeaverTails",
    ),
    ({}, {"HF_HUB_OFFLINE": "1"}, "found no whole copy, and HF_HUB_OFFLINE forbids"),
]


@pytest.mark.parametrize(("change", "environment", "words"), FAULTS)
def test_what_cannot_be_had_is_one_sentence(
    served: Hub, tmp_path: Path, change: dict[str, Any], environment: dict[str, str], words: str
) -> None:
    params = params_of(tmp_path, ["beavertails", "mmlu_hub"])
    params["fetch_data"]["datasets"]["beavertails"]["source"] |= change
    result = fetch_data(tmp_path, params, served, **environment)
    assert result.returncode == 1
    sentence = " ".join(result.stderr.split())
    assert words in sentence
    assert "Traceback" not in sentence
    assert not (tmp_path / "data/benchmarks").exists()
