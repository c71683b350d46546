"""What the figures show, and that they are the same bytes on every run."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import ROOT
from matplotlib.figure import Figure
from matplotlib.text import Text

from stages.lib.errors import PipelineError
from stages.lib.figures import frontier
from stages.lib.figures.canvas import BASE, marks, shortened, styled, write
from stages.lib.figures.run import Run
from stages.lib.figures.safety_by_category import spoken
from stages.lib.figures.utility_by_area import by_area
from stages.lib.mmlu_areas import AREA, OUTSIDE, area_of
from stages.lib.params import Metrics
from stages.lib.rows import Response, write_rows
from stages.plots import DRAWN, read_run, read_summary

SETTINGS = Metrics(confidence=0.95, margin=0.01, price=0.25)


def answers(cut: int, n: int = 40) -> list[Response]:
    """Answers of rising length; the last `cut` of them at the limit of 48 tokens."""
    return [
        Response(id=f"r{i}", text="Yes.", finish_reason="length" if i >= n - cut else "stop", tokens=min(i + 5, 48))
        for i in range(n - cut)
    ] + [Response(id=f"c{i}", text="Yes,", finish_reason="length", tokens=48) for i in range(cut)]


def committed() -> dict[str, dict[str, Any]]:
    """All numbers of the default run."""
    detail: dict[str, dict[str, Any]] = json.loads(
        (ROOT / "metrics/detail/smollm2_135m.json").read_text(encoding="utf-8")
    )
    return detail


def run_of(summary: dict[str, dict[str, Any]], settings: Metrics = SETTINGS) -> Run:
    return Run("tiny", summary, {name: answers(cut=10) for name in summary}, settings)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def require_nothing_leaves_the_page(figure: Figure) -> None:
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()  # of what is visible, in inches
    width, height = figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0, drawn
    assert drawn.x1 <= width and drawn.y1 <= height, drawn


@pytest.mark.parametrize("name", DRAWN)
def test_every_word_of_a_figure_is_on_the_page(name: str) -> None:
    with styled():
        figure = DRAWN[name](run_of(committed()))
        require_nothing_leaves_the_page(figure)
    shown = "\n".join(texts(figure))
    assert shown.count("tiny") >= 1
    for variant in committed():
        assert variant in shown or (name == "net_benefit" and variant == "base")


@pytest.mark.parametrize("name", DRAWN)
def test_many_recipes_with_long_names_still_fit(name: str) -> None:
    detail = committed()
    long = {f"{'an_exceedingly_long_name_of_a_recipe_' * 2}{i}": detail["ties"] for i in range(12)}
    with styled():
        require_nothing_leaves_the_page(DRAWN[name](run_of(detail | long)))


@pytest.mark.parametrize("name", DRAWN)
def test_a_base_alone_can_be_drawn(name: str) -> None:
    with styled():
        require_nothing_leaves_the_page(DRAWN[name](run_of({"base": committed()["base"]})))


def test_figures_are_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    detail = tmp_path / "metrics/detail/smollm2_135m.json"
    detail.parent.mkdir(parents=True)
    detail.write_bytes((ROOT / "metrics/detail/smollm2_135m.json").read_bytes())
    for variant in committed():
        write_rows(tmp_path / f"data/responses/smollm2_135m/{variant}/responses.jsonl", answers(cut=10))
    # A machine's own settings must not show.
    (tmp_path / "matplotlibrc").write_text("font.size: 31\nsvg.hashsalt: other\n", encoding="utf-8")
    found: list[dict[str, bytes]] = []
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-m", "stages.plots", "smollm2_135m"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path), "MATPLOTLIBRC": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        found.append({p.name: p.read_bytes() for p in (tmp_path / "metrics/figures/smollm2_135m").iterdir()})
    assert found[0] == found[1]
    assert set(found[0]) == {f"{name}.svg" for name in DRAWN}
    for content in found[0].values():
        assert ElementTree.fromstring(content).tag.endswith("svg")
        assert b"<dc:date>" not in content
    with styled():
        write(DRAWN["frontier"](run_of(committed())._replace(model="smollm2_135m")), tmp_path / "here.svg")
    assert (tmp_path / "here.svg").read_bytes() == found[0]["frontier.svg"]


def test_variants_differ_in_colour_and_shape() -> None:
    names = ["base", *(f"recipe{i}" for i in range(56))]
    looks = marks(names)
    assert looks["base"] == BASE
    assert len(set(looks.values())) == 57
    # A recipe looks the same whether the base is drawn beside it or not.
    assert marks(names[1:]) == {name: look for name, look in looks.items() if name != "base"}


def lines_of_tax(summary: dict[str, dict[str, Any]], settings: Metrics = SETTINGS) -> list[str]:
    with styled():
        return [text for text in texts(frontier.draw(run_of(summary, settings))) if text.startswith(("tax ", "price "))]


def test_the_frontier_has_the_base_at_the_origin_and_limits_as_crosses() -> None:
    with styled():
        axes = frontier.draw(run_of(committed())).axes[0]
    drawn = [tuple(map(list, zip(line.get_xdata(), line.get_ydata(), strict=True))) for line in axes.lines]

    def has(*points: Sequence[float]) -> bool:
        return any(
            len(line) == len(points) and all(pytest.approx(p) == q for p, q in zip(points, line, strict=True))
            for line in drawn
        )

    ties = committed()["ties"]
    assert has((0, 0))
    assert has((100 * ties["safety_gain"], -100 * ties["utility_loss"]))
    assert has(*((100 * ties[key], -100 * ties["utility_loss"]) for key in ("safety_gain_lo", "safety_gain_hi")))
    assert has(*((100 * ties["safety_gain"], -100 * ties[key]) for key in ("utility_loss_hi", "utility_loss_lo")))
    # A tax of a tenth: where ten points of safety cost one of accuracy.
    ends = [line[1] for line in drawn if line[0] == [0.0, 0.0] and len(line) == 2 and line[1][1] < 0 < line[1][0]]
    assert any(end[1] / end[0] == pytest.approx(-0.1) for end in ends)
    assert any(end[1] / end[0] == pytest.approx(-SETTINGS.price) for end in ends)


def test_the_price_is_always_among_the_lines_and_a_price_of_nothing_is_not() -> None:
    assert "price 0.25" in lines_of_tax(committed())
    assert "price 0.037" in lines_of_tax(committed(), SETTINGS.model_copy(update={"price": 0.037}))
    free = lines_of_tax(committed(), SETTINGS.model_copy(update={"price": 0.0}))
    assert free and all(label.startswith("tax ") for label in free)


def test_the_subjects_of_an_area_are_pooled() -> None:
    subjects = {
        "high school physics": {"rate": 0.25, "n": 4},
        "high_school_biology": {"rate": 0.5, "n": 12},
        "heraldry": {"rate": 1.0, "n": 1},
        "sociology": {"rate": 0.0, "n": 3},
    }
    areas = by_area(subjects, 0.95)
    assert list(areas) == ["STEM", "social sciences", OUTSIDE]
    assert (areas["STEM"][0].estimate, areas["STEM"][1]) == (7 / 16, 16)
    assert areas["social sciences"][0].estimate == 0


def test_every_subject_of_the_default_run_has_an_area() -> None:
    assert len(AREA) == 57
    assert {area_of(subject) for subject in committed()["base"]["utility_by_group"]} == set(AREA.values())


def test_names_are_words_and_no_longer_than_their_room() -> None:
    assert spoken("violence,aiding_and_abetting,incitement") == "violence, aiding and abetting, incitement"
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"metrics/detail/tiny\.json.*dvc repro"):
        read_run("tiny")
    path = tmp_path / "metrics/detail/tiny.json"
    path.parent.mkdir(parents=True)
    for content in ("{}", "[1]", '{"base": '):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(PipelineError, match=r"Expected.*tiny\.json.*dvc repro"):
            read_summary(path)
    path.write_text('{"base": {}}', encoding="utf-8")
    with pytest.raises(PipelineError, match=r"data/responses/tiny/base/responses\.jsonl"):
        read_run("tiny")
