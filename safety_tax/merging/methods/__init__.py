"""Merge methods, one a file, named as in `params.yaml`: the recipe's type, with its parameters, formula and `merge`.

A new method is a file here with a subclass of `Recipe` whose `method` is the file's name; nothing else names it.
"""

import operator
import sys
from functools import reduce
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from safety_tax.core.registry import types_of
from safety_tax.merging.recipe import Recipe

RECIPE_TYPES = types_of(sys.modules[__name__], Recipe)  # type: ignore[type-abstract]
"""Method -> its type."""

if TYPE_CHECKING:
    AnyRecipe = Recipe
else:
    AnyRecipe = Annotated[reduce(operator.or_, RECIPE_TYPES.values()), Field(discriminator="method")]
