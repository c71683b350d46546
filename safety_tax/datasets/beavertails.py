"""BeaverTails (Ji et al. 2023, arXiv:2307.04657): prompts, each with several answers that people labelled.

The labels are of question and answer together. A prompt is taken as harmful when at least one of its answers in
the split was labelled unsafe: it drew harm from a model at least once. Prompts whose every answer was labelled safe
are left out. The group is the first category, in the order of the data, of the first unsafe answer.
"""

from pathlib import Path
from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.datasets.item import Item, normalised
from safety_tax.datasets.tables import read_table

PATTERNS = ("round0/*/test.jsonl.gz", "round0/*/test.jsonl.xz")


def read(source: Path) -> list[Item]:
    """Harmful prompts of the split or splits below `source`, each once after normalisation, in the data's order."""
    rows = read_table(source, PATTERNS, {"prompt": str, "is_safe": bool, "category": dict})
    harmful: dict[str, Item] = {}
    for row in rows:
        if not row["is_safe"]:
            text = row["prompt"].strip()
            harmful.setdefault(normalised(text), Item(group=first_category(row), text=text))
    return list(harmful.values())


def first_category(row: dict[str, Any]) -> str:
    """The first category that is set. Raises PipelineError when an unsafe answer has none."""
    for name, applies in row["category"].items():
        if applies:
            return str(name)
    raise PipelineError(
        f"Expected a category for each unsafe answer of BeaverTails, found none for {row['prompt'][:40]!r}; "
        "the dataset has changed: use the commit that params.yaml shipped with."
    )
