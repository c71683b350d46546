"""Things that are one file each: every module of a package, found by its name."""

import importlib
import pkgutil
from types import ModuleType
from typing import TypeVar

Base = TypeVar("Base")


def names_of(package: ModuleType) -> list[str]:
    """Names of a package's modules, sorted; none is imported."""
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.ispkg)


def types_of(package: ModuleType, base: type[Base]) -> dict[str, type[Base]]:
    """Name -> the one subclass of `base` that the module of that name defines."""
    found: dict[str, type[Base]] = {}
    for name in names_of(package):
        module = importlib.import_module(f"{package.__name__}.{name}")
        types = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, base)]
        (found[name],) = (value for value in types if value.__module__ == module.__name__)
    return found
