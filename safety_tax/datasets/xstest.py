"""XSTest (Röttger et al. 2024, arXiv:2308.01263): 250 safe prompts that sound dangerous, 200 unsafe contrasts."""

from pathlib import Path

from safety_tax.core.errors import PipelineError
from safety_tax.datasets.item import Item
from safety_tax.datasets.tables import read_table


def prompts_labelled(source: Path, label: str) -> list[Item]:
    """Prompts with the label `safe` or `unsafe`; the group is XSTest's type. Raises PipelineError on other labels."""
    rows = read_table(source, ("data/*.parquet",), {"prompt": str, "type": str, "label": str})
    other = {row["label"] for row in rows} - {"safe", "unsafe"}
    if other:
        raise PipelineError(
            f"Expected the labels 'safe' and 'unsafe' in XSTest, found {sorted(other)[0]!r}; "
            "the dataset has changed: use the commit that params.yaml shipped with."
        )
    return [Item(group=row["type"], text=row["prompt"].strip()) for row in rows if row["label"] == label]
