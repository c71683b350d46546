"""Jailbreak texts: found in the wild (Shen et al. 2024, arXiv:2308.03825) and the DAN family.

A text is only half a prompt: `with_goal` puts a harmful goal into it.
"""

import json
import re
from pathlib import Path

from stages.lib.datasets.item import Item

# Where the author of a text left room for the goal.
PLACEHOLDER = re.compile(r"[\[{<](?:insert |your )?(?:prompt|question|query|input|goal|request)(?: here)?[\]}>]", re.I)


def read(source: Path) -> list[Item]:
    """Read the texts below `source`; the group says which collection a text is from."""
    in_the_wild = json.loads((source / "inthewild_jailbreak_llms.json").read_text(encoding="utf-8"))
    items = [Item(group="in_the_wild", text=text.strip()) for text in in_the_wild]
    for file in sorted((source / "dan").glob("*.json")):
        for text in json.loads(file.read_text(encoding="utf-8")):
            # The collection's own slot for the name of the model under test.
            items.append(Item(group="dan", text=text.replace("{generator.name}", "assistant").strip()))
    return items


def with_goal(text: str, goal: str) -> str:
    """The text with the goal in its placeholder, or below it when it has none."""
    filled, count = PLACEHOLDER.subn(lambda _: goal, text)
    return filled if count else f"{text}\n\n{goal}"
