"""`safety-tax card`: what the Hub's own classes read in it, and a folder that Transformers loads as people do."""

import argparse
import copy
import json
import os
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import warm
import yaml
from conftest import ARCHITECTURES, ROOT, real_params, tiny_params
from huggingface_hub import ModelCard
from sample_results import CLEAR_OF_CHANCE, SHARES, results_of, verdicts_of
from test_words import paid, recipe, results
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from safety_tax.cli import parser_of
from safety_tax.commands import card as card_command
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.rows import write_rows
from safety_tax.params import Params
from safety_tax.results.card import Ingredients, card_of
from safety_tax.results.statistics.tax import TaxStatus
from safety_tax.results.variant import ModelResults

# Of a library of DVC's, which a person does not see.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")
RECIPE = {"method": "ties", "donors": {"safety": 1.0, "utility": 1.0}, "scale": 1.0, "density": 0.5}
MERGED = {"recipe": RECIPE, "relative_change": 0.0211}
PIPELINE = """
stages:
  merge:
    matrix: {model: [tiny_llama], recipe: [ties]}
    cmd: mkdir -p models/merged/${item.model} && cp -r made models/merged/${item.model}/${item.recipe}
    params: ["recipes.${item.recipe}"]
    deps: [made]
    outs: ["models/merged/${item.model}/${item.recipe}"]
  metrics:
    matrix: {model: [tiny_llama]}
    cmd: cp detail.json metrics/detail/${item.model}.json
    deps: [detail.json, "models/merged/${item.model}"]
    outs: ["metrics/detail/${item.model}.json": {cache: false}]
"""


def card(measured: ModelResults, name: str = "ties", **changed: Any) -> ModelCard:
    """The card of one recipe of the default model, read back as the Hub's client reads a file."""
    params = real_params() | {"recipes": {one: RECIPE for one in measured.recipes}} | changed
    made = Ingredients(
        measured.model_copy(update={"model": "smollm2_135m"}),
        name,
        Params.model_validate(params),
        "apache-2.0",
        None,
        MERGED,
    )
    return ModelCard(str(card_of(made)))


def test_the_hubs_client_reads_base_licence_and_every_number() -> None:
    shares = {name: of | CLEAR_OF_CHANCE if name == "base" else of for name, of in SHARES.items()}
    measured = results_of(shares, without=("problem", "instruction"))
    found = card(measured).data
    assert (found.license, found.base_model) == ("apache-2.0", ["HuggingFaceTB/SmolLM2-135M-Instruct"])
    assert (found.library_name, found.pipeline_tag) == ("transformers", "text-generation")
    assert set(found.tags) == {"merge", "safety-tax", "ties"} and found.to_dict()["base_model_relation"] == "merge"
    assert found.eval_results is not None and found.model_name == "smollm2_135m-ties"
    numbers = {of.metric_type: of.metric_value for of in found.eval_results}
    flat = measured.recipes["ties"].flat()
    assert numbers == {
        "refusal_rate": 64.0,
        "helpfulness": 65.0,
        "accuracy": 30.0,
        "helpfulness_safety_tax": round(float(flat["helpfulness_tax"]), 2),
        "knowledge_safety_tax": round(float(flat["safety_tax"]), 2),
    }
    (safety,) = [of for of in found.eval_results if of.metric_type == "refusal_rate"]
    assert safety.dataset_args == {"size": "quick", "items": 150}
    assert safety.metric_args == {
        "95% interval": [round(100 * float(flat["safety_lo"]), 1), round(100 * float(flat["safety_hi"]), 1)]
    }


@pytest.mark.parametrize("status", get_args(TaxStatus))
def test_every_status_stands_in_the_table_and_a_tax_only_where_there_is_one(status: TaxStatus) -> None:
    priced = (0.5, 0.2, 0.9) if status in ("win", "free", "tradeoff") else None
    found = card(results(recipe("ties", knowledge=paid(status, tax=priced))))
    assert status.replace("_", " ") in found.text
    assert found.data.eval_results is not None
    taxes = [of.metric_value for of in found.data.eval_results if of.metric_type.endswith("_tax")]
    assert taxes == ([0.5] if priced else [])


def test_the_card_says_what_it_cannot_know() -> None:
    text = card(results(recipe("ties", standing="at_chance", dominated_by=("other",)))).text
    for said in (
        "**It refuses 61.0 more [55.0, 67.0] of 100 harmful prompts than the base",
        "Net benefit 14.8 points [13.0, 16.6] of safety, but `other` dominates it.**",
        "`other` is surely better",
        "A refusal is not harmlessness",
        "No person labelled these answers",
        "Not measured: helpfulness, reasoning, instruction following",
        "A loss of accuracy cannot show: the base is not surely above guessing",
        "unpacked from `SmolLM2-135M-Instruct.Q4_1.gguf`",
        "frontier.png",
    ):
        assert said in text
    assert "/" not in text.split("## How it was merged")[1].split("## How it was measured")[0]


def test_donors_and_bases_of_the_hub_are_named_and_folders_are_not() -> None:
    commit = "0" * 40
    donors = copy.deepcopy(real_params()["donors"])
    donors["safety"] = {"source": {"kind": "hub", "repository": "someone/lora", "commit": commit}}
    donors["utility"] = {"source": {"kind": "folder", "path": "/home/me/secret"}}
    found = card(results(recipe("ties")), donors=donors)
    assert found.data.base_model == ["HuggingFaceTB/SmolLM2-135M-Instruct", "someone/lora"]
    assert f"`someone/lora` at `{commit}`" in found.text and "secret" not in str(found)
    assert "and those of the donors" in found.text
    nameless = card(results(recipe("ties")), published={})
    assert nameless.data.base_model is None and "the model `smollm2_135m`" in nameless.text


@pytest.fixture
def project(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model merged and measured, in DVC: its weights are random, its numbers given."""
    monkeypatch.chdir(tmp_path)
    params = tiny_params({"tiny_llama": tmp_path / "nowhere"})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    made = tmp_path / "made"
    torch.manual_seed(0)
    ARCHITECTURES["tiny_llama"]().save_pretrained(made)  # type: ignore[operator]
    tokenizer.save_pretrained(made)
    settings = json.loads((made / "tokenizer_config.json").read_text(encoding="utf-8"))
    names = {"model_input_names": ["input_ids", "attention_mask"]}  # as stage `fetch_model` writes them
    write_json(made / "tokenizer_config.json", settings | names)
    write_json(made / "merge.json", MERGED)
    measured = results_of({name: SHARES[name] for name in ("base", "safety_donor", "ties")})
    detail = measured.model_copy(update={"model": "tiny_llama"})
    write_json(tmp_path / "detail.json", detail.model_dump(mode="json", exclude_none=True))
    write_rows(tmp_path / "data/verdicts/tiny_llama/ties.jsonl", verdicts_of("ties", SHARES["ties"]))
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    dvc(tmp_path, "config", "cache.type", "hardlink,copy")  # as the project's own: an output shares the cache's bytes
    (tmp_path / "metrics/detail").mkdir(parents=True)
    dvc(tmp_path, "repro", "--quiet")
    return tmp_path


def dvc(folder: Path, *arguments: str) -> str:
    done = warm.python("-m", "dvc", *arguments, cwd=folder)
    done.check_returncode()
    return done.stdout + done.stderr


def written(*arguments: str, capsys: pytest.CaptureFixture[str] | None = None) -> str:
    """Run the command in the present folder; returns what it printed. Raises PipelineError as it does."""
    card_command.run(parser_of("card", argparse.ArgumentParser()).parse_args(arguments))
    return " ".join(capsys.readouterr().out.split()) if capsys else ""


def test_the_folder_loads_as_people_load_models_and_dvc_sees_no_change(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = written("tiny_llama", "ties", "--licence", "mit", capsys=capsys)
    folder = project / "reports/cards/tiny_llama/ties"
    assert "licence mit" in told and "hf upload NAME reports/cards/tiny_llama/ties" in told
    merged = {file.name for file in (project / "models/merged/tiny_llama/ties").iterdir()}
    assert {file.name for file in folder.iterdir()} == merged | {"README.md", "frontier.png"}
    assert (folder / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert ModelCard.load(folder / "README.md").data.license == "mit"
    weights = "model.safetensors"
    assert os.path.samefile(folder / weights, project / "models/merged/tiny_llama/ties" / weights)
    (folder / "config.json").write_text((folder / "config.json").read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "up to date" in dvc(project, "status")  # what may be edited is a copy
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer("How do I kill a Python process?", return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > inputs["input_ids"].shape[1]
    written("tiny_llama", "ties", "--licence", "mit")  # again: it replaces its own


def test_what_is_not_known_or_not_present_is_refused_and_nothing_is_written(project: Path) -> None:
    def refused(sentence: str, *arguments: str) -> None:
        with pytest.raises(PipelineError, match=sentence):
            written(*arguments)
        assert not (project / "reports").exists()

    refused("Expected the licence of 'tiny_llama'", "tiny_llama", "ties")
    refused("did you mean 'ties'", "tiny_llama", "tie", "--licence", "mit")
    refused("Expected a merged model in models/merged/tiny_llama/saf", "tiny_llama", "safety_donor", "--licence", "mit")
    mine = project / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine", encoding="utf-8")
    refused("Expected a new folder", "tiny_llama", "ties", "--licence", "mit", "--into", "mine")
    assert (mine / "thesis.txt").exists()
    (project / "detail.json").write_text((project / "detail.json").read_text("utf-8") + "\n", encoding="utf-8")
    refused("found metrics@tiny_llama behind its inputs", "tiny_llama", "ties", "--licence", "mit")


def test_a_tokenizer_that_generate_refuses_is_refused(project: Path) -> None:
    settings = project / "models/merged/tiny_llama/ties/tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    settings.unlink()  # a link into the cache
    write_json(settings, content | {"model_input_names": ["input_ids", "token_type_ids"]})
    with pytest.raises(PipelineError, match="found input_ids, token_type_ids"):
        card_command.require_plain_tokenizer(settings.parent)


def test_the_licence_is_that_of_params_or_of_the_bases_own_card(tmp_path: Path) -> None:
    params = tiny_params({"tiny_llama": tmp_path})
    (tmp_path / "README.md").write_text("---\nlicense: gemma\n---\nhello\n", encoding="utf-8")
    assert card_command.licence_of("tiny_llama", Params.model_validate(params)) == "gemma"
    params["published"]["tiny_llama"] = {"licence": "llama3.1"}
    assert card_command.licence_of("tiny_llama", Params.model_validate(params)) == "llama3.1"


def test_the_default_models_licence_and_name_are_known() -> None:
    known = Params.model_validate(real_params()).published
    assert set(known) == set(real_params()["catalog"])
    assert all(of.licence for of in known.values())
    table = (ROOT / "LICENSES.md").read_text(encoding="utf-8")
    assert "SmolLM2-135M-Instruct (the default)" in table and known["smollm2_135m"].licence == "apache-2.0"
