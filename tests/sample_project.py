"""A project as a run leaves it, of verdicts that are given as shares: params.yaml, items, answers, verdicts, results.

Its DVC stages copy, so that its Git history has outputs in DVC's cache.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import warm
import yaml
from conftest import real_params
from sample_results import verdicts_of

from safety_tax.core.rows import GENERATED, KINDS, PROMPT, AnyPrompt, Kind, Response, Verdict, write_rows
from safety_tax.params import Params
from safety_tax.results.tables import model_results

Shares = Mapping[str, Mapping[Kind, float]]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><circle r="4" cx="5" cy="5"/></svg>'


def run(folder: Path, *command: str) -> None:
    """Run a command that must succeed."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if command[0] == sys.executable:
        warm.python(*command[1:], cwd=folder, env=env).check_returncode()
    else:
        subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, timeout=120)


def params_of(models: Mapping[str, Shares], chosen: list[str] | None = None) -> dict[str, Any]:
    """The project's own params.yaml, of those models and their recipes."""
    params = real_params()
    recipe, entry = params["recipes"]["ties"], params["catalog"]["smollm2_135m"]
    recipes = dict.fromkeys(name for shares in models.values() for name in shares if name != "base")
    params["recipes"] = {name: {**recipe, "density": (place + 1) / 100} for place, name in enumerate(recipes)}
    params["catalog"] = {model: dict(entry) for model in models}
    return params | {"models": chosen or list(models)}


def prompt_of(verdict: Verdict) -> AnyPrompt:
    """The item that a verdict is on."""
    about = {"id": verdict.id, "benchmark": verdict.benchmark, "kind": verdict.kind, "group": verdict.group}
    more = {"choices": ["one", "two"], "gold": 1} if verdict.kind == "choice" else {}
    more |= {"answer": "42"} if verdict.kind == "problem" else {}
    more |= {"checks": []} if verdict.kind == "instruction" else {}
    return PROMPT.validate_python({**about, **more, "split": "eval", "text": f"Item {verdict.id}, as it was asked."})


def write_model(folder: Path, data: Path, model: str, shares: Shares, params: Params, says: str = "") -> None:
    """The answers and verdicts of a model below `data`, its results below `folder`."""
    verdicts = {name: verdicts_of(name, of) for name, of in shares.items()}
    for name, rows in verdicts.items():
        write_rows(data / f"verdicts/{model}/{name}.jsonl", rows)
        answers = [
            Response(id=row.id, text=f"{name} answers {row.id}. {says}", finish_reason="stop", tokens=9)
            for row in rows
            if row.kind in GENERATED
        ]
        write_rows(data / f"responses/{model}/{name}/responses.jsonl", answers)
    results = model_results(model, params, verdicts, {}, tells_harm=False)
    for file, content in (
        (f"detail/{model}.json", json.dumps(results.model_dump(mode="json", exclude_none=True))),
        (f"figures/{model}/frontier.svg", SVG),
        (f"figures/{model}/over_refusal.svg", SVG),
    ):
        path = folder / "metrics" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def write_project(
    folder: Path, models: Mapping[str, Shares], *, says: str = "", data: str = "data", chosen: list[str] | None = None
) -> None:
    """A project of those models, all asked the same items; `chosen` are those of params.yaml, all when left out."""
    folder.mkdir(parents=True, exist_ok=True)
    written = params_of(models, chosen)
    (folder / "params.yaml").write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    if not (folder / "dvc.yaml").exists():
        (folder / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    params = Params.model_validate(written)
    for model, shares in models.items():
        write_model(folder, folder / data, model, shares, params, says)
    items = [prompt_of(row) for row in verdicts_of("base", next(iter(models.values()))["base"])]
    for kind in KINDS:
        write_rows(folder / data / f"benchmarks/{kind}.jsonl", [item for item in items if item.kind == kind])


def write_with_history(folder: Path, before: Mapping[str, Shares], now: Mapping[str, Shares]) -> None:
    """A project whose only commit, tagged `before`, has other verdicts than its workspace."""
    folder.mkdir(parents=True, exist_ok=True)
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    run(folder, "git", "config", "user.email", "test@localhost")
    run(folder, "git", "config", "user.name", "test")
    run(folder, sys.executable, "-m", "dvc", "init", "--quiet")
    run(folder, sys.executable, "-m", "dvc", "config", "core.analytics", "false")
    (folder / ".gitignore").write_text("/data/\n/source/\n/reports/\n", encoding="utf-8")
    for models, says in ((before, "As before."), (now, "As now.")):
        write_project(folder, models, says=says, data="source")
        outs = ["data/benchmarks"]
        for model, shares in models.items():
            outs += [f"data/responses/{model}/{name}" for name in shares]
            outs += [f"data/verdicts/{model}/{name}.jsonl" for name in shares]
        stage = {"cmd": "mkdir -p data && cp -R source/. data", "deps": ["source"], "outs": outs}
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"copy": stage}}), encoding="utf-8")
        run(folder, sys.executable, "-m", "dvc", "repro", "--quiet")
        if models is before:
            run(folder, "git", "add", "--all")
            run(folder, "git", "commit", "--quiet", "--message", "before")
            run(folder, "git", "tag", "before")
