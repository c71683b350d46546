"""A recipe, a donor, a limit for one model: the others' stages have nothing to do, and nothing of theirs runs."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Project

from safety_tax.checkup.progress import stage_states
from safety_tax.core.cells import CONTENT, NOTE
from safety_tax.core.clock import FOLDER, read_record
from safety_tax.core.rows import Response, read_items, read_rows

OWN, OTHER = "tiny_llama", "tiny_qwen2"
VERBS = ("merge", "export", "infer", "judge")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def numbers_of(project: Project, model: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project.folder / f"metrics/{model}.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library that DVC uses, in this process
@pytest.mark.slow
def test_a_recipe_and_a_donor_of_one_model_run_nothing_of_the_others(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = copy.deepcopy(project.params)
    changed["recipes"]["half"] = changed["recipes"]["safety_donor"] | {"scale": 0.5, "models": [OWN]}
    project.write_params(changed)
    before = numbers_of(project, OTHER)
    targets = [f"{verb}@{model}" for model in (OWN, OTHER) for verb in ("metrics", "plots")]
    told = project.dvc("repro", *targets)
    ran = [line.split("'")[1] for line in told.splitlines() if line.startswith("Running stage ")]
    cells = {f"{verb}@{model}-half" for verb in VERBS for model in (OWN, OTHER)}
    assert set(ran) == cells | set(targets)
    for verb in VERBS:
        assert f"{verb}: {OTHER} half, not asked: params.yaml has it for other models" in told
    for place in ("models/merged", "models/onnx", "data/responses"):
        assert files_of(project.folder / place / OTHER / "half") == {NOTE: CONTENT.encode()}
        assert NOTE not in files_of(project.folder / place / OWN / "half")
    assert (project.folder / f"data/verdicts/{OTHER}/half.jsonl").read_text(encoding="utf-8") == CONTENT
    assert numbers_of(project, OTHER) == before
    assert set(numbers_of(project, OWN)) == {"base", "safety_donor", "ties", "half"}

    # What people ask afterwards leaves out the empty cells.
    monkeypatch.chdir(project.folder)
    shown = {of.name for of in stage_states()}
    assert {f"{verb}@{OWN}-half" for verb in VERBS} <= shown and not any(f"{OTHER}-half" in name for name in shown)
    own, other = (read_record(FOLDER / f"merge@{model}-half.json") for model in (OWN, OTHER))
    assert own is not None and own.seconds is not None
    assert other is not None and other.ended is not None and other.seconds is None  # it says nothing of a real merge
    project.stage("safety_tax.cli", "report", OWN, OTHER)
    refused = project.stage("safety_tax.cli", "card", OTHER, "half", "--licence", "mit", status=1)
    assert f"Expected a recipe for {OTHER}, found 'half', which params.yaml has for {OWN}" in " ".join(refused.split())
    project.commit("a recipe of one model")
    compared = json.loads(project.stage("safety_tax.cli", "compare", "main~1", "--json"))
    assert "half" not in compared["models"][OTHER]

    # One more donor for the same model, and a recipe with it.
    changed["donors"]["helpful"] = changed["donors"]["utility"] | {"models": [OWN]}
    changed["recipes"]["third"] = {"method": "linear", "donors": {"safety": 1.0, "helpful": 1.0}, "models": [OWN]}
    project.write_params(changed)
    assert set(project.repro(f"metrics@{OTHER}")) == {
        f"tune@{OTHER}-helpful",
        *(f"{verb}@{OTHER}-third" for verb in VERBS),
        f"metrics@{OTHER}",
    }
    assert list((project.folder / f"models/donors/{OTHER}/helpful").iterdir()) == []
    assert numbers_of(project, OTHER) == before
    assert not [name for name in project.repro(f"plots@{OTHER}") if not name.startswith("plots")]


def test_the_limits_of_one_model_ask_that_model_again_and_its_budgets_nobody(project: Project) -> None:
    changed = copy.deepcopy(project.params)
    changed["catalog"][OWN]["run"] = {"generation_tokens": 4096, "rows_per_batch": 3, "processes": 2}
    project.write_params(changed)
    assert "up to date" in project.dvc("status")
    changed["catalog"][OWN]["max_new_tokens"] = {"benign": 5}
    project.write_params(changed)
    behind = {name for name in json.loads(project.dvc("status", "--json")) if "@" in name}
    assert behind == {f"baseline@{OWN}", f"metrics@{OWN}", *(f"infer@{OWN}-{name}" for name in changed["recipes"])}
    assert project.repro(f"baseline@{OWN}") == [f"baseline@{OWN}"]
    answers = read_rows(project.folder / f"data/responses/{OWN}/base/responses.jsonl", Response)
    benign = {item.id for item in read_items(project.folder / "data/benchmarks", "benign")}
    longest = [max(row.tokens or 0 for row in answers if (row.id in benign) is asked) for asked in (True, False)]
    assert longest == [5, 12]
    record = json.loads((project.folder / f"runs/{OWN}/base.json").read_text(encoding="utf-8"))
    assert record["processes"] == 2


@pytest.mark.parametrize("verb", ["tune", *VERBS])
def test_what_an_empty_cell_imports_has_neither_torch_nor_transformers(verb: str) -> None:
    code = f"import stages.{verb}, sys; print({{'torch', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
