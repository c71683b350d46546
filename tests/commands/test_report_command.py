"""`safety-tax report`: one model, several side by side, an older revision; and what it says of what is missing."""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_pages import Page, rows_of
from sample_project import params_of, prompt_of, write_model, write_project, write_with_history
from sample_results import SHARES, verdicts_of

from safety_tax.commands.report import add_arguments, report, run
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import NOTHING, VERDICT, Kind, read_rows, write_rows
from safety_tax.params import Params, load_params

BASE: dict[Kind, float] = {**SHARES["base"], "choice": 0.4}  # surely above guessing
TWO: dict[str, dict[Kind, float]] = {"base": BASE, "ties": SHARES["ties"] | {"choice": 0.4}}
BETTER: dict[str, dict[Kind, float]] = {**TWO, "ties": TWO["ties"] | {"harmful": 0.9}}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to make a project in."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def typed(*words: str) -> argparse.Namespace:
    """The command line, parsed."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def index_of(html: str) -> dict[str, Any]:
    """The browser's index."""
    (found,) = (of for of in Page(html).found("script") if of.attributes.get("id") == "index")
    index: dict[str, Any] = json.loads(found.text)
    return index


def test_without_a_name_all_models_of_params_are_on_one_page(here: Path) -> None:
    write_project(here, {"one": TWO, "two": BETTER, "three": TWO})
    run(typed())
    assert [file.name for file in (here / "reports").iterdir()] == ["models.html"]
    html = (here / "reports/models.html").read_text("utf-8")
    assert [row.split()[0] for row in rows_of(Page(html))] == ["one"] * 2 + ["two"] * 2 + ["three"] * 2
    index = index_of(html)
    assert index["variants"] == [f"{of} of {model}" for model in ("one", "two", "three") for of in ("base", "ties")]
    assert index["reference"] == [0, 0, 2, 2, 4, 4]


def test_one_model_by_name_is_a_page_of_its_own(here: Path) -> None:
    write_project(here, {"one": TWO, "two": BETTER})
    run(typed("two"))
    assert [file.name for file in (here / "reports").iterdir()] == ["two.html"]
    run(typed("one", "two", "one", "--output", "elsewhere.html"))
    assert "2 models" in (here / "elsewhere.html").read_text("utf-8")


def test_a_model_of_another_run_is_shown_apart_and_its_items_are_not_listed(here: Path) -> None:
    write_project(here, {"one": TWO, "two": TWO}, chosen=["one"])
    params = load_params()
    for name in ("base", "ties"):
        rows = read_rows(Path(f"data/verdicts/two/{name}.jsonl"), VERDICT)
        write_rows(Path(f"data/verdicts/two/{name}.jsonl"), [v.model_copy(update={"id": f"x{v.id}"}) for v in rows])
    html = report(["one", "two"], params)
    page = Page(html)
    assert "Not one comparison" in page.found("p", "notice")[0].words
    assert "cannot be read below" in page.found("p", "asked")[1].words
    assert index_of(html)["variants"] == ["base of one", "ties of one"]


def test_one_model_that_was_asked_other_items_than_are_there_is_refused(here: Path) -> None:
    write_project(here, {"one": TWO})
    write_rows(Path("data/benchmarks/problem.jsonl"), [prompt_of(verdicts_of("base", {"problem": 1.0})[0])])
    with pytest.raises(PipelineError, match=r"verdicts of 'base' on the 1,021 benchmark items.*dvc repro"):
        report(["one"], load_params())


def test_a_set_without_problems_or_instructions_has_a_report(here: Path) -> None:
    less: dict[str, dict[Kind, float]]
    less = {name: {kind: of for kind, of in shares.items() if kind != "problem"} for name, shares in TWO.items()}
    write_project(here, {"one": less})
    assert Path("data/benchmarks/problem.jsonl").read_bytes() == NOTHING
    assert "problem" not in index_of(report(["one"], load_params()))["kinds"]


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("metrics/detail/one.json", r"metrics/detail/one\.json.*dvc repro"),
        ("data/verdicts/one/ties.jsonl", r"data/verdicts/one/ties\.jsonl.*dvc repro"),
        ("data/responses/one/base/responses.jsonl", r"data/responses/one/base/responses\.jsonl.*dvc repro"),
        ("data/benchmarks/benign.jsonl", r"data/benchmarks/benign\.jsonl.*dvc repro"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_written(here: Path, gone: str, said: str) -> None:
    write_project(here, {"one": TWO})
    (here / gone).unlink()
    with pytest.raises(PipelineError, match=said):
        run(typed())
    assert not list(here.glob("reports/*"))


def test_a_run_without_its_figures_has_a_report(here: Path) -> None:
    write_project(here, {"one": TWO})
    shutil.rmtree(here / "metrics/figures")
    assert not Page(report(["one"], load_params())).found("img")


def test_results_of_other_verdicts_or_recipes_than_are_there_are_refused(here: Path) -> None:
    write_project(here, {"one": TWO})
    fewer = {name: rows[:-1] for name, rows in ((of, verdicts_of(of, TWO[of])) for of in TWO)}
    for name, rows in fewer.items():
        write_rows(Path(f"data/verdicts/one/{name}.jsonl"), rows)
    with pytest.raises(
        PipelineError, match=r"Expected instructions.* of 'one' of the 149 items .*found it of 150.*repro"
    ):
        report(["one"], load_params())
    write_rows(Path("data/verdicts/one/base.jsonl"), verdicts_of("base", TWO["base"]))
    with pytest.raises(PipelineError, match="'ties' of 'one' to have been asked what its base was, found 1 items of"):
        report(["one"], load_params())
    write_project(here, {"one": {"base": TWO["base"]}})
    Path("params.yaml").write_text(yaml.safe_dump(params_of({"one": TWO})), encoding="utf-8")
    with pytest.raises(PipelineError, match="of 'one' for the recipes ties, found none"):
        report(["one"], load_params())


def test_a_list_without_models_is_refused_in_a_sentence(here: Path) -> None:
    write_project(here, {"one": TWO})
    params = params_of({"one": TWO}) | {"models": []}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"models"):
        run(typed())


# --- against an older revision


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history") / "project"
    write_with_history(folder, {"one": TWO}, {"one": BETTER})
    return folder


def test_what_moved_is_told_with_what_is_more_than_noise_and_the_items_that_flipped(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(history)
    html = report(["one"], load_params(), "before")
    page = Page(html)
    assert page.found("h2")[0].words == "What moved since before"
    assert "More than noise: safety of ties rose by 26.0 points" in page.found("p", "sentence")[1].words
    (row,) = (of for of in page.found("tr") if of.words.startswith("ties safety"))
    assert "64.0 → 90.0" in row.words and "▲ better" in row.words and "+39 −0" in row.words
    index = index_of(html)
    assert index["variants"] == ["base", "ties", "base in before", "ties in before"]
    assert index["reference"] == [2, 3, 2, 2]
    button = next(of for of in page.found("button", "browse") if of.words.startswith("+39 −0"))
    assert (button.attributes["data-variant"], button.attributes["data-against"]) == ("1", "3")
    assert button.attributes["data-kind"] == "harmful"
    now, then = (index["label"][place] for place in (1, 3))
    flipped = [item for item, kind in enumerate(index["kind"]) if index["kinds"][kind] == "harmful"]
    assert sum(now[item] != then[item] for item in flipped) == 39
    texts = next(of for of in page.found("script") if of.attributes.get("id") == "texts-0").text
    assert "As before." in texts and "As now." in texts
    moves = [layer for layer in page.specifications[0]["layer"] if layer["mark"].get("strokeWidth") == 3]
    ((move,),) = (layer["data"]["values"] for layer in moves)
    assert move["x2"] - move["x"] == pytest.approx(26, abs=1e-4)


def test_answers_that_are_not_in_the_cache_any_more_leave_the_rest_of_the_page(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    shutil.copytree(history, work, symlinks=True)
    monkeypatch.chdir(work)
    for file in (work / ".dvc/cache").rglob("*"):
        if file.is_file() and b"As before." in file.read_bytes():
            file.unlink()
    html = report(["one"], load_params(), "before")
    assert index_of(html)["variants"][3] == "ties in before"
    assert "As before." not in html
    shutil.rmtree(work / ".dvc/cache")
    page = Page(report(["one"], load_params(), "before"))
    assert any("Unpaired" in of.words for of in page.found("p", "notice"))
    assert not [of for of in page.found("button", "browse") if "data-against" in of.attributes]


def test_a_revision_that_lacks_the_model_or_is_none_is_refused(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(history)
    with pytest.raises(PipelineError, match="'nowhere', which Git does not know"):
        report(["one"], load_params(), "nowhere")
    params = Params.model_validate(params_of({"one": BETTER, "two": TWO}))
    write_model(history, Path("data"), "two", TWO, params)
    with pytest.raises(PipelineError, match="results of 'two' in before to compare with, found those of one"):
        report(["one", "two"], params, "before")
