"""What the figures show, and that they are the same bytes on every run."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import ROOT
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Affine2D
from sample_results import CLEAR_OF_CHANCE, GROUPS, SHARES, results_of

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import LABELLED, Kind, LabelVerdict, ProblemVerdict, write_rows
from safety_tax.results.estimate import Estimate
from safety_tax.results.figures import frontier
from safety_tax.results.figures.answer_lengths import spoken as asked_kinds
from safety_tax.results.figures.canvas import BASE, marks, shortened, styled, write
from safety_tax.results.figures.reading import DRAWN, read_run
from safety_tax.results.figures.run import Run
from safety_tax.results.figures.safety_by_category import spoken
from safety_tax.results.figures.utility_by_area import by_area
from safety_tax.results.mmlu_areas import AREA, OUTSIDE, area_of
from safety_tax.results.variant import ModelResults

CLEAR = SHARES | {"base": {**SHARES["base"], **CLEAR_OF_CHANCE}}
"""As `SHARES`, and in accuracy the base has something to lose, too."""
NO_MORE_THAN_LABELS = ("choice", "problem", "instruction")


def answers(ids: Sequence[str], cut: int) -> list[LabelVerdict]:
    """Verdicts on answers of rising length; the last `cut` of them at the limit of 48 tokens."""
    whole = len(ids) - cut
    kinds = [next((kind for kind in LABELLED if kind in of), LABELLED[0]) for of in ids]
    return [
        LabelVerdict(
            id=of,
            benchmark="b",
            kind=kind,  # type: ignore[arg-type]
            group="g",
            label="comply",
            truncated=cut_off,
            tokens=48 if cut_off else min(i + 5, 47),
        )
        for i, (of, kind) in enumerate(zip(ids, kinds, strict=True))
        for cut_off in [i >= whole]
    ]


def run_of(results: ModelResults) -> Run:
    ids = [f"r{i}" for i in range(40)]
    return Run(results, {name: answers(ids, cut=10) for name in results.variants})


def drawn(name: str, results: ModelResults) -> Figure:
    figure = DRAWN[name](run_of(results))
    assert figure is not None
    return figure


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def require_nothing_leaves_the_page(figure: Figure) -> None:
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()  # of what is visible, in inches
    width, height = figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0, drawn
    assert drawn.x1 <= width and drawn.y1 <= height, drawn


def require_no_label_over_another(figure: Figure) -> None:
    """Of the labels inside the panels, which a figure places itself, and the panels' titles."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        labels = {text.get_text(): corners(text) for text in (*axes.texts, axes.title) if text.get_text()}
        for one, other in combinations(labels, 2):
            assert gap(labels[one], labels[other]) > 0, (one, other)


def corners(text: Text) -> list[tuple[float, float]]:
    """Corners of a label in the page's pixels, as it lies there; turns it upright to find them."""
    angle = text.get_rotation()
    text.set_rotation(0)
    upright = text.get_window_extent()
    anchor = text.get_transform().transform(text.get_position())
    turned = Affine2D().rotate_deg_around(*anchor, angle).transform(upright.corners()[[0, 1, 3, 2]])
    return [(float(x), float(y)) for x, y in turned]


def gap(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> float:
    """Gap between two convex shapes along the best of their sides' normals; negative when they overlap."""
    best = float("-inf")
    for shape in (first, second):
        for (x0, y0), (x1, y1) in zip(shape, [*shape[1:], shape[0]], strict=True):
            normal = (y1 - y0, x0 - x1)
            size = (normal[0] ** 2 + normal[1] ** 2) ** 0.5
            along = [[(x * normal[0] + y * normal[1]) / size for x, y in of] for of in (first, second)]
            best = max(best, min(along[0]) - max(along[1]), min(along[1]) - max(along[0]))
    return best


@pytest.mark.parametrize("name", DRAWN)
def test_every_word_of_a_figure_is_on_the_page(name: str) -> None:
    with styled():
        figure = drawn(name, results_of())
        require_nothing_leaves_the_page(figure)
        require_no_label_over_another(figure)
    shown = "\n".join(texts(figure))
    assert "tiny" in shown
    for variant in SHARES:
        assert variant in shown or (name == "net_benefit" and variant == "base")


@pytest.mark.parametrize("name", DRAWN)
def test_many_recipes_with_long_names_still_fit(name: str) -> None:
    long = [f"{'an_exceedingly_long_name_of_a_recipe_' * 2}{i}" for i in range(12)]
    few = results_of()
    many = {name: few.variants["worse"].model_copy(update={"name": name}) for name in long}
    with styled():
        require_nothing_leaves_the_page(drawn(name, few.model_copy(update={"variants": few.variants | many})))


@pytest.mark.parametrize("shares", [SHARES, CLEAR, {name: SHARES[name] for name in ("base", "worse")}])
def test_no_label_of_the_frontier_lies_over_another(shares: dict[str, dict[str, float]]) -> None:
    results = results_of(shares)
    for factor in (0.1, 1, 7):
        priced = results.model_copy(update={"price": {name: factor * of for name, of in results.price.items()}})
        with styled():
            require_no_label_over_another(drawn("frontier", priced))


def drawn_of(results: ModelResults) -> set[str]:
    with styled():
        figures = {name: draw(run_of(results)) for name, draw in DRAWN.items()}
        for figure in filter(None, figures.values()):
            require_nothing_leaves_the_page(figure)
    return {name for name, figure in figures.items() if figure is not None}


def test_a_figure_that_would_be_empty_is_not_drawn() -> None:
    assert drawn_of(results_of()) == set(DRAWN)
    assert drawn_of(results_of({"base": SHARES["base"]})) == set(DRAWN) - {"frontier", "net_benefit"}
    one = {name: SHARES[name] for name in ("base", "ties")}
    assert drawn_of(results_of(one, without=NO_MORE_THAN_LABELS)) == set(DRAWN) - {"utility_by_area"}
    nothing_to_lose = drawn_of(results_of(without=("benign", *NO_MORE_THAN_LABELS)))
    assert nothing_to_lose == {"net_benefit", "safety_by_category", "answer_lengths"}


def project_of(folder: Path, results: ModelResults) -> None:
    """What stage `plots` reads."""
    detail = folder / "metrics/detail/tiny.json"
    detail.parent.mkdir(parents=True)
    detail.write_text(json.dumps(results.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    ids = [f"{kind}{i}" for kind in LABELLED for i in range(20)]
    about: dict[str, Any] = {"id": "problem0", "benchmark": "b", "kind": "problem", "group": "g"}
    longer = ProblemVerdict(**about, truncated=True, tokens=400, answer_correct=False, marked_correct=False)
    for name in results.variants:
        write_rows(folder / f"data/verdicts/tiny/{name}.jsonl", [*answers(ids, cut=15), longer])


def test_figures_are_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    results = results_of()
    project_of(tmp_path, results)
    # A machine's own settings must not show.
    (tmp_path / "matplotlibrc").write_text("font.size: 31\nsvg.hashsalt: other\n", encoding="utf-8")
    found: list[dict[str, bytes]] = []
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-m", "stages.plots", "tiny"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path), "MATPLOTLIBRC": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        found.append({p.name: p.read_bytes() for p in (tmp_path / "metrics/figures/tiny").iterdir()})
    assert found[0] == found[1]
    assert set(found[0]) == {f"{name}.svg" for name in DRAWN}
    for content in found[0].values():
        assert ElementTree.fromstring(content).tag.endswith("svg")
        assert b"<dc:date>" not in content
    with styled():
        write(drawn("frontier", results), tmp_path / "here.svg")
    assert (tmp_path / "here.svg").read_bytes() == found[0]["frontier.svg"]


def test_lengths_are_of_the_answers_that_get_a_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project_of(tmp_path, results_of())
    read = read_run("tiny").answers
    assert set(read) == set(SHARES)
    assert {len(of) for of in read.values()} == {60}
    assert max(answer.tokens or 0 for of in read.values() for answer in of) == 48  # a problem's limit is higher
    lacking = tmp_path / "data/verdicts/tiny/ties.jsonl"
    write_rows(lacking, answers(["harmful0"], cut=0))
    with pytest.raises(PipelineError, match=r"60 prompts.*ties\.jsonl, found 1; run `dvc repro`"):
        read_run("tiny")


def test_variants_differ_in_colour_and_shape() -> None:
    names = ["base", *(f"recipe{i}" for i in range(56))]
    looks = marks(names)
    assert looks["base"] == BASE
    assert len(set(looks.values())) == 57
    # A recipe looks the same whether the base is drawn beside it or not.
    assert marks(names[1:]) == {name: look for name, look in looks.items() if name != "base"}


def panel(results: ModelResults, title: str) -> Axes:
    """The panel of the frontier whose title begins so."""
    with styled():
        axes = drawn("frontier", results).axes
    return next(of for of in axes if of.get_title(loc="left").startswith(title))


def drawn_lines(axes: Axes) -> list[list[tuple[float, float]]]:
    return [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.lines]


def taxes(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def has(lines: Iterable[Sequence[tuple[float, float]]], *points: Sequence[float]) -> bool:
    return any(
        len(line) == len(points) and all(pytest.approx(p) == q for p, q in zip(points, line, strict=True))
        for line in lines
    )


def test_the_frontier_has_the_base_at_the_origin_and_limits_as_crosses() -> None:
    results = results_of()
    axes = panel(results, "helpfulness")
    lines = drawn_lines(axes)
    ties = results.variants["ties"]
    gain, loss = ties.gain, ties.paid["helpfulness"].loss
    assert has(lines, (0, 0))
    assert has(lines, (100 * gain.value, -100 * loss.value))
    assert has(lines, *((100 * x, -100 * loss.value) for x in (gain.low, gain.high)))
    assert has(lines, *((100 * gain.value, -100 * y) for y in (loss.low, loss.high)))
    # A tax of a half: where ten points of safety cost five of helpfulness.
    ends = [line[1] for line in lines if line[0] == (0, 0) and len(line) == 2 and line[1][1] < 0 < line[1][0]]
    assert any(end[1] / end[0] == pytest.approx(-0.5) for end in ends)
    assert any(end[1] / end[0] == pytest.approx(-results.price["helpfulness"]) for end in ends)


def test_each_currency_has_its_own_price_and_one_without_a_loss_has_no_tax() -> None:
    results = results_of()
    assert "price 1" in taxes(panel(results, "helpfulness"))
    assert "price 0.25" in taxes(panel(results, "reasoning"))
    assert "price 0.5" in taxes(panel(results, "instruction"))
    guessing = panel(results, "accuracy")
    assert "cannot show a loss" in guessing.get_title(loc="left")
    assert taxes(guessing) == []
    ties = results.variants["ties"]
    point = 100 * ties.gain.value, -100 * ties.currencies["knowledge"].paid.loss.value  # type: ignore[union-attr]
    assert has(drawn_lines(guessing), point)
    knowing = panel(results_of(CLEAR), "accuracy")
    assert "price 0.25" in taxes(knowing) and knowing.get_title(loc="left") == "accuracy"


def test_panels_are_of_what_was_measured_helpfulness_first() -> None:
    with styled():
        of_two = frontier.draw(run_of(results_of(without=("problem", "instruction"))))
        of_one = frontier.draw(run_of(results_of(without=NO_MORE_THAN_LABELS)))
    assert of_two is not None and of_one is not None
    assert [axes.get_title(loc="left").split(":")[0] for axes in of_two.axes] == ["helpfulness", "accuracy"]
    assert [axes.get_title(loc="left") for axes in of_one.axes] == ["helpfulness"]


def test_a_dominated_recipe_is_hollow_and_named() -> None:
    results = results_of()
    assert {name for name, of in results.recipes.items() if of.dominated_by} == {"worse"}
    with styled():
        figure = drawn("frontier", results)
    caption = next(text for text in texts(figure) if "Hollow" in text)
    assert "worse" in caption and "ties" not in caption
    handles = {line.get_label(): line for line in figure.legends[0].get_lines()}
    hollow = {name for name, line in handles.items() if line.get_markerfacecolor() == "white"}
    assert hollow == {"worse"}
    nobody = {name: of for name, of in SHARES.items() if name != "worse"}
    with styled():
        assert not any("Hollow" in text for text in texts(drawn("frontier", results_of(nobody))))


def test_net_benefit_crosses_the_runs_prices_at_one() -> None:
    results = results_of()
    with styled():
        axes = drawn("net_benefit", results).axes[0]
    assert axes.get_xscale() == "log"
    lines = drawn_lines(axes)
    for recipe in results.recipes.values():
        assert recipe.net_benefit is not None
        value = 100 * recipe.net_benefit.estimate.value
        assert any((1.0, pytest.approx(value)) in line for line in lines)
    assert has(lines, (1, 0), (1, 1))  # the dashed line, from the bottom to the top


def test_the_subjects_of_an_area_are_pooled() -> None:
    def rate(value: float, n: int) -> Estimate:
        return Estimate(value=value, low=0, high=1, n=n)

    subjects = {
        "high school physics": rate(0.25, 4),
        "high_school_biology": rate(0.5, 12),
        "heraldry": rate(1.0, 1),
        "sociology": rate(0.0, 3),
    }
    areas = by_area(subjects, 0.95)
    assert list(areas) == ["STEM", "social sciences", OUTSIDE]
    assert (areas["STEM"].value, areas["STEM"].n) == (7 / 16, 16)
    assert areas["social sciences"].value == 0


def test_every_area_has_subjects() -> None:
    assert len(AREA) == 57
    assert {area_of(subject) for subject in GROUPS["choice"]} == set(AREA.values())


def test_the_lengths_name_the_kinds_that_were_put() -> None:
    without: list[tuple[Kind, ...]] = [(), ("jailbreak",), ("jailbreak", "benign")]
    said = [asked_kinds(results_of({"base": SHARES["base"]}, of).base) for of in without]
    assert said == ["harmful, jailbreak and harmless", "harmful and harmless", "harmful"]


def test_names_are_words_and_no_longer_than_their_room() -> None:
    assert spoken("violence,aiding_and_abetting,incitement") == "violence, aiding and abetting, incitement"
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"metrics/detail/tiny\.json.*dvc repro"):
        read_run("tiny")
    project_of(tmp_path, results_of({"base": SHARES["base"]}))
    (tmp_path / "data/verdicts/tiny/base.jsonl").unlink()
    with pytest.raises(PipelineError, match=r"data/verdicts/tiny/base\.jsonl"):
        read_run("tiny")
    for content in ("{}", "[1]", '{"base": '):
        (tmp_path / "metrics/detail/tiny.json").write_text(content, encoding="utf-8")
        with pytest.raises(PipelineError, match=r"Expected.*tiny\.json.*dvc repro"):
            read_run("tiny")
