"""The report's own setting, whole: `dvc repro` of the catalogue's three Hub entries; only HF_ENDPOINT is another."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import onnx
import pytest
import torch
from catalogue_hub import MODELS, serve_catalogue
from conftest import Project, real_params
from hub_server import Hub, serving
from safetensors.torch import load_file

from safety_tax.core.rows import GENERATED, ChoiceScore, read_examples, read_rows
from safety_tax.onnx.over_checkpoint import tensors_of

pytestmark = pytest.mark.slow
RECIPES = ("safety_donor", "ties")


def small_params() -> dict[str, Any]:
    """params.yaml with the three models, and with smaller numbers of rows, items, recipes and new tokens."""
    params = copy.deepcopy(real_params())
    params["models"] = list(MODELS)
    params["sizes"]["quick"] |= {"harmful": 20, "jailbreak": 4, "benign": 12, "choice": 40, "other_format": 8}
    params["donors"]["safety"] |= {"harmful": 12, "benign": 20}
    params["donors"]["utility"] |= {"choice": 16}
    params["recipes"] = {name: params["recipes"][name] for name in RECIPES}
    params["infer"]["max_new_tokens"] = dict.fromkeys(GENERATED, 16)
    return params


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with serving() as hub, pytest.MonkeyPatch.context() as patch:
        serve_catalogue(hub, tmp_path_factory.mktemp("hub"))
        hub.approved.add("hf_approved")
        for name, value in hub.environment(tmp_path_factory.mktemp("home"), HF_TOKEN="hf_approved").items():
            patch.setenv(name, value)
        yield hub


@pytest.fixture(scope="module")
def measured(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"), small_params())
    project.ran = project.repro()
    return project


def headline(project: Project, model: str) -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = json.loads((project.folder / f"metrics/{model}.json").read_text("utf-8"))
    return content


def test_three_metrics_files_hold_every_variant(measured: Project) -> None:
    assert sorted(file.name for file in (measured.folder / "metrics").glob("*.json")) == [
        f"{name}.json" for name in sorted([*MODELS, "models"])
    ]
    for name in MODELS:
        numbers = headline(measured, name)
        assert list(numbers) == ["base", *RECIPES]
        assert all(row["tax_status"] for variant, row in numbers.items() if variant != "base")


def test_one_table_shows_all_three(measured: Project) -> None:
    table = measured.dvc("metrics", "show", "--md").splitlines()
    assert len([line for line in table if line.startswith("| Path")]) == 1
    for name in MODELS:
        for variant in ("base", *RECIPES):
            assert len([line for line in table if line.startswith(f"| metrics/{name}/{variant}.json")]) == 1


def test_one_page_lays_all_three_side_by_side(measured: Project) -> None:
    measured.stage("safety_tax.cli", "report", *MODELS)
    page = (measured.folder / "reports/models.html").read_text("utf-8")
    assert "3 models" in page and "Not one comparison" not in page
    assert page.count("Each was asked the same 20 harmful prompts") == 1
    for name in MODELS:
        assert f'<span class="of">{name}</span>' in page
        for variant in ("base", *RECIPES):
            assert f'id="{name}-{variant}"' in page


def test_the_page_says_which_template_a_model_without_one_was_asked_in(measured: Project) -> None:
    pages = {name: (measured.folder / f"metrics/{name}.md").read_text("utf-8") for name in MODELS}
    assert (
        "no chat template of its own: it was asked in `data/chat_templates/plain_dialogue.jinja`" in pages["mistral_7b"]
    )
    assert "chat template" not in pages["llama31_8b"] + pages["qwen25_14b"]
    assert all(
        "followed 5 solved ones about its subject, from the official dev split" in page for page in pages.values()
    )


def test_every_question_is_scored_by_letter_and_the_first_few_by_continuation(measured: Project) -> None:
    assert len(read_examples(measured.folder / "data/benchmarks/shots.jsonl")) == 57 * 5
    for name in MODELS:
        for variant in ("base", *RECIPES):
            scores = read_rows(measured.folder / f"data/responses/{name}/{variant}/choices.jsonl", ChoiceScore)
            assert len([score for score in scores if score.letter_logprobs is not None]) == len(scores) == 40
            assert len([score for score in scores if score.continuation_logprobs is not None]) == 8


def test_weights_are_float16_after_bfloat16_and_each_architecture_keeps_what_is_its_own(measured: Project) -> None:
    models = measured.folder / "models"
    for name in MODELS:
        for file in (models / "base" / name).glob("model*.safetensors"):
            assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}
        (file,) = (models / "merged" / name / "ties").glob("model*.safetensors")
        merged = load_file(file)
        assert {tensor.dtype for tensor in merged.values()} == {torch.float16}
        assert "lm_head.weight" in merged  # untied
        graph = onnx.load(models / "onnx" / name / "ties/model.onnx", load_external_data=False).graph
        assert {weight.data_type for weight in tensors_of(graph)} == {onnx.TensorProto.FLOAT16}
        biases = [weight.name for weight in tensors_of(graph) if weight.name.endswith("_proj.bias")]
        assert len(biases) == (2 * 3 if name == "qwen25_14b" else 0)
    configs = {name: json.loads((models / "onnx" / name / "ties/config.json").read_text("utf-8")) for name in MODELS}
    assert configs["mistral_7b"]["sliding_window"] == 4096
    assert configs["llama31_8b"]["rope_scaling"]["rope_type"] == "llama3"


def test_only_what_is_needed_was_asked_of_the_hub_at_the_pinned_commits(hub: Hub, measured: Project) -> None:
    asked = [request for request in hub.requests if "/resolve/" in request]
    commits = {repository.commit for repository in hub.repositories.values()}
    assert {request.split("/resolve/")[1].split("/")[0] for request in asked} == commits
    assert not [request for request in asked if request.endswith((".bin", ".md", "validation-00000-of-00001.parquet"))]
    files = {request.rsplit("/", 1)[1] for request in asked}
    assert {"model-00001-of-00004.safetensors", "test.jsonl.gz", "dev-00000-of-00001.parquet"} <= files


def test_a_second_run_needs_neither_work_nor_hub(measured: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    assert measured.repro() == []
