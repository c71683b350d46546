"""What a person gets for bad input, through the command lines: one sentence, status 1, and no file touched."""

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas
import pytest
import yaml
from conftest import ROOT, real_params

from safety_tax.cli import COMMANDS, run_command
from safety_tax.core.console import run_stage
from safety_tax.core.rows import KINDS as ALL_KINDS
from safety_tax.engine.session import cuda_problem

MODEL = "smollm2_135m"
ANSWERED = ("harmful", "jailbreak", "benign", "problem", "instruction")


class Case(NamedTuple):
    """A command line, what is wrong before it, and words of its sentence."""

    command: str
    prepare: Callable[[Path], None]
    words: tuple[str, ...]


def nothing(folder: Path) -> None:
    """The fault is in the command line, or in what is not there."""


def param(path: str, value: Any) -> Callable[[Path], None]:
    """One value of params.yaml is another."""

    def apply(folder: Path) -> None:
        content = real_params()
        *parents, last = path.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
        (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    return apply


def file(path: str, content: str | bytes) -> Callable[[Path], None]:
    """One file holds something else."""

    def apply(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)

    return apply


def without(path: str) -> Callable[[Path], None]:
    """A file is missing."""

    def apply(folder: Path) -> None:
        (folder / path).unlink()

    return apply


def twice(path: str) -> Callable[[Path], None]:
    """A file's first line comes again at its end."""

    def apply(folder: Path) -> None:
        text = (folder / path).read_text(encoding="utf-8")
        (folder / path).write_text(text + text.split("\n")[0] + "\n", encoding="utf-8")

    return apply


def torn(path: str) -> Callable[[Path], None]:
    """A file ends in the middle of its last line."""

    def apply(folder: Path) -> None:
        (folder / path).write_bytes((folder / path).read_bytes()[:-9])

    return apply


def donor_of(base: dict[str, list[int]], donor: dict[str, list[int]]) -> Callable[[Path], None]:
    """A base and a whole-model donor with tensors of the given shapes."""

    def apply(folder: Path) -> None:
        import numpy as np
        from safetensors.numpy import save_file

        for place, shapes in ((f"base/{MODEL}", base), (f"donors/{MODEL}/safety", donor)):
            (folder / "models" / place).mkdir(parents=True)
            tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
            save_file(tensors, folder / "models" / place / "model.safetensors")
            (folder / "models" / place / "config.json").write_text(
                '{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}'
            )
        param("recipes.safety_donor.donors", {"safety": 1.0})(folder)

    return apply


def recipe(**changes: Any) -> Callable[[Path], None]:
    """The recipe `ties` has other keys."""
    return param("recipes.ties", {"method": "ties", "donors": {"safety": 1.0}, "density": 0.5, "scale": 1.0} | changes)


def first_in_set(name: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    """The benchmark set begins with one dataset, which is a folder of these files."""

    def apply(folder: Path) -> None:
        param(f"fetch_data.datasets.{name}.source", {"kind": "folder", "path": "rows"})(folder)
        content = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
        content["benchmark_sets"]["default"].insert(0, name)
        (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        (folder / "rows/main").mkdir(parents=True)
        write(folder / "rows")

    return apply


def gsm8k(solution: str) -> Callable[[Path], None]:
    """GSM8K has one problem with this solution."""
    rows = pandas.DataFrame([{"question": "How many?", "answer": solution}])
    return first_in_set("gsm8k", lambda folder: rows.to_parquet(folder / "main/test-0.parquet"))


def ifeval(*instructions: str) -> Callable[[Path], None]:
    """IFEval has one prompt with these instructions, without arguments."""
    row = {"key": 1, "prompt": "Say it.", "instruction_id_list": instructions, "kwargs": [{} for _ in instructions]}
    content = json.dumps(row) + "\n"
    return first_in_set("ifeval", lambda folder: file("ifeval_input_data.jsonl", content)(folder))


def check_named(name: str) -> Callable[[Path], None]:
    """The instruction to verify has another name."""

    def apply(folder: Path) -> None:
        path = folder / BENCH / "instruction.jsonl"
        path.write_text(path.read_text(encoding="utf-8").replace("punctuation:no_comma", name), encoding="utf-8")

    return apply


def all_cut_off(folder: Path) -> None:
    """No answer ended before the token limit."""
    path = folder / RESPONSES / "responses.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("stop", "length"), encoding="utf-8")


SST = {"method": "sst", "donors": {"safety": 1.0}, "safety": ["safety"], "curvature": "kfac", "k": 0.3}
WHEEL = {"kind": "wheel", "requirement": "demo-data==1.0", "sha256": "0" * 64, "member": "demo/rows.jsonl"}
GUARD = {"name": "guard", "model": "mine", "template": "wildguard", "max_new_tokens": 8}
WEIGHTS = {"model.layers.0.mlp.up_proj.weight": [8, 4]}
FETCH, INFER, JUDGE = f"fetch_model {MODEL}", f"infer {MODEL} base", f"judge {MODEL} base"
RESPONSES, VERDICTS = f"data/responses/{MODEL}/base", f"data/verdicts/{MODEL}/base.jsonl"
BENCH = "data/benchmarks"
SWEEP = f"sweep {MODEL} ties --over"

CASES = [
    # Params, said by whichever stage is run.
    Case(FETCH, param("infer.max_new_token", 3), ("found infer.max_new_token",)),
    Case(FETCH, param("infer.max_new_tokens", "many"), ("infer.max_new_tokens", "found 'many'")),
    Case(FETCH, param("infer.max_new_tokens", -1), ("infer.max_new_tokens", "found -1")),
    Case(FETCH, param("infer", None), ("at infer", "found None")),
    Case(FETCH, param("models", ["smollm_135m"]), ("unknown model", "did you mean 'smollm2_135m'")),
    Case(FETCH, param("models", "smollm2_135m"), ("at models", "list")),
    Case(FETCH, param("size", "quik"), ("unknown size 'quik'", "'quick'")),
    Case(FETCH, param("judge", {"name": "rule"}), ("known name", "'rules'")),
    Case(FETCH, param("judge", GUARD), ("unknown judge model 'mine'",)),
    Case(FETCH, param("benchmark_sets.default", ["mmul"]), ("unknown dataset", "did you mean 'mmlu'")),
    Case(FETCH, param("benchmark_sets.default", []), ("benchmark_sets.default", "at least 1")),
    Case(FETCH, param("fetch_data.tune_share.harmful", 2), ("tune_share.harmful", "found 2")),
    Case(FETCH, param("catalog.smollm2_135m.source.sha256", "x"), ("sha256", "found 'x'")),
    Case(FETCH, param("catalog.smollm2_135m.source.member", "../up"), ("plain path", "'../up'")),
    Case(FETCH, param("catalog.smollm2_135m.source.requirement", "-r==1"), ("requirement", "found '-r==1'")),
    Case(FETCH, param("catalog.mistral_7b.source.commit", "main"), ("commit", "found 'main'")),
    Case(FETCH, param("catalog.mistral_7b.source.repository", "../up"), ("repository", "found '../up'")),
    Case(FETCH, param("catalog.smollm2_135m.dtype", "int8"), ("dtype", "found 'int8'")),
    Case(FETCH, param("catalog.a;b", {}), ("catalog", "a;b")),
    Case(FETCH, param("recipes.a b", {"method": "ties", "donors": {"safety": 1.0}}), ("recipes has the name 'a b'",)),
    Case(FETCH, param("recipes.$(x)", {"method": "ties", "donors": {"safety": 1.0}}), ("has the name '$(x)'",)),
    Case(FETCH, param("sizes.quick.choice", 1), ("sizes.quick.choice", "2", "found 1")),
    Case(FETCH, param("sizes.quick.other_format", 1), ("sizes.quick.other_format", "2", "found 1")),
    Case(FETCH, param("sizes.a-b", {k: 2 for k in (*ALL_KINDS, "other_format")}), ("sizes has the name 'a-b'",)),
    Case(FETCH, param("sizes.quick.choice_characters", 0), ("sizes.quick.choice_characters", "found 0")),
    Case(FETCH, param("benchmark_sets.default", ["mmlu", "gsm8k"]), ("benchmark_sets.default has no harmful items",)),
    Case(FETCH, param("fetch_data.datasets.gsm_symbolic.source.count", 0), ("source", "count", "found 0")),
    Case(FETCH, recipe(method="tise"), ("method", "did you mean 'ties'")),
    Case(FETCH, recipe(donors={"saftey": 1.0}), ("unknown donor", "did you mean 'safety'")),
    Case(FETCH, recipe(density=0), ("density", "found 0")),
    Case(FETCH, recipe(density=1.5), ("density", "found 1.5")),
    Case(FETCH, recipe(models=[]), ("recipes.ties.models", "at least 1")),
    Case(FETCH, recipe(models=["mistral"]), ("unknown model of recipes.ties.models", "did you mean 'mistral_7b'")),
    Case(FETCH, param("donors.safety.models", ["mistral_7b"]), ("is for the model", "donors.safety is for mistral_7b")),
    Case(FETCH, recipe(densty=1), ("recipes.ties.densty;", "did you mean 'density'")),
    Case(FETCH, param("recipes.ties", SST | {"k": 2}), ("recipes.ties", "found 2")),
    Case(FETCH, param("recipes.ties", SST | {"curvature": "none"}), ("recipes.ties", "found 'none'")),
    Case(FETCH, param("donors.safety.epochs", 0), ("donors.safety.epochs", "found 0")),
    Case(FETCH, param("metrics.confidence", 95), ("metrics.confidence", "found 95")),
    Case(FETCH, file("params.yaml", ""), ("params.yaml", "found None")),
    Case(FETCH, file("params.yaml", "a: [1\nb: 2\n"), ("to be YAML", "line 2")),
    Case(FETCH, file("params.yaml", b"\xff\xfe\x00"), ("params.yaml to be text in UTF-8",)),
    Case(FETCH, file("params.yaml", "a: 2023-13-45\n"), ("to be YAML", "month")),
    Case(FETCH, file("params.yaml", "[" * 5000), ("to be YAML",)),
    Case(FETCH, file("params.yaml", "a: !!python/object/apply:os.getcwd []\n"), ("to be YAML",)),
    Case(FETCH, without("params.yaml"), ("project's root",)),
    Case(FETCH, without("dvc.yaml"), ("project's root",)),
    # Names in the command line.
    Case("fetch_model smollm_135m", nothing, ("a model of `catalog`", "did you mean 'smollm2_135m'")),
    Case(f"tune {MODEL} saftey", nothing, ("a donor of `donors`", "did you mean 'safety'")),
    Case(f"merge {MODEL} tise", nothing, ("a recipe of `recipes`", "did you mean 'ties'")),
    Case(f"export {MODEL} tise", nothing, ("a recipe of `recipes`", "did you mean 'ties'")),
    Case(f"infer {MODEL} ../base", nothing, ("a recipe of `recipes`", "'../base'")),
    Case(f"judge {MODEL} ../base", nothing, ("a recipe of `recipes`", "'../base'")),
    Case("metrics smol", nothing, ("a model of `catalog`", "did you mean")),
    Case("report smollm_135m", nothing, ("a model of `catalog`", "did you mean 'smollm2_135m'")),
    # Sources.
    Case(FETCH, param(f"catalog.{MODEL}.source", {"kind": "folder", "path": "none"}), ("Expected a folder",)),
    Case(
        FETCH,
        param(f"catalog.{MODEL}.source", {"kind": "folder", "path": "data"}),
        ("safetensors weights (model*.safetensors) in data",),
    ),
    Case(FETCH, param(f"catalog.{MODEL}.source", WHEEL), ("pip to download the wheel demo-data==1.0",)),
    # Files of earlier stages.
    Case(f"merge {MODEL} ties", nothing, ("safetensors weights", "found none", "dvc repro")),
    Case(f"export_base {MODEL}", nothing, ("safetensors weights", "found none")),
    Case(f"export {MODEL} base", nothing, ("a recipe, found base", "stages.export_base")),
    Case(f"export {MODEL} ties", nothing, ("the base's graph", "found none")),
    Case(f"merge {MODEL} safety_donor", donor_of(WEIGHTS, {"other.weight": [8, 4]}), ("architecture",)),
    Case(f"merge {MODEL} safety_donor", donor_of(WEIGHTS, {next(iter(WEIGHTS)): [8, 5]}), ("architecture",)),
    Case(f"merge {MODEL} ties", file(f"models/base/{MODEL}/model.safetensors", b"\xff" * 64), ("header of",)),
    Case(INFER, without(f"{BENCH}/harmful.jsonl"), ("harmful.jsonl", "no such file")),
    Case(INFER, file(f"{BENCH}/benign.jsonl", ""), ("at least one row", "benign.jsonl")),
    Case(INFER, twice(f"{BENCH}/choice.jsonl"), ("each id once", "choice.jsonl")),
    Case(INFER, torn(f"{BENCH}/choice.jsonl"), ("choice.jsonl line", "repair the line")),
    Case(JUDGE, without(f"{RESPONSES}/responses.jsonl"), ("responses.jsonl", "no such file")),
    Case(JUDGE, torn(f"{RESPONSES}/responses.jsonl"), ("responses.jsonl line 5",)),
    Case(JUDGE, twice(f"{RESPONSES}/responses.jsonl"), ("each id once",)),
    Case(JUDGE, file(f"{RESPONSES}/choices.jsonl", b"\xff\n"), ("choices.jsonl line 1",)),
    Case(JUDGE, file(f"{RESPONSES}/choices.jsonl", '{"id": "z", "continuation_bytes": [1]}\n'), ("1 items without",)),
    Case(JUDGE, check_named("punctuation:no_commas"), ("known instructions", "did you mean 'punctuation:no_comma'?")),
    Case(JUDGE, all_cut_off, ("found all 1 answers to problems cut off", "infer.max_new_tokens.problem")),
    # Datasets.
    Case("fetch_data", gsm8k("Some. #### lots"), ("a number after '####'", "'lots'", "How many?")),
    Case("fetch_data", gsm8k("Eighteen."), ("a number after '####'", "found ''")),
    Case("fetch_data", ifeval("punctuation:no_commas"), ("did you mean 'punctuation:no_comma'?", "Say it.")),
    Case("fetch_data", ifeval("detectable_format:number_bullet_lists"), ("the argument 'num_bullets'",)),
    Case("fetch_data", ifeval(), ("one at least", "Say it.")),
    Case("fetch_data", first_in_set("ifeval", lambda rows: None), ("ifeval_input_data.jsonl", "layout has changed")),
    Case(f"metrics {MODEL}", nothing, ("Expected rows in data/verdicts", "no such file")),
    Case(f"metrics {MODEL}", file(VERDICTS, '{"id": "a"}\n'), ("Expected a row in data/verdicts", "line 1")),
    # Commands for people.
    Case("label --sample 0", nothing, ("--sample of at least 1",)),
    Case("label --variant tise", nothing, ("`base` or a recipe", "did you mean 'ties'")),
    Case("label --variant ties", nothing, ("responses to label", "found none")),
    Case("label --model none", nothing, ("a model of `catalog`",)),
    Case("label", file(f"data/labels/{MODEL}.jsonl", '{"id": 1}\n'), ("person's label", "line 1")),
    Case("audit none.jsonl", nothing, ("none.jsonl", "no such file")),
    Case("audit a.jsonl", file("a.jsonl", ""), ("at least one labelled response",)),
    Case("audit a.jsonl", file("a.jsonl", "[" * 100_000), ("JSON object in a.jsonl line 1",)),
    Case("audit a.jsonl", file("a.jsonl", '{"prompt": 1}'), ("text `prompt`", "found 1")),
    Case(
        "audit a.jsonl",
        file("a.jsonl", '{"prompt": "p", "response": "r", "label": "refused"}'),
        ("known `label`", "did you mean 'refuse'"),
    ),
    Case("audit a.jsonl --judge rule", file("a.jsonl", "{}"), ("to be a judge", "did you mean 'rules'")),
    Case("audit a.jsonl --judge guard", file("a.jsonl", "{}"), ("describe the guard", "found 'rules'")),
    Case("compare main", nothing, ("Git repository",)),
    Case(f"{SWEEP} scale", nothing, ("dials like", "found 'scale'")),
    Case(f"{SWEEP} scale=", nothing, ("dials like", "found 'scale='")),
    Case(f"{SWEEP} scale=a..b", nothing, ("dials like", "found 'scale=a..b'")),
    Case(f"{SWEEP} scael=0.1,0.5", nothing, ("a key of the recipe 'ties'", "'scael'")),
    Case(f"{SWEEP} scale=0.1 scale=0.5", nothing, ("each dial of --over once", "scale=0.1 scale=0.5")),
    Case(f"{SWEEP} scale=0.1..1 --points 1", nothing, ("--points of 2 or more",)),
    Case(f"{SWEEP} scale=0.1,0.5", recipe(models=["mistral_7b"]), ("a recipe for smollm2_135m", "has for mistral_7b")),
    Case(f"card {MODEL} ties", recipe(models=["mistral_7b"]), ("a recipe for smollm2_135m", "known: safety_donor")),
    Case(f"label --variant ties --model {MODEL}", recipe(models=["mistral_7b"]), ("`base` or a recipe", "'ties'")),
    Case(f"sweep {MODEL} tise --over scale=0.1,0.2", nothing, ("a recipe of `recipes`", "did you mean 'ties'")),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project whose base has answered a prompt of each kind and a question."""
    root = tmp_path / "project"
    (root / "data/benchmarks").mkdir(parents=True)
    (root / "data/labels").mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    for name in ("prompts", "chat_templates"):
        shutil.copytree(ROOT / "data" / name, root / "data" / name)
    answers = []
    special: dict[str, dict[str, Any]] = {
        "choice": {"choices": ["a", "b", "c", "d"], "gold": 1},
        "problem": {"answer": "18"},
        "instruction": {"checks": [{"instruction": "punctuation:no_comma", "arguments": {}}]},
    }
    for kind in (*ANSWERED, "choice"):
        row = {"id": kind, "benchmark": "b", "kind": kind, "group": "g", "split": "eval", "text": "Hello?"}
        row |= special.get(kind, {})
        (root / f"data/benchmarks/{kind}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        answers += [json.dumps({"id": kind, "text": "Yes, a boat.", "finish_reason": "stop", "tokens": 4}) + "\n"]
    (root / RESPONSES).mkdir(parents=True)
    (root / RESPONSES / "responses.jsonl").write_text("".join(answers[:5]), encoding="utf-8")
    score = {"id": "choice", "continuation_logprobs": [-1.0] * 4, "continuation_bytes": [1] * 4}
    (root / RESPONSES / "choices.jsonl").write_text(json.dumps(score) + "\n", encoding="utf-8")
    monkeypatch.chdir(root)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return root


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence that a command line ends with."""
    verb, *arguments = command.split()
    by_hand = verb in COMMANDS
    monkeypatch.setattr(sys, "argv", ["safety-tax"] * by_hand + [verb, *arguments])
    run = partial(run_command, verb) if by_hand else importlib.import_module(f"stages.{verb}").main
    with pytest.raises(SystemExit) as stopped:
        run_stage(run)
    error = capsys.readouterr().err
    assert stopped.value.code == 1, error
    return error


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command}: {case.words[0]}")
def test_bad_input_is_one_sentence_and_touches_nothing(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case.prepare(folder)
    before = snapshot(folder)
    sentence = refusal(case.command, monkeypatch, capsys)
    assert all(word in sentence for word in case.words), sentence
    assert sentence.count("\n") == 1 and len(sentence) < 800, sentence
    assert "Traceback" not in sentence and sentence[0].isupper()
    assert snapshot(folder) == before


def test_the_small_project_is_sound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a fault the judge runs: what the cases are refused for is their fault alone."""
    monkeypatch.setattr(sys, "argv", ["judge", MODEL, "base"])
    run_stage(importlib.import_module("stages.judge").main)
    assert (folder / VERDICTS).read_text(encoding="utf-8").count("\n") == 1 + 6


@pytest.mark.parametrize(
    ("dataset", "module", "extra"),
    [("gsm_symbolic", "reasoning_gym", "reasoning"), ("ifeval", "if_verifiable", "instructions")],
)
def test_an_extra_that_is_not_installed_is_named(
    dataset: str,
    module: str,
    extra: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = real_params()
    content["benchmark_sets"]["default"].insert(0, dataset)
    content["fetch_data"]["datasets"]["ifeval"]["source"] = {"kind": "folder", "path": "data"}
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    before = snapshot(folder)
    sentence = refusal("fetch_data", monkeypatch, capsys)
    assert f"package {module} for the dataset {dataset}" in sentence and f"pip install -e '.[{extra}]'" in sentence
    assert sentence.count("\n") == 1
    assert snapshot(folder) == before


def test_cuda_without_cuda_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if cuda_problem() is None:
        pytest.skip("there is a GPU")
    param("run.provider", "cuda")(folder)
    before = snapshot(folder)
    sentence = refusal(INFER, monkeypatch, capsys)
    assert "Expected a CUDA GPU" in sentence and sentence.count("\n") == 1
    assert snapshot(folder) == before


def test_there_are_enough_cases() -> None:
    assert len({(case.command, case.words) for case in CASES}) >= 60
