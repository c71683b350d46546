"""All four currencies of one tiny model, through DVC: the default's items, and GSM8K and IFEval from a loopback Hub."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, tiny_params
from hub_server import serving
from test_hub_datasets import parquet

from safety_tax.core.currencies import CURRENCIES
from safety_tax.results.loading import load_results
from safety_tax.results.variant import read_results

pytestmark = pytest.mark.slow
PROBLEMS, INSTRUCTIONS = 24, 20


def write_gsm8k(folder: Path) -> None:
    """Sums in words, in the published layout."""

    def rows(first: int, count: int) -> list[dict[str, Any]]:
        return [
            {
                "question": f"Ada has {n} pens and buys {n + 2} more. How many pens does she have?",
                "answer": f"She has {n} + {n + 2} = <<{n}+{n + 2}={2 * n + 2}>>{2 * n + 2} pens.\n#### {2 * n + 2}",
            }
            for n in range(first, first + count)
        ]

    parquet(folder / "main/test-00000-of-00001.parquet", rows(10, PROBLEMS))
    parquet(folder / "main/train-00000-of-00001.parquet", rows(100, 8))


def write_ifeval(folder: Path) -> None:
    """Prompts with one or two instructions, in the published layout."""
    rows = [
        {
            "key": n,
            "prompt": f"Write a line about the month number {n}. Do not use any commas.",
            "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"][: 1 + n % 2],
            "kwargs": [{}, {"relation": "at least", "num_words": 3}][: 1 + n % 2],
        }
        for n in range(INSTRUCTIONS)
    ]
    folder.mkdir(parents=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "ifeval_input_data.jsonl").write_text(text, encoding="utf-8")


def test_one_model_shows_all_four_currencies(
    tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny_params({"tiny_llama": tiny_models["tiny_llama"]})
    params["benchmark_sets"]["default"] += ["gsm8k", "ifeval"]
    params["sizes"]["quick"] |= {"jailbreak": 0, "problem": PROBLEMS, "instruction": INSTRUCTIONS}
    # It writes sentences, and solves nothing; an answer that ends is what the gate on problems asks for.
    params["catalog"]["tiny_llama"]["stop"] = [".", "a"]
    params["infer"]["max_new_tokens"] |= {"problem": 120, "instruction": 40}
    with serving() as hub:
        for name, write in (("gsm8k", write_gsm8k), ("ifeval", write_ifeval)):
            source = params["fetch_data"]["datasets"][name]["source"]
            write(tmp_path / name)
            hub.add("datasets", source["repository"], tmp_path / name, source["commit"])
        for variable, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(variable, value)
        project = Project(tmp_path / "project", params)
        project.repro()
    results = read_results(project.folder / "metrics/detail/tiny_llama.json")
    assert list(results.base.currencies) == list(CURRENCIES)
    asked = {name: result.value.n for name, result in results.base.currencies.items()}
    assert asked == {"helpfulness": 10, "knowledge": 60, "reasoning": PROBLEMS, "instructions": INSTRUCTIONS}
    headline = json.loads((project.folder / "metrics/tiny_llama.json").read_text("utf-8"))
    for currency in CURRENCIES.values():
        assert {currency.measure, f"{currency.measure}_lo"} <= headline["base"].keys()
        assert {currency.loss, f"{currency.loss}_hi", currency.status} <= headline["safety_donor"].keys()
    words = (project.folder / "metrics/tiny_llama.md").read_text("utf-8")
    assert all(f"{currency.noun} lost" in words for currency in CURRENCIES.values())
    assert set(load_results("tiny_llama", project=project.folder).columns) >= {c.loss for c in CURRENCIES.values()}
    assert project.repro() == []  # nothing is asked again
