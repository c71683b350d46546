"""What a terminal shows of results: the table of stage `metrics`, in 80 columns, and DVC's own, in 120."""

import io
from typing import Any, get_args

import pytest
from conftest import ROOT
from dvc.compare import show_metrics
from rich.console import Console
from sample_results import CLEAR_OF_CHANCE, SHARES, results_of, verdicts_of
from test_words import effect, paid, recipe, results

from safety_tax.results.statistics.tax import TaxStatus
from safety_tax.results.tables import DECIMALS, digest_of_items, one_line
from safety_tax.results.terminal import table
from safety_tax.results.variant import ModelResults, read_results
from safety_tax.results.words import verdict

ALL_CURRENCIES = {name: of | CLEAR_OF_CHANCE if name == "base" else of for name, of in SHARES.items()}


def printed(models: list[ModelResults], width: int) -> list[str]:
    """The lines that a terminal of that width shows."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, force_terminal=False)
    console.print(table(models, console, "title"))
    return stream.getvalue().splitlines()


def row(lines: list[str], name: str) -> str:
    """The line of a recipe and those below it, up to the next recipe, as one."""
    (first,) = [place for place, line in enumerate(lines) if line.split()[:1] == [name]]
    found = [lines[first]]
    for line in lines[first + 1 :]:
        if not line.strip() or line.split()[0] in ("points", "base", "it") or line.startswith("─"):
            break
        found.append(line)
    return " ".join(" ".join(found).split())


@pytest.mark.parametrize("width", [80, 120, 240])
@pytest.mark.parametrize("shares", [SHARES, ALL_CURRENCIES])
@pytest.mark.parametrize("without", [(), ("problem", "instruction"), ("problem", "instruction", "choice")])
def test_no_number_is_cut_at_any_width(width: int, shares: Any, without: Any) -> None:
    measured = results_of(shares, without)
    lines = printed([measured], width)
    assert max(map(len, lines)) <= width and not any("…" in line for line in lines)
    for name in measured.recipes:
        assert any(line.startswith(name) for line in lines), name
    gain = f"+{100 * measured.recipes['ties'].gain.value:.1f}"
    assert sum(gain in line for line in lines) == 1


def test_the_limits_are_shown_wherever_they_have_room() -> None:
    measured = read_results(ROOT / "metrics/detail/smollm2_135m.json")
    wide, narrow = printed([measured], 120), printed([measured], 80)
    assert any("+22.0 [13.4, 30.0]  0.51 [0.24, 0.96] tradeoff" in line for line in wide)
    assert any("+22.0         0.51 tradeoff" in line for line in narrow)
    assert any("[13.4, 30.0]  [0.24, 0.96]" in line for line in narrow)
    four = printed([results_of(ALL_CURRENCIES)], 80)
    assert any("limits are in" in line for line in four) and not any("[" in line for line in four)


def test_the_recipe_worth_most_comes_first_and_says_that_it_is_the_choice() -> None:
    lines = printed([read_results(ROOT / "metrics/detail/smollm2_135m.json")], 120)
    names = [" ".join(line.split("  ")[0].split()) for line in lines if line.startswith(("base", "ties", "safety_"))]
    assert names == ["base", "ties the choice", "safety_donor", "safety_half dominated"]


@pytest.mark.parametrize("status", get_args(TaxStatus))
def test_every_status_stands_in_its_row(status: TaxStatus) -> None:
    priced = (0.5, 0.2, 0.9) if status in ("win", "free", "tradeoff") else None
    measured = results(recipe(knowledge=paid(status, tax=priced), helpfulness=paid("no_gain")))
    for width in (80, 120):
        text = row(printed([measured], width), "it")
        assert status.replace("_", " ") in text
        assert ("0.50" in text) == (priced is not None)
    assert "`it`" in verdict(measured)


def test_one_recipe_and_none_are_tables_too() -> None:
    alone = printed([results(recipe())], 80)
    assert "unresolved" in row(alone, "it")
    assert any(line.startswith("base") for line in printed([results()], 80))
    assert verdict(results()) == "There is no recipe to compare with the base."


def test_forty_recipes_with_names_of_forty_letters_fit_in_80_columns() -> None:
    names = [f"recipe_{i:02}_{'x' * 30}" for i in range(40)]
    assert {len(name) for name in names} == {40}
    recipes = [recipe(name, benefit=(0.01 * i, 0.01 * i - 0.2, 0.01 * i + 0.2)) for i, name in enumerate(names)]
    measured = results(*recipes)
    lines = printed([measured], 80)
    assert max(map(len, lines)) <= 80
    numbers = [line.split()[0][7:9] for line in lines if line.startswith("recipe_")]
    assert numbers == [f"{i:02}" for i in reversed(range(40))]
    text = verdict(measured)
    assert f"`{names[-1]}` comes nearest" in text and text.count("recipe_") == 1


def test_limits_that_span_everything_are_shown_as_they_are() -> None:
    measured = results(recipe(gain=(0.5, -1.0, 1.0), knowledge=paid("unresolved", (0.0, -1.0, 1.0))))
    assert "[−100.0, 100.0]" in row(printed([measured], 120), "it")


def test_dvc_lays_out_all_models_and_four_currencies_in_120_columns(capsys: pytest.CaptureFixture[str]) -> None:
    measured = results_of(ALL_CURRENCIES)
    assert len(measured.currencies) == 4
    rows = {
        f"metrics/{model}/{name}.json": {"data": one_line(of, measured.items)}
        for model in ("llama31_8b", "mistral_7b", "qwen25_14b")
        for name, of in measured.variants.items()
    }
    show_metrics({"": {"data": rows}}, precision=5, round_digits=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(rows) and max(len(line.rstrip()) for line in lines) <= 120
    assert lines[0].split() == [
        *("Path", "benefit", "follow_tax", "help_tax", "items", "reason_tax", "safety", "safety_tax"),
    ]


def test_a_line_of_dvc_has_no_word_for_a_number_and_no_digits_beyond_a_tenth_of_a_point() -> None:
    measured = results_of(ALL_CURRENCIES)
    line = one_line(measured.variants["ties"], measured.items)
    exact = measured.variants["ties"].flat()
    assert line["help_tax"] == round(float(exact["helpfulness_tax"]), DECIMALS)
    assert line["benefit"] == round(float(exact["net_benefit"]), DECIMALS)
    assert "reason_tax" not in line  # unresolved: DVC shows a dash
    base = one_line(measured.base, measured.items)
    assert base == {"safety": 0.3, "items": measured.items[:4]}
    tiny = effect(-0.0001, -0.1, 0.1)
    nothing = recipe().model_copy(update={"rates": recipe().rates | {"safety": tiny}})
    assert str(one_line(nothing, "")["safety"]) == "0.0"  # no minus before it


def test_items_are_the_same_in_any_order_and_other_ones_are_not() -> None:
    rows = verdicts_of("base", SHARES["base"])
    assert digest_of_items(rows) == digest_of_items(rows[::-1]) == digest_of_items(verdicts_of("ties", SHARES["ties"]))
    assert digest_of_items(rows) != digest_of_items(rows[1:])
