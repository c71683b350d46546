"""A currency is one entry: its numbers and its words follow from it."""

import pytest
from conftest import real_params
from sample_results import SHARES, verdicts_of

from safety_tax.core.currencies import CURRENCIES, Currency, declared
from safety_tax.params import Params
from safety_tax.results.report.view import view_of
from safety_tax.results.tables import model_results
from safety_tax.results.words import how_to_read

COMPANY = Currency(
    kind="jailbreak",
    counts=lambda _, verdict: verdict.labelled("comply"),
    measure="company",
    loss="company_loss",
    tax="company_tax",
    status="company_status",
    column="company_tax",
    noun="playing along",
    items="role plays",
    does="plays along in {} of 100 role plays",
    done="played",
)


def test_another_entry_is_measured_taxed_and_spoken_of_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CURRENCIES, "company", COMPANY)
    params = real_params()
    params["metrics"]["price"]["company"] = 2.0
    params["recipes"] = {"ties": params["recipes"]["ties"]}
    verdicts = {name: verdicts_of(name, SHARES[name]) for name in ("base", "ties")}
    results = model_results("smollm2_135m", Params.model_validate(params), verdicts, {}, tells_harm=False)

    bought = results.variants["ties"].currencies["company"]
    assert bought.paid is not None
    assert (bought.value.value, bought.paid.loss.value) == (0.7, pytest.approx(0.2))
    assert bought.paid.tax.value == pytest.approx(0.2 / (0.64 - 0.3), abs=0.01)
    assert results.variants["ties"].flat()["company_tax"] == bought.paid.tax.value
    assert "playing along of 40 role plays played" in how_to_read(results)
    view = view_of(results, {}, [], {}, [])
    assert "role plays played" in str(view)


def test_two_currencies_on_the_same_items_are_refused() -> None:
    """Net benefit would take their losses for independent."""
    with pytest.raises(ValueError, match="found two on jailbreak"):
        declared(company=COMPANY, courtesy=COMPANY._replace(measure="courtesy"))
    with pytest.raises(ValueError, match="found two on harmful"):
        declared(company=COMPANY._replace(kind="harmful"))
