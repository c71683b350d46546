"""The shell and Python of every page, run as they stand there, each section in a fresh clone of a tiny project."""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from conftest import Project, stages_of
from test_remotes import Clone, Remote, content, folder_remote, s3_remote, ssh_remote  # noqa: F401 (fixtures)

from docs.pages import blocks, under

pytestmark = pytest.mark.slow

CHANGED = [f"{verb}@tiny_llama-ties" for verb in ("merge", "export", "infer", "judge")]
AFTER = ["metrics@tiny_llama", "models", "plots@tiny_llama"]
REMOTES = {"folder": 0, "s3": 1, "ssh": 2}  # their blocks' places under `Name the remote`; the next one is for all
COMPARE, SHARING = "docs/compare.md", "docs/sharing.md"
# What these must leave behind is looked at by a test of their own.
LOOKED_AT = [
    (COMPARE, "Work on a branch"),
    (COMPARE, "Try an experiment"),
    (SHARING, "Name the remote"),
    (SHARING, "Fetch what a step needs"),
]
SECTIONS = list(dict.fromkeys((b.page, b.heading) for b in blocks("sh", "python") if b.reason is None))
# What the pages' examples are called in the tiny project; a sweep of two settings is as good as one of eight.
STAND_INS = {
    "smollm2_135m": "tiny_llama",
    "ties dare_ties --over scale=0.25..1.0 density=0.3,0.5": "ties --over scale=0.5,1.0",
}
LABELLED = '{"prompt": "How?", "response": "I cannot help with that.", "label": "refuse"}\n' * 2


def walk(project: Project, lines: list[str], stand_ins: Mapping[str, str] | None = None) -> dict[str, str]:
    """Run each line in a shell, all of which must succeed -> what it printed. `stand_ins` are the names to fill in."""
    assert lines
    told = {}
    for line in lines:
        filled = line
        for name, value in (STAND_INS | dict(stand_ins or {})).items():
            filled = filled.replace(name, value)
        told[line] = project.run("bash", "-euo", "pipefail", "-c", filled)
    return told


def printed(told: dict[str, str], command: str) -> str:
    """What the one line that holds a command printed."""
    (line,) = (line for line in told if command in line)
    return told[line]


@pytest.fixture(scope="module")
def origin(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One model of the reproduced project, with its outputs in the cache."""
    project = Clone(reproduced, tmp_path_factory.mktemp("origin") / "project", {})
    project.dvc("cache", "dir", "--local", str(reproduced.folder / ".dvc/cache"))
    project.params["models"] = ["tiny_llama"]
    project.write_params(project.params)
    project.dvc("checkout", "--quiet")
    assert set(project.repro()) <= {"fetch_data", "models"}  # the first writes what it wrote
    project.commit("one model")
    return project


@pytest.fixture
def clone(origin: Project, reproduced: Project, tmp_path: Path) -> Clone:
    """A fresh clone with all outputs."""
    fresh = Clone(origin, tmp_path / "clone", {})
    # A cache of its own, so that no walk finds what another one ran.
    fresh.dvc("remote", "add", "--local", "--default", "store", str(reproduced.folder / ".dvc/cache"))
    fresh.dvc("pull", "--quiet")
    return fresh


def test_sections_that_are_looked_at_are_there() -> None:
    assert set(LOOKED_AT) < set(SECTIONS)


@pytest.mark.parametrize(("page", "heading"), [section for section in SECTIONS if section not in LOOKED_AT])
def test_a_section_runs_as_it_stands(page: str, heading: str, clone: Clone) -> None:
    (clone.folder / "labelled.jsonl").write_text(LABELLED, encoding="utf-8")
    for block in under(page, heading, "sh", "python"):
        if block.language == "sh":
            walk(clone, block.lines)
        else:
            code = block.code.replace("smollm2_135m", "tiny_llama")
            clone.run(sys.executable, "-c", code)


def test_a_branch_is_run_looked_at_and_merged(clone: Clone) -> None:
    (block,) = under(COMPARE, "Work on a branch")
    *lines, merge = block.lines
    told = walk(clone, lines)
    assert set(stages_of(printed(told, "dvc repro"))) == {*CHANGED, *AFTER}
    assert "density: 0.3" in clone.run("git", "show", "sparser:params.yaml")
    moved = set(re.findall(r"metrics/tiny_llama/(\w+)\.json", printed(told, "dvc metrics diff main --md")))
    written = clone.run("git", "diff", "--name-only", "main", "sparser", "--", "metrics/tiny_llama")
    assert moved == set(re.findall(r"(\w+)\.json", written)) <= {"ties"}
    assert "ties" in printed(told, "safety-tax compare main --md")
    page = (clone.folder / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert re.findall(r'src="static/(\w+?)_metrics_figures_tiny_llama_frontier.svg"', page) == ["workspace", "main"]
    assert not re.search(r"<(?:script|link)[^>]* (?:src|href)=", page)  # nothing from the network
    assert "report: reports/tiny_llama.html" in printed(told, "safety-tax report")
    report = (clone.folder / "reports/tiny_llama.html").read_text(encoding="utf-8")
    assert "What moved since <code>main</code>" in report and "ties in main" in report
    main = clone.run("git", "rev-parse", "main")
    walk(clone, [merge])
    assert clone.run("git", "rev-parse", "main") == clone.run("git", "rev-parse", "sparser")
    assert clone.run("git", "rev-parse", "main~1") == main
    assert clone.run("git", "status", "--porcelain") == ""
    assert "up to date" in clone.dvc("status")
    assert clone.repro() == []


def test_an_experiment_becomes_a_branch(clone: Clone) -> None:
    main = clone.run("git", "rev-parse", "main")
    (block,) = under(COMPARE, "Try an experiment")
    told = walk(clone, block.lines)
    assert set(stages_of(printed(told, "dvc exp run"))) == {*CHANGED, *AFTER}
    shown = printed(told, "dvc exp show")
    assert "sparser" in shown and "0.3" in shown
    branch = clone.run("git", "branch", "--list", "--format=%(refname:short)", "sparser*").split()
    assert branch == ["sparser-ties"]
    assert clone.run("git", "rev-parse", "main", "sparser-ties~1").split() == [main.strip()] * 2
    clone.run("git", "switch", "--quiet", "--force", "sparser-ties")
    assert "density: 0.3" in (clone.folder / "params.yaml").read_text(encoding="utf-8")
    clone.dvc("checkout", "--quiet")
    assert clone.repro() == []


def names_of(kind: str, remote: Remote, own: Mapping[str, str]) -> dict[str, str]:
    """What the page's examples are called here: a place of its own in the remote, and a person's keys."""
    url = f"{remote.shared['url']}-walk"
    if kind == "folder":
        return {"/mnt/team/safety-tax": url}
    if kind == "s3":
        keys = {"id KEY": f"id {own['access_key_id']}", "key SECRET": f"key {own['secret_access_key']}"}
        return {"s3://bucket/safety-tax": url, "https://storage.example.org": remote.shared["endpointurl"], **keys}
    url = url.replace("127.0.0.1", f"127.0.0.1:{remote.shared['port']}")
    return {"ssh://host.example.org/srv/safety-tax": url, "NAME": own["user"], "~/.ssh/id_ed25519": own["keyfile"]}


@pytest.fixture(params=REMOTES)
def team(
    request: pytest.FixtureRequest, origin: Project, reproduced: Project, tmp_path: Path
) -> Callable[[str], Clone]:
    """Pushes the outputs as the page says, and returns how to make a colleague's clone, with keys but no outputs."""
    remote: Remote = request.getfixturevalue(f"{request.param}_remote")
    *recipes, common = (block.lines for block in under(SHARING, "Name the remote"))
    recipe = recipes[REMOTES[request.param]]
    writer = Clone(origin, tmp_path / "writer", {})
    writer.dvc("cache", "dir", "--local", str(reproduced.folder / ".dvc/cache"))
    walk(writer, recipe + common, names_of(request.param, remote, remote.writer))

    def colleague(name: str) -> Clone:
        clone = Clone(writer, tmp_path / name, {})
        if own := [line for line in recipe if "--local" in line]:
            walk(clone, own, names_of(request.param, remote, remote.reader or remote.writer))
        return clone

    return colleague


def kinds_of(clone: Project) -> set[str]:
    """The folders that hold outputs, by two names: `data/verdicts`, `models/onnx`."""
    return {"/".join(path.split("/")[:2]) for path in content(clone.folder)}


def edit_the_judge(clone: Project) -> None:
    """A comment in a file that the judge's stages depend on."""
    with (clone.folder / "safety_tax/judging/rules.py").open("a", encoding="utf-8") as stream:
        stream.write("# reviewed\n")


def test_two_clones_share_a_remote(team: Callable[[str], Clone], origin: Project) -> None:
    everything = team("everything")
    everything.dvc("pull", "--quiet")
    assert content(everything.folder) == content(origin.folder)
    assert everything.repro() == []

    (block,) = under(SHARING, "Fetch what a step needs")
    verdicts, rejudge, metrics, _ = block.lines
    reader = team("reader")
    walk(reader, [verdicts])
    assert kinds_of(reader) == {"data/verdicts"}
    assert "as they were" in reader.run("safety-tax", "compare", "main")

    judging = {"judge_base@tiny_llama", "judge@tiny_llama-safety_donor", "judge@tiny_llama-ties"}
    read = {"data/benchmarks", "data/responses", "data/verdicts", "models/judges"}
    judge = team("judge")
    walk(judge, [rejudge])
    edit_the_judge(judge)
    assert set(judge.repro("--allow-missing")) == judging
    assert kinds_of(judge) == read

    fetching = team("fetching")  # the same with nothing named
    edit_the_judge(fetching)
    assert set(fetching.repro("--pull", "--allow-missing")) == judging
    assert kinds_of(fetching) == read

    analyst = team("analyst")
    walk(analyst, [metrics])
    analyst.params["metrics"]["price"]["helpfulness"] = 0.5
    analyst.write_params(analyst.params)
    assert analyst.repro("--allow-missing") == AFTER
    assert kinds_of(analyst) == {"data/benchmarks", "data/responses", "data/verdicts"}


@pytest.mark.parametrize("team", ["folder"], indirect=True)
def test_a_changed_recipe_fetches_its_inputs_and_no_other_recipes_weights(team: Callable[[str], Clone]) -> None:
    clone = team("recipes")
    clone.params["recipes"]["ties"]["density"] = 0.3
    clone.write_params(clone.params)
    # DVC fetches what one stage wrote; the folders that several stages fill it wants named.
    assert "models/donors/tiny_llama" in clone.refused("repro", "--pull", "--allow-missing")
    (block,) = under(SHARING, "Fetch what a step needs")
    walk(clone, block.lines[-1:])
    assert clone.repro("--pull", "--allow-missing") == CHANGED + AFTER
    assert not (clone.folder / "models/merged/tiny_llama/safety_donor").exists()
    assert not (clone.folder / "models/onnx/tiny_llama/safety_donor").exists()
