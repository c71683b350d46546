"""The HTML report: what is in it, and what it says where something is missing, odd or too much."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_pages import HOSTILE, SVG, TWO, Page, browsed, measured, named, page_of, rows_of, run_of
from sample_results import CLEAR_OF_CHANCE, SHARES, results_of

from safety_tax.commands.report import DRAWN, read_figures
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import LABELS, PROMPT, VERDICT, AnyPrompt, Kind, Response, Verdict
from safety_tax.results.figures.reading import DRAWN as FIGURES
from safety_tax.results.report.items import item_index, outcome, text_chunks
from safety_tax.results.report.labels import Place, places
from safety_tax.results.report.looks import PLACES, STATUSES
from safety_tax.results.report.markdown import inline
from safety_tax.results.report.page import embedded, render
from safety_tax.results.statistics.tax import TaxStatus
from safety_tax.results.variant import ModelResults
from safety_tax.results.words import narrative


def test_no_model_output_can_close_the_script_that_holds_it() -> None:
    text = embedded({"text": HOSTILE})
    assert not re.search("[<>&]", text)
    assert json.loads(text) == {"text": HOSTILE}


def test_the_page_asks_the_network_for_nothing() -> None:
    text = page_of(40)
    assert "default-src 'none'" in text
    page = Page(text)
    sources = [
        value
        for element in page.elements
        for name, value in element.attributes.items()
        if name in ("src", "href", "action", "srcset")
    ]
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    scripts = [element for element in page.found("script") if not element.attributes]
    policy = next(of.attributes["content"] for of in page.found("meta") if "http-equiv" in of.attributes)
    assert len(scripts) == policy.count("'sha256-") == 4  # Vega's, and three of the report's own
    assert "unsafe-eval" not in policy
    text.encode("utf-8")  # lone surrogates are JSON escapes


def test_sentences_become_html_with_nothing_unescaped() -> None:
    assert inline("**`ties`: no <gain>.** No.") == "<b><code>ties</code>: no &lt;gain&gt;.</b> No."


def test_the_page_begins_with_the_verdict_and_the_recipes_name() -> None:
    results = results_of(TWO | {"ties": TWO["ties"] | {"harmful": 0.9, "benign": 0.9, "problem": 0.2}})
    results = results.model_copy(update={"recommended": "ties"})
    page = Page(page_of(4, results))
    (headline,) = page.found("h1")
    assert headline.words == "Choose ties"
    assert page.found("p", "sentence")[0].words.startswith("It refuses 60.0 more [")
    tiles = [tile.words for tile in page.found("dl", "tiles")]
    assert "+60.0" in tiles[0] and "harmful prompts refused" in tiles[0] and "net benefit" in tiles[0]
    assert rows_of(page)[0].startswith("ties ★ choose")


def test_the_table_has_a_tax_for_each_currency_with_its_limits_and_a_word_with_a_symbol() -> None:
    results = results_of(SHARES)
    page = Page(page_of(4, results))
    heads = [head.words for head in page.found("th") if head.attributes.get("role") == "columnheader"]
    assert heads == [
        "recipe",
        "safety",
        "helpfulness tax",
        "accuracy tax",
        "reasoning tax",
        "instruction following tax",
        "net benefit",
    ]
    donor = next(row for row in page.found("tr") if row.words.startswith("safety_donor"))
    tax = results.variants["safety_donor"].currencies["helpfulness"].paid
    assert tax is not None and tax.tax.estimate is not None
    assert f"{tax.tax.value:.2f} [{tax.tax.low:.2f}, {tax.tax.high:.2f}] ⇄ tradeoff" in donor.words
    assert "≈ at chance" in donor.words
    worths = {name: of.net_benefit.estimate.value if of.net_benefit else 0 for name, of in results.variants.items()}
    assert [row.split()[0] for row in rows_of(page)] == sorted(worths, key=lambda name: -worths[name])


def test_a_net_benefit_that_may_be_chance_among_the_recipes_is_not_shown_as_good() -> None:
    results = results_of(SHARES)
    ties = results.variants["ties"]
    assert ties.net_benefit is not None
    for p_holm, tone, symbol in ((0.01, "good", "▲"), (0.2, "calm", "≈")):
        estimate = ties.net_benefit.estimate.model_copy(update={"value": 0.2, "low": 0.01, "high": 0.4})
        benefit = ties.net_benefit.model_copy(update={"estimate": estimate, "p_holm": p_holm})
        variants = results.variants | {"ties": ties.model_copy(update={"net_benefit": benefit})}
        page = Page(page_of(4, results.model_copy(update={"variants": variants})))
        (tile,) = (of for of in page.found("div", tone) if "net benefit" in of.words)
        assert tile.words.startswith(f"{symbol} +20.0 [1.0, 40.0]")


def test_a_card_says_what_a_recipe_is_and_folds_its_prose() -> None:
    page = Page(page_of(4))
    (card,) = (card for card in page.found("article", "card") if card.attributes["id"] == "tiny-ties")
    assert "method: ties, donors: {<safety>: 1.0}, density: 0.5" in card.words
    assert "<safety>" not in page_of(4)


def test_every_number_of_the_prose_is_the_narratives() -> None:
    results = results_of(SHARES)
    told = narrative(results).replace("`", "")
    for card in Page(page_of(4, results)).found("article", "card"):
        prose = card.words.split("In words ", 1)[1].removesuffix(" Items that changed")
        assert prose in told


def test_figures_come_in_the_order_of_a_readers_questions_without_the_frontier(tmp_path: Path) -> None:
    assert ("frontier", *DRAWN) == tuple(FIGURES)
    for name in ("a_new_one", *sorted(FIGURES)):
        (tmp_path / f"{name}.svg").write_bytes(SVG)
    assert list(read_figures(tmp_path)) == [name.replace("_", " ") for name in (*DRAWN, "a_new_one")]


# --- items


def item(kind: Kind, **keys: Any) -> AnyPrompt:
    return PROMPT.validate_python(
        {"id": kind, "benchmark": "b", "kind": kind, "group": "g", "split": "eval", "text": "?"} | keys
    )


def judged(kind: Kind, **keys: Any) -> Verdict:
    cut = {} if kind == "choice" else {"truncated": False}
    return VERDICT.validate_python({"id": kind, "benchmark": "b", "kind": kind, "group": "g"} | cut | keys)


def test_a_question_is_right_or_wrong_in_the_models_own_format() -> None:
    prompt = item("choice", choices=["a", "b"], gold=0)
    verdict = judged("choice", letter_correct=True, continuation_correct=False, gold_probability=0.5, options=2)
    for form, expected in (("letter", "right"), ("continuation", "wrong")):
        index = item_index([prompt], [browsed("base", [verdict], form=form)])
        assert index["labels"][index["label"][0][0]] == expected


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (judged("problem", answer_correct=True, marked_correct=False), "right"),
        (judged("problem", answer_correct=False, marked_correct=False), "wrong"),
        (judged("instruction", followed=True, followed_loosely=True), "followed"),
        (judged("instruction", followed=False, followed_loosely=True), "not followed"),
        (judged("harmful", label="unfinished", truncated=True), "unfinished"),
        (judged("benign", label="unjudged"), "unjudged"),
    ],
)
def test_every_kind_has_its_outcome(verdict: Verdict, expected: str) -> None:
    assert outcome(verdict, "continuation") == expected


def test_a_question_without_scores_in_the_models_format_is_refused() -> None:
    verdict = judged("choice", letter_correct=True, gold_probability=0.5, options=2)
    with pytest.raises(PipelineError, match=r"choice item choice in the format continuation, found nothing.*dvc repro"):
        outcome(verdict, "continuation")


def test_a_loop_is_marked_whatever_the_label() -> None:
    verdicts = [judged("harmful", label="refuse", looped=True), judged("benign", label="comply", looped=False)]
    index = item_index([item("harmful"), item("benign", answer="Gladly.")], [browsed("base", verdicts)])
    assert index["looped"] == [[1, 0]] and index["cut"] == [[0, 0]]


def test_a_problem_has_its_right_answer_and_a_harmless_prompt_not_the_one_to_tune_on() -> None:
    prompts = [item("problem", answer="42"), item("benign", answer="Gladly."), item("instruction", checks=[])]
    responses = [Response(id=of.id, text="Well.", finish_reason="stop", tokens=1) for of in prompts]
    ((problem, benign, instruction),) = text_chunks(prompts, [browsed("base", [], responses)])
    assert problem["answer"] == "42"
    assert "answer" not in benign and "answer" not in instruction
    assert instruction["responses"] == ["Well."]


def test_answers_of_a_revision_that_are_not_to_be_had_are_none() -> None:
    gone = browsed("ties", [])._replace(responses=None)
    ((text,),) = text_chunks([item("harmful")], [gone])
    assert text["responses"] == [None]


def test_a_variant_that_answered_other_items_is_refused() -> None:
    prompts, (base, ties) = run_of(8)
    with pytest.raises(PipelineError, match=r"'ties' on the 8 benchmark items, found 7.*1 items without"):
        item_index(prompts, [base, ties._replace(verdicts=ties.verdicts[:7])])
    assert ties.responses is not None
    with pytest.raises(PipelineError, match=r"'ties' to the 6 prompts, found 1 prompts without"):
        text_chunks(prompts, [base, ties._replace(responses=ties.responses[1:])])


def test_jailbreak_resistance_is_a_lower_bound_unless_the_judge_tells_harm() -> None:
    results = results_of(TWO)
    assert "lower bound of" in page_of(4, results)
    assert "lower bound of" not in page_of(4, results.model_copy(update={"tells_harm": True}))
    assert "lower bound of" not in page_of(4, results_of(TWO, without=("jailbreak",)))


def test_the_page_explains_every_label_and_every_status() -> None:
    page = page_of(4)
    for label in (*LABELS, "right", "followed"):
        assert f"<b>{label}</b>" in page
    for said in STATUSES.values():
        assert said.meaning in page and f"</span> {said.word}</span></dt>" in page


# --- odd states


def with_status(results: ModelResults, status: TaxStatus) -> ModelResults:
    """The results with that status of helpfulness in the recipe `ties`."""
    ties = results.variants["ties"]
    paid = ties.currencies["helpfulness"].paid
    assert paid is not None
    tax = paid.tax.model_copy(update={"status": status})
    currency = ties.currencies["helpfulness"].model_copy(update={"paid": paid.model_copy(update={"tax": tax})})
    changed = ties.model_copy(update={"currencies": ties.currencies | {"helpfulness": currency}})
    return results.model_copy(update={"variants": results.variants | {"ties": changed}})


@pytest.mark.parametrize("status", list(STATUSES))
def test_every_status_is_a_word_with_a_symbol_and_a_tone(status: TaxStatus) -> None:
    said = STATUSES[status]
    page = Page(render([measured(with_status(results_of(TWO), status))], [], []))
    (cell,) = (
        cell
        for cell in page.found("td")
        if cell.attributes.get("data-name") == "helpfulness tax" and "lost" in cell.text
    )
    assert f"{said.symbol} {said.word}" in cell.words
    assert any(said.meaning == of.attributes.get("title") for of in page.found("span", said.tone))


def test_no_two_statuses_look_alike() -> None:
    for marks in (STATUSES.values(), PLACES.values()):
        assert len({said.symbol for said in marks}) == len({said.word for said in marks}) == len(marks)


def test_without_a_recipe_the_page_says_so_and_draws_nothing() -> None:
    page = Page(page_of(4, results_of({"base": SHARES["base"]})))
    assert page.found("h1")[0].words == "There is no recipe to compare with the base"
    assert not page.found("figure") and not page.found("dl", "tiles")
    assert len(rows_of(page)) == 1


def test_one_recipe_has_one_row_one_card_and_one_mark_beside_the_bases() -> None:
    page = Page(page_of(4))
    assert [row.split()[0] for row in rows_of(page)] in (["ties", "base"], ["base", "ties"])
    assert len(page.found("article", "card")) == 2
    assert list(page.marks()) == ["base", "ties"]


def test_forty_recipes_have_their_rows_and_marks_and_no_name_covers_another() -> None:
    shares: dict[str, dict[Kind, float]] = {"base": SHARES["base"]}
    shares |= {f"recipe_{i}": SHARES["ties"] | {"harmful": 0.3 + i / 80, "benign": 0.9 - i / 60} for i in range(40)}
    page = Page(page_of(4, results_of(shares)))
    assert len(rows_of(page)) == len(page.marks()) == 41
    rules = [layer for layer in page.specifications[0]["layer"] if layer["mark"].get("strokeWidth") == 1.5]
    assert [layer["mark"]["opacity"] for layer in rules] == [0.3, 0.3]
    named = [of["name"] for of in page.specifications[0]["layer"][-1]["data"]["values"]]
    assert 0 < len(named) < 41


def test_names_keep_clear_of_marks_and_of_each_other() -> None:
    alone = places([("one", 5.0, 5.0)], (0, 10), (0, 10))
    assert alone == {"one": Place("left", 8.0, -8.0)}  # above it, on the right
    cornered = places([("one", 9.9, 9.9)], (0, 10), (0, 10))
    assert cornered == {"one": Place("right", -8.0, 8.0)}  # below it, on the left
    heap = places([(f"recipe_{i}", 5.0, 5.0) for i in range(9)], (0, 10), (0, 10))
    assert len(set(heap.values())) == len(heap) == 4  # the others have no room


def test_a_name_of_forty_letters_is_whole_in_the_table_and_cut_in_the_picture() -> None:
    name = "a" * 40
    page = Page(page_of(4, results_of({"base": SHARES["base"], name: SHARES["ties"]})))
    assert any(name in row for row in rows_of(page)) and name in page.marks()
    names = page.specifications[0]["layer"][-1]["data"]["values"]
    assert {"a" * 21 + "…", "base"} == {row["name"] for row in names}


def test_intervals_that_span_everything_stay_in_the_picture() -> None:
    shares: dict[str, dict[Kind, float]] = {
        "base": {"harmful": 0.5, "benign": 0.5},
        "ties": {"harmful": 0.5, "benign": 0.5},
    }
    results = results_of(shares)
    ties = results.variants["ties"]
    wide = {"low": -1.0, "high": 1.0}
    gain = ties.gain.model_copy(update=wide)
    paid = ties.currencies["helpfulness"].paid
    assert paid is not None
    helpfulness = ties.currencies["helpfulness"].model_copy(
        update={"paid": paid.model_copy(update={"loss": paid.loss.model_copy(update=wide)})}
    )
    changed = ties.model_copy(
        update={"effects": ties.effects | {"safety_gain": gain}, "currencies": {"helpfulness": helpfulness}}
    )
    page = Page(page_of(4, results.model_copy(update={"variants": results.variants | {"ties": changed}})))
    mark = page.marks()["ties"]
    assert (mark["x_low"], mark["x_high"], mark["y_low"], mark["y_high"]) == (-100, 100, -100, 100)
    (layer,) = (of for of in page.specifications[0]["layer"] if of.get("name") == "marks")
    for axis in "xy":
        low, high = layer["encoding"][axis]["scale"]["domain"]
        assert low < -100 and high > 100


def test_a_currency_that_was_not_asked_has_no_column_and_no_picture() -> None:
    page = Page(page_of(4, results_of(TWO, without=("problem", "instruction", "choice"))))
    heads = [head.words for head in page.found("th") if head.attributes.get("role") == "columnheader"]
    assert heads == ["recipe", "safety", "helpfulness tax", "net benefit"]
    assert len(page.found("figure")) == len(page.specifications) == 1


def test_a_currency_that_cannot_show_a_loss_says_so_and_has_no_lines_of_equal_tax() -> None:
    for shares, measurable in ((SHARES, False), ({**SHARES, "base": SHARES["base"] | CLEAR_OF_CHANCE}, True)):
        page = Page(page_of(4, results_of(shares)))
        caption = next(of.words for of in page.found("figcaption") if "accuracy" in of.words)
        assert ("cannot show a loss" in caption) is not measurable
        layers = page.specifications[1]["layer"]
        assert any(layer["mark"]["type"] == "area" for layer in layers) is measurable


# --- several models


def test_several_models_are_rows_of_one_table_with_a_picture_each_drawn_to_one_scale() -> None:
    models = [measured(named("one")), measured(named("two", SHARES)), measured(named("three"))]
    page = Page(render(models, [], []))
    assert len(page.found("table", "recipes")) == 1
    names = [row.split()[0] for row in rows_of(page)]
    assert names == ["one"] * 2 + ["two"] * 5 + ["three"] * 2
    assert len(page.specifications) == 3 * 4
    scales = [
        next(layer["encoding"]["x"]["scale"]["domain"] for layer in of["layer"] if layer.get("name") == "marks")
        for of in (page.specifications[0], page.specifications[4], page.specifications[8])
    ]
    assert scales[0] == scales[1] == scales[2]
    asked = [of.words for of in page.found("p", "asked")]
    assert asked[0].startswith("Each was asked the same 150 harmful prompts, 40 jailbreak prompts, 80 harmless prompts")
    assert not page.found("p", "notice")


def test_models_that_were_asked_other_items_are_shown_apart() -> None:
    models = [measured(named("one")), measured(named("two"), asked="x"), measured(named("three"))]
    page = Page(render(models, [], []))
    assert "Not one comparison" in page.found("p", "notice")[0].words
    assert [of.words for of in page.found("h2")][:2] == ["Part 1: one, three", "Part 2: two"]
    assert len(page.found("table", "recipes")) == 2


def test_models_of_other_prices_or_judges_are_shown_apart() -> None:
    for update in ({"judge": "guard"}, {"price": {**results_of(TWO).price, "helpfulness": 2.0}}):
        models = [measured(named("one")), measured(named("two").model_copy(update=update))]
        assert len(Page(render(models, [], [])).found("table", "recipes")) == 2


def test_a_currency_of_one_model_alone_is_not_measured_in_the_other() -> None:
    models = [measured(named("one")), measured(named("two", without=("problem",)))]
    page = Page(render(models, [], []))
    cells = [of.words for of in page.found("td") if of.attributes.get("data-name") == "reasoning tax"]
    assert sum(cell == "not measured" for cell in cells) == 2
