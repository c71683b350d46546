"""What a pull request's comment begins with: the choice, whether it is new, and the picture, all from Git."""

import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import real_params
from sample_results import SHARES, results_of

from safety_tax.core.files import write_json
from safety_tax.core.workspace import DETAIL, FIGURES
from safety_tax.results.comparison.committed_verdicts import lead
from safety_tax.results.comparison.revisions import read_revision
from safety_tax.results.words import verdict


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose Git has two commits: `safety_donor` is the choice in the first, the base in the second."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch=main")
    Path("params.yaml").write_text(yaml.safe_dump(real_params()), encoding="utf-8")
    measured = results_of(SHARES, without=("problem", "instruction")).model_copy(update={"model": "smollm2_135m"})
    for choice in ("safety_donor", None):
        detail = measured.model_copy(update={"recommended": choice}).model_dump(mode="json", exclude_none=True)
        write_json(DETAIL / "smollm2_135m.json", detail)
        picture = FIGURES / "smollm2_135m/frontier.svg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text("<svg/>", encoding="utf-8")
        git("add", "--all")
        git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message", "results")
    git("tag", "before", "HEAD^")
    return tmp_path


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def test_the_comment_begins_with_the_choice_and_says_that_it_is_another(repository: Path) -> None:
    before, after = read_revision("before"), read_revision("main")
    first, *rest = lead("smollm2_135m", before, after, "https://example.org/raw/abc/")
    assert first.startswith("> **Keep the base: no recipe is shown to be better")
    assert first.endswith("In `before`, `safety_donor` was the choice.")
    assert rest == [
        "",
        "![What each recipe of smollm2_135m gained in safety, and what it lost]"
        "(https://example.org/raw/abc/metrics/figures/smollm2_135m/frontier.svg)",
        "",
    ]
    back = lead("smollm2_135m", after, before, None)
    assert back[0].startswith("> **Choose `safety_donor`") and back[0].endswith("In `main`, the base was to be kept.")
    assert back[1:] == [""]


def test_where_nothing_changed_the_verdict_stands_alone(repository: Path) -> None:
    main = read_revision("main")
    (said, _) = lead("smollm2_135m", main, main, None)
    measured = results_of(SHARES, without=("problem", "instruction"))
    assert said == f"> **{verdict(measured.model_copy(update={'recommended': None}))}**"


def test_results_of_another_version_and_none_are_no_lead(repository: Path) -> None:
    main, workspace = read_revision("main"), read_revision(None)
    (DETAIL / "smollm2_135m.json").write_text('{"model": "old"}', encoding="utf-8")
    assert lead("smollm2_135m", main, workspace, None) == []
    assert lead("other", main, main, None) == []
    said = lead("smollm2_135m", workspace, main, "https://example.org")
    assert "was the choice" not in said[0] and said[0].startswith("> **Keep the base")
