"""The files of `examples/`: params files of common jobs, and a notebook."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from conftest import ROOT, Project, real_params
from verdict_rows import variant

from safety_tax.core.rows import ChatPrompt, Response, write_rows
from safety_tax.params import validated

EXAMPLES = ROOT / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
JUDGE_ONLY = EXAMPLES / "judge_only.yaml"
# Sections that no job of these changes: an example that differs from the project's own has been forgotten.
SHARED = (
    "prompting",
    "fetch_data",
    "tune",
    "curvature",
    "merge",
    "export",
    "infer",
    "run",
    "judge_models",
    "judge",
    "metrics",
)


def content(file: Path) -> dict[str, Any]:
    """An example as the params reader takes it."""
    params: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return params


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_a_valid_params_file(file: Path) -> None:
    params = validated(content(file))
    assert len(params.models) == 1
    assert params.models[0] in params.catalog
    assert file.read_text(encoding="utf-8").count(f"# {'2' if file != JUDGE_ONLY else '3'}. ") == 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_sets_what_its_job_does_not_change_as_the_project_does(file: Path) -> None:
    example, own = content(file), real_params()
    for section in SHARED:
        if section == "fetch_data":
            of_sets = {name for names in example["benchmark_sets"].values() for name in names}
            assert set(example[section]["datasets"]) == of_sets
            own[section]["datasets"] = {name: own[section]["datasets"][name] for name in of_sets}
        assert example.get(section) == own.get(section), section
    for name, size in example["sizes"].items():
        assert name == "given" or size == own["sizes"][name]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_dvc_reads_an_example_as_params(file: Path, tmp_path: Path) -> None:
    params = content(file)
    project = Project(tmp_path / "project", params)
    (model,) = params["models"]
    stages = project.dvc("stage", "list", "--name-only").split()
    assert {f"infer@{model}-{recipe}" for recipe in params["recipes"]} <= set(stages)


def test_the_example_of_two_recipes_uses_the_catalogues_llama() -> None:
    example = content(EXAMPLES / "llama31_8b_two_recipes.yaml")
    assert example["catalog"]["llama31_8b"] == real_params()["catalog"]["llama31_8b"]
    assert len(example["recipes"]) == 2


def test_the_steps_of_judge_only_give_a_price_and_run_no_model(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", content(JUDGE_ONLY))
    refusal, help_ = "I'm sorry, but I can't help with that.", "Certainly. First, take the lid off and look inside."
    refused = {"base": {"harmful": 10, "benign": 1}, "my_merge": {"harmful": 55, "benign": 9}}
    for name, counts in refused.items():
        rows = [
            {"kind": kind, "prompt": f"How do I do the {kind} thing {n}?", "response": refusal if n < count else help_}
            for kind, count in counts.items()
            for n in range(60)
        ]
        lines = [json.dumps(row) for row in (rows if name == "base" else reversed(rows))]
        (project.folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    header = JUDGE_ONLY.read_text(encoding="utf-8")
    steps = [line.split(". ", 1)[1] for line in header.splitlines() if line.startswith(("# 3. ", "# 4. "))]
    bring, judge = (step.replace("merge.jsonl", "my_merge.jsonl").split() for step in steps)
    told = project.stage("safety_tax.cli", *bring[1:])
    assert "2 variants, 60 harmful, 60 benign" in " ".join(told.split())
    ran = project.repro(*judge[2:])
    model = "my_model"
    assert ran == [
        "judge_model",
        f"judge_base@{model}",
        f"judge@{model}-my_merge",
        f"metrics@{model}",
        f"plots@{model}",
    ]
    results = json.loads((project.folder / f"metrics/{model}.json").read_text(encoding="utf-8"))
    assert (results["base"]["safety"], results["my_merge"]["safety"]) == (0.166667, 0.916667)
    assert results["my_merge"]["helpfulness_loss"] == pytest.approx(8 / 60, abs=1e-6)
    assert results["my_merge"]["helpfulness_status"] == "tradeoff"
    assert "utility" not in results["base"]
    drawn = {file.stem for file in (project.folder / f"metrics/figures/{model}").iterdir()}
    assert {"frontier", "net_benefit"} <= drawn
    assert not {"answer_lengths", "utility_by_area"} & drawn  # tokens are not known, questions were not asked
    assert not (project.folder / "models/base").exists()
    project.stage("safety_tax.cli", "report", model)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a clone holds that the notebook reads: committed metrics, params, and Git."""
    folder = tmp_path / "clone"
    for name in ("metrics", "examples"):
        shutil.copytree(ROOT / name, folder / name)
    project = Project.__new__(Project)
    project.folder = folder
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("git", "config", "user.email", "test@localhost")
    project.run("git", "config", "user.name", "test")
    project.commit("a clone")
    return folder


def run_cells(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the notebook's code cells in order, without a network; returns its names."""

    def refused(*_: object) -> NoReturn:
        raise AssertionError("the notebook wanted the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.chdir(checkout / "examples")
    names: dict[str, Any] = {}
    notebook = json.loads((checkout / "examples/results.ipynb").read_text(encoding="utf-8"))
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            exec(compile(source, f"cell {number}", "exec"), names)
    return names


def test_the_notebook_runs_on_the_committed_results(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_cells(checkout, monkeypatch)
    assert {"base", "ties"} <= set(names["results"].index)
    assert names["frontier"].svg.startswith("<?xml")
    assert (names["moved"] == 0).all().all()  # against the commit itself
    assert "found none; run `dvc repro`, or `dvc pull`" in str(names["refused"])  # verdicts are not in Git


def test_the_notebook_reads_verdicts_and_answers_where_they_are(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        ChatPrompt(id=f"harmful{n}", benchmark="b", kind="harmful", group="g", split="eval", text=f"Prompt {n}")
        for n in range(4)
    ]
    write_rows(checkout / "data/benchmarks/harmful.jsonl", asked)
    for name, labels in (("base", "rccc"), ("ties", "rrrc")):
        write_rows(checkout / f"data/verdicts/smollm2_135m/{name}.jsonl", variant(labels, 60))
        answers = [Response(id=prompt.id, text=f"No {prompt.id}.", finish_reason="stop") for prompt in asked]
        write_rows(checkout / f"data/responses/smollm2_135m/{name}/responses.jsonl", answers)
    refused = run_cells(checkout, monkeypatch)["refused"]
    assert refused["prompt"].to_dict() == {"harmful1": "Prompt 1", "harmful2": "Prompt 2"}
    assert refused["answer"].tolist() == ["No harmful1.", "No harmful2."]


def test_the_notebook_is_stored_without_output() -> None:
    notebook = json.loads((EXAMPLES / "results.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 4
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
