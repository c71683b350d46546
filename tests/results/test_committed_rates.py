"""Rates as Git holds them, of the workspace and of a commit; what cannot be read is left out."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from safety_tax.core.workspace import DETAIL
from safety_tax.results.comparison.committed_rates import ModelRates, read_rates
from safety_tax.results.comparison.revisions import Key, Revision
from safety_tax.results.statistics.intervals import Interval

KEYS: list[Key] = [("tiny", "base"), ("tiny", "ties")]
NUMBER = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}


def detail(**variants: Any) -> dict[str, Any]:
    return {"size": "quick", "confidence": 0.95, "variants": {name: {"rates": of} for name, of in variants.items()}}


def write(content: Any, name: str = "tiny") -> None:
    DETAIL.mkdir(parents=True, exist_ok=True)
    (DETAIL / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def workspace(*keys: Key) -> Revision:
    return Revision("workspace", None, list(keys or KEYS), {}, None, None, {})


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_variants_of_the_revision_have_their_rates_with_limits() -> None:
    write(detail(base={"safety": NUMBER}, ties={}, gone={"safety": NUMBER}))
    found = read_rates(workspace())
    assert found == {
        "tiny": ModelRates({"base": {"safety": (Interval(0.5, 0.4, 0.6), 100)}, "ties": {}}, "quick", 0.95)
    }


def test_a_commit_is_read_without_checking_it_out() -> None:
    def git(*arguments: str) -> str:
        told = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
        return told.stdout.strip()

    git("init", "--quiet")
    write(detail(base={"safety": NUMBER}))
    git("add", "--all")
    git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message", "results")
    write(detail(base={"safety": NUMBER | {"value": 0.6}}))
    commit = Revision("HEAD", git("rev-parse", "HEAD"), KEYS, {}, None, None, {})
    values = [read_rates(of)["tiny"].rates["base"]["safety"][0].estimate for of in (commit, workspace())]
    assert values == [0.5, 0.6]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        {"variants": {}},
        detail(base={"safety": {"value": 0.5}}),
        detail(base={"safety": 0.5}),
        detail(base={"safety": NUMBER | {"n": "many"}}),
        {**detail(base={}), "confidence": None},
    ],
)
def test_a_torn_file_and_another_schema_are_no_rates(content: Any) -> None:
    write(content)
    write(detail(base={"safety": NUMBER}), name="other")
    assert list(read_rates(workspace(*KEYS, ("other", "base"), ("absent", "base")))) == ["other"]
