"""A folder in which `python -m stages.infer tiny_llama base` runs: one tiny model exported, and a few items."""

import datetime
import json
import os
import shutil
from pathlib import Path
from typing import Any

import warm
import yaml
from conftest import ROOT, benign_rows, tiny_params

from safety_tax.core.rows import GENERATED, NOTHING, PROMPT, AnyPrompt, read_examples, write_rows
from safety_tax.onnx.exporting import export_base
from safety_tax.settings.stages import Export
from safety_tax.tokens.encoder import Encoder, surroundings
from safety_tax.tokens.ends import Ends

DATE = datetime.date(2024, 7, 26)
OUTPUT = Path("data/responses/tiny_llama/base")
JOURNAL = Path("runs/journal/tiny_llama/base.jsonl")
RECORD = Path("runs/tiny_llama/base.json")
ENDS = Ends(frozenset([2]), 2)
ITEMS = 12 + 4 + 10 + 30 + 15
"""Results of a run: answers, and scores in two formats."""


def encoder_of(tokenizer: Any, name: str = "m", ends: Ends = ENDS) -> Encoder:
    """The tokenizer of a model that is not there."""
    return Encoder(tokenizer, name, DATE, surroundings(tokenizer, name), ends)


def build(folder: Path, model: Path) -> dict[str, Any]:
    """Write everything that the stage reads; returns params.yaml."""
    rows = benign_rows()
    benchmarks = folder / "data/benchmarks"
    for kind, first, count in (("harmful", 0, 12), ("jailbreak", 12, 4), ("benign", 16, 10)):
        write_rows(
            benchmarks / f"{kind}.jsonl", [prompt(kind, n, rows[n]["text"]) for n in range(first, first + count)]
        )
    asked = []
    for n in range(30):
        choices = [" ".join(row["answer"].split()[: 1 + (n + i) % 4]) for i, row in enumerate(rows[n : n + 4])]
        asked.append(prompt("choice", 100 + n, rows[30 + n]["text"]).model_copy(update={"choices": choices, "gold": 0}))
    write_rows(benchmarks / "choice.jsonl", asked)
    write_rows(benchmarks / "shots.jsonl", asked[:1])
    for kind in ("problem", "instruction"):
        (benchmarks / f"{kind}.jsonl").write_bytes(NOTHING)
    params = tiny_params({"tiny_llama": model})
    params["sizes"]["quick"] |= {"harmful": 12, "jailbreak": 4, "benign": 10, "choice": 30, "other_format": 15}
    params["infer"]["max_new_tokens"] = dict.fromkeys(GENERATED, 16)
    params["run"] |= {"rows_per_batch": 5, "pass_tokens": 90}
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    write_params(folder, params)
    onnx = folder / "models/onnx/tiny_llama/base"
    onnx.mkdir(parents=True)
    export_base(model, params["catalog"]["tiny_llama"]["dtype"], Export(**params["export"]), onnx)
    return params


OF_KIND: dict[str, dict[str, Any]] = {
    "choice": {"choices": ["yes", "no"], "gold": 0},
    "problem": {"answer": "4"},
    "instruction": {"checks": [{"instruction": "punctuation:no_comma", "arguments": {}}]},
}


def prompt(kind: str, number: int, text: str, **more: Any) -> AnyPrompt:
    """An item of subject or category `g`, with what its kind must have."""
    about = {"id": f"{kind}{number}", "benchmark": "b", "kind": kind, "group": "g", "split": "eval", "text": text}
    return PROMPT.validate_python(about | OF_KIND.get(kind, {}) | more)


def ask_more(folder: Path, problems: int, instructions: int) -> None:
    """Problems and instructions, too, and five worked examples beside the shots."""
    rows = benign_rows()
    benchmarks = folder / "data/benchmarks"
    asked = [prompt("problem", n, rows[70 + n]["text"], answer=str(n)) for n in range(problems + 5)]
    told = [prompt("instruction", n, rows[90 + n]["text"]) for n in range(instructions)]
    write_rows(benchmarks / "problem.jsonl", asked[:problems])
    write_rows(benchmarks / "instruction.jsonl", told)
    worked = [
        one.model_copy(update={"group": "b", "solution": f"It is {n}.\n#### {n}"})
        for n, one in enumerate(asked[problems:], start=problems)
    ]
    write_rows(benchmarks / "shots.jsonl", [*read_examples(benchmarks / "shots.jsonl"), *worked])


def write_params(folder: Path, params: dict[str, Any], **changed: Any) -> None:
    """params.yaml with some settings of `infer` and `run` changed."""
    content = params | {
        section: params[section] | {key: value for key, value in changed.items() if key in params[section]}
        for section in ("infer", "run")
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def infer(folder: Path, before: str = "", status: int = 0) -> str:
    """The stage in a process of its own, after the lines `before`; returns what it printed."""
    code = f"import sys; sys.argv = ['infer', 'tiny_llama', 'base']\n{before}\n"
    code += "from stages.infer import main\nfrom safety_tax.core.console import run_stage\n"
    code += "if __name__ == '__main__':\n    run_stage(main)\n"
    script = folder / "run.py"
    script.write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = warm.python(str(script), cwd=folder, env=environment, timeout=300)
    output = result.stdout + result.stderr
    assert result.returncode == status, output[-3000:]
    return output


def output_of(folder: Path) -> dict[str, bytes]:
    """The files of the stage's output."""
    return {path.name: path.read_bytes() for path in sorted((folder / OUTPUT).iterdir())}


def record_of(folder: Path) -> dict[str, Any]:
    """The run's record."""
    content: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return content
