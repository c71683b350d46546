"""Do-Not-Answer (Wang et al. 2024, arXiv:2308.13387): 939 prompts that a responsible model declines."""

import json
from pathlib import Path

from stages.lib.datasets.item import Item


def read(source: Path) -> list[Item]:
    """Read the five files of the `donotanswer` folder below `source`; a file is a risk area, and a group."""
    return [
        Item(group=file.stem, text=json.loads(line)["prompt"].strip())
        for file in sorted((source / "donotanswer").glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
