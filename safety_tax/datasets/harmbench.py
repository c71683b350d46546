"""HarmBench (Mazeika et al. 2024, arXiv:2402.04249), the 200 standard behaviours."""

from pathlib import Path

from safety_tax.core.text_files import read_text
from safety_tax.datasets.item import Item


def read(source: Path) -> list[Item]:
    """Read one behaviour a line from the `harmbench` folder below `source`; all are one group."""
    lines = read_text(source / "harmbench" / "harmbench_prompts.txt").split("\n")
    return [Item(group="harmbench", text=line.strip()) for line in lines if line.strip()]
