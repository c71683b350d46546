"""Solutions of GSM8K's kind: reasoning, and after `####` the right final answer, a number."""

import re
from decimal import Decimal, InvalidOperation

from safety_tax.core.errors import PipelineError
from safety_tax.datasets.item import Item

EXAMPLES = 5
ANNOTATION = re.compile(r"<<[^<>\n]*>>")
"""A calculator's line inside a GSM8K solution, as in `3*4=<<3*4=12>>12`: an aid to training, never shown."""


def problem(dataset: str, question: str, solution: str) -> Item:
    """A problem with its right answer and its solution; all of a dataset are one group, which has its own examples.

    Raises PipelineError when the solution does not end in a number.
    """
    text = ANNOTATION.sub("", solution).strip()
    answer = text.rpartition("####")[2].replace(",", "").strip() if "####" in text else ""
    try:
        if not Decimal(answer).is_finite():
            raise InvalidOperation
    except InvalidOperation:
        raise PipelineError(
            f"Expected a number after '####' in each solution of {dataset}, found {answer[:40]!r} for "
            f"{question[:60]!r}; the dataset has changed: use the commit or version that this project shipped with."
        ) from None
    return Item(group=dataset, text=question.strip(), answer=answer, solution=text)
