"""What somebody meets who has just cloned the project, or downloaded it: through DVC and Git themselves."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Project, tiny_params
from dvc.exceptions import DvcException
from dvc.repo import Repo
from test_remotes import Clone, origin  # noqa: F401 (a fixture)

from safety_tax.checkup.machine import check_remote
from safety_tax.checkup.project_state import check_git, first_commit_advice
from safety_tax.commands.sweep import run_missing
from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.core.rows import LabelVerdict, read_rows, write_rows
from safety_tax.params.reading import load_params
from safety_tax.results.comparison.revisions import commit_of

REFUSED: dict[str, Any] = {"benchmark": "b", "kind": "harmful", "group": "g", "label": "refuse", "truncated": False}


@pytest.fixture
def clone(origin: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:  # noqa: F811
    """A fresh clone; nothing is in its cache, and no remote is named."""
    fresh = Clone(origin, tmp_path / "clone", {})
    monkeypatch.chdir(fresh.folder)
    return fresh


@pytest.fixture
def laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """dvc.yaml with params.yaml of one tiny model, outside Git."""
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    for name in ("dvc.yaml", ".dvc/must_be_mappings.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    yield tmp_path


def lay_out(changes: dict[str, Any]) -> Repo:
    """What DVC makes of params.yaml with other sections; raises what DVC raises."""
    params = tiny_params({"tiny": Path("nowhere")}) | changes
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    repo = Repo(".")
    assert repo.index.stages
    return repo


@pytest.mark.parametrize("section", ["recipes", "donors"])
@pytest.mark.parametrize("value", [None, [], ["ties"], "ties", [{"ties": {"method": "ties"}}], 3])
def test_recipes_and_donors_that_are_no_mapping_are_said_by_name(laid_out: Path, section: str, value: Any) -> None:
    with pytest.raises(DvcException, match=rf"cannot redefine '{section}' from '.*must_be_mappings\.yaml'"):
        lay_out({section: value})
    with pytest.raises(PipelineError, match=section):  # as `doctor` says it
        load_params()


@pytest.mark.parametrize("value", [None, "smollm2_135m", 3])
def test_models_that_are_no_list_are_said_to_be_none(laid_out: Path, value: Any) -> None:
    with pytest.raises(DvcException, match=r"fetch_model\.foreach.*expected list/dictionary, got"):
        lay_out({"models": value})
    with pytest.raises(PipelineError, match="models"):
        load_params()


def test_an_empty_list_of_models_is_said_to_lack_the_first(laid_out: Path) -> None:
    with pytest.raises(DvcException, match=r"Could not find 'models\.0'"):
        lay_out({"models": []})
    with pytest.raises(PipelineError, match="models"):
        load_params()


def test_plots_are_of_the_models_of_params_and_carry_their_names(laid_out: Path) -> None:
    with lay_out({"models": ["tiny"]}) as repo:
        plots = {Path(out.fs_path).relative_to(laid_out).as_posix(): out for out in repo.index.outs if out.plot}
    assert set(plots) == {"metrics/models.json", "metrics/plots/tiny.json", "metrics/figures/tiny"}
    assert plots["metrics/plots/tiny.json"].plot["title"].endswith(" of tiny")


def test_a_failed_repro_leaves_no_tracked_file_removed_and_pulled_verdicts_are_enough(
    origin: Project,  # noqa: F811
    clone: Clone,
) -> None:
    clone.dvc("remote", "add", "--local", "--default", "store", str(origin.folder / ".dvc/cache"))
    clone.params["metrics"]["margin"] = 0.02
    clone.write_params(clone.params)
    assert "data/verdicts/tiny" in clone.refused("repro", "--pull", "--allow-missing")
    assert clone.run("git", "status", "--porcelain") == " M params.yaml\n"
    clone.dvc("pull", "--quiet", "judge_base", "judge")
    assert clone.repro("--pull", "--allow-missing", "metrics@tiny") == ["metrics@tiny"]
    assert "0.02" in (clone.folder / "metrics/detail/tiny.json").read_text(encoding="utf-8")
    Path("data/verdicts/tiny/ties.jsonl").unlink()
    clone.params["metrics"]["margin"] = 0.03
    clone.write_params(clone.params)
    before = clone.run("git", "status", "--porcelain")
    assert "run `dvc pull` to fetch it, or `dvc repro`" in clone.refused("repro", "metrics@tiny", "--single-item")
    assert clone.run("git", "status", "--porcelain") == before


def test_a_damaged_object_is_said_by_whoever_reads_it(origin: Project, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "ties.jsonl"
    write_rows(path, [LabelVerdict(id=name, **REFUSED) for name in "abc"])
    whole = path.read_bytes()
    assert [row.id for row in read_rows(path, LabelVerdict)] == ["a", "b", "c"]
    lines = whole.splitlines(keepends=True)
    damaged = [whole.replace(b"refuse", b"comply", 1), b"".join(lines[:-1]), whole[:-9], b"".join(lines[::-1])]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(PipelineError, match=r"ties\.jsonl"):
            read_rows(path, LabelVerdict)
    path.write_bytes(damaged[0])
    with pytest.raises(PipelineError, match=r"doctor --cache` names what to remove"):
        read_rows(path, LabelVerdict)
    # What people write has no seal.
    path.write_bytes(b"".join(lines[1:]))
    assert len(read_rows(path, LabelVerdict)) == 3


def test_the_mend_names_the_remote_where_there_is_one(clone: Clone) -> None:
    assert how_to_have() == "run `dvc repro`"
    clone.dvc("remote", "add", "--local", "--default", "store", "/nowhere")
    assert how_to_have() == "run `dvc pull` to fetch it, or `dvc repro` to make it"


def test_doctor_offers_the_first_commit_where_the_recorded_run_is_another_machines(
    origin: Project,  # noqa: F811
    clone: Clone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    advice = first_commit_advice()
    assert "another machine" in advice and "git add --all && git commit" in advice
    monkeypatch.chdir(origin.folder)
    assert first_commit_advice() == ""


def test_doctor_says_how_to_do_without_git(laid_out: Path) -> None:
    (finding,) = check_git()
    assert finding.step is None and "DVC does without" in finding.found
    Path(".dvc/config").write_text("", encoding="utf-8")
    (finding,) = check_git()
    assert finding.step and "dvc config --local core.no_scm true" in finding.step
    assert check_remote() == [] and first_commit_advice() == ""


def test_a_shallow_clone_is_told_to_fetch_its_history(clone: Clone, tmp_path: Path, monkeypatch: Any) -> None:

    clone.run("git", "commit", "--quiet", "--allow-empty", "--message", "second")
    shallow = tmp_path / "shallow"
    clone.run("git", "clone", "--quiet", "--depth=1", f"file://{clone.folder}", str(shallow))
    monkeypatch.chdir(shallow)
    with pytest.raises(PipelineError, match="git fetch --unshallow"):
        commit_of("main~1")
    subprocess.run(["git", "fetch", "--quiet", "--unshallow"], check=True)
    assert len(commit_of("main~1")) == 40
    with pytest.raises(PipelineError, match=r"bring it with `git fetch`\."):
        commit_of("gone")


def test_a_sweep_in_a_path_that_dvc_cannot_run_in_ends_before_it_begins(
    origin: Project,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Clone(origin, tmp_path / "détour", {}).folder)
    with pytest.raises(PipelineError, match=r"path of ASCII letters.*détour"):
        run_missing("tiny", {"tiny-ties-density=0.3": ("ties", {"density": 0.3})})
