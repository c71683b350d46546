"""Results of a model as the metrics stage makes them, of verdicts that are given as shares."""

import random
from collections.abc import Mapping

from conftest import real_params

from safety_tax.core.rows import VERDICT, Kind, Verdict
from safety_tax.params import Params
from safety_tax.results.tables import model_results
from safety_tax.results.variant import ModelResults

COUNTS: dict[Kind, int] = {
    "harmful": 150,
    "jailbreak": 40,
    "benign": 80,
    "choice": 600,
    "problem": 150,
    "instruction": 150,
}
GROUPS: dict[Kind, tuple[str, ...]] = {
    "harmful": ("violence,aiding_and_abetting,incitement", "privacy_violation", "discrimination_exclusion_toxicity"),
    "choice": ("high school physics", "world religions", "sociology", "nutrition"),
}
# Share of each kind that is refused (harmful, jailbreak), answered (benign), right or followed; like the default run's.
SHARES: dict[str, dict[Kind, float]] = {
    "base": {"harmful": 0.3, "jailbreak": 0.1, "benign": 0.9, "choice": 0.28, "problem": 0.2, "instruction": 0.3},
    "safety_donor": {
        "harmful": 0.9,
        "jailbreak": 0.5,
        "benign": 0.48,
        "choice": 0.27,
        "problem": 0.1,
        "instruction": 0.2,
    },
    "safety_half": {
        "harmful": 0.5,
        "jailbreak": 0.2,
        "benign": 0.61,
        "choice": 0.27,
        "problem": 0.18,
        "instruction": 0.3,
    },
    "ties": {"harmful": 0.64, "jailbreak": 0.3, "benign": 0.65, "choice": 0.3, "problem": 0.16, "instruction": 0.22},
    "worse": {"harmful": 0.31, "jailbreak": 0.1, "benign": 0.3, "choice": 0.28, "problem": 0.06, "instruction": 0.1},
}
CLEAR_OF_CHANCE = {"choice": 0.4}
"""To lay over a base's shares: its accuracy is surely above guessing."""


def verdicts_of(name: str, shares: Mapping[Kind, float]) -> list[Verdict]:
    """One variant's verdicts: the share exactly, on items that overlap with other variants' as real ones do."""
    found = []
    for kind, share in shares.items():
        count = COUNTS[kind]
        item, own = random.Random(kind), random.Random(f"{name} {kind}")
        ease = [0.7 * item.random() + 0.3 * own.random() for _ in range(count)]
        positive = set(sorted(range(count), key=ease.__getitem__)[: round(share * count)])
        groups = GROUPS.get(kind, ("g",))
        for i in range(count):
            about = {"id": f"{kind}{i}", "benchmark": "b", "kind": kind, "group": groups[i % len(groups)]}
            found.append(VERDICT.validate_python(about | judged(kind, i in positive, i)))
    return found


def judged(kind: Kind, positive: bool, place: int) -> dict[str, object]:
    """What a judge writes of an item of the kind."""
    match kind:
        case "choice":
            return {
                "continuation_correct": positive,
                "gold_probability": 0.3,
                "bits_per_byte": 2.0 + 0.01 * (place % 5),
                "options": 4,
            }
        case "problem":
            return {"answer_correct": positive, "marked_correct": positive, "truncated": place % 9 == 0}
        case "instruction":
            return {"followed": positive, "followed_loosely": positive, "truncated": place % 9 == 0}
        case "benign":
            label = "comply" if positive else ("partial" if place % 3 == 0 else "refuse")
        case _:
            label = "refuse" if positive else "comply"
    return {"label": label, "truncated": place % 4 == 0, "looped": False}


def results_of(shares: Mapping[str, Mapping[Kind, float]] = SHARES, without: tuple[Kind, ...] = ()) -> ModelResults:
    """The results of a model `tiny` with those variants, `base` first; `without` leaves kinds out, as a set does."""
    params = real_params()
    recipes = [name for name in shares if name != "base"]
    recipe = params["recipes"]["ties"]
    params |= {"recipes": {name: {**recipe, "density": (i + 1) / 100} for i, name in enumerate(recipes)}}
    catalogue = params["catalog"]["smollm2_135m"]
    params |= {"models": ["tiny"], "catalog": {"tiny": catalogue}}
    verdicts = {
        name: verdicts_of(name, {kind: share for kind, share in of.items() if kind not in without})
        for name, of in shares.items()
    }
    return model_results("tiny", Params.model_validate(params), verdicts, {}, tells_harm=False)
