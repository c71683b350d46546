"""Packages that only some settings want: the optional extras of pyproject.toml."""

import importlib
from typing import Any

from safety_tax.core.errors import PipelineError


def from_extra(module: str, extra: str, purpose: str) -> Any:
    """A module of an optional extra. Raises PipelineError, with the command that installs it, where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PipelineError(
            f"Expected the package {module.split('.')[0]} for {purpose}, found it not installed ({error}); "
            f"run `pip install -e '.[{extra}]'`."
        ) from None
