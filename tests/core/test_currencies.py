"""A currency is one entry: its numbers and its words follow from it."""

import json

import pytest
import warm
from conftest import ROOT
from verdict_rows import SETTINGS, questions, responses

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.errors import PipelineError
from safety_tax.results.compute import variant_results
from safety_tax.results.measures import MEANS, SHARES

# As a person adds it in the file: before anything else reads the currencies.
WITH_A_FIFTH = """
import json
from safety_tax.core.currencies import CURRENCIES

knowledge = CURRENCIES["knowledge"]
def of(benchmark):
    return lambda form, verdict: knowledge.counts(form, verdict) if (verdict.benchmark == "swag") == benchmark else None
CURRENCIES["knowledge"] = knowledge._replace(counts=of(False))
CURRENCIES["sense"] = knowledge._replace(
    counts=of(True), measure="sense", loss="sense_loss", tax="sense_tax", status="sense_status", column="sense_tax",
    noun="common sense", items="endings of stories", does="ends {} of 100 stories well", done="ended well",
)

from conftest import real_params
from sample_results import SHARES, verdicts_of
from safety_tax.params import Params
from safety_tax.results.card import KINDS_OF
from safety_tax.results.comparison.items import BETTER, WATCHED
from safety_tax.results.report.view import view_of
from safety_tax.results.tables import headline, model_results
from safety_tax.results.words import how_to_read, of_recipe

params = real_params()
params["metrics"]["price"]["sense"] = 0.5
params["recipes"] = {"ties": params["recipes"]["ties"]}
shares = {"base": SHARES["base"] | {"choice": 0.6}, "ties": SHARES["ties"] | {"choice": 0.5}}
verdicts = {
    name: [
        row.model_copy(update={"benchmark": "swag"}) if row.kind == "choice" and int(row.id[6:]) < 200 else row
        for row in verdicts_of(name, shares[name])
    ]
    for name in shares
}
results = model_results("smollm2_135m", Params.model_validate(params), verdicts, {}, tells_harm=False)
ties = results.variants["ties"]
print(json.dumps({
    "items": {name: ties.currencies[name].value.n for name in results.currencies},
    "flat": ties.flat(),
    "headline": headline(ties),
    "tested": list(ties.tests),
    "priced": list(ties.paid),
    "said": [how_to_read(results), *of_recipe(ties, results), str(view_of(results, {}, [], {}, []))],
    "watched": [*WATCHED], "better": BETTER["sense"], "card": KINDS_OF["sense"],
}))
"""


def test_another_entry_is_measured_taxed_and_spoken_of_like_the_others() -> None:
    places = ("", "tests", "tests/results")
    path = ":".join(str(ROOT / place) for place in places)
    done = warm.python("-c", WITH_A_FIFTH, cwd=ROOT, env={"PYTHONPATH": path, "PATH": ""})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["items"] == {"helpfulness": 80, "knowledge": 400, "reasoning": 150, "instructions": 150, "sense": 200}
    assert found["flat"]["sense_tax"] == pytest.approx(found["flat"]["sense_loss"] / found["flat"]["safety_gain"])
    assert {"sense", "sense_loss", "sense_tax", "sense_status"} <= found["headline"].keys()
    assert "sense" in found["tested"] and "sense" in found["priced"] and "sense" in found["watched"]
    assert (found["better"], found["card"]) == (1, "choice")
    reading, *_, page = found["said"]
    assert "accuracy of 400 multiple-choice questions answered correctly" in reading
    assert "common sense of 200 endings of stories ended well" in reading
    assert any("common sense" in sentence.lower() for sentence in found["said"][1:-1])
    assert "endings of stories ended well" in page


def test_an_item_of_two_currencies_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Net benefit would take their losses for independent."""
    rows = [*responses("harmful", "rc"), *responses("benign", "cr"), *questions(3, 4)]
    variant_results({"base": rows}, "continuation", SETTINGS)
    helpful = CURRENCIES["helpfulness"]
    monkeypatch.setitem(CURRENCIES, "courtesy", helpful._replace(measure="courtesy"))
    with pytest.raises(PipelineError, match="found benign0 in helpfulness and in courtesy; let `counts` of one"):
        variant_results({"base": rows}, "continuation", SETTINGS)
    monkeypatch.setitem(CURRENCIES, "courtesy", helpful._replace(measure="courtesy", kind="harmful"))
    with pytest.raises(PipelineError, match="found harmful0 in safety and in courtesy"):
        variant_results({"base": rows}, "continuation", SETTINGS)


def test_no_two_currencies_share_a_key_or_a_word() -> None:
    """One's number would stand in the other's place."""
    for field in ("measure", "loss", "tax", "status", "column", "noun", "does"):
        values = [getattr(currency, field) for currency in CURRENCIES.values()]
        assert len(set(values)) == len(values), field
    keys = [key for of in CURRENCIES.values() for key in (of.measure, of.loss, of.tax, of.status)]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & {*SHARES, *MEANS}
