"""Merge methods, one a file, named as in `params.yaml`: the recipe's type, with its parameters, formula and `merge`.

A new method is a file here with a subclass of `Recipe` whose `method` is the file's name; nothing else names it.
"""

import operator
import sys
from functools import reduce
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from safety_tax.core.registry import modules_of
from safety_tax.merging.recipe import Recipe


def _recipe_types() -> dict[str, type[Recipe]]:
    found: dict[str, type[Recipe]] = {}
    for name, module in modules_of(sys.modules[__name__]).items():
        of_module = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Recipe)]
        (found[name],) = (value for value in of_module if value.__module__ == module.__name__)
    return found


RECIPE_TYPES = _recipe_types()
"""Method -> its type."""

if TYPE_CHECKING:
    AnyRecipe = Recipe
else:
    AnyRecipe = Annotated[reduce(operator.or_, RECIPE_TYPES.values()), Field(discriminator="method")]
