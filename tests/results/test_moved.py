"""What the report says of an older revision: which rates moved, in which order, and the one sentence above them."""

from typing import Any

from safety_tax.results.comparison.items import Change, Comparison
from safety_tax.results.comparison.revisions import Revision
from safety_tax.results.comparison.two_revisions import Report
from safety_tax.results.report.moved import NOISE, REAL, Moved, since
from safety_tax.results.statistics.paired import PairedDifference

BEFORE = Revision("v1", "v1", [], {}, None, None, {})
NOW = Revision("workspace", None, [], {}, None, None, {})


def change(rate: str, before: float, after: float, real: bool = False, **more: Any) -> Change:
    """A change of `ties`; one by nothing did not move."""
    of = PairedDifference(after - before, 0.0, after - before - 0.01, after - before + 0.01, 100, abs(after - before))
    about: dict[str, Any] = {"up": [], "down": [], "p": 0.5, "p_holm": 0.5, "beyond_noise": real, "unpaired": 0}
    return Change("ties", rate, before, after, of, **about | more)


def told(*changes: Change, models: tuple[str, ...] = ("tiny",), **more: Any) -> Any:
    comparison = Comparison("letter", list(changes), [])
    report = Report(BEFORE, NOW, 0.95, dict.fromkeys(models, comparison), ["Left out."], [], **more)
    return since(report, models, {("tiny", "ties", True): 3, ("tiny", "ties", False): 7})


SAFETY = change("safety", 0.5, 0.44, real=True, up=["a"], down=["b", "c"], p_holm=0.0004)


def test_a_row_says_all_of_a_change_with_real_minus_signs() -> None:
    (row,) = told(SAFETY).headline
    assert row == Moved(
        model="tiny",
        variant="ties",
        rate="safety",
        before="50.0",
        after="44.0",
        difference="−6.0 [−7.0, −5.0]",
        p="<0.001",
        said=REAL[False],
        up=1,
        down=2,
        kind="harmful",
        now=3,
        then=7,
    )


def test_rates_that_people_decide_by_come_apart_and_real_changes_first() -> None:
    found = told(
        change("helpfulness", 0.5, 0.51),
        change("partial", 0.1, 0.3, real=True),
        SAFETY,
        change("reasoning", 0.2, 0.2),  # did not move
        change("utility", 0.3, 0.31),
        change("utility_letter", 0.3, 0.31),  # repeats it
    )
    assert [row.rate for row in found.headline] == ["safety", "helpfulness", "utility"]
    assert [(row.rate, row.said) for row in found.others] == [("partial", REAL[None])]
    assert found.headline[1].said == NOISE
    assert found.sentence == (
        "More than noise: safety of ties fell by 6.0 points. 4 of 5 rates moved; intervals are 95 %, paired by item."
    )
    assert (found.revision, found.remarks, found.paired) == ("v1", ["Left out."], True)


def test_a_rate_of_items_of_two_kinds_links_to_neither() -> None:
    (row,) = told(change("harm_rate", 0.2, 0.1, real=True)).headline
    assert row.kind is None and row.rate == "harm rate" and row.said == REAL[True]


def test_noise_and_what_nobody_sees_are_no_news() -> None:
    assert told(change("safety", 0.5, 0.51)).sentence.startswith("No headline number moved by more than noise. 1 of 1")
    unseen = change("safety", 0.50001, 0.50002, real=True)
    assert told(unseen).sentence.startswith("No headline number moved by more than noise.")
    still = told(change("safety", 0.5, 0.5))
    assert still.sentence.startswith("Nothing changed on any item. 0 of 1") and still.headline == []


def test_of_several_models_each_is_named_and_one_without_items_has_no_place() -> None:
    found = told(SAFETY, models=("tiny", "other"), unpaired="Unpaired.")
    assert "safety of ties fell by 6.0 points (tiny); safety of ties fell by 6.0 points (other)." in found.sentence
    assert [(row.model, row.now, row.then) for row in found.headline] == [("tiny", 3, 7), ("other", -1, -1)]
    assert found.sentence.endswith("2 of 2 rates moved; intervals are 95 %, unpaired.")
    assert not found.paired
