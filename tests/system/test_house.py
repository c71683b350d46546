"""The house: which room may read which, no file too long, things of a kind one file each, and a test for every file."""

import ast
import re
import sys
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from conftest import ROOT

import safety_tax.judging.judges
import safety_tax.merging.methods
from safety_tax.core.registry import types_of
from safety_tax.judging.judge import JudgeSettings
from safety_tax.judging.judges import JUDGE_TYPES
from safety_tax.merging.methods import RECIPE_TYPES
from safety_tax.merging.recipe import Recipe

# A room imports from those before it in this list, and from no other.
ROOMS = (
    *("core", "settings", "sources", "tokens", "model_files", "datasets", "donors", "merging", "engine", "onnx"),
    *("dispatch", "judging", "params", "results", "checkup", "commands"),
)
# A reason is in the first lines of a file that is longer.
LONGEST = 300
# Files that no test names, and why none has to.
THROUGH_OTHERS = {
    "safety_tax.checkup.hub_access": "asks the Hub whose address was read on import: `doctor` in a process of its own",
    "safety_tax.sources.hub_dataset": "the same: stage `fetch_data` against a loopback Hub",
    "safety_tax.commands.doctor": "a command, run by its name",
    "safety_tax.commands.stage": "a command, run by its name",
    "safety_tax.donors.tuning": "what stage `tune` calls: the whole chain runs it, and tests of its parts name these",
    "safety_tax.model_files.faults": "a list",
    "safety_tax.model_files.registrations": "acts on import: `families` answers for it, and the families' exports",
    "safety_tax.results.report.vega": "one call of vl-convert, which takes seconds: tests of the page read its script",
}


def library() -> list[Path]:
    """Every file of the library and the stages."""
    return sorted(file for room in ("safety_tax", "stages") for file in (ROOT / room).rglob("*.py"))


class Said(NamedTuple):
    """What a file names of the library, and its texts."""

    imports: set[str]
    texts: set[str]


@cache
def said_by(file: Path) -> Said:
    """Modules that a file imports, at its top or inside a function, and every text in it."""
    found: set[str] = set()
    texts: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
    return Said({name for name in found if name.startswith(("safety_tax.", "stages."))}, texts)


def imports_of(file: Path) -> set[str]:
    """The library's modules that a file names, at its top or inside a function."""
    return said_by(file).imports


def test_no_import_runs_up() -> None:
    rooms = {path.name for path in (ROOT / "safety_tax").iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(ROOMS)
    up = []
    for file in library():
        parts = file.relative_to(ROOT).parts
        if parts[0] == "stages" or len(parts) == 2:  # stages and the command are above all rooms
            continue
        below = ROOMS[: ROOMS.index(parts[1]) + 1]
        for name in imports_of(file):
            room = name.split(".")[1]
            if name.startswith("stages") and parts[1] != "commands":
                up.append((file, name))
            if name.startswith("safety_tax") and room in ROOMS and room not in below:
                up.append((file, name))
    assert not up, up


def test_no_two_files_import_each_other() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for file in library():
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] |= {
            other for other in imports_of(file) if (ROOT / other.replace(".", "/")).with_suffix(".py").exists()
        }
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_every_file_of_the_library_is_named_by_a_test() -> None:
    """By an import; in a program that a test runs; a method or a judge by its name in params.yaml."""
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in library()
        if file.name != "__init__.py" and file.relative_to(ROOT).parts[0] == "safety_tax"
    }
    tests = [said_by(file) for file in (ROOT / "tests").rglob("test_*.py") if file != Path(__file__)]
    texts = {text for said in tests for text in said.texts}
    named = {name for said in tests for name in said.imports}
    named |= {name for text in texts for name in re.findall(r"\bsafety_tax(?:\.\w+)+", text)}
    named |= {of.__module__ for types in (RECIPE_TYPES, JUDGE_TYPES) for name, of in types.items() if name in texts}
    unnamed = sorted(modules - named - THROUGH_OTHERS.keys())
    assert not unnamed, "write a test that imports them, or whose params.yaml names the method or judge"
    assert sorted(THROUGH_OTHERS.keys() & named) + sorted(THROUGH_OTHERS.keys() - modules) == []  # no reason left over


def test_a_long_file_says_why() -> None:
    texts = {file: file.read_text(encoding="utf-8") for file in library()}
    long = {file: text for file, text in texts.items() if text.count("\n") > LONGEST}
    assert [file for file, text in long.items() if "Long, " not in text[:1500]] == []


@pytest.mark.parametrize(
    ("package", "base", "known", "content"),
    [
        (
            safety_tax.merging.methods,
            Recipe,
            RECIPE_TYPES,
            "from typing import Literal\n"
            "from safety_tax.core.arrays import Float32\n"
            "from safety_tax.merging.recipe import Recipe\n"
            "from safety_tax.merging.updates import Target, Update, weighted_sum\n"
            "class Doubled(Recipe):\n"
            "    method: Literal['doubled']\n"
            "    def merge(self, updates: list[Update], target: Target) -> Float32:\n"
            "        return weighted_sum(updates, 2.0)\n",
        ),
        (
            safety_tax.judging.judges,
            JudgeSettings,
            JUDGE_TYPES,
            "import datetime\n"
            "from typing import Literal\n"
            "from safety_tax.judging.judge import Judge, JudgeSettings, by_rules\n"
            "from safety_tax.settings.stages import Run\n"
            "class Doubled(JudgeSettings):\n"
            "    name: Literal['doubled']\n"
            "    def load(self, run: Run, date: datetime.date) -> Judge:\n"
            "        return by_rules\n",
        ),
    ],
)
def test_a_method_or_a_judge_is_one_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: ModuleType,
    base: type,
    known: dict[str, type],
    content: str,
) -> None:
    (tmp_path / "doubled.py").write_text(content, encoding="utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    try:
        assert set(types_of(package, base)) == {*known, "doubled"}
    finally:
        sys.modules.pop(f"{package.__name__}.doubled", None)
