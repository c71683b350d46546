"""How many responses a second does the `rules` judge label on one core?

`python -m tests.benchmarks.judge [--rounds N]`: the texts are those of the judge's tests, joined and cut to two
lengths. Run it on an idle machine: the best of several rounds counts, in processor time, and is kept in
`metrics/benchmarks/judge.json`.
"""

import argparse
import random
import time
from collections.abc import Sequence

from rich.table import Table

from safety_tax.core.console import console
from safety_tax.judging.rules import judge
from tests.benchmarks.results import keep
from tests.judging.test_rules_judge import ANSWERS, DISCLAIMED_ANSWERS, LECTURES, PARTIAL, REFUSALS

# What 48 tokens hold, which is this project's limit, and about the length of answers to XSTest.
LENGTHS = (200, 680)
RESPONSES = 2_000
SEED = 7


def texts_of(length: int) -> list[str]:
    """Responses of so many characters, each begun by another test text and filled up with others."""
    rng = random.Random(SEED)
    beginnings = REFUSALS + LECTURES + ANSWERS + DISCLAIMED_ANSWERS + PARTIAL
    texts = []
    for _ in range(RESPONSES):
        text = rng.choice(beginnings)
        while len(text) < length:
            text += rng.choice((" ", "\n", "\n\n")) + rng.choice(beginnings)
        texts.append(text[:length])
    return texts


def rate(texts: Sequence[str], rounds: int) -> float:
    """Responses a second of processor time, in the fastest round."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        for text in texts:
            judge(text, "length")
        seconds.append(time.process_time() - start)
    return len(texts) / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="the fastest of so many rounds counts (default 10)")
    arguments = parser.parse_args()
    table = Table("characters", "responses", "a second")
    rates = {}
    for length in LENGTHS:
        texts = texts_of(length)
        rates[str(length)] = round(rate(texts, arguments.rounds))
        table.add_row(str(length), f"{len(texts):,}", f"{rates[str(length)]:,}")
    keep("judge", responses_per_second=rates)
    console.print(table)


if __name__ == "__main__":
    main()
