"""MMLU (Hendrycks et al. 2021, arXiv:2009.03300) as `cais/mmlu`: the test split, and the dev split for few-shot."""

from pathlib import Path

from safety_tax.core.errors import PipelineError
from safety_tax.datasets.item import Item
from safety_tax.datasets.tables import read_table

COLUMNS = {"question": str, "subject": str, "choices": list, "answer": int}


def read(source: Path) -> list[Item]:
    """The test questions; the group is the subject, spelt with spaces as in the dataset `mmlu`."""
    return _questions(source, "all/test-*.parquet")


def read_shots(source: Path) -> list[Item]:
    """The dev questions, in the official order: five a subject."""
    return _questions(source, "all/dev-*.parquet")


def _questions(source: Path, pattern: str) -> list[Item]:
    items = []
    for row in read_table(source, (pattern,), COLUMNS):
        if len(row["choices"]) != 4 or row["answer"] not in range(4):
            raise PipelineError(
                f"Expected four choices and an answer from 0 to 3 in MMLU's {pattern}, found {len(row['choices'])} "
                f"choices and the answer {row['answer']} for {row['question'][:40]!r}; "
                "the dataset has changed: use the commit that params.yaml shipped with."
            )
        subject = row["subject"].replace("_", " ")
        items.append(Item(group=subject, text=row["question"], choices=row["choices"], gold=row["answer"]))
    return items
