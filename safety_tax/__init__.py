"""What safety costs when language models are merged: the library behind the stages and the command `safety-tax`.

In a notebook:

>>> from safety_tax import load_results
>>> load_results("smollm2_135m")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safety_tax.core.errors import PipelineError
    from safety_tax.results.loading import Drawing, figure, load_answers, load_results, load_verdicts

__all__ = ["Drawing", "PipelineError", "figure", "load_answers", "load_results", "load_verdicts"]


def __getattr__(name: str) -> object:
    # pandas takes a second to import, and no stage needs it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "safety_tax.core.errors" if name == "PipelineError" else "safety_tax.results.loading"
    return getattr(import_module(module), name)
