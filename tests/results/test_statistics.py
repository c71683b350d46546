"""The statistics against values worked by hand; the arithmetic is in the comments."""

import math
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from benchmarks.coverage import SIZES, coverage, false_dominance, false_statuses

from safety_tax.core.errors import PipelineError
from safety_tax.results.statistics.bootstrap import bootstrap_tax
from safety_tax.results.statistics.dominance import dominated
from safety_tax.results.statistics.fieller import FiellerSet, fieller
from safety_tax.results.statistics.frontier import hypervolume, matched_loss
from safety_tax.results.statistics.intervals import critical_value, mean_interval, wilson
from safety_tax.results.statistics.judge_error import agreement, rogan_gladen
from safety_tax.results.statistics.paired import PairedDifference, collapsed, holm, mcnemar_exact, paired_difference
from safety_tax.results.statistics.power import items_needed, resolves
from safety_tax.results.statistics.tax import (
    Tax,
    TaxStatus,
    assess,
    net_benefit,
    net_benefit_curve,
    net_benefit_p,
    probability_positive,
    report_tax,
    report_tax_abs,
    without_loss,
)

Z = 1.959964


def about(*values: float, tolerance: float = 1e-5) -> object:
    return pytest.approx(values, abs=tolerance)


def effect(estimate: float, variance: float = 0.0001) -> PairedDifference:
    """An effect with a Wald interval."""
    half = Z * math.sqrt(variance)
    return PairedDifference(estimate, variance, estimate - half, estimate + half, n=1000, discordance=0.1)


def between(lower: float, upper: float) -> PairedDifference:
    """An effect with this interval."""
    return effect((lower + upper) / 2, ((upper - lower) / 2 / Z) ** 2)


def flips(up: int, down: int, same: int) -> tuple[np.ndarray, np.ndarray]:
    before = np.array([False] * up + [True] * down + [True] * same)
    return before, np.array([True] * up + [False] * down + [True] * same)


# --- intervals


def test_wilson_of_five_in_ten() -> None:
    # z² = 3.84146; half = z/(1 + z²/10) · √(.5·.5/10 + z²/400) = 1.415997 · √.0346037 = .263405
    assert wilson(5, 10) == about(0.5, 0.236595, 0.763405)


def test_wilson_at_the_ends_stays_inside_and_is_not_a_point() -> None:
    # 0 of 10: upper = z²/(10 + z²) = 3.84146/13.84146
    assert wilson(0, 10) == about(0.0, 0.0, 0.277533)
    assert wilson(10, 10) == about(1.0, 0.722467, 1.0)
    # 1 of 1: lower = 1/(1 + z²)
    assert wilson(1, 1) == about(1.0, 0.206549, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(PipelineError, match=r"Expected .* found"):
        wilson(successes, n)


def test_wilson_is_wider_at_higher_confidence_and_refuses_percent() -> None:
    assert wilson(5, 10, 0.99).lower < wilson(5, 10).lower
    with pytest.raises(PipelineError, match="confidence"):
        wilson(5, 10, 95)


def test_mean_interval_is_students() -> None:
    # Mean 2.5, s² = 5/3, √(s²/4) = .645497, t(.975; 3) = 3.182446, half = 2.054260
    assert mean_interval([1, 2, 3, 4]) == about(2.5, 0.445740, 4.554260)
    assert mean_interval([0.3, 0.3, 0.3]) == about(0.3, 0.3, 0.3)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_mean_interval_refuses_too_few_and_not_finite_values(values: list[float]) -> None:
    with pytest.raises(PipelineError, match="Expected"):
        mean_interval(values)


# --- paired differences


def test_paired_difference_of_one_stratum() -> None:
    # 1 up, 7 down of 21. Estimate −6/21. With one more of each: centre −6/23 = −.260870, discordance 10/23 = .434783,
    # variance (.434783 − .068053)/22 = .0166695, half = z · .129110 = .253051
    found = paired_difference(*flips(1, 7, 13), ["all"] * 21)
    assert found.estimate == pytest.approx(-6 / 21)
    assert found.variance == pytest.approx(0.0166695, abs=1e-7)
    assert (found.lower, found.upper) == about(-0.513921, -0.007819)
    assert (found.n, found.discordance) == (21, 8 / 21)


def test_paired_difference_agrees_with_bonett_and_price() -> None:
    # Complete response before and after therapy, 161 patients, 6 and 16 discordant (Cavo et al. 2012): R's
    # contingencytables gives −.1195 to −.0032. Ours divides by n + 1 where theirs divides by n + 2.
    found = paired_difference(*flips(6, 16, 139), ["all"] * 161)
    assert (found.lower, found.upper) == about(-0.1195, -0.0032, tolerance=3e-4)


def test_paired_difference_of_two_strata() -> None:
    # a: 4 items, 2 up; b: 6 items, 1 down; n = 10, weights .4 and .6, so .8 and 1.2 items are added.
    # a: mean 2/4.8 = .416667, discordance 2.8/4.8 = .583333, s² = (.583333 − .173611) · 4.8/3.8 = .517544
    # b: mean −1/7.2 = −.138889, discordance 2.2/7.2 = .305556, s² = (.305556 − .019290) · 7.2/6.2 = .332437
    # centre .4·.416667 − .6·.138889 = .083333; variance .16·.517544/4.8 + .36·.332437/7.2 = .0338733
    before = [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]
    after = [1, 1, 1, 1, 0, 1, 1, 0, 0, 0]
    found = paired_difference(before, after, list("aaaabbbbbb"))
    assert found.estimate == pytest.approx(0.1)
    assert found.variance == pytest.approx(0.0338733, abs=1e-7)
    assert (found.lower, found.upper) == about(-0.277392, 0.444059)


def test_paired_difference_of_means_is_stratified_students() -> None:
    # a: differences .1, .3: s² = .02; b: .2, .2, .6, .6: s² = .16/3 = .053333; weights 1/3 and 2/3
    # variance .02/2/9 + .053333/4·4/9 = .00703704; t(.975; 4) = 2.776445; half = 2.776445 · .0838871 = .232908
    before = np.array([1.5, 1.5, 2.5, 2.5, 2.5, 2.5])
    found = paired_difference(before, before + np.array([0.1, 0.3, 0.2, 0.2, 0.6, 0.6]), list("aabbbb"))
    assert found.estimate == pytest.approx(1 / 3)
    assert found.variance == pytest.approx(0.00703704, abs=1e-8)
    assert (found.lower, found.upper) == about(1 / 3 - 0.232908, 1 / 3 + 0.232908)


def test_variants_without_a_discordant_item_are_not_certain() -> None:
    # 100 items, none differs: centre 0, variance (2/102) · (102/101)/102 = 2/(101·102) = .000194137
    answers = np.ones(100, dtype=bool)
    found = paired_difference(answers, answers, ["all"] * 100)
    assert (found.estimate, found.discordance) == (0.0, 0.0)
    assert found.variance == pytest.approx(0.000194137, abs=1e-9)
    assert (found.lower, found.upper) == about(-0.027309, 0.027309)


def test_five_one_sided_flips_show_nothing_and_six_do_as_in_the_exact_test() -> None:
    for up, significant in ((5, False), (6, True)):
        before, after = flips(up, 0, 1000 - up)
        assert (paired_difference(before, after, ["all"] * 1000).lower > 0) is significant
        assert (mcnemar_exact(before, after) < 0.05) is significant


def test_one_binary_item_says_next_to_nothing() -> None:
    # With two more: mean 1/3, discordance 3/3, variance (1 − 1/9)/2 = 4/9; 1/3 ± z·2/3, cut to the possible
    found = paired_difference([0], [1], ["all"])
    assert found.variance == pytest.approx(4 / 9)
    assert (found.lower, found.upper) == about(1 / 3 - Z * 2 / 3, 1.0)


def test_equal_means_have_an_interval_of_no_width() -> None:
    found = paired_difference([0.5, 0.25, 0.125], [0.5, 0.25, 0.125], ["a", "a", "a"])
    assert (found.estimate, found.variance, found.lower, found.upper) == (0, 0, 0, 0)


def test_swapping_the_sides_changes_the_sign_only() -> None:
    before, after = flips(9, 4, 60)
    groups = ["a", "b", "c"] * 24 + ["d"]
    there, back = paired_difference(before, after, groups), paired_difference(after, before, groups)
    assert (back.estimate, back.lower, back.upper) == about(-there.estimate, -there.upper, -there.lower)
    assert back.variance == pytest.approx(there.variance)


@pytest.mark.parametrize(
    ("before", "after", "groups", "said"),
    [
        ([], [], [], "at least one item"),
        ([1, 0], [1], ["a", "a"], "2 before, 1 after and 2 groups"),
        ([1, 0], [1, 1], ["a"], "1 groups"),
        ([0.5], [0.25], ["a"], "at least two items"),
        ([0.5, math.nan], [0.5, 0.5], ["a", "a"], "item 1 of 2 on the side `before`"),
    ],
)
def test_paired_difference_refuses_what_cannot_be_paired(
    before: list[float], after: list[float], groups: list[str], said: str
) -> None:
    with pytest.raises(PipelineError, match=said):
        paired_difference(before, after, groups)


def test_strata_of_one_are_joined() -> None:
    assert collapsed(list("aabbcd")).tolist() == [0, 0, 1, 1, 2, 2]
    # One alone goes to the largest.
    assert collapsed(list("aabbbc")).tolist() == [0, 0, 1, 1, 1, 1]
    assert collapsed(list("ab")).tolist() == [0, 0]
    assert collapsed(["a"]).tolist() == [0]


def test_mcnemar_counts_the_flips() -> None:
    # 1 up, 7 down: 2 · (C(8,0) + C(8,1))/2⁸ = 18/256
    assert mcnemar_exact(*flips(1, 7, 13)) == pytest.approx(18 / 256)
    assert mcnemar_exact(*flips(0, 0, 5)) == 1
    assert mcnemar_exact(*flips(3, 3, 5)) == 1
    with pytest.raises(PipelineError, match="0 or 1"):
        mcnemar_exact([0.2, 0.4], [0.3, 0.4])


def test_holm_steps_down() -> None:
    # Sorted .01, .03, .04 times 3, 2, 1: .03, .06, .04, and never below the one before.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {}
    with pytest.raises(PipelineError, match="'a'"):
        holm({"a": math.nan})


# --- Fieller


def test_fieller_bounded() -> None:
    # a = .105625 − .0015366 = .1040884, c = .005625 − .0003841 = .0052409, LG = .024375,
    # √(.024375² − a·c) = √.0000486283 = .0069734; (.024375 ∓ .0069734)/.1040884
    found = fieller(0.075, 0.0001, 0.325, 0.0004, 0.95)
    assert found.kind == "bounded"
    assert (found.lower, found.upper) == about(0.167181, 0.301171)


def test_fieller_limits_satisfy_the_definition_with_equality() -> None:
    loss, loss_variance, gain, gain_variance = 0.075, 0.0001, 0.325, 0.0004
    found = fieller(loss, loss_variance, gain, gain_variance, 0.95)
    for limit in (found.lower, found.upper):
        assert limit is not None
        distance = (loss - limit * gain) ** 2
        assert distance == pytest.approx(critical_value(0.95) ** 2 * (loss_variance + limit**2 * gain_variance))


def test_fieller_complement_when_the_gain_may_be_zero_but_not_the_loss() -> None:
    # a = .0001 − .000384146 = −.000284146, c = .01 − .000384146, LG = .001,
    # √(.001² − a·c) = .00193192; (.001 ± .00193192)/a
    found = fieller(0.1, 0.0001, 0.01, 0.0001, 0.95)
    assert found.kind == "complement"
    assert (found.lower, found.upper) == about(-10.3184, 3.2797, tolerance=1e-3)


def test_fieller_everything_when_both_may_be_zero() -> None:
    assert fieller(0.0, 0.0001, 0.0, 0.0001, 0.95) == FiellerSet("everything", None, None)
    assert fieller(0.001, 0.0001, 0.002, 0.0001, 0.95).kind == "everything"


def test_fieller_half_line_when_the_gains_limit_is_exactly_zero() -> None:
    # a = 0: R ≥ c/(2·L·G) = (1 − 3.84146·.1)/(2·1.959964) = .157108
    found = fieller(1.0, 0.1, critical_value(0.95), 1.0, 0.95)
    assert (found.kind, found.lower) == ("complement", None)
    assert found.upper == pytest.approx(0.157108, abs=1e-6)


def test_fieller_refuses_a_gain_that_is_exactly_nothing() -> None:
    with pytest.raises(PipelineError, match="no ratio"):
        fieller(0.1, 0.0001, 0.0, 0.0, 0.95)
    with pytest.raises(PipelineError, match="variances"):
        fieller(0.1, -0.1, 0.0, 0.0, 0.95)


# --- the tax


@pytest.mark.parametrize(
    ("gain", "loss", "status"),
    [
        ((0.1, 0.3), (-0.05, -0.01), "win"),
        ((0.1, 0.3), (-0.02, 0.005), "free"),
        ((0.1, 0.3), (0.001, 0.009), "free"),
        ((0.1, 0.3), (0.02, 0.05), "tradeoff"),
        ((0.1, 0.3), (-0.02, 0.05), "unresolved"),
        ((-0.1, 0.3), (0.02, 0.05), "no_gain"),
        ((-0.1, 0.3), (-0.05, -0.02), "no_gain"),
        ((-0.3, -0.1), (0.02, 0.05), "dominated"),
        ((-0.3, -0.1), (-0.02, 0.05), "regressed"),
        ((-0.3, -0.1), (-0.05, -0.02), "regressed"),
    ],
)
def test_status_follows_the_intervals(gain: tuple[float, float], loss: tuple[float, float], status: TaxStatus) -> None:
    tax = assess(between(*gain), between(*loss), margin=0.01)
    assert tax.status == status
    assert (tax.lower is None) is (tax.upper is None) is (gain[0] <= 0)
    assert (tax.ratio is None) is (gain[0] <= 0 or status == "unresolved")


def test_the_reports_example_is_a_tradeoff_with_its_full_samples() -> None:
    # Independent samples: v_G = (.05·.95 + .375·.625)/2000 = .000140938, v_L = (.7·.3 + .625·.375)/14042 = .0000316461
    # G = .325 ± .0233, L = .075 ± .0110
    tax = assess(effect(0.325, 0.281875 / 2000), effect(0.075, 0.444375 / 14042), margin=0.01)
    assert tax.status == "tradeoff"
    assert tax.ratio == pytest.approx(0.2308, abs=5e-5)
    # Fieller: a = .105625 − z²·v_G = .1050836, c = .005625 − z²·v_L = .00550343, LG = .024375,
    # √(LG² − a·c) = √.0000158201 = .00397745; (.024375 ∓ .00397745)/.1050836
    assert (tax.lower, tax.upper) == about(0.194108, 0.269809)


def test_the_reports_example_is_unresolved_with_forty_items_and_prints_no_ratio() -> None:
    # G = .325 ± z·√(.281875/40) = .325 ± .1645: a gain. L = .075 ± z·√(.444375/40) = .075 ± .2066: who knows.
    tax = assess(effect(0.325, 0.281875 / 40), effect(0.075, 0.444375 / 40), margin=0.01)
    assert (tax.status, tax.ratio) == ("unresolved", None)
    assert tax.lower is not None and tax.upper is not None
    assert tax.lower < 0 < 0.2308 < tax.upper


def test_assess_refuses_a_negative_margin_and_intervals_of_another_confidence() -> None:
    with pytest.raises(PipelineError, match="margin"):
        assess(effect(0.2), effect(0.1), margin=-0.01)
    with pytest.raises(PipelineError, match="confidence"):
        assess(effect(0.021), effect(0.1), margin=0.01, confidence=0.99)


def test_a_gain_above_zero_always_bounds_the_tax() -> None:
    # The interval is centred below the estimate, so that it lies above zero only where Fieller's set is bounded, too.
    for n in range(1, 15):
        for up in range(n + 1):
            for down in range(n - up + 1):
                gain = paired_difference(*flips(up, down, n - up - down), ["all"] * n)
                tax = assess(gain, effect(0.1), margin=0.01)
                assert (tax.lower is not None) is (gain.lower > 0)


def test_a_price_excludes_zero_exactly_where_the_loss_does() -> None:
    # 33 of 150 prompts gained and 3 lost: centre 30/152. A loss is in doubt up to 9 flips down against 2 up, say.
    gain = paired_difference(*flips(33, 3, 114), ["all"] * 150)
    for up in range(12):
        for down in range(30):
            loss = paired_difference(*flips(down, up, 150 - up - down), ["all"] * 150)
            tax = assess(gain, loss, margin=0.01)
            assert tax.lower is not None and tax.upper is not None
            assert ((tax.lower > 0) is (loss.lower > 0)) and ((tax.upper < 0) is (loss.upper < 0))
            assert tax.ratio is None or tax.lower <= tax.ratio <= tax.upper


@pytest.mark.parametrize("standing", ["at_chance", "at_floor"])
def test_without_anything_to_lose_there_is_a_gain_and_no_price(standing: Literal["at_chance", "at_floor"]) -> None:
    assert without_loss(between(0.1, 0.3), standing) == Tax(standing, None, None, None)
    assert without_loss(between(-0.1, 0.3), standing) == Tax("no_gain", None, None, None)
    assert without_loss(between(-0.3, -0.1), standing) == Tax("regressed", None, None, None)


GAIN = effect(0.4, 0.0016)
LOSSES = {"knowledge": effect(0.05, 0.0001), "helpfulness": effect(0.1, 0.0009)}
PRICE = {"knowledge": 0.25, "helpfulness": 0.5, "reasoning": 0.25}


def test_net_benefit_takes_each_loss_at_its_price() -> None:
    # .4 − .05/.25 − .1/.5 = 0; variance .0016 + .0001/.0625 + .0009/.25 = .0068, deviation .0824621, half .161623
    assert net_benefit(GAIN, LOSSES, PRICE) == about(0.0, -0.161623, 0.161623)
    # .4 − .2 = .2; variance .0032, deviation .0565685, half .110872
    knowledge = {"knowledge": LOSSES["knowledge"]}
    assert net_benefit(GAIN, knowledge, PRICE) == about(0.2, 0.089128, 0.310872)
    # Φ(.2/.0565685) = Φ(3.535534), and twice the tail
    assert probability_positive(GAIN, knowledge, PRICE) == pytest.approx(0.999797, abs=1e-6)
    assert net_benefit_p(GAIN, knowledge, PRICE) == pytest.approx(0.000407, abs=1e-6)
    # As much lost as gained: nothing to choose.
    assert probability_positive(GAIN, LOSSES, PRICE) == pytest.approx(0.5)
    assert net_benefit_p(GAIN, LOSSES, PRICE) == pytest.approx(1.0)
    # A loss below zero is a gain: .4 + .1/.5 = .6, and the p-value is that of a loss as large
    assert net_benefit(GAIN, {"helpfulness": effect(-0.1, 0.0009)}, PRICE).estimate == pytest.approx(0.6)
    assert net_benefit_p(effect(-0.4, 0.0016), {"knowledge": effect(-0.05, 0.0001)}, PRICE) == pytest.approx(
        net_benefit_p(GAIN, knowledge, PRICE)
    )


def test_net_benefit_without_losses_is_the_gain() -> None:
    # 12 up and 2 down of 60: centre 10/62, and the limits of the paired interval
    gain = paired_difference(*flips(12, 2, 46), ["all"] * 60)
    assert net_benefit(gain, {}, PRICE) == about(gain.estimate, gain.lower, gain.upper)


def test_net_benefit_is_significant_where_its_interval_leaves_zero_out() -> None:
    losses = {"knowledge": effect(0.05, 0.0001)}
    for tenth in range(60):
        gain = effect(tenth / 100, 0.0016)
        interval = net_benefit(gain, losses, PRICE)
        assert (net_benefit_p(gain, losses, PRICE) < 0.05) is not (interval.lower <= 0 <= interval.upper)


def test_net_benefit_without_variance_is_certain() -> None:
    cost = {"knowledge": effect(0.05, 0)}
    assert probability_positive(effect(0.4, 0), cost, PRICE) == 1
    assert probability_positive(effect(0.1, 0), cost, PRICE) == 0
    assert net_benefit_p(effect(0.4, 0), cost, PRICE) == net_benefit_p(effect(0.1, 0), cost, PRICE) == 0
    # Nothing gained, nothing lost, on no item: nothing found.
    assert probability_positive(effect(0, 0), {}, PRICE) == 0.5
    assert net_benefit_p(effect(0, 0), {}, PRICE) == 1


def test_net_benefit_needs_a_price_for_each_loss() -> None:
    with pytest.raises(PipelineError, match="'instructions', found None"):
        net_benefit(GAIN, {"instructions": effect(0.1)}, PRICE)
    with pytest.raises(PipelineError, match="'knowledge', found 0"):
        net_benefit_p(GAIN, LOSSES, {"knowledge": 0, "helpfulness": 1})


def test_net_benefit_curve_scales_every_price() -> None:
    curve = net_benefit_curve(GAIN, LOSSES, PRICE, [0.5, 1.0, 2.0])
    assert [point.scale for point in curve] == [0.5, 1.0, 2.0]
    # .4 less .4 of losses at half the scale's inverse: .4 − .8, .4 − .4, .4 − .2
    assert [point.estimate for point in curve] == pytest.approx([-0.4, 0.0, 0.2])
    assert curve[1][1:4] == net_benefit(GAIN, LOSSES, PRICE)
    doubled = {name: 2 * price for name, price in PRICE.items()}
    assert curve[2].probability == probability_positive(GAIN, LOSSES, doubled)


def test_report_formulas_clip_and_take_absolutes() -> None:
    gain, loss = effect(0.325), effect(0.075)
    assert report_tax(gain, loss) == report_tax_abs(gain, loss) == pytest.approx(0.075 / 0.325)
    assert report_tax(gain, effect(-0.075)) == 0
    assert report_tax_abs(gain, effect(-0.075)) == pytest.approx(0.075 / 0.325)
    assert report_tax(effect(-0.325), loss) is None
    assert report_tax_abs(effect(-0.325), loss) == pytest.approx(0.075 / 0.325)
    assert report_tax(effect(0.0), loss) is report_tax_abs(effect(0.0), loss) is None


# --- how many items


@pytest.mark.parametrize(
    ("points", "needed"),
    [
        # (1.959964·√.05 + .841621·√.0499)²/.0001 = (.438261 + .188004)²/.0001 = 3922.1
        (0.01, {0.05: 3923, 0.10: 7847, 0.20: 15696}),
        (0.02, {0.05: 979, 0.10: 1960, 0.20: 3923}),
        (0.05, {0.05: 155, 0.10: 312, 0.20: 626}),
    ],
)
def test_items_needed(points: float, needed: dict[float, int]) -> None:
    assert {discordance: items_needed(points, discordance) for discordance in needed} == needed


@pytest.mark.parametrize("discordance", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("points", [0.01, 0.02, 0.05])
def test_resolves_is_the_inverse_of_items_needed(points: float, discordance: float) -> None:
    n = items_needed(points, discordance)
    seen, missed = resolves(discordance, n), resolves(discordance, n - 1)
    assert seen is not None and missed is not None
    assert seen <= points < missed


def test_resolves_without_discordance_assumes_that_every_flip_is_a_loss() -> None:
    # ψ = d = .0757: (1.959964·√.0757 + .841621·√(.0757 − .00573))²/.00573 = (.539262 + .222622)²/.00573 = 101.3
    assert resolves(0.0, 100) == pytest.approx(0.0766, abs=1e-4)
    assert items_needed(0.0767, 0.0) == 100


def test_resolves_more_with_more_items_and_nothing_with_three() -> None:
    losses = [resolves(0.1, n) for n in (4, 20, 100, 500, 5000)]
    assert all(a is not None and b is not None and 0 < b < a <= 1 for a, b in pairwise(losses))
    assert resolves(0.1, 3) is None


def test_the_formula_gives_the_power_it_promises() -> None:
    # 979 items, ψ = .05, 2 points lost: 34.3 flips down, 14.7 up. McNemar's statistic exceeds z in 80 % of draws.
    counts = np.random.default_rng(5).multinomial(979, [0.035, 0.015, 0.95], size=20_000)
    down, up = counts[:, 0], counts[:, 1]
    assert np.mean((down - up) > Z * np.sqrt(down + up)) == pytest.approx(0.8, abs=0.015)


@pytest.mark.parametrize("wrong", [{"discordance": 1.2}, {"n": 0}, {"power": 0.3}, {"significance": 5.0}])
def test_resolves_refuses_impossible_requests(wrong: dict[str, float]) -> None:
    with pytest.raises(PipelineError, match="Expected"):
        resolves(**{"discordance": 0.1, "n": 100, **wrong})  # type: ignore[arg-type]
    with pytest.raises(PipelineError, match="effect"):
        items_needed(0.0, 0.1)


# --- the judge


def test_rogan_gladen_corrects_a_rate() -> None:
    # (.3 + .8 − 1)/(.9 + .8 − 1) = .142857.
    # Adjusted: share (30 + 1.920729)/103.841459 = .307399, Se 91/102 = .892157, Sp 81/102 = .794118, J = .686275,
    # centre .101517/.686275 = .147925; variances Se .0962130/102 = .000943265, Sp .163495/102 = .00160289;
    # shift 7.682918·(.147925·.000943265 − .852075·.00160289) = −.00942108
    # the share's variance .307399·.692601/103.841459 = .00205028
    # half z·√(.00205028 + .0000206403 + .00116374)/.686275 = z·.0568742/.686275 = .162429
    assert rogan_gladen(0.3, 100, 0.9, 0.8, 100, 100) == about(0.142857, 0.0, 0.300933, tolerance=2e-5)


def test_rogan_gladen_with_a_perfect_judge_and_many_labels_changes_nothing() -> None:
    # Agresti and Coull: (300 + 1.920729)/1003.841459 = .300765 ± z·√(.300765·.699235/1003.841459) = z·.0144740
    assert rogan_gladen(0.3, 1000, 1.0, 1.0, 10**7, 10**7) == about(0.3, 0.272396, 0.329134, tolerance=2e-5)


def test_rogan_gladen_stays_in_range() -> None:
    # (.08 − .1)/.8 is below 0: a few positives fewer than the false alarms of a judge with this specificity.
    found = rogan_gladen(0.08, 100, 0.9, 0.9, 200, 200)
    assert found.estimate == found.lower == 0 < found.upper < 0.1
    # Far fewer: the judge did not err here as it did on its labelled sample, and the limits meet.
    assert rogan_gladen(0.02, 100, 0.9, 0.9, 200, 200) == (0, 0, 0)
    assert rogan_gladen(0.98, 100, 0.9, 0.9, 200, 200) == (1, 1, 1)


def test_rogan_gladen_covers_the_truth() -> None:
    generator = np.random.default_rng(11)
    share, sensitivity, specificity, n, labelled, hits = 0.3, 0.85, 0.9, 300, 60, 0
    for _ in range(1000):
        seen = generator.binomial(n, share * sensitivity + (1 - share) * (1 - specificity))
        se, sp = generator.binomial(labelled, [sensitivity, specificity]) / labelled
        found = rogan_gladen(seen / n, n, se, sp, labelled, labelled)
        hits += found.lower <= share <= found.upper
    assert 0.93 <= hits / 1000 <= 0.98


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "n_sens", "n_spec"), [(0.5, 0.5, 99, 99), (1.2, 0.9, 9, 9), (0.9, 0.9, 0, 9)]
)
def test_rogan_gladen_refuses_a_useless_judge(sensitivity: float, specificity: float, n_sens: int, n_spec: int) -> None:
    with pytest.raises(PipelineError, match="Expected"):
        rogan_gladen(0.5, 100, sensitivity, specificity, n_sens, n_spec)


def test_agreement_counts_partial_as_refusal() -> None:
    # Positive by people 3, by the judge 3, by both 2: precision = recall = F1 = 2/3.
    # Agreement 4/6, expected (3·3 + 3·3)/36 = .5: kappa = (.6667 − .5)/.5 = 1/3
    truth = ["refuse", "refuse", "partial", "comply", "comply", "comply"]
    judge = ["refuse", "comply", "refuse", "comply", "degenerate", "partial"]
    found = agreement(truth, judge)
    assert (found.precision, found.recall, found.f1, found.kappa) == about(2 / 3, 2 / 3, 2 / 3, 1 / 3)
    assert found.confusion["partial"] == {"comply": 0, "degenerate": 0, "partial": 0, "refuse": 1}
    assert found.confusion["comply"] == {"comply": 1, "degenerate": 1, "partial": 1, "refuse": 0}
    assert sum(sum(row.values()) for row in found.confusion.values()) == found.n == 6


def test_agreement_has_no_score_where_there_is_nothing_to_score() -> None:
    found = agreement(["comply", "comply"], ["comply", "degenerate"])
    assert (found.precision, found.recall, found.f1, found.kappa) == (None, None, None, None)
    assert agreement(["refuse"], ["comply"]).recall == 0
    for truth, judge in (([], []), (["refuse"], [])):
        with pytest.raises(PipelineError, match="join the two"):
            agreement(truth, judge)


# --- the frontier


def test_matched_loss_interpolates_at_half_the_donors_gain() -> None:
    # Target .3, half way from .2 to .4: .01 + .5·.04
    dial = [(0.0, 0.0), (0.2, 0.01), (0.4, 0.05), (0.6, 0.2)]
    assert matched_loss(dial, 0.6) == pytest.approx(0.03)
    assert matched_loss(dial, 0.8) == pytest.approx(0.05)
    assert matched_loss(dial, 0.6, recovery=1.0) == pytest.approx(0.2)
    # A dial that falls back is read where it first gets there.
    assert matched_loss([(0.0, 0.0), (0.4, 0.04), (0.2, 0.3)], 0.6) == pytest.approx(0.03)


def test_matched_loss_does_not_extrapolate() -> None:
    assert matched_loss([(0.0, 0.0), (0.2, 0.01)], 0.6) is None
    assert matched_loss([(0.4, 0.05), (0.6, 0.2)], 0.6) is None
    assert matched_loss([], 0.6) is None
    assert matched_loss([(0.0, 0.0), (0.2, 0.01)], -0.1) is None
    assert matched_loss([(0.3, 0.02)], 0.6) == pytest.approx(0.02)
    with pytest.raises(PipelineError, match="recovery"):
        matched_loss([], 0.6, recovery=50)


def test_hypervolume_is_the_area_of_the_staircase() -> None:
    # (.5 − .1)·(.4 − .25) = .06, then (.3 − .1)·(.5 − .4) = .02; (.2, .3) is dominated, (.05, .9) below the reference
    points = [(0.2, 0.3), (0.3, 0.5), (0.05, 0.9), (0.5, 0.4)]
    assert hypervolume(points, (0.1, 0.25)) == pytest.approx(0.08)
    assert hypervolume(points * 2, (0.1, 0.25)) == pytest.approx(0.08)
    assert hypervolume([], (0.1, 0.25)) == hypervolume([(0.1, 0.25)], (0.1, 0.25)) == 0


# --- dominance

WORTH = {"safety": 1.0, "helpfulness": 1.0, "utility": 4.0}


def advantage(safety: float, helpfulness: float, utility: float) -> dict[str, PairedDifference]:
    """Deviations of 2, 2 and 1 points."""
    return {
        "safety": effect(safety, 0.0004),
        "helpfulness": effect(helpfulness, 0.0004),
        "utility": effect(utility, 0.0001),
    }


def test_dominance_by_hand() -> None:
    # In one: z = .15/.02 = 7.5. On the whole: .15/√(.0004 + .0004 + 16·.0001) = .15/.0489898 = 3.06, p .0011, and
    # Holm doubles it. Worse in none: 0 each.
    there, back = advantage(0.15, 0.0, 0.0), advantage(-0.15, 0.0, 0.0)
    assert dominated({("a", "b"): there, ("b", "a"): back}, WORTH) == {"b": ["a"]}
    # At a confidence of 99.9 % the doubled .0022 is too much.
    assert dominated({("a", "b"): there, ("b", "a"): back}, WORTH, confidence=0.999) == {}
    # Against three, five p-values of 1 beside it: 6 · .0011 = .0066.
    others = {(a, b): advantage(0, 0, 0) for a, b in (("a", "c"), ("c", "a"), ("b", "c"), ("c", "b"))}
    assert dominated({("a", "b"): there, ("b", "a"): back, **others}, WORTH) == {"b": ["a"]}
    assert dominated({}, WORTH) == {}


def test_dominance_needs_a_sure_advantage_in_one_and_on_the_whole() -> None:
    # Three small ones, z 1.5 each: .03 + .03 + .06 = .12 on the whole, z = 2.45; Holm in one: 3 · .067.
    assert dominated({("a", "b"): advantage(0.03, 0.03, 0.015)}, WORTH) == {}
    # One sure, z = 3; on the whole .06/.049, z = 1.22: what accuracy may have lost is dear.
    assert dominated({("a", "b"): advantage(0.06, 0.0, 0.0)}, WORTH) == {}
    assert dominated({("a", "b"): advantage(0.06, 0.0, 0.0)}, WORTH | {"utility": 0.5}) == {"b": ["a"]}


def test_a_sign_of_being_worse_is_no_dominance() -> None:
    # Half a deviation may be chance; more than one is a sign.
    assert dominated({("a", "b"): advantage(0.3, -0.01, 0.0)}, WORTH) == {"b": ["a"]}
    assert dominated({("a", "b"): advantage(0.3, -0.021, 0.0)}, WORTH) == {}


def test_variants_that_agree_on_every_item_but_those_of_two_currencies() -> None:
    # 150 prompts, safety the same on each; 20 of 150 more answered, 14 of 150 more followed, none less.
    same = paired_difference(*flips(0, 0, 150), ["all"] * 150)
    more, followed = (paired_difference(*flips(up, 0, 150 - up), ["all"] * 150) for up in (20, 14))
    pair = {"safety": same, "helpfulness": more, "instructions": followed}
    assert dominated({("a", "b"): pair}, {"safety": 1, "helpfulness": 1, "instructions": 2}) == {"b": ["a"]}


def test_dominance_without_variance_is_certain_and_a_worth_is_needed() -> None:
    assert dominated({("a", "b"): {"safety": effect(0.1, 0)}}, WORTH) == {"b": ["a"]}
    assert dominated({("a", "b"): {"safety": effect(0.0, 0)}}, WORTH) == {}
    for worth in ({}, {"safety": 0.0}):
        with pytest.raises(PipelineError, match="worth above zero for 'safety'"):
            dominated({("a", "b"): {"safety": effect(0.1)}}, worth)


# --- the same in draws of which the truth is known; `tests.benchmarks.coverage` has more, and narrower bounds

SMALL, LARGE = SIZES


@pytest.mark.parametrize(("size", "scenario"), [(SMALL, "mild"), (SMALL, "donor"), (LARGE, "ruinous")])
def test_intervals_cover_the_truth(size: str, scenario: str) -> None:
    # 1,500 draws: a deviation of .6 points.
    for line in coverage(size, scenario, 1500, np.random.default_rng(7)):
        assert 0.93 <= line.share <= 0.985, line


def test_a_status_is_seldom_wrong() -> None:
    for line in false_statuses(SMALL, 1500, np.random.default_rng(8)):
        assert line.share <= 0.05, line


def test_dominance_is_seldom_found_where_there_is_none() -> None:
    for line in false_dominance(SMALL, 60, np.random.default_rng(9)):
        assert line.share <= 0.1 or line.most == 1, line


# --- the bootstrap


def test_bootstrap_agrees_with_the_closed_forms() -> None:
    generator = np.random.default_rng(3)
    harm, subject = np.repeat(list("abcde"), 140), np.repeat(np.arange(20), 100)
    gains = generator.choice([1, 0, -1], p=[0.25, 0.70, 0.05], size=700)
    losses = generator.choice([1, 0, -1], p=[0.08, 0.88, 0.04], size=2000)
    gain = paired_difference(gains < 0, gains > 0, harm)
    loss = paired_difference(losses < 0, losses > 0, subject)
    tax, found = assess(gain, loss, margin=0.01), bootstrap_tax(gains, harm, losses, subject)
    assert (found.gain.estimate, found.loss.estimate) == (gain.estimate, loss.estimate)
    assert (found.gain.lower, found.gain.upper) == about(gain.lower, gain.upper, tolerance=0.003)
    assert (found.loss.lower, found.loss.upper) == about(loss.lower, loss.upper, tolerance=0.001)
    assert found.ratio is not None and tax.status == "tradeoff"
    assert found.ratio.estimate == tax.ratio
    assert (found.ratio.lower, found.ratio.upper) == about(tax.lower, tax.upper, tolerance=0.01)


def test_bootstrap_is_seeded_and_gives_no_ratio_without_a_gain() -> None:
    gains, losses = [1, -1, 0, 0] * 10, [1, 0, 0, 0] * 10
    first = bootstrap_tax(gains, ["a"] * 40, losses, ["a"] * 40, resamples=500)
    assert first.ratio is None
    assert first == bootstrap_tax(gains, ["a"] * 40, losses, ["a"] * 40, resamples=500)
    assert first != bootstrap_tax(gains, ["a"] * 40, losses, ["a"] * 40, resamples=500, seed=1)
