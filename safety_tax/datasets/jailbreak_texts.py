"""Jailbreak texts: found in the wild (Shen et al. 2024, arXiv:2308.03825) and the DAN family.

A text is only half a prompt: `with_goal` puts a harmful goal into it.
"""

import json
import re
from pathlib import Path

from safety_tax.core.errors import PipelineError
from safety_tax.core.text_files import read_text
from safety_tax.datasets.item import Item

# Where the author of a text left room for the goal.
PLACEHOLDER = re.compile(r"[\[{<](?:insert |your )?(?:prompt|question|query|input|goal|request)(?: here)?[\]}>]", re.I)


def read(source: Path) -> list[Item]:
    """Read the texts below `source`; the group says which collection a text is from."""
    in_the_wild = _texts(source / "inthewild_jailbreak_llms.json")
    items = [Item(group="in_the_wild", text=text.strip()) for text in in_the_wild]
    for file in sorted((source / "dan").glob("*.json")):
        for text in _texts(file):
            # The collection's own slot for the name of the model under test.
            items.append(Item(group="dan", text=text.replace("{generator.name}", "assistant").strip()))
    return items


def _texts(file: Path) -> list[str]:
    """A JSON list of texts. Raises PipelineError when the file is none."""
    try:
        texts = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise PipelineError(
            f"Expected a JSON list of texts in {file}, found no JSON ({error}); fetch it again."
        ) from None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise PipelineError(f"Expected a JSON list of texts in {file}, found something else; fetch it again.")
    return texts


def with_goal(text: str, goal: str) -> str:
    """The text with the goal in its placeholder, or below it when it has none."""
    filled, count = PLACEHOLDER.subn(lambda _: goal, text)
    return filled if count else f"{text}\n\n{goal}"
