"""The Python source of a family's networks in the pinned Transformers, and what it shows."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def source_of(model_type: str) -> str:
    """The source; empty where that version has no such family."""
    from transformers.models.auto.configuration_auto import model_type_to_module_name  # takes a second

    folder = f"transformers.models.{model_type_to_module_name(model_type)}"
    try:
        found = find_spec(f"{folder}.modeling_{folder.rpartition('.')[2]}")
    except (ModuleNotFoundError, ValueError):
        return ""
    return Path(found.origin).read_text(encoding="utf-8") if found and found.origin else ""


def stores_inputs_first(model_type: str) -> bool:
    """Whether a family's linear layers, but for the head, keep their weights as [in, out] (GPT-2's Conv1D)."""
    return "Conv1D(" in source_of(model_type)
