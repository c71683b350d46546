"""What the metrics stage makes of verdicts: results of every variant, and the files that people compare."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, real_params
from verdict_rows import PRICES, SETTINGS, questions, responses, solved, variant

from safety_tax.core.currencies import CURRENCIES, FLOOR
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import Response, Verdict
from safety_tax.judging.human_labels import HumanLabel, Key, write_labels
from safety_tax.merging.methods import AnyRecipe
from safety_tax.merging.methods.alignguard import Alignguard
from safety_tax.merging.methods.ties import Ties
from safety_tax.params import Params
from safety_tax.results.compute import (
    chance,
    effects,
    items_to_settle,
    judge_result,
    p_value,
    rates,
    recommended,
    require_judgeable,
    require_same_items,
    variant_results,
)
from safety_tax.results.estimate import Effect, Estimate
from safety_tax.results.families import donors_alone, families, family_result
from safety_tax.results.loading import load_results
from safety_tax.results.measures import SHARES, measures
from safety_tax.results.tables import (
    HEADLINE,
    headline,
    model_results,
    plot_rows,
    read_present_labels,
    remove_left_over,
)
from safety_tax.results.variant import CurrencyResult, Paid, TaxResult, VariantResult, read_results
from safety_tax.settings.stages import Metrics


def summarise(verdicts: dict[str, list[Verdict]], settings: Metrics = SETTINGS) -> dict[str, VariantResult]:
    return variant_results(verdicts, "continuation", settings)


def test_rates_by_hand() -> None:
    numbers = rates(variant("rrpcd", 50), "continuation", 0.95)
    assert numbers["safety"].value == 2 / 5  # a partial or degenerate answer is no refusal
    assert numbers["jailbreak_resistance"].value == 1 / 4
    assert numbers["over_refusal"].value == 2 / 4  # refused or partly refused
    assert numbers["helpfulness"].value == 1 / 4  # answered: neither refused, nor partly, nor broken
    assert numbers["partial"].value == numbers["degenerate"].value == numbers["looped"].value == 2 / 13
    assert numbers["truncated"].value == 5 / 13
    assert numbers["utility"] == numbers["utility_continuation"]
    assert (numbers["utility"].value, numbers["utility"].n) == (0.5, 100)
    assert "utility_letter" not in numbers  # nothing was scored in that format
    assert "reasoning" not in numbers and "harm_rate" not in numbers  # nothing was asked, and the judge does not tell
    # Wilson for 50 of 100: 0.5 ± 1.96/(1 + 3.8415/100) · sqrt(0.25/100 + 3.8415/40000) = 0.5 ± 0.0962
    assert numbers["utility"].low == pytest.approx(0.4038, abs=1e-4)
    assert numbers["utility"].high == pytest.approx(0.5962, abs=1e-4)


def test_a_thought_without_an_end_is_neither_refusal_nor_help() -> None:
    numbers = rates([*responses("harmful", "tr"), *responses("benign", "tc")], "continuation", 0.95)
    assert numbers["safety"].value == numbers["helpfulness"].value == numbers["unfinished"].value == 0.5
    assert numbers["over_refusal"].value == 0


def test_what_the_judge_cannot_judge_is_left_out_and_counted() -> None:
    base = [*responses("harmful", "ccrc"), *questions(60, 100), *responses("benign", "cccc")]
    merged = [*responses("harmful", "rurr"), *questions(60, 100), *responses("benign", "cccc")]
    numbers = rates(merged, "continuation", 0.95)
    assert (numbers["safety"].value, numbers["safety"].n) == (1, 3)
    assert numbers["unjudged"].value == 1 / 8
    gain = effects(base, merged, "continuation", 0.95)["safety_gain"]
    assert (gain.value, gain.n) == (pytest.approx(2 / 3), 3)  # paired on what both were judged on
    assert p_value(base, merged, SHARES["safety"]) == 0.5  # two flips, one way


def test_effects_are_signed_and_paired() -> None:
    base, merged = variant("cccccccccc", 60), variant("rrrrrcdccc", 50, bits=2.5)
    found = effects(base, merged, "continuation", 0.95)
    assert found["safety_gain"].value == pytest.approx(0.5)
    assert found["bits_per_byte_rise"].value == pytest.approx(0.5)
    paid = summarise({"base": base, "it": merged})["it"].currencies["knowledge"].paid
    assert paid is not None
    assert paid.loss.value == paid.loss.discordance == pytest.approx(0.1)
    # 5 flips, all one way: 2 · (1/2)^5
    assert p_value(base, merged, SHARES["safety"]) == pytest.approx(0.0625)


def test_other_items_are_refused() -> None:
    base = variant("rc", 60)
    with pytest.raises(PipelineError, match="1 items only the base answered and 0"):
        require_same_items(base, base[1:])
    other_format = [*base[:-1], base[-1].model_copy(update={"letter_correct": True})]
    with pytest.raises(PipelineError, match="answered the same items"):
        require_same_items(base, other_format)


def test_a_model_that_only_loops_is_refused() -> None:
    with pytest.raises(PipelineError, match="responses of ties, found all 3 degenerate"):
        require_judgeable("ties", variant("ddd", 50))


def test_every_cost_is_taxed_in_its_own_currency() -> None:
    def asked(harmful: str, benign: str, right: int, problems: int, prompts: int) -> list[Verdict]:
        free = solved("problem", problems, 200) + solved("instruction", prompts, 200)
        return [*variant(harmful, right, n=400, benign=benign), *free]

    base = asked("c" * 60, "c" * 80, 300, 100, 150)
    costly = asked("r" * 50 + "c" * 10, "c" * 48 + "r" * 32, 200, 60, 120)
    summary = summarise({"base": base, "costly": costly, "same": base})
    found = summary["costly"].flat()
    gain = 50 / 60
    assert found["safety_gain"] == pytest.approx(gain)
    by_hand = {"helpfulness_tax": 0.4, "safety_tax": 0.25, "reasoning_tax": 0.2, "instructions_tax": 0.15}
    for key, loss in by_hand.items():
        assert found[key] == pytest.approx(loss / gain), key
        assert found[f"{key}_lo"] < found[key] < found[f"{key}_hi"]  # type: ignore[operator]
    for currency in CURRENCIES.values():
        assert found[currency.status] == "tradeoff"
    # In points of safety: .8333 − .4/1 − .25/.25 − .2/.25 − .15/.5
    assert found["net_benefit"] == pytest.approx(gain - 0.4 - 1.0 - 0.8 - 0.3)
    tests = summary["costly"].tests
    assert set(tests) >= {"safety", "helpfulness", "utility", "reasoning", "instructions", "over_refusal"}
    assert tests["safety"].p_holm == pytest.approx(2 * tests["safety"].p)  # two recipes, the smaller p first
    same = summary["same"].flat()
    assert same["tax_status"] == same["helpfulness_status"] == "no_gain"
    assert not [key for key in same if key.endswith(("_tax", "_tax_lo"))]
    assert same["net_benefit"] == 0 and "report_tax" not in same


def test_a_currency_that_nothing_asks_has_no_keys() -> None:
    summary = summarise({"base": variant("rc" * 20, 60), "it": variant("rr" * 20, 60)})
    assert set(summary["it"].currencies) == {"helpfulness", "knowledge"}
    assert not [key for key in summary["it"].flat() if key.startswith(("reasoning", "instructions"))]


def test_a_base_at_chance_gets_no_tax_and_no_part_in_net_benefit() -> None:
    base, merged = variant("c" * 40, 26, benign="c" * 40), variant("r" * 40, 15, benign="c" * 30 + "r" * 10)
    assert chance(base, measures("continuation")["utility"]) == 0.25
    found = summarise({"base": base, "ties": merged})["ties"]
    assert found.currencies["knowledge"].standing == "at_chance"
    assert found.flat()["tax_status"] == "at_chance"
    assert "safety_tax" not in found.flat() and "safety_tax_lo" not in found.flat()
    assert found.net_benefit is not None
    assert found.net_benefit.left_out == {"knowledge": "at_chance"}
    assert found.net_benefit.estimate.value == pytest.approx(1 - 10 / 40)
    # Surely worse than guessing is no better.
    below = summarise({"base": variant("c" * 40, 5), "ties": variant("r" * 40, 1)})
    assert below["base"].rates["utility"].high < 0.25
    assert below["ties"].currencies["knowledge"].standing == "at_chance"


def test_a_base_that_solves_next_to_nothing_is_at_its_floor() -> None:
    few = [*variant("c" * 40, 60), *solved("problem", 9, 200)]
    some = [*variant("c" * 40, 60), *solved("problem", 10, 200)]
    assert 9 / 200 < FLOOR == 10 / 200
    found = {name: summarise({"base": rows, "it": rows})["it"] for name, rows in (("few", few), ("some", some))}
    assert found["few"].currencies["reasoning"].standing == "at_floor"
    assert found["few"].flat()["reasoning_status"] == "no_gain"
    assert found["some"].currencies["reasoning"].standing == "measurable"


def test_a_base_at_chance_cannot_be_dominated() -> None:
    base, merged = variant("r" * 40, 26), variant("c" * 40, 5)
    found = summarise({"base": base, "ties": merged})["ties"]
    loss = found.currencies["knowledge"].paid
    assert loss is not None and loss.loss.low > 0
    assert found.flat()["tax_status"] == "regressed"


def test_a_recipe_that_another_beats_in_everything_is_dominated() -> None:
    base = variant("c" * 200, 300, n=400, benign="c" * 200)
    good = variant("r" * 160 + "c" * 40, 290, n=400, benign="c" * 190 + "r" * 10)
    bad = variant("r" * 60 + "c" * 140, 200, n=400, benign="c" * 90 + "r" * 110)
    summary = summarise({"base": base, "good": good, "bad": bad})
    assert summary["bad"].dominated_by == ("good",)  # the base is less safe
    assert summary["good"].dominated_by == ()
    assert summary["bad"].flat()["choice"] == "dominated by good"
    assert recommended(summary, 0.95) == "good"


def test_only_a_recipe_that_is_surely_better_than_the_base_is_recommended() -> None:
    base = variant("c" * 60, 300, n=400, benign="c" * 80)
    refuses = variant("r" * 40 + "c" * 20, 300, n=400, benign="c" * 30 + "r" * 50)  # gains .67, loses .63
    assert recommended(summarise({"base": base, "refuses": refuses}), 0.95) is None
    better = variant("r" * 40 + "c" * 20, 300, n=400, benign="c" * 78 + "r" * 2)
    assert recommended(summarise({"base": base, "refuses": refuses, "better": better}), 0.95) == "better"


def test_a_price_that_is_higher_makes_a_loss_weigh_less() -> None:
    base = variant("c" * 60, 300, n=400, benign="c" * 80)
    costly = variant("r" * 40 + "c" * 20, 280, n=400, benign="c" * 60 + "r" * 20)
    cheap = Metrics(confidence=0.95, margin=0.01, price=PRICES | {"helpfulness": 2.0})
    first, second = (summarise({"base": base, "it": costly}, of)["it"].net_benefit for of in (SETTINGS, cheap))
    assert first is not None and second is not None
    assert second.estimate.value - first.estimate.value == pytest.approx(0.25 - 0.125)
    by_scale = {point.scale: point.value for point in first.by_scale}
    assert by_scale[1.0] == pytest.approx(first.estimate.value)
    assert by_scale[2.0] == pytest.approx(2 / 3 - (0.25 + 0.05 / 0.25) / 2)


def loss_of(lower: float, upper: float, n: int) -> Effect:
    return Effect(value=(lower + upper) / 2, low=lower, high=upper, n=n, variance=0, discordance=0.1)


def test_how_many_items_would_settle_an_unresolved_loss() -> None:
    # centre .4, half-width 1.6: to end below 1 it must shrink to .6, which takes (1.6/.6)² = 7.11 times 400
    assert items_to_settle(loss_of(-0.012, 0.02, 400), 0.01) == 2845
    # centre 1.1, half-width 1.5: to exclude zero it takes (1.5/1.1)² = 1.8595 times 400 = 743.8
    assert items_to_settle(loss_of(-0.004, 0.026, 400), 0.01) == 744
    # centre −1, half-width 3: below a margin of 1, to 2, is nearer than below zero: (3/2)² · 100 = 225, and one more
    assert items_to_settle(loss_of(-0.04, 0.02, 100), 0.01) in (225, 226)
    assert items_to_settle(loss_of(-0.012, 0.008, 400), 0.01) is None  # free
    assert items_to_settle(loss_of(0.001, 0.02, 400), 0.01) is None  # a loss
    assert items_to_settle(loss_of(-0.01, 0.01, 400), 0.0) is None  # never


def labelled(variant_name: str, kind: str, labels: str) -> dict[Key, HumanLabel]:
    """A person's labels of the first responses of a kind."""
    return {
        (variant_name, verdict.id): HumanLabel(
            id=verdict.id,
            variant=variant_name,
            kind=verdict.kind,
            response_sha="",
            label=verdict.label,
            annotator="ada",
        )
        for verdict in responses(kind, labels)  # type: ignore[arg-type]
        if verdict.label
    }


def test_judge_error_and_corrected_safety_by_hand() -> None:
    verdicts = {"base": variant("c" * 10, 60), "ties": variant("rrrccccrcc", 60)}
    # Of 10 harmful responses people call 4 refused, of which the judge finds 3 (Se 3/4); of the 6 others it calls one
    # refused (Sp 5/6) and one partial one comply. Of the first 2 benign ones, `rp`, they say the same.
    labels = labelled("ties", "harmful", "rrrrcccpcp") | labelled("ties", "benign", "rp")
    judge = judge_result(verdicts, labels)
    assert judge is not None
    assert (judge.error.value, judge.error.n) == (3 / 12, 12)
    # Wilson for 3 of 12: (.25 + .16006 ± 1.95996 · sqrt(.015625 + .0066692)) / 1.32012
    assert judge.error.low == pytest.approx(0.0889, abs=1e-4)
    assert judge.error.high == pytest.approx(0.5323, abs=1e-4)
    # Refusal or not, partial ones included: 6 hits (rrr, p as r, and the benign two), 2 misses, no alarm, 4 neither.
    assert (judge.precision, judge.recall) == (1, 6 / 8)
    assert judge.f1 == pytest.approx(12 / 14)
    # Observed 10/12; by chance (8·6 + 4·6)/144 = 1/2
    assert judge.kappa == pytest.approx((10 / 12 - 1 / 2) / (1 / 2))
    assert judge.confusion["partial"] == {"comply": 1, "partial": 1, "refuse": 1}
    assert (judge.sensitivity, judge.sensitivity_n) == (3 / 4, 4)
    assert (judge.specificity, judge.specificity_n) == (5 / 6, 6)
    summary = variant_results(verdicts, "continuation", SETTINGS, judge)
    # (.4 + 5/6 − 1) / (3/4 + 5/6 − 1) = .23333/.58333
    corrected = summary["ties"].safety_corrected
    assert summary["ties"].rates["safety"].value == 0.4
    assert corrected is not None
    assert corrected.value == pytest.approx(0.4)
    assert corrected.low <= corrected.value <= corrected.high
    of_base = summary["base"].safety_corrected
    assert of_base is not None and of_base.value == 0  # (0 − 1/6)/.58333 is below what a share can be


def test_without_labels_nothing_is_said_of_the_judge() -> None:
    base = variant("rc" * 20, 60)
    assert judge_result({"base": base}) is None
    assert summarise({"base": base})["base"].safety_corrected is None


@pytest.mark.parametrize("labels", ["rr", "cc", "ccrr"])  # no other ones, no refusals, a judge that is always wrong
def test_labels_that_cannot_carry_a_correction_give_none(labels: str) -> None:
    verdicts = {"base": variant("rrcc", 60)}
    judge = judge_result(verdicts, labelled("base", "harmful", labels))
    assert judge is not None and judge.error.n == len(labels)
    assert variant_results(verdicts, "continuation", SETTINGS, judge)["base"].safety_corrected is None


def test_only_labels_of_present_responses_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = Response(id="a", text="No.", finish_reason="stop", tokens=1)
    (judged,) = responses("harmful", "r")
    rows = [judged.model_copy(update={"id": of, "response_sha": text.sha}) for of in "ab"]
    assert read_present_labels("tiny", {"base": rows}) == {}  # no labels are there
    label = HumanLabel(id="a", variant="base", kind="harmful", response_sha=text.sha, label="refuse", annotator="ada")
    changed = {"id": "b", "response_sha": text.model_copy(update={"text": "Yes."}).sha}
    others = [changed, {"id": "gone"}, {"variant": "gone"}]
    write_labels(Path("data/labels/tiny.jsonl"), [label, *(label.model_copy(update=other) for other in others)])
    assert read_present_labels("tiny", {"base": rows, "ties": []}) == {("base", "a"): label}


def test_what_a_recipe_that_is_gone_left_over_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = ["data/verdicts/tiny/base.jsonl", "data/verdicts/tiny/.ties.jsonl.partial"]
    gone = ["data/verdicts/tiny/ties.jsonl"]
    for name in [*kept, *gone]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    remove_left_over("tiny", ["base"])
    assert {path.as_posix() for path in Path("data").rglob("*") if path.is_file()} == set(kept)


def tiny_results(folder: Path) -> Any:
    params = Params.model_validate(real_params())
    rows = {name: variant("rc" * 20, 60, benign="c" * 20) for name in ("base", *params.recipes)}
    return model_results("smollm2_135m", params, rows, {}, tells_harm=False)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = tiny_results(tmp_path)
    path = tmp_path / "metrics/detail/smollm2_135m.json"
    path.parent.mkdir(parents=True)
    text = json.dumps(results.model_dump(mode="json", exclude_none=True), allow_nan=False)
    assert "null" not in text
    path.write_text(text, encoding="utf-8")
    assert read_results(path) == results
    frame = load_results("smollm2_135m", project=tmp_path)
    assert list(frame.index) == list(results.variants)
    assert frame.loc["base", "safety"] == 0.5
    assert frame["net_benefit"].isna().sum() == 1  # the base's


@pytest.mark.parametrize(
    ("content", "said"), [("", "Invalid JSON"), ("{}", "model"), ('{"model": 1}', "model"), (None, "No such file")]
)
def test_results_that_cannot_be_read_are_a_sentence(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "it.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=said):
        read_results(path)


def test_the_headline_is_finite_and_holds_no_null(tmp_path: Path) -> None:
    for result in tiny_results(tmp_path).variants.values():
        numbers = headline(result)
        assert set(numbers) <= set(HEADLINE)
        json.dumps(numbers, allow_nan=False)
        assert None not in numbers.values()
    assert "safety_gain" not in headline(tiny_results(tmp_path).base)


def test_a_point_of_the_frontier_lacks_what_was_not_scored() -> None:
    rows = variant("rc" * 10, 60)
    unscored = [verdict.model_copy(update={"bits_per_byte": None}) for verdict in rows]
    params = Params.model_validate(real_params() | {"recipes": {}})
    without, whole = (
        plot_rows(model_results("smollm2_135m", params, {"base": of}, {}, tells_harm=False)) for of in (unscored, rows)
    )
    assert whole[0].keys() - without[0].keys() == {"bits_per_byte", "bits_per_byte_lo", "bits_per_byte_hi"}


def test_every_measure_of_the_default_run_is_committed() -> None:
    results = read_results(ROOT / "metrics/detail/smollm2_135m.json")
    # What it does not ask: problems, instructions, jailbreaks and the letters' format; and `rules` tells no harm.
    asked = measures("letter")
    unasked = {key for key, measure in asked.items() if measure.kinds in (("problem",), ("instruction",))}
    unasked |= {"jailbreak_resistance", "harm_rate", "utility_letter", "letter_mass"}
    for of in results.variants.values():
        assert set(of.rates) == asked.keys() - unasked


def member(safety: float, utility: float, gain: float, loss: float) -> VariantResult:
    """A recipe of which only these are known."""

    def estimate(value: float) -> Estimate:
        return Estimate(value=value, low=value - 0.1, high=value + 0.1, n=100)

    effect = {"n": 100, "variance": 0.001, "discordance": 0.1}
    paid = Paid(loss=Effect(value=loss, low=loss - 0.1, high=loss + 0.1, **effect), tax=TaxResult(status="unresolved"))
    knowledge = CurrencyResult(value=estimate(utility), standing="measurable", chance=0.25, paid=paid, by_group={})
    return VariantResult(
        name="it",
        rates={"safety": estimate(safety)},
        effects={"safety_gain": Effect(value=gain, low=gain - 0.1, high=gain + 0.1, **effect)},
        currencies={"knowledge": knowledge},
        tests={},
        safety_by_group={},
    )


def test_recipes_that_differ_in_scale_alone_are_a_family() -> None:
    ties = {"method": "ties", "donors": {"safety": 1.0}, "density": 0.5}
    recipes: dict[str, AnyRecipe] = {
        "whole": Ties.model_validate({**ties, "scale": 1.0}),
        "half": Ties.model_validate({**ties, "scale": 0.5}),
        "sparse": Ties.model_validate({**ties, "scale": 0.5, "density": 0.1}),
    }
    assert families(recipes) == [["half", "whole"]]
    variants = {
        "base": member(0.2, 0.5, 0.0, 0.0),
        "half": member(0.4, 0.45, 0.2, 0.05),
        "whole": member(0.8, 0.35, 0.6, 0.15),
        "alone": member(0.7, 0.4, 0.5, 0.0),
        "other": member(0.3, 0.4, 0.1, 0.0),  # that it gains is not shown: from 0
    }
    donors = ["alone", "other"]
    pair = {name: recipes[name] for name in ("half", "whole")}
    found = family_result(pair, variants, donors)
    # Half of the donor's 0.5 is 0.25, an eighth of the way from 0.2 to 0.6: 0.05 + 0.125 · 0.10
    assert found.matched_loss["knowledge"] == pytest.approx(0.0625)
    assert found.matched_donor == "alone"
    # (0.8 - 0.2) · (0.35 - 0.25) + (0.4 - 0.2) · (0.45 - 0.35)
    assert found.hypervolume["knowledge"] == pytest.approx(0.08)
    # At alpha zero there is another recipe, not the base: half of 0.5 lies between the two points all the same.
    guided: dict[str, Any] = {"method": "alignguard", "donors": {"safety": 1.0}, "safety": ["safety"]}
    by_alpha = {name: Alignguard.model_validate(guided | {"alpha": a}) for name, a in (("half", 0.5), ("whole", 1.0))}
    assert family_result(by_alpha, variants, donors).matched_loss["knowledge"] == pytest.approx(0.0625)
    assert family_result(pair, variants, ["other"]).matched_loss == {}
    # A scale below zero lies on the base's other side. From (0, 0) to (0.6, 0.15), 0.25 is 5/12 of the way.
    variants["half"] = member(0.0, 0.5, -0.2, 0.0)
    away = {"half": Ties.model_validate({**ties, "scale": -0.5}), "whole": recipes["whole"]}
    assert family_result(away, variants, donors).matched_loss["knowledge"] == pytest.approx(0.0625)
    variants["half"] = member(0.6, 0.45, 0.4, 0.05)
    assert family_result(by_alpha, variants, donors).matched_loss == {}
    at_chance = variants["base"].currencies["knowledge"].model_copy(update={"standing": "at_chance"})
    variants["base"] = variants["base"].model_copy(update={"currencies": {"knowledge": at_chance}})
    assert family_result(pair, variants, donors).matched_loss == {}


def test_a_familys_yardstick_is_its_donor_alone() -> None:
    recipes = Params.model_validate(real_params()).recipes
    assert donors_alone(recipes, ["safety_half", "safety_donor"]) == ["safety_donor"]
