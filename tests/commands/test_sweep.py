"""Sweeps: their grid, the halves, the numbers along a dial, and one through DVC's own experiments."""

import json
import re

import numpy as np
import pytest
from conftest import Project, real_params
from sample_results import SHARES, verdicts_of
from test_compare import answers, questions

from safety_tax.commands.sweep import print_tables, report, yardstick_of
from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import Verdict
from safety_tax.params import Params, validated
from safety_tax.results.comparison.sweeps import (
    Asked,
    Point,
    dial_numbers,
    dials,
    grid,
    half,
    is_development,
    parse_over,
    point_numbers,
    standings,
    with_settings,
)
from safety_tax.results.statistics.bootstrap import bootstrap_matched_losses


def test_a_range_is_cut_evenly_and_a_list_is_taken_as_it_is() -> None:
    assert parse_over("scale=0.1..1.0", 4) == ("scale", [0.1, 0.4, 0.7, 1.0])
    assert parse_over("k=0.1,1,kfac", 4) == ("k", [0.1, 1, "kfac"])
    assert grid({"a": [1, 2], "b": [3, 4]}) == [{"a": a, "b": b} for a in (1, 2) for b in (3, 4)]


@pytest.mark.parametrize("text", ["scale", "=1", "scale=", "scale=a..b", "scale=1,,2"])
def test_what_is_no_dial_is_one_sentence(text: str) -> None:
    with pytest.raises(PipelineError, match="Expected dials like"):
        parse_over(text, 4)


def test_settings_reach_nested_keys_and_no_unknown_ones() -> None:
    params = real_params()
    changed = with_settings(params, "ties", {"density": 0.3, "donors.safety": 0.7})
    assert changed["recipes"]["ties"] == params["recipes"]["ties"] | {
        "density": 0.3,
        "donors": {"safety": 0.7, "utility": 1.0},
    }
    for key in ("densty", "donors.safty", "scale.x"):
        with pytest.raises(PipelineError, match=re.escape(f"found {key!r}; it has method, donors, density, scale")):
            with_settings(params, "ties", {key: 1})


def test_the_halves_share_no_item_and_are_about_equal() -> None:
    verdicts = answers("harmful", "r" * 100)
    first, second = half(verdicts, True), half(verdicts, False)
    assert sorted(v.id for v in first + second) == sorted(v.id for v in verdicts)
    assert 35 <= len(first) <= 65
    assert all(is_development(v.id) for v in first)


def point(recipe: str, refused: int, right: int, **settings: float) -> Point:
    """Of 40 harmful prompts and 40 questions, so many refused and answered correctly."""
    verdicts = answers("harmful", "r" * refused + "c" * (40 - refused))
    return Point(recipe, settings, f"{recipe}{settings}", verdicts + correct(right))


def correct(right: int) -> list[Verdict]:
    return questions("1" * right + "0" * (40 - right), [1.0] * 40)


def results_verdicts(name: str) -> list[Verdict]:
    """One variant of the sample run, in all currencies."""
    return verdicts_of(name, SHARES[name])


def asked() -> Asked:
    return Asked("continuation", Params.model_validate(real_params()).metrics)


def test_loss_at_matched_safety_by_hand() -> None:
    base = answers("harmful", "c" * 40) + correct(30)
    donor = answers("harmful", "r" * 32 + "c" * 8) + correct(20)
    points = [point("dear", 32, 22, scale=1.0), point("dear", 8, 28, scale=0.5), point("cheap", 24, 29, scale=1.0)]
    groups = dials(points, "scale")
    assert [[p.settings["scale"] for p in group] for group in groups] == [[0.5, 1.0], [1.0]]
    dear, cheap = dial_numbers(base, groups, "scale", donor, asked())
    # Half of the donor's gain is 16 of 40. Dear: a third of the way from (8, 2) to (32, 8); cheap: 2/3 from the base.
    assert dear.matched_loss["knowledge"].value == pytest.approx((2 + 6 / 3) / 40)
    assert cheap.matched_loss["knowledge"].value == pytest.approx(2 / 3 / 40)
    less = cheap.less_first["knowledge"]
    assert less.value == pytest.approx((4 - 2 / 3) / 40)
    assert less.low is not None and less.high is not None
    assert less.low < less.value < less.high
    # Beyond the base's safety, 0, and chance, 1/4: only (24, 29) and what (32, 22) adds to its right.
    assert cheap.hypervolume == {"knowledge": pytest.approx(24 / 40 * (29 / 40 - 1 / 4))}
    assert dear.less_first == {}


def test_each_currency_has_its_own_loss_at_matched_safety() -> None:
    base = answers("harmful", "c" * 40) + answers("benign", "c" * 40) + correct(30)
    donor = answers("harmful", "r" * 40) + answers("benign", "c" * 10 + "r" * 30) + correct(20)
    end = Point("ties", {"scale": 1.0}, "ties", donor)
    (numbers,) = dial_numbers(base, [[end]], "scale", donor, asked())
    # Half of the way from the base: fifteen of forty harmless prompts, and five of forty questions.
    matched = {name: of.value for name, of in numbers.matched_loss.items()}
    assert matched == {"helpfulness": pytest.approx(15 / 40), "knowledge": pytest.approx(5 / 40)}
    # Helpfulness has no guessing: the area begins at zero.
    assert numbers.hypervolume["helpfulness"] == pytest.approx(1.0 * 10 / 40)


def test_items_that_one_point_was_not_judged_on_count_for_none() -> None:
    base = answers("harmful", "c" * 40) + correct(30)
    donor = answers("harmful", "r" * 40) + correct(30)
    half_judged = [
        verdict.model_copy(update={"label": "unjudged"}) if "harmful20" <= verdict.id < "i" else verdict
        for verdict in answers("harmful", "r" * 40) + correct(20)
    ]
    (numbers,) = dial_numbers(base, [[Point("ties", {"scale": 1.0}, "ties", half_judged)]], "scale", donor, asked())
    assert numbers.matched_loss["knowledge"].value == pytest.approx(5 / 40)


def test_a_dial_that_never_gains_enough_has_no_matched_loss() -> None:
    base, donor = answers("harmful", "c" * 40) + correct(30), answers("harmful", "r" * 40) + correct(30)
    (numbers,) = dial_numbers(base, [[point("weak", 10, 30, alpha=1.0)]], "alpha", donor, asked())
    assert numbers.matched_loss == {} and numbers.hypervolume


def test_no_loss_is_read_from_a_half_on_which_the_base_has_nothing_to_lose() -> None:
    helpful = answers("benign", "c" * 40)
    base = answers("harmful", "c" * 40) + helpful + correct(11)
    donor = answers("harmful", "r" * 40) + helpful + correct(2)
    safer = point("safer", 30, 1, scale=1.0)
    safer = Point(safer.recipe, safer.settings, safer.experiment, [*safer.verdicts, *helpful])
    assert standings(base, asked()) == {"helpfulness": "measurable", "knowledge": "at_chance"}
    (numbers,) = dial_numbers(base, [[safer]], "scale", donor, asked())
    assert set(numbers.matched_loss) == {"helpfulness"}
    found = point_numbers(base, safer, asked())
    assert found["tax_status"] == "at_chance" and found["helpfulness_status"] in ("free", "unresolved")
    # What cannot be measured costs nothing in the net benefit.
    assert found["net_benefit"] == pytest.approx(30 / 40)
    knowing = answers("harmful", "c" * 40) + helpful + correct(30)
    found = point_numbers(knowing, safer, asked())
    assert found["tax_status"] == "tradeoff"
    assert found["net_benefit"] == pytest.approx(30 / 40 - (29 / 40) / asked().settings.price["knowledge"])


def test_a_point_reports_every_currency_that_was_asked() -> None:
    base, safer = results_verdicts("base"), Point("ties", {"scale": 1.0}, "ties", results_verdicts("ties"))
    found = point_numbers(base, safer, asked())
    for currency in CURRENCIES.values():
        assert {currency.measure, f"{currency.loss}_lo", currency.status} <= set(found)
    assert found["helpfulness_tax"] == pytest.approx(found["helpfulness_loss"] / found["safety_gain"])
    assert "safety_tax" not in found  # the base guesses


def test_the_base_stands_at_zero_among_scales_below_it() -> None:
    base, donor = answers("harmful", "c" * 20 + "r" * 20) + correct(30), answers("harmful", "r" * 40) + correct(20)
    points = [point("away", 10, 30, scale=-0.5), point("away", 40, 20, scale=1.0)]
    (numbers,) = dial_numbers(base, dials(points, "scale"), "scale", donor, asked())
    # From the base, which lost nothing, to ten lost at all of the gain: half of it costs five of 40.
    assert numbers.matched_loss["knowledge"].value == pytest.approx(5 / 40)


def test_a_half_of_degenerate_answers_stops_no_sweep() -> None:
    base = answers("harmful", "c" * 40) + correct(30)
    broken = Point("ties", {"scale": 1.0}, "ties", answers("harmful", "d" * 40) + correct(30))
    assert point_numbers(base, broken, asked())["tax_status"] == "no_gain"


def test_the_chosen_setting_has_the_most_net_benefit_on_the_development_half() -> None:
    params = Params.model_validate(real_params())
    model, base, donor = "smollm2_135m", results_verdicts("base"), results_verdicts("safety_donor")
    points = [
        Point("ties", {"scale": scale}, f"ties-{name}", results_verdicts(name))
        for scale, name in ((0.5, "safety_half"), (1.0, "safety_donor"), (2.0, "worse"))
    ]
    found = report(params, model, points, "scale", base, donor)
    best = max(found["points"], key=lambda row: row["development"]["net_benefit"])
    assert [row for row in found["points"] if row.get("chosen")] == [best]
    assert set(found["standing"]) == {"development", "report"}
    assert set(found["standing"]["report"]) == set(CURRENCIES)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    print_tables(found)


def test_dials_share_their_resamples() -> None:
    generator = np.random.default_rng(1)
    gains = np.stack([np.zeros(60), generator.integers(0, 2, 60)])
    losses = np.stack([np.zeros(80), generator.integers(-1, 2, 80)])
    groups = ["g"] * 60, ["g"] * 80
    found = bootstrap_matched_losses([(gains, losses), (gains, losses)], gains[1], *groups, resamples=50)
    assert np.array_equal(found[:, 0], found[:, 1])
    # The donor is the dial's own end, so half of its gain costs half of the end's loss, whatever the resample's gain.
    assert found[:, 0].mean() == pytest.approx(losses[1].mean() / 2, abs=0.02)


@pytest.mark.slow
def test_a_sweep_through_dvcs_experiments(project: Project) -> None:
    sweep = ("safety_tax.cli", "sweep", "tiny_llama", "ties", "--over", "scale=0.8,1.0")
    output = project.stage(*sweep)
    assert "sweep: 2 settings, 2 to run" in output
    assert "sweep: 2 settings, 0 to run" in project.stage(*sweep)
    result = json.loads((project.folder / "metrics/sweeps/tiny_llama/ties.json").read_text(encoding="utf-8"))
    assert [row["settings"] for row in result["points"]] == [{"scale": 0.8}, {"scale": 1.0}]
    assert sum(row.get("chosen", False) for row in result["points"]) == 1
    assert result["dials"][0]["dial"] == {"scale": [0.8, 1.0]}
    assert {of["knowledge"] for of in result["standing"].values()} == {"at_chance"}  # its weights are random
    names = [row["experiment"] for row in result["points"]]
    assert names[0] == "tiny_llama-ties-scale=0.8"
    assert set(names) <= set(project.dvc("exp", "list", "--name-only").split())

    # Experiments of HEAD must not be reported under other params; the sweep's own result is no change.
    params = project.folder / "params.yaml"
    before = params.read_text(encoding="utf-8")
    params.write_text(before.replace("confidence: 0.95", "confidence: 0.9"), encoding="utf-8")
    assert "found some in params.yaml; commit them" in project.stage(*sweep, status=1)
    params.write_text(before, encoding="utf-8")
    assert "sweep: 3 settings, 1 to run" in project.stage(*sweep[:-1], "scale=0.8,0.9,1.0")

    message = project.stage("safety_tax.cli", "sweep", "tiny_llama", "tis", "--over", "scale=1", status=1)
    assert "did you mean 'ties'" in message
    message = project.stage("safety_tax.cli", "sweep", "tiny_llama", "ties", "--over", "density=2", status=1)
    assert "recipes.ties" in message
    assert "Traceback" not in message


def test_the_yardstick_is_asked_for_by_its_option_where_the_usual_one_is_not_there() -> None:
    content = real_params()
    params = validated(content)
    assert yardstick_of(params, "smollm2_135m", None) == "safety_donor"
    assert yardstick_of(params, "smollm2_135m", "ties") == "ties"
    with pytest.raises(PipelineError, match="found 'tis'; did you mean 'ties'"):
        yardstick_of(params, "smollm2_135m", "tis")
    content["recipes"]["safety_donor"] |= {"models": ["mistral_7b"]}
    with pytest.raises(PipelineError, match=r"recipe 'safety_donor' of smollm2_135m, .*; name another one by --donor"):
        yardstick_of(validated(content), "smollm2_135m", None)
