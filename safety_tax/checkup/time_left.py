"""How long the stages that are still to run will take, by what was measured on this machine."""

import json
import time
from collections.abc import Iterable, Mapping
from statistics import median
from typing import NamedTuple

from safety_tax.checkup.progress import StageState
from safety_tax.core.clock import Record
from safety_tax.core.workspace import EXPECTED

ALIKE = {"baseline": "infer", "judge_base": "judge"}
"""Stages that do the same to the base as these to a recipe."""


class TimeLeft(NamedTuple):
    """Seconds; `unknown` counts the stages that nothing is known of."""

    seconds: float
    unknown: int


def read_expected(size: str) -> dict[str, dict[str, float]]:
    """What `safety-tax doctor` expected for this size: model -> stage -> seconds; empty where it did not run."""
    try:
        content = json.loads(EXPECTED.read_bytes())
        models = {name: dict(of) for name, of in content.items() if name != "size"}
        return models if content["size"] == size else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def expected_seconds(states: Iterable[StageState], doctors: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Stage -> seconds: of its own last run, else of its like for the model, else of its like, else as doctor says.

    A stage of which nothing is known is absent.
    """
    states = list(states)
    ran = {
        of.name: of.record.seconds for of in states if of.record and of.record.seconds is not None and of.same_amount
    }
    of_model: dict[tuple[str, str], list[float]] = {}
    of_all: dict[str, list[float]] = {}
    for name, seconds in ran.items():
        of_model.setdefault((like(name), model_of(name, doctors)), []).append(seconds)
        of_all.setdefault(like(name), []).append(seconds)
    found = {}
    for of in states:
        kind, model = like(of.name), model_of(of.name, doctors)
        if of.name in ran:
            found[of.name] = ran[of.name]
        elif (kind, model) in of_model:
            found[of.name] = median(of_model[kind, model])
        elif of.verb in doctors.get(model, {}):
            found[of.name] = doctors[model][of.verb]
        elif kind in of_all:
            found[of.name] = median(of_all[kind])
    return found


def like(name: str) -> str:
    """What a stage does, whether to the base or to a recipe."""
    verb = name.split("@")[0]
    return ALIKE.get(verb, verb)


def model_of(name: str, models: Iterable[str]) -> str:
    """The model of a stage `verb@model-variant`; empty for one of no model. `models` is looked at where names clash."""
    _, _, rest = name.partition("@")
    return rest if rest in models else rest.split("-")[0]


def time_left(states: Iterable[StageState], expected: Mapping[str, float], now: float | None = None) -> TimeLeft:
    """Of all stages that are not done."""
    now = time.time() if now is None else now
    seconds, unknown = 0.0, 0
    for of in states:
        if of.state == "done":
            continue
        left = (
            left_of_running(of.record, expected.get(of.name), now) if of.state == "running" else expected.get(of.name)
        )
        seconds += left or 0.0
        unknown += left is None
    return TimeLeft(seconds, unknown)


def left_of_running(record: Record | None, expected: float | None, now: float) -> float | None:
    """The longer of what is left of the expected time, and of what the progress bar counts at its rate up to now."""
    assert record is not None
    left = None if expected is None else max(0.0, expected - (now - record.started))
    counted = record.done - record.taken_up
    if record.part is not None and counted > 0:
        rate = counted / max(now - record.part_started, 1e-3)
        left = max(left or 0.0, (record.total - record.done) / rate)
    return left
