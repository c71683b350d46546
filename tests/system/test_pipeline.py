"""The whole chain, through DVC, on tiny models of two architectures."""

import ast
import copy
import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROOT, Project

from safety_tax.core.registry import names_of
from safety_tax.core.rows import VERDICT, read_rows
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.merging.methods import RECIPE_TYPES
from safety_tax.results.figures.reading import DRAWN

MODELS = ("tiny_llama", "tiny_qwen2")


def stage_files() -> dict[str, dict[str, Any]]:
    """Stages of dvc.yaml."""
    stages: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: definition.get("do", definition) for name, definition in stages.items()}


# What a stage finds by its name in params.yaml.
FOUND_BY_NAME = {
    "stages.fetch_data": ("safety_tax.datasets",),
    "stages.judge": ("safety_tax.judging.judges",),
    "stages.merge": ("safety_tax.merging.methods",),
}


def imported(module: str) -> set[Path]:
    """Files of the project that a module imports, directly or through others."""
    seen: set[Path] = set()
    waiting = [module]
    for room in FOUND_BY_NAME.get(module, ()):
        waiting += [f"{room}.{name}" for name in names_of(importlib.import_module(room))]
    while waiting:
        name = waiting.pop()
        base = ROOT / Path(*name.split("."))
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if not file.exists() or file in seen:
            continue
        seen.add(file)
        if file.parent.name in ("params", "settings"):
            continue  # by the names that it imports it checks the file; what it reads is tracked as `params:`
        if "merging" in file.parts and module != "stages.merge":
            continue  # a recipe's type has defaults and arithmetic: it can change a merge, and nothing else
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return {file.relative_to(ROOT) for file in seen if file.name != "__init__.py" or file.parent.name == "sources"}


# They hold no value that could change a result: params are tracked as `params:`, the others only talk or write.
FREE_ROOMS = ("params", "settings", "dispatch")
FREE = {
    *(
        Path("safety_tax/core") / f"{name}.py"
        for name in ("cells", "clock", "console", "errors", "extras", "files", "interrupt")
    ),
    *(Path("safety_tax/core") / f"{name}.py" for name in ("processors", "progress", "registry", "workspace")),
    *(
        file.relative_to(ROOT)
        for room in ("params", "settings", "dispatch")
        for file in (ROOT / "safety_tax" / room).glob("*.py")
    ),
}


@pytest.mark.parametrize("stage", stage_files())
def test_declared_code_is_what_the_stage_imports(stage: str) -> None:
    definition = stage_files()[stage]
    module = definition["cmd"].split()[2]
    declared = [Path(dep) for dep in definition["deps"] if str(dep).startswith(("stages/", "safety_tax/"))]
    needed = {file for file in imported(module) - FREE if stage == "merge" or file.parts[1] != "merging"}
    covered = {file for file in needed for dep in declared if dep == file or dep in file.parents}
    assert needed == covered, f"{stage} imports what it does not declare"
    assert {dep for dep in declared if not any(dep == file or dep in file.parents for file in needed)} == set()


def test_the_first_run_runs_every_stage_of_every_model(project: Project) -> None:
    names = {name.split("@")[0] for name in project.ran}
    assert names == set(stage_files())
    for model in MODELS:
        assert [name for name in project.ran if name.startswith("merge@" + model)] == [
            f"merge@{model}-{recipe}" for recipe in project.params["recipes"]
        ]


def test_a_run_reads_well_in_a_log(project: Project) -> None:
    *blocks, after = re.split(r"^(?=Running stage )", project.told, flags=re.M)
    blocks = [*blocks[1:], after.split("To track the changes")[0]]
    assert len(blocks) == len(project.ran)
    for block in blocks:
        head, command, *lines = block.strip().splitlines()
        lines = [line for line in lines if line and not line.endswith("lock file 'dvc.lock'")]
        verb = command.split()[3].removeprefix("stages.")  # > python -m stages.verb ...
        assert re.match(rf"{verb}: .*\d", lines[-1]), f"{head} ends with {lines[-1]!r}"
    assert "Warning" not in project.told  # Python's; DVC writes its own in capitals
    assert {character for character in project.told if unicodedata.category(character) == "Cc"} <= {"\n", "\t"}


def test_a_quiet_run_shows_the_stages_and_nothing_of_them(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    loud = project.dvc("repro", "--force", "--single-item", "judge_model")
    assert "judge_model: 0 exported" in loud
    monkeypatch.setenv("SAFETY_TAX_QUIET", "1")
    quiet = project.dvc("repro", "--force", "--single-item", "judge_model")
    assert "judge_model: " not in quiet and "Running stage 'judge_model'" in quiet
    monkeypatch.delenv("SAFETY_TAX_QUIET")
    assert project.stage("stages.judge_model", "--quiet") == ""


def test_a_run_leaves_these_files_and_no_others(project: Project) -> None:
    folder = project.folder
    left = {
        p.relative_to(folder).as_posix() for p in (folder / "metrics").rglob("*") if p.is_file() and p.name[0] != "."
    }
    expected = {"metrics/models.json"}
    for model in MODELS:
        expected |= {f"metrics/{model}.{suffix}" for suffix in ("json", "md")}
        expected |= {f"metrics/{kind}/{model}.json" for kind in ("detail", "plots")}
        expected |= {f"metrics/{model}/{variant}.json" for variant in ("base", "safety_donor", "ties")}
        expected |= {f"metrics/figures/{model}/{figure}.svg" for figure in DRAWN}
    assert left == expected
    onnx = {p.name for p in (folder / "models/onnx/tiny_qwen2/ties").iterdir()}
    assert {"model.onnx", "model.safetensors", "weights.json", "tokenizer.json", "config.json"} <= onnx
    assert not list(folder.rglob("*.partial"))


def test_metrics_are_strict_json_with_every_status(project: Project) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for file in (project.folder / "metrics").rglob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
        assert "null" not in file.read_text(encoding="utf-8")
        assert content
    for model in MODELS:
        headline = json.loads((project.folder / f"metrics/{model}.json").read_text(encoding="utf-8"))
        assert "tax_status" not in headline["base"]
        for variant in ("safety_donor", "ties"):
            assert headline[variant]["tax_status"]
            assert headline[variant]["safety_gain_lo"] <= headline[variant]["safety_gain_hi"]


def test_every_variant_answers_the_same_items(project: Project) -> None:
    for model in MODELS:
        ids = [
            [row.id for row in read_rows(file, VERDICT)]
            for file in sorted((project.folder / "data/verdicts" / model).glob("*.jsonl"))
        ]
        assert len(ids) == 3
        assert ids[0] == ids[1] == ids[2]
        assert len(ids[0]) == 12 + 4 + 10 + 60


def test_the_graph_is_the_same_file_in_every_variant(project: Project) -> None:
    for model in MODELS:
        folders = list((project.folder / "models/onnx" / model).iterdir())
        for graph in ("model.onnx", "grouped.onnx"):
            assert len({(folder / graph).read_bytes() for folder in folders}) == 1
        assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 3


def md5_of(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def test_every_weight_is_on_the_disk_once(project: Project) -> None:
    """In models/merged, models/onnx and DVC's cache together, by links."""
    for model in MODELS:
        for variant in ("base", "safety_donor", "ties"):
            source = f"models/base/{model}" if variant == "base" else f"models/merged/{model}/{variant}"
            weights = project.folder / source / "model.safetensors"
            assert weights.samefile(project.folder / f"models/onnx/{model}/{variant}/model.safetensors")
            digest = md5_of(weights)
            assert weights.samefile(project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:])
            assert not weights.stat().st_mode & 0o222  # so nobody writes into the cache by accident


@pytest.mark.slow
def test_no_stage_writes_into_a_file_that_dvcs_cache_has_too(project: Project) -> None:
    """Run by hand, over outputs that are links: DVC would have removed these first."""
    model = "tiny_llama"
    for stage in ("fetch_data", f"fetch_model {model}", f"export_base {model}", f"tune {model} safety"):
        project.stage(*f"stages.{stage}".split())
    for stage in ("curvature", "merge", "export", "infer", "judge"):
        project.stage(f"stages.{stage}", model, *([] if stage == "curvature" else ["safety_donor"]))
    objects = [file for file in (project.folder / ".dvc/cache/files/md5").glob("??/*") if file.is_file()]
    assert len(objects) > 80
    assert [file for file in objects if md5_of(file) != f"{file.parent.name}{file.name.removesuffix('.dir')}"] == []


def test_an_untouched_tensor_of_a_merge_is_the_bases(project: Project) -> None:
    base = Checkpoint(project.folder / "models/base/tiny_qwen2")
    merged = Checkpoint(project.folder / "models/merged/tiny_qwen2/ties")
    assert base.names() == merged.names()
    changed = [name for name in base.names() if not np.array_equal(base.read(name), merged.read(name))]
    assert {name.split(".")[-2] for name in changed} == {"q_proj", "v_proj", "down_proj"}
    assert len(changed) == 6


def test_a_donors_settings_are_written_in_an_order_that_hashing_does_not_change(project: Project) -> None:
    settings = list((project.folder / "models/donors").glob("*/*/adapter_config.json"))
    assert len(settings) == 2 * len(MODELS)
    for file in settings:
        targets = json.loads(file.read_text(encoding="utf-8"))["target_modules"]
        assert targets == sorted(targets)


def test_stages_that_python_starts_anew_give_the_same_bytes_and_say_nothing_of_libraries(project: Project) -> None:
    """Those of the first run are forked, with packages imported and one order of sets for all."""
    model = "tiny_qwen2"
    shutil.rmtree(project.folder / "runs/journal")
    for stage in ("export_base", "tune", "infer", "metrics"):
        of = {"tune": ["safety"], "infer": ["ties"]}.get(stage, [])
        command = [sys.executable, "-m", f"stages.{stage}", model, *of]
        done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False, timeout=300)
        told = done.stdout + done.stderr
        assert done.returncode == 0, told
        assert told.splitlines()[-1].startswith(f"{stage}: ")
        assert "Warning" not in told and "%|" not in told  # tqdm's bar
    assert "up to date" in project.dvc("status")


def test_running_again_runs_nothing(project: Project) -> None:
    assert project.repro() == []
    assert "up to date" in project.dvc("status")


def test_who_runs_the_items_and_how_many_at_once_reruns_nothing(project: Project) -> None:
    changed = copy.deepcopy(project.params)
    changed["run"] |= {"rows_per_batch": 3, "pass_tokens": 64, "processes": 2}
    project.write_params(changed)
    for file in (project.folder / "safety_tax/dispatch").glob("*.py"):
        file.write_text(file.read_text(encoding="utf-8") + "# Reworded.\n", encoding="utf-8")
    assert "up to date" in project.dvc("status")


def changed_stages(project: Project) -> set[str]:
    """The stages that `dvc status` says have changed; those behind them are not among these."""
    return {name for name in json.loads(project.dvc("status", "--json")) if "@" in name}


def test_a_recipe_changed_on_a_branch_reruns_alone_and_shows_when_compared(project: Project) -> None:
    project.run("git", "switch", "--quiet", "--create", "other")
    changed = copy.deepcopy(project.params)
    changed["recipes"]["safety_donor"]["scale"] = -1.0
    project.write_params(changed)
    assert changed_stages(project) == {
        name for model in MODELS for name in (f"merge@{model}-safety_donor", f"metrics@{model}")
    }
    ran = project.repro("metrics@tiny_llama", "plots@tiny_llama")
    verbs = ("merge", "export", "infer", "judge")
    assert ran == [*(f"{verb}@tiny_llama-safety_donor" for verb in verbs), "metrics@tiny_llama", "plots@tiny_llama"]
    # Of what `dvc metrics diff` shows nothing need move in a model of two layers; no other recipe's line does.
    assert set(json.loads(project.dvc("metrics", "diff", "--json"))) <= {"metrics/tiny_llama/safety_donor.json"}
    project.commit("another scale")
    compared = json.loads(project.stage("safety_tax.cli", "compare", "main", "--json"))
    assert set(compared["models"]) == set(MODELS)
    moved = {
        (model, variant)
        for model, variants in compared["models"].items()
        for variant, rates in variants.items()
        if rates["bits_per_byte"]["difference"]
    }
    assert moved == {("tiny_llama", "safety_donor")}
    # Back on main nothing is computed again: the cache still has the first run.
    project.run("git", "switch", "--quiet", "main")
    project.dvc("checkout")
    assert "up to date" in project.dvc("status")


@pytest.mark.slow
def test_adding_a_recipe_runs_only_its_own_stages(project: Project) -> None:
    before = copy.deepcopy(project.params)
    changed = copy.deepcopy(before)
    changed["recipes"]["safety_half"] = {"method": "task_arithmetic", "donors": {"safety": 1.0}, "scale": 0.5}
    project.write_params(changed)
    own = {
        model: {f"{stage}@{model}-safety_half" for stage in ("merge", "export", "infer", "judge")} for model in MODELS
    }
    assert changed_stages(project) == {f"metrics@{model}" for model in MODELS}.union(*own.values())
    ran = project.repro("metrics@tiny_qwen2", "plots@tiny_qwen2")
    assert set(ran) == own["tiny_qwen2"] | {"metrics@tiny_qwen2", "plots@tiny_qwen2"}
    project.write_params(before)
    project.dvc("repro")
    assert not (project.folder / "data/verdicts/tiny_qwen2/safety_half.jsonl").exists()
    assert "up to date" in project.dvc("status")


def test_a_stage_that_fails_leaves_its_output_as_it_was(project: Project) -> None:
    target = project.folder / "models/merged/tiny_llama/ties"
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    donor = project.folder / "models/donors/tiny_llama/safety/adapter_model.safetensors"
    content = donor.read_bytes()
    donor.unlink()  # DVC links outputs into its cache: replace the file, never write through the link
    donor.write_bytes(content[:-100])
    try:
        message = project.stage("stages.merge", "tiny_llama", "ties", status=1)
    finally:
        donor.unlink()
        donor.write_bytes(content)
    assert "found one that cannot be read" in message
    assert "Traceback" not in message
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before


@pytest.mark.slow
def test_an_edited_configuration_of_mergekit_is_another_merge(project: Project) -> None:
    """In a file: every merge is made again, and only the one that came out otherwise goes on."""
    changed = copy.deepcopy(project.params)
    names = {"org/base": "base", "org/safe": "safety"}
    changed["recipes"]["kit"] = {"method": "mergekit", "config": "mine.yml", "names": names}
    project.write_params(changed)

    def write(weight: float) -> None:
        content = {"merge_method": "task_arithmetic", "base_model": "org/base"}
        content |= {"models": [{"model": "org/safe", "parameters": {"weight": weight}}]}
        (project.folder / "data/merges/mine.yml").write_text(yaml.safe_dump(content), encoding="utf-8")

    write(0.5)
    targets = [f"{verb}@tiny_llama-{recipe}" for recipe in ("ties", "kit") for verb in ("merge", "export")]
    assert set(project.repro(*targets)) >= {"merge@tiny_llama-kit", "export@tiny_llama-kit"}
    merged = project.folder / "models/merged/tiny_llama/kit"
    first = json.loads((merged / "merge.json").read_text(encoding="utf-8"))
    write(1.0)
    ran = project.repro(*targets)
    assert set(ran) == {"merge@tiny_llama-ties", "merge@tiny_llama-kit", "export@tiny_llama-kit"}
    second = json.loads((merged / "merge.json").read_text(encoding="utf-8"))
    assert second["change_norm"] == pytest.approx(2 * first["change_norm"], rel=1e-4)


@pytest.mark.slow
def test_a_project_without_donors_measures_a_merge_that_exists(project: Project, tmp_path: Path) -> None:
    changed = copy.deepcopy(project.params)
    source = {model: {"kind": "folder", "path": str(tmp_path / model)} for model in MODELS}
    for model in MODELS:
        shutil.copytree(project.folder / "models/merged" / model / "ties", tmp_path / model)
    changed |= {"donors": {}, "recipes": {"mine": {"method": "given", "source": source}}}
    project.write_params(changed)
    shutil.rmtree(project.folder / "models/donors")
    assert set(project.repro("export@tiny_llama-mine")) >= {"merge@tiny_llama-mine", "export@tiny_llama-mine"}
    found = Checkpoint(project.folder / "models/merged/tiny_llama/mine", "model*.safetensors")
    given = Checkpoint(tmp_path / "tiny_llama", "model*.safetensors")
    assert all(np.array_equal(found.read(name), given.read(name)) for name in given.names())


PAIR: dict[str, Any] = {"donors": {"safety": 1.0, "utility": 1.0}}
TRIMMED = PAIR | {"density": 0.5}
GUIDED = PAIR | {"safety": ["safety"]}
EVERY_METHOD: dict[str, dict[str, Any]] = {
    "linear": PAIR,
    "slerp": PAIR | {"t": 0.5},
    "task_arithmetic": {"donors": {"safety": {"0": 0.5, "1-": 1.0}, "utility": 0.5}},
    "ties": TRIMMED,
    "dare_linear": TRIMMED,
    "dare_ties": TRIMMED,
    "breadcrumbs": TRIMMED,
    "della": TRIMMED,
    "sst": GUIDED | {"curvature": "kfac", "k": 0.3},
    "alignguard": GUIDED,
    "random_mask": GUIDED | {"k": 0.3},
    "random_subspace": GUIDED | {"k": 0.3},
    "safe_merge": GUIDED | {"threshold": 0.5, "share": 0.2},
    "safe_lora": GUIDED | {"threshold": 0.5},
    "random_layers": GUIDED | {"k": 0.5, "share": 0.3},
    "resta": GUIDED | {"density": 0.5},
    "led": PAIR | {"rates": {"safety": 0.4, "utility": 0.6}},
    "mergekit": {
        "config": {
            "merge_method": "dare_ties",
            "base_model": "org/base",
            "models": [
                {"model": "org/safe", "parameters": {"weight": [0.2, 1.0], "density": 0.6}},
                {"model": "org/useful", "parameters": {"weight": 0.4}},
            ],
        },
        "names": {"org/base": "base", "org/safe": "safety", "org/useful": "utility"},
    },
}


@pytest.mark.slow
def test_every_method_merges_every_architecture(project: Project) -> None:
    assert {*EVERY_METHOD, "given"} == set(RECIPE_TYPES)  # which merges nothing
    changed = copy.deepcopy(project.params)
    changed["recipes"] = {f"{name}_all": {"method": name, **recipe} for name, recipe in EVERY_METHOD.items()}
    changed["recipes"]["diagonal_all"] = {"method": "sst", **EVERY_METHOD["sst"], "curvature": "diagonal"}
    changed["curvature"] |= {"forms": ["kfac", "diagonal"], "harmful": 24, "benign": 16}
    changed["importance"] |= {"donors": {"safety": "harmful", "utility": "choice"}, "rows": 16}
    names = changed["recipes"]
    project.write_params(changed)
    project.repro(*(f"merge@{model}-{name}" for model in MODELS for name in names))
    for model in MODELS:
        results = set()
        for name in names:
            merged = project.folder / "models/merged" / model / name
            report = json.loads((merged / "merge.json").read_text(encoding="utf-8"))
            assert report["checks"]["before"] == report["checks"]["after"]
            assert report["relative_change"] > 0
            assert set(report["cosine_to_donor"]) == (set() if name == "mergekit_all" else {"safety", "utility"})
            results.add((merged / "model.safetensors").read_bytes())
        assert len(results) == len(names)
    assert not list((project.folder / "runs/merge").rglob("*.safetensors"))
    # The curvature is not collected again for another k.
    changed["recipes"]["sst_all"]["k"] = 0.1
    project.write_params(changed)
    assert project.repro("merge@tiny_llama-sst_all") == ["merge@tiny_llama-sst_all"]
