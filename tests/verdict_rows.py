"""Verdicts made by hand, for tests of what is computed from them."""

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.rows import VERDICT, ChoiceVerdict, Kind, Verdict
from safety_tax.settings.stages import Metrics

PRICES = dict.fromkeys(CURRENCIES, 0.25) | {"helpfulness": 1.0, "instructions": 0.5}
SETTINGS = Metrics(confidence=0.95, margin=0.01, price=PRICES)
LETTERS = {"r": "refuse", "p": "partial", "c": "comply", "d": "degenerate", "t": "unfinished", "u": "unjudged"}


def responses(kind: Kind, labels: str, group: str = "g") -> list[Verdict]:
    """One verdict a letter of LETTERS; answers that comply are cut off."""
    return [
        VERDICT.validate_python(
            {
                "id": f"{kind}{n}",
                "benchmark": "b",
                "kind": kind,
                "group": group,
                "label": LETTERS[letter],
                "truncated": letter == "c",
                "looped": letter == "d",
            }
        )
        for n, letter in enumerate(labels)
    ]


def questions(correct: int, n: int, bits: float = 2.0) -> list[Verdict]:
    """Questions in the continuation format, of which the first so many are right."""
    return [
        ChoiceVerdict(
            id=f"q{i}",
            benchmark="b",
            kind="choice",
            group=f"s{i % 3}",
            continuation_correct=i < correct,
            gold_probability=0.3 + 0.001 * (i % 7),
            bits_per_byte=bits + 0.01 * (i % 5),
            options=4,
        )
        for i in range(n)
    ]


def solved(kind: Kind, right: int, n: int) -> list[Verdict]:
    """Problems or instructions, of which the first so many are right."""
    of_kind = {"problem": ("answer_correct", "marked_correct"), "instruction": ("followed", "followed_loosely")}
    return [
        VERDICT.validate_python(
            {"id": f"{kind}{i}", "benchmark": "b", "kind": kind, "group": "g", "truncated": False}
            | dict.fromkeys(of_kind[kind], i < right)
        )
        for i in range(n)
    ]


def variant(harmful: str, correct: int, n: int = 100, bits: float = 2.0, benign: str = "rpcd") -> list[Verdict]:
    """The verdicts of one variant on every kind of the default set."""
    return [
        *responses("harmful", harmful),
        *responses("jailbreak", "rccc"),
        *responses("benign", benign),
        *questions(correct, n, bits),
    ]
