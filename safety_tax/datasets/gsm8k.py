"""GSM8K (Cobbe et al. 2021, arXiv:2110.14168): 1,319 grade-school problems in words, and 7,473 to learn from."""

from pathlib import Path

from safety_tax.datasets.item import Item
from safety_tax.datasets.solutions import EXAMPLES, problem
from safety_tax.datasets.tables import read_table

COLUMNS = {"question": str, "answer": str}


def read(source: Path) -> list[Item]:
    """The test problems. Their solutions are left out: nothing asks for them."""
    return [item._replace(solution=None) for item in _problems(source, "main/test-*.parquet")]


def read_shots(source: Path) -> list[Item]:
    """The first five problems of the train split, solved."""
    return _problems(source, "main/train-*.parquet")[:EXAMPLES]


def _problems(source: Path, pattern: str) -> list[Item]:
    return [problem("gsm8k", row["question"], row["answer"]) for row in read_table(source, (pattern,), COLUMNS)]
