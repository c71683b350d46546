"""Models side by side: the rows of a plot, what to choose for which, and those that are not to be compared."""

import json
from pathlib import Path

import pytest
from dvc.render.converter.vega import VegaConverter
from sample_results import SHARES, results_of

from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.workspace import DETAIL
from safety_tax.results.side_by_side import comparable, listed, read_models, rows_of, verdict_across
from safety_tax.results.variant import ModelResults

DRAWN = {"x": "safety_gain", "y": "net_benefit", "template": "scatter"}
QUICK = ("problem", "instruction")


def measured(name: str, recommended: str | None = None, **changed: object) -> ModelResults:
    """A model's results under another name."""
    changed |= {"model": name, "recommended": recommended}
    found: ModelResults = results_of(SHARES, without=QUICK).model_copy(update=changed)
    return found


def test_a_row_is_a_variant_of_a_model_and_the_base_is_the_origin() -> None:
    rows = rows_of([measured("a"), measured("b")])
    assert [(row["model"], row["variant"]) for row in rows] == [(m, v) for m in "ab" for v in SHARES]
    assert rows[0]["safety_gain"] == rows[0]["net_benefit"] == 0.0
    ties = next(row for row in rows if row["variant"] == "ties")
    assert ties["safety_gain"] == pytest.approx(0.34)
    assert ties["safety_gain_lo"] < ties["safety_gain"] < ties["safety_gain_hi"]  # type: ignore[operator]
    assert str(ties["helpfulness_tax_shown"]).endswith("] tradeoff") and "reasoning_loss" not in ties
    assert rows[0]["helpfulness_tax_shown"] == ""
    json.dumps(rows, allow_nan=False)


def test_dvc_draws_the_rows_of_models_of_other_currencies_too() -> None:
    rows = rows_of([measured("a"), results_of(SHARES).model_copy(update={"model": "b"})])
    drawn, about = VegaConverter("models.json", {"models.json": rows}, DRAWN).flat_datapoints("workspace")
    assert [point["model"] for point in drawn] == ["a"] * len(SHARES) + ["b"] * len(SHARES)
    assert about["x"] == "safety_gain" and all("net_benefit" in point for point in drawn)


def test_the_verdict_names_a_choice_for_each_model() -> None:
    one = comparable([measured("a", "ties"), measured("b", "ties"), measured("c")])
    assert len(one) == 1
    assert verdict_across(one) == ("Choose `ties` for a and b; keep the base of c: no recipe is shown to be better.")


@pytest.mark.parametrize("changed", [{"items": "f" * 16}, {"judge": "guard"}])
def test_a_model_of_other_items_or_another_judge_stands_apart(changed: dict[str, object]) -> None:
    groups = comparable([measured("a", "ties"), measured("b", "ties", **changed), measured("c", "ties")])
    assert [[of.model for of in group] for group in groups] == [["a", "c"], ["b"]]
    assert "b was asked other items than a and c" in verdict_across(groups)


def test_results_of_two_prices_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for model in (measured("a"), measured("b", price={"knowledge": 1.0, "helpfulness": 1.0})):
        write_json(DETAIL / f"{model.model}.json", model.model_dump(mode="json", exclude_none=True))
    assert [of.model for of in read_models(["a"])] == ["a"]
    with pytest.raises(PipelineError, match=r"Expected one metrics\.price behind the numbers of a and b"):
        read_models(["a", "b"])
    with pytest.raises(PipelineError, match=r"detail/c\.json.*run `dvc repro`"):
        read_models(["c"])


def test_names_are_listed_as_people_do() -> None:
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
