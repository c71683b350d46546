"""Reading `params.yaml`; the first fault in it becomes one sentence."""

import datetime
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.text_files import read_text
from safety_tax.core.workspace import PARAMS_FILE, PIPELINE
from safety_tax.core.yaml_text import parse_yaml
from safety_tax.merging.methods import RECIPE_TYPES
from safety_tax.params.whole import Params
from safety_tax.settings.donors import DONOR_TAGS, Donor, GivenDonor
from safety_tax.settings.section import Section
from safety_tax.settings.stages import OwnNewTokens, OwnRun

CASE = re.compile(r"(?:literal|tagged-union)\[.*\]|(?:constrained-)?(?:int|float|str)")
"""Pydantic's names of a union's cases, in no file."""
WITH_DEFAULTS: dict[str, Mapping[str, type[Section]]] = {
    "recipes": RECIPE_TYPES,
    "donors": {"tuned": Donor, "given": GivenDonor},
    "catalog": {"max_new_tokens": OwnNewTokens, "run": OwnRun},
}
"""Types whose keys may be left out, by what stands two keys below a section's name, in the file or for pydantic."""
KINDS_OF_SOURCE = ("folder", "hub", "hub_dataset", "wheel", "generated")
"""Pydantic's names of the cases of a source, in no file: they are values of `kind`."""
WORDS = {
    "commit": "the 40 digits of a commit, as the repository's page lists them; a branch may move",
    "repository": "owner/name",
    "sha256": "64 digits from 0 to f",
    "requirement": "a package with its version, as name==1.2",
}
"""What is asked for where a key's pattern is not met."""
A_SOURCE = "keys with values, as {kind: folder, path: ../models/mine}"
NOT_TEXT = (bool, int, float, datetime.date)
"""What YAML makes of words without quotes."""


def load_params() -> Params:
    """Read and validate `params.yaml` of the current folder.

    Raises PipelineError when the folder is not the project's root, or the file is not as typed above.
    """
    return validated(read_params())


def read_params() -> Any:
    """The content of `params.yaml` of the current folder. Raises PipelineError when there is none, or it is no YAML."""
    if not PARAMS_FILE.exists() or not PIPELINE.exists():
        raise PipelineError(
            f"Expected to run in the project's root, found no {PARAMS_FILE} and dvc.yaml in {Path.cwd()}; "
            "change to the folder that holds them."
        )
    try:
        return parse_yaml(read_text(PARAMS_FILE))
    except ValueError as error:
        raise PipelineError(f"Expected {PARAMS_FILE} to be YAML, found {error}; mend that line.") from None


def validated(content: Any) -> Params:
    """The typed params. Raises PipelineError, one sentence on the first fault."""
    _require_text_keys(content, ())
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise PipelineError(_sentence(error)) from None
    _require_no_switches(content, params, ())
    return params


def _require_text_keys(content: Any, path: tuple[str, ...]) -> None:
    """Every key is text: YAML makes other things of a bare `on`, `no`, `1.0` or `2024-01-01`."""
    if not isinstance(content, dict) or len(path) > 8:
        return
    for key, value in content.items():
        if not isinstance(key, str):
            where = ".".join(path) or "its top"
            raise PipelineError(
                f"Expected only text as keys in {PARAMS_FILE}, found {reprlib.repr(key)} at {where}: {_as_yaml(key)}"
            )
        _require_text_keys(value, (*path, key))


def _require_no_switches(content: Any, typed: Any, path: tuple[str, ...]) -> None:
    """A number is no `on` or `off`, which pydantic would take for 1 and 0."""
    if isinstance(content, bool) and not isinstance(typed, bool):
        raise PipelineError(
            f"Expected a number at {'.'.join(path)} in {PARAMS_FILE}, found {content}; correct that value."
        )
    if isinstance(content, dict):
        for key, value in content.items():
            _require_no_switches(value, typed[key] if isinstance(typed, dict) else getattr(typed, key), (*path, key))
    elif isinstance(content, list):
        for place, (value, one) in enumerate(zip(content, typed, strict=True)):
            _require_no_switches(value, one, (*path, str(place)))


def _as_yaml(found: Any) -> str:
    """Why a word became another thing, and what to do."""
    if isinstance(found, bool):
        words = "`on`, `yes` and `true`" if found else "`off`, `no` and `false`"
        return f"YAML reads {words} as {str(found).lower()}; put the word in quotes."
    return f"YAML reads it as a {'null' if found is None else type(found).__name__}, not as text; put it in quotes."


def _sentence(error: ValidationError) -> str:
    """The first fault of a params file, in one sentence."""
    problems = error.errors()
    # A misspelt key shows up twice, as an extra and as a missing one: the extra says more.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    if problem["type"] == "literal_error" and type(problem["input"]) is int:  # a number or a word: the bound says more
        others = [p for p in problems if p["loc"][:-1] == problem["loc"][:-1] and p["type"] != "literal_error"]
        problem = next(iter(others), problem)
    if problem["type"] == "string_type" and isinstance(problem["input"], dict):  # a name or a source: a source it is
        above = problem["loc"][:-1]
        problem = next((p for p in problems if p is not problem and p["loc"][: len(above)] == above), problem)
    parts = [str(part) for part in problem["loc"] if not CASE.fullmatch(str(part))]
    if parts[:1] == ["donors"]:
        parts = parts[:2] + [part for part in parts[2:] if part not in DONOR_TAGS]
    if parts[:1] == ["recipes"] and len(parts) > 2 and parts[2] in RECIPE_TYPES:
        del parts[2]  # the method, by which the type was picked
        parts = parts[:2] + [part for part in parts[2:] if part not in DONOR_TAGS]
    of_source = next((place for place, part in enumerate(parts) if part in ("source", "names")), len(parts))
    parts = [part for place, part in enumerate(parts) if place <= of_source or part not in KINDS_OF_SOURCE]
    where = ".".join(parts)
    more = f" ({len(problems) - 1} more after it)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        known = [str(p["loc"][-1]) for p in problems if p["type"] == "missing"]
        section, _, which, *_ = (*map(str, problem["loc"]), "", "")
        if which in WITH_DEFAULTS.get(section, {}):  # a key that is left out is not missing there
            known = list(WITH_DEFAULTS[section][which].model_fields)
        hint = f" {did_you_mean(str(problem['loc'][-1]), known)}" if known else " remove it."
        return f"Expected only known keys in {PARAMS_FILE}, found {where};{hint}"
    if problem["type"] == "missing":
        return f"Expected the key {where} in {PARAMS_FILE}, found none; add it{more}."
    if problem["type"] == "union_tag_not_found":
        key = str(problem["ctx"]["discriminator"]).strip("'")
        if isinstance(problem["input"], dict):
            return f"Expected the key {where}.{key} in {PARAMS_FILE}, found none; add it{more}."
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        known = [tag.strip("' ") for tag in str(context["expected_tags"]).split(",")]
        what = str(context["discriminator"]).strip("'")
        return f"Expected a known {what} at {where} in {PARAMS_FILE}, found {with_hint(context['tag'], known)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "model_type":
        message = f"keys with values: {', '.join(_keys_of(problem['ctx']['class_name']))}"
    if problem["type"] in ("dict_type", "model_attributes_type"):
        message = A_SOURCE if parts[-1:] == ["source"] else "keys with values"
    if problem["type"] == "string_pattern_mismatch":
        message = WORDS.get(parts[-1], message)
    if problem["type"] == "value_error":
        at, end = f" at {where}" if where else "", "" if message[-1] == "?" and not more else "."
        return f"Expected {PARAMS_FILE} to hold together, found{at}: {message.rstrip('.')}{more}{end}"
    found = problem["input"]
    if problem["type"] == "string_type" and (found is None or isinstance(found, NOT_TEXT)):
        return f"Expected text at {where} in {PARAMS_FILE}, found {reprlib.repr(found)}: {_as_yaml(found)}"
    # Cut short: aliases let a few lines of YAML stand for gigabytes.
    shown = reprlib.repr(found)
    place = where or "its top"
    return f"Expected at {place} in {PARAMS_FILE}: {message.lower()}; found {shown}; correct that value{more}."


def _keys_of(section: str) -> list[str]:
    """The keys of a section's type, by its name."""
    waiting: list[type[Section]] = [Section]
    while waiting:
        of = waiting.pop()
        if of.__name__ == section:
            return list(of.model_fields)
        waiting += of.__subclasses__()
    return []


def with_hint(name: str, known: list[str]) -> str:
    """`'tis', did you mean 'ties'?`"""
    return f"{name!r}; {did_you_mean(name, known)}"
