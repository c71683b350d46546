"""The rates of a Git revision as Git itself holds them, in metrics/detail: there even where no verdicts are."""

import json
from contextlib import suppress
from typing import Any, NamedTuple

from safety_tax.core.workspace import DETAIL
from safety_tax.results.comparison.revisions import Revision, git
from safety_tax.results.statistics.intervals import Interval


class ModelRates(NamedTuple):
    """Of one measured model: its rates, and what they were measured with."""

    rates: dict[str, dict[str, tuple[Interval, int]]]
    """Variant -> rate -> its value with limits, and the number of its items."""
    size: str
    confidence: float


def read_rates(revision: Revision) -> dict[str, ModelRates]:
    """By model, of those whose file is there and has rates.

    An older revision may have another schema, so only the keys that matter here must be there.
    """
    found = {}
    for model in dict.fromkeys(model for model, _ in revision.keys):
        file = DETAIL / f"{model}.json"
        if revision.commit is None:
            text = file.read_bytes() if file.exists() else b""
        else:
            text = git("show", f"{revision.commit}:./{file.as_posix()}").stdout
        with suppress(ValueError, TypeError, KeyError, AttributeError):  # another schema, or a torn file
            detail = json.loads(text)
            rates = {
                str(variant): {rate: _rate(of) for rate, of in measured["rates"].items()}
                for variant, measured in detail["variants"].items()
                if (model, variant) in revision.keys
            }
            found[model] = ModelRates(rates, str(detail["size"]), float(detail["confidence"]))
    return found


def _rate(of: Any) -> tuple[Interval, int]:
    return Interval(float(of["value"]), float(of["low"]), float(of["high"])), int(of["n"])
