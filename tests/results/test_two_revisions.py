"""Two revisions of which Git holds the rates: what is compared, what is left out, and what was measured differently."""

from typing import Any

import pytest

from safety_tax.core.errors import PipelineError
from safety_tax.results.comparison.committed_rates import ModelRates
from safety_tax.results.comparison.revisions import Key, Revision, VerdictsMissing
from safety_tax.results.comparison.two_revisions import Report, agreed_format, measured_differently, unpaired
from safety_tax.results.statistics.intervals import Interval

KEYS: list[Key] = [("tiny", "base"), ("tiny", "ties")]
MISSING = VerdictsMissing("Expected verdicts, found none", "main", "run `dvc push` there")


def revision(name: str, keys: list[Key] = KEYS, form: str = "letter", **meaning: Any) -> Revision:
    return Revision(name, name, keys, {"tiny": form}, "quick", 0.95, meaning)


def rates(size: str = "quick", confidence: float = 0.95, **safety: float) -> ModelRates:
    """Variants with their safety, limits a tenth around it, of 100 items."""
    of = {name: {"safety": (Interval(value, value - 0.1, value + 0.1), 100)} for name, value in safety.items()}
    return ModelRates(of, size, confidence)


def test_rates_alone_are_compared_with_wider_limits_and_the_report_says_why() -> None:
    sides = {"tiny": (rates(base=0.5, ties=0.6), rates(base=0.5, ties=0.9))}
    report = unpaired(revision("before"), revision("after"), sides, MISSING)
    of = {change.variant: change for change in report.models["tiny"].changes}
    # Newcombe: both distances are a tenth, so the limits are √.02 around the difference.
    assert of["ties"].difference.estimate == pytest.approx(0.3)
    assert (of["ties"].difference.lower, of["ties"].difference.upper) == pytest.approx(
        (0.3 - 0.02**0.5, 0.3 + 0.02**0.5)
    )
    assert of["ties"].beyond_noise and of["ties"].moved
    assert not of["base"].beyond_noise and not of["base"].moved
    assert (report.basis, report.level) == ("unpaired", "95 %")
    assert report.remarks == [
        "Unpaired: the verdicts of main are not to be had here, so the numbers of metrics/detail in Git are compared. "
        "Such intervals are wider and no flips are known. To compare item by item, run `dvc push` there."
    ]


def test_what_one_side_lacks_is_named() -> None:
    before, after = revision("before", [*KEYS, ("tiny", "old")]), revision("after", [*KEYS, ("tiny", "new")])
    sides = {"tiny": (rates(base=0.5, old=0.5), rates(base=0.5, new=0.5))}
    report = unpaired(before, after, sides, MISSING)
    assert [change.variant for change in report.models["tiny"].changes] == ["base"]
    assert report.left_out == [
        "Not compared, only in before: old (tiny).",
        "Not compared, only in after: new (tiny).",
    ]


@pytest.mark.parametrize(
    ("other", "key", "values"),
    [({"size": "report"}, "size", "quick and report"), ({"confidence": 0.9}, "confidence", "0.95 and 0.9")],
)
def test_numbers_of_two_kinds_are_refused(other: dict[str, Any], key: str, values: str) -> None:
    sides = {"tiny": (rates(base=0.5), rates(base=0.5, **other))}
    with pytest.raises(PipelineError) as raised:
        unpaired(revision("before"), revision("after"), sides, MISSING)
    assert str(raised.value) == (
        f"Expected one `{key}` behind the numbers of tiny in before and after, found {values}; run both with the same "
        "one."
    )


def test_a_setting_that_gives_rates_another_meaning_is_named_with_both_values() -> None:
    before = revision("before", **{"infer.temperature": 0, "judge": {"name": "rules"}, "stop": None, "only": 1})
    after = revision("after", **{"infer.temperature": 0.7, "judge": {"name": "rules"}, "stop": ["é"]})
    end = "; a change may come from that and not from the model."
    assert measured_differently(before, after) == [
        f"Measured differently: `infer.temperature` is 0 in before and 0.7 in after{end}",
        f'Measured differently: `stop` is absent in before and ["é"] in after{end}',
    ]
    assert measured_differently(before, before) == []


def test_the_format_of_a_model_is_one() -> None:
    before, after = revision("before"), revision("after")
    assert agreed_format("tiny", before, after) == "letter"
    silent = Revision("silent", None, KEYS, {}, None, None, {})
    assert agreed_format("tiny", silent, after) == "letter"  # an older revision need not say
    with pytest.raises(PipelineError, match="of before and other, found continuation and letter; run both sides in"):
        agreed_format("tiny", before, revision("other", form="continuation"))
    with pytest.raises(PipelineError, match="of silent and silent, found none"):
        agreed_format("tiny", silent, silent)


def test_a_report_by_items_has_its_remarks_in_order() -> None:
    sides = revision("before"), revision("after")
    report = Report(*sides, 0.9, {}, ["Left out."], ["Differs."])
    assert (report.basis, report.level, report.remarks) == ("paired by item", "90 %", ["Left out.", "Differs."])
