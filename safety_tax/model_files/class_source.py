"""The Python source of a family's networks in the pinned Transformers, and what it shows."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def source_of(model_type: str) -> str:
    """The source; empty where that version has no such family."""
    file = _file(model_type.replace("-", "_"))
    if file is None:
        # Its table of the families whose module is called otherwise. Only for these: the import takes seconds.
        from transformers.models.auto.configuration_auto import model_type_to_module_name

        file = _file(model_type_to_module_name(model_type))
    return file.read_text(encoding="utf-8") if file else ""


def _file(module: str) -> Path | None:
    """Of a module below `transformers.models`, without importing anything."""
    parts, package = module.split("."), find_spec("transformers")
    if not all(part.isidentifier() for part in parts):
        return None
    folders = package.submodule_search_locations if package else None
    files = [Path(folder, "models", *parts, f"modeling_{parts[-1]}.py") for folder in folders or ()]
    return next((file for file in files if file.is_file()), None)


def stores_inputs_first(model_type: str) -> bool:
    """Whether a family's linear layers, but for the head, keep their weights as [in, out] (GPT-2's Conv1D)."""
    return "Conv1D(" in source_of(model_type)
