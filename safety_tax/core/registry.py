"""Things that are one file each: every module of a package, found by its name."""

import importlib
import pkgutil
from types import ModuleType


def names_of(package: ModuleType) -> list[str]:
    """Names of a package's modules, sorted; none is imported."""
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.ispkg)


def modules_of(package: ModuleType) -> dict[str, ModuleType]:
    """Name -> module, in the order of their names."""
    return {name: importlib.import_module(f"{package.__name__}.{name}") for name in names_of(package)}
