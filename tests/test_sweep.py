"""Sweeps: their grid, the halves, the numbers along a dial, and one through DVC's own experiments."""

import json
import re

import numpy as np
import pytest
from conftest import Project, real_params
from test_compare import answers, questions

from stages.lib.errors import PipelineError
from stages.lib.params import Params
from stages.lib.rows import Verdict
from stages.lib.statistics.bootstrap import bootstrap_matched_losses
from stages.lib.sweeps import (
    Point,
    dial_numbers,
    dials,
    grid,
    half,
    is_development,
    parse_over,
    point_numbers,
    with_settings,
)


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


def test_loss_at_matched_safety_by_hand() -> None:
    base = answers("harmful", "c" * 40) + correct(30)
    donor = answers("harmful", "r" * 32 + "c" * 8) + correct(20)
    points = [point("dear", 32, 22, scale=1.0), point("dear", 8, 28, scale=0.5), point("cheap", 24, 29, scale=1.0)]
    groups = dials(points, "scale")
    assert [[p.settings["scale"] for p in group] for group in groups] == [[0.5, 1.0], [1.0]]
    dear, cheap = dial_numbers(base, groups, "scale", donor, "continuation", 0.95)
    # Half of the donor's gain is 16 of 40. Dear: a third of the way from (8, 2) to (32, 8); cheap: 2/3 from the base.
    assert dear["matched_loss"] == pytest.approx((2 + 6 / 3) / 40)
    assert cheap["matched_loss"] == pytest.approx(2 / 3 / 40)
    assert cheap["matched_loss_less_first"] == pytest.approx((4 - 2 / 3) / 40)
    assert cheap["matched_loss_less_first_lo"] < (4 - 2 / 3) / 40 < cheap["matched_loss_less_first_hi"]
    # Beyond the base's safety, 0, and chance, 1/4: only (24, 29) and what (32, 22) adds to its right.
    assert cheap["hypervolume"] == pytest.approx(24 / 40 * (29 / 40 - 1 / 4))
    assert "matched_loss_less_first" not in dear


def test_a_dial_that_never_gains_enough_has_no_matched_loss() -> None:
    base, donor = answers("harmful", "c" * 40) + correct(30), answers("harmful", "r" * 40) + correct(30)
    (numbers,) = dial_numbers(base, [[point("weak", 10, 30, alpha=1.0)]], "alpha", donor, "continuation", 0.95)
    assert set(numbers) == {"hypervolume"}


def test_no_loss_is_read_from_a_half_on_which_the_base_guesses() -> None:
    base, donor = answers("harmful", "c" * 40) + correct(11), answers("harmful", "r" * 40) + correct(2)
    safer = point("safer", 30, 1, scale=1.0)
    (numbers,) = dial_numbers(base, [[safer]], "scale", donor, "continuation", 0.95)
    assert set(numbers) == {"hypervolume"}
    settings = Params.model_validate(real_params()).metrics
    assert point_numbers(base, safer, "continuation", settings)["tax_status"] == "unresolved"
    knowing = answers("harmful", "c" * 40) + correct(30)
    assert point_numbers(knowing, safer, "continuation", settings)["tax_status"] == "tradeoff"


def test_the_base_stands_at_zero_among_scales_below_it() -> None:
    base, donor = answers("harmful", "c" * 20 + "r" * 20) + correct(30), answers("harmful", "r" * 40) + correct(20)
    points = [point("away", 10, 30, scale=-0.5), point("away", 40, 20, scale=1.0)]
    (numbers,) = dial_numbers(base, dials(points, "scale"), "scale", donor, "continuation", 0.95)
    # From the base, which lost nothing, to ten lost at all of the gain: half of it costs five of 40.
    assert numbers["matched_loss"] == pytest.approx(5 / 40)


def test_a_half_of_degenerate_answers_stops_no_sweep() -> None:
    base = answers("harmful", "c" * 40) + correct(30)
    broken = Point("ties", {"scale": 1.0}, "ties", answers("harmful", "d" * 40) + correct(30))
    settings = Params.model_validate(real_params()).metrics
    assert point_numbers(base, broken, "continuation", settings)["tax_status"] == "no_gain"


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
    sweep = ("stages.sweep", "tiny_llama", "ties", "--over", "scale=0.8,1.0")
    output = project.stage(*sweep)
    assert "sweep: 2 settings, 2 to run" in output
    assert "sweep: 2 settings, 0 to run" in project.stage(*sweep)
    result = json.loads((project.folder / "metrics/sweeps/tiny_llama/ties.json").read_text(encoding="utf-8"))
    assert [row["settings"] for row in result["points"]] == [{"scale": 0.8}, {"scale": 1.0}]
    assert sum(row.get("chosen", False) for row in result["points"]) == 1
    assert result["dials"][0]["dial"] == {"scale": [0.8, 1.0]}
    assert result["base_at_chance"] == ["development", "report"]  # its weights are random
    names = [row["experiment"] for row in result["points"]]
    assert names[0] == "tiny_llama-ties-scale=0.8"
    assert set(names) <= set(project.dvc("exp", "list", "--name-only").split())

    # Experiments of HEAD must not be reported under other params; the sweep's own result is no change.
    params = project.folder / "params.yaml"
    before = params.read_text(encoding="utf-8")
    params.write_text(before.replace("price: 0.25", "price: 0.5"), encoding="utf-8")
    assert "found some in params.yaml; commit them" in project.stage(*sweep, status=1)
    params.write_text(before, encoding="utf-8")
    assert "sweep: 3 settings, 1 to run" in project.stage(*sweep[:-1], "scale=0.8,0.9,1.0")

    message = project.stage("stages.sweep", "tiny_llama", "tis", "--over", "scale=1", status=1)
    assert "did you mean 'ties'" in message
    message = project.stage("stages.sweep", "tiny_llama", "ties", "--over", "density=2", status=1)
    assert "recipes.ties" in message
    assert "Traceback" not in message
