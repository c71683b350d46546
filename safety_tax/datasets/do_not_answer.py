"""Do-Not-Answer (Wang et al. 2024, arXiv:2308.13387): 939 prompts that a responsible model declines."""

from pathlib import Path

from safety_tax.core.text_files import read_objects
from safety_tax.datasets.item import Item


def read(source: Path) -> list[Item]:
    """Read the five files of the `donotanswer` folder below `source`; a file is a risk area, and a group."""
    return [
        Item(group=file.stem, text=row["prompt"].strip())
        for file in sorted((source / "donotanswer").glob("*.jsonl"))
        for row in read_objects(file, ("prompt",))
    ]
