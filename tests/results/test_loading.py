"""What a notebook loads: results, verdicts, answers and figures, of the workspace and of a Git revision."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm
import yaml
from sample_results import SHARES, results_of, verdicts_of
from verdict_rows import responses
from workplace import prompt

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import GENERATED, Kind, Response, Verdict, write_rows
from safety_tax.results.loading import figure, load_answers, load_results, load_verdicts

ASKED: dict[Kind, int] = {"harmful": 3, "benign": 2}


def run(folder: Path, *command: str) -> None:
    """Run a command that must succeed."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if command[0] == sys.executable:
        warm.python(*command[1:], cwd=folder, env=env).check_returncode()
    else:
        subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, timeout=120)


def write_project(folder: Path, labels: str, answer: str) -> None:
    """A project whose stages copy: a model `tiny` with a base and `ties`, its items, answers, verdicts and results."""
    detail = folder / "metrics/detail/tiny.json"
    detail.parent.mkdir(parents=True, exist_ok=True)
    shares = {name: SHARES[name] for name in ("base", "ties")}
    detail.write_text(json.dumps(results_of(shares).model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    drawing = folder / "metrics/figures/tiny/frontier.svg"
    drawing.parent.mkdir(parents=True, exist_ok=True)
    drawing.write_text(f"<svg><title>{answer}</title></svg>", encoding="utf-8")
    source = folder / "source"
    prompts = [prompt(kind, n, f"Prompt {n}") for kind, count in ASKED.items() for n in range(count)]
    for kind in GENERATED:
        write_rows(source / f"benchmarks/{kind}.jsonl", [prompt for prompt in prompts if prompt.kind == kind])
    for variant in ("base", "ties"):
        rows = [
            Response(id=prompt.id, text=f"{answer} {prompt.id}", finish_reason="stop", tokens=3) for prompt in prompts
        ]
        write_rows(source / f"responses/{variant}/responses.jsonl", rows)
        write_rows(source / f"verdicts/{variant}.jsonl", responses("harmful", labels))
    stages = {
        what: {
            "cmd": f"mkdir -p data/{to} && cp -R source/{what}/. data/{to}",
            "deps": [f"source/{what}"],
            "outs": outs,
        }
        for what, to, outs in (
            ("benchmarks", "benchmarks", [f"data/benchmarks/{kind}.jsonl" for kind in GENERATED]),
            ("responses", "responses/tiny", ["data/responses/tiny/base", "data/responses/tiny/ties"]),
            ("verdicts", "verdicts/tiny", ["data/verdicts/tiny/base.jsonl", "data/verdicts/tiny/ties.jsonl"]),
        )
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    params = {"models": ["tiny"], "catalog": {"tiny": {"utility_format": "continuation"}}, "recipes": {"ties": {}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    run(folder, sys.executable, "-m", "dvc", "repro", "--quiet")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one commit, tagged `before`, and a workspace that differs from it."""
    folder = tmp_path_factory.mktemp("work")
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    run(folder, "git", "config", "user.email", "test@localhost")
    run(folder, "git", "config", "user.name", "test")
    run(folder, sys.executable, "-m", "dvc", "init", "--quiet")
    run(folder, sys.executable, "-m", "dvc", "config", "core.analytics", "false")
    write_project(folder, labels="rcc", answer="Before")
    (folder / ".gitignore").write_text("/data/\n", encoding="utf-8")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "before")
    run(folder, "git", "tag", "before")
    write_project(folder, labels="rrp", answer="After")
    return folder


def test_results_are_a_row_a_variant_in_fractions(work: Path) -> None:
    frame = load_results("tiny", project=work)
    assert list(frame.index) == ["base", "ties"]
    assert frame.loc["base", "safety"] == 0.3
    assert frame["net_benefit"].isna().tolist() == [True, False]


def test_the_project_is_found_from_a_folder_inside_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "examples").mkdir(exist_ok=True)
    monkeypatch.chdir(work / "examples")
    assert list(load_results("tiny").index) == ["base", "ties"]
    assert Path.cwd() == work / "examples"


def test_verdicts_are_of_the_workspace_or_of_a_revision(work: Path) -> None:
    now, before = load_verdicts("tiny", "ties", project=work), load_verdicts("tiny", "ties", "before", project=work)
    assert now["label"].tolist() == ["refuse", "refuse", "partial"]
    assert before["label"].tolist() == ["refuse", "comply", "comply"]
    assert list(now.index) == ["harmful0", "harmful1", "harmful2"]
    assert "letter_correct" not in now.columns  # no question was asked


def test_yes_or_no_keeps_its_type_beside_items_that_have_none(work: Path) -> None:
    rows: list[Verdict] = verdicts_of("base", {"harmful": 0.5, "choice": 0.5})
    write_rows(work / "data/verdicts/tiny/base.jsonl", rows)
    frame = load_verdicts("tiny", "base", project=work)
    assert frame["continuation_correct"].mean() == 0.5
    assert frame["continuation_correct"].isna().sum() == 150


def test_answers_stand_beside_their_prompts(work: Path) -> None:
    now, before = load_answers("tiny", "base", project=work), load_answers("tiny", "base", "before", project=work)
    assert list(now.columns) == ["kind", "benchmark", "group", "prompt", "answer", "finish_reason", "tokens"]
    assert now.loc["benign1", ["prompt", "answer"]].tolist() == ["Prompt 1", "After benign1"]
    assert before.loc["benign1", "answer"] == "Before benign1"
    assert len(now) == len(before) == 5


def test_a_figure_shows_itself_in_a_notebook(work: Path) -> None:
    assert figure("tiny", "frontier", project=work)._repr_svg_() == "<svg><title>After</title></svg>"
    assert "Before" in figure("tiny", "frontier", "before", project=work).svg


def test_loading_checks_nothing_out(work: Path) -> None:
    def files() -> dict[Path, int]:
        return {
            path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file() and ".dvc/tmp" not in str(path)
        }

    there = files()
    for load in (load_verdicts, load_answers):
        load("tiny", "base", "before", project=work)
    load_results("tiny", "before", project=work)
    assert files() == there


def test_what_is_not_there_is_a_sentence(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PipelineError, match=r"found no such file; did you mean 'tiny'\?"):
        load_results("tny", project=work)
    with pytest.raises(PipelineError, match=r"frontier.svg of before"):
        figure("tny", "frontier", "before", project=work)
    with pytest.raises(PipelineError, match=r"did you mean 'frontier'\?"):
        figure("tiny", "fronteer", "before", project=work)
    with pytest.raises(PipelineError, match=r"a variant of workspace, found 'tie'; did you mean 'ties'\?"):
        load_verdicts("tiny", "tie", project=work)
    with pytest.raises(PipelineError, match="a model of before, found 'tny'"):
        load_answers("tny", "base", "before", project=work)
    with pytest.raises(PipelineError, match="'nowhere', which Git does not know"):
        load_results("tiny", "nowhere", project=work)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"found no params.yaml beside a dvc.yaml; name its folder as `project`"):
        load_results("tiny")


def test_results_of_another_version_of_the_project_are_a_sentence(work: Path) -> None:
    run(work, "git", "switch", "--quiet", "--create", "old")
    (work / "metrics/detail/tiny.json").write_text('{"model": "tiny", "tax": 1}', encoding="utf-8")
    run(work, "git", "commit", "--quiet", "--all", "--message", "another schema")
    with pytest.raises(PipelineError, match=r"tiny.json of old, found a fault in .*; read them with the version"):
        load_results("tiny", "old", project=work)


def test_verdicts_that_nobody_made_are_a_sentence(work: Path) -> None:
    (work / "data/verdicts/tiny/ties.jsonl").unlink()
    with pytest.raises(PipelineError, match="the verdicts of ties of tiny in workspace, found none; run `dvc repro`"):
        load_verdicts("tiny", "ties", project=work)
