"""Judges, one a file, named as in `params.yaml`: the settings' type, and how the judge is made from them.

A new judge is a file here with a subclass of `JudgeSettings` whose `name` is the file's name; nothing else names it.
What takes long to import is imported by `load`: every stage reads these types.
"""

import operator
import sys
from functools import reduce
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from safety_tax.core.registry import types_of
from safety_tax.judging.judge import JudgeSettings

JUDGE_TYPES = types_of(sys.modules[__name__], JudgeSettings)  # type: ignore[type-abstract]
"""Name -> its type."""

if TYPE_CHECKING:
    AnyJudge = JudgeSettings
else:
    AnyJudge = Annotated[reduce(operator.or_, JUDGE_TYPES.values()), Field(discriminator="name")]
