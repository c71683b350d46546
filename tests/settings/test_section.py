"""The values that several sections of params.yaml have: what each takes, and where its bounds lie."""

from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from safety_tax.core.errors import PipelineError
from safety_tax.settings.section import (
    MOST,
    Batch,
    Commit,
    Count,
    CountOrNone,
    Inside,
    OneOfEach,
    Positive,
    Price,
    Repository,
    Section,
    Seed,
    Sha256,
    Share,
    entry_of,
)


class Oven(Section):
    """A section for these tests."""

    degrees: Count
    share: Share = 0.5


@pytest.mark.parametrize(
    ("kind", "taken", "refused"),
    [
        (Sha256, ["0" * 64, "f" * 64], ["0" * 63, "0" * 65, "F" * 64, "g" * 64, "0" * 64 + "\n"]),
        (Commit, ["a1" * 20], ["main", "a1" * 19, "A1" * 20]),
        (Share, [0, 0.5, 1], [-0.01, 1.01]),
        (Count, [1, MOST], [0, MOST + 1, 1.5]),
        (CountOrNone, [0, MOST], [-1, MOST + 1]),
        (Batch, [1, 65_536], [0, 65_537]),
        (Seed, [0, 2**32 - 1], [-1, 2**32]),
        (Positive, [1e-300, 1e6], [0, 1.1e6]),
        (Price, [1e-6, 1e6], [0.9e-6, 1.1e6]),
        (Repository, ["a/b", "Org-1/model.v2_x"], ["a", "a/b/c", "/a", "a/", ".a/b", "a/../b", "a b/c"]),
        (Inside, ["a", "a/b.csv", "a/*.parquet", "..a/b"], ["", "/a", "../a", "a/../b", "a/..", "C:a", "a\\b", "a\0"]),
    ],
)
def test_a_value_ends_where_it_says(kind: Any, taken: list[Any], refused: list[Any]) -> None:
    reader = TypeAdapter(kind)
    assert [reader.validate_python(value) for value in taken] == taken
    for value in refused:
        with pytest.raises(ValidationError):
            reader.validate_python(value)


def test_a_path_that_leaves_its_source_is_shown() -> None:
    with pytest.raises(ValidationError, match=r"expected a plain path inside its source, found '\.\./up'"):
        TypeAdapter(Inside).validate_python("../up")


def test_a_list_has_each_entry_once() -> None:
    names = TypeAdapter(Annotated[list[str], OneOfEach])
    assert names.validate_python(["a", "A", "b"]) == ["a", "A", "b"]
    with pytest.raises(ValidationError, match="'a' twice in a list; name it once"):
        names.validate_python(["a", "b", "a"])


@pytest.mark.parametrize(
    "content", [{"degrees": 200, "degree": 1}, {}, {"degrees": 200, "share": float("nan")}, {"degrees": float("inf")}]
)
def test_a_section_takes_no_unknown_key_and_no_number_that_is_none(content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Oven.model_validate(content)


def test_a_section_stays_as_it_was_read() -> None:
    oven = Oven(degrees=200)
    with pytest.raises(ValidationError, match="frozen"):
        oven.degrees = 100  # type: ignore[misc]


def test_an_entry_is_found_by_its_name_or_the_near_ones_are_named() -> None:
    recipes = {"ties": 1, "dare_ties": 2}
    assert entry_of(recipes, "recipe", "recipes", "ties") == 1
    with pytest.raises(PipelineError) as raised:
        entry_of(recipes, "recipe", "recipes", "tie")
    assert str(raised.value) == (
        "Expected a recipe of `recipes` in params.yaml, found 'tie'; did you mean 'ties' or 'dare_ties'?"
    )
    with pytest.raises(PipelineError, match=r"found 'x'; known: none\.$"):
        entry_of({}, "recipe", "recipes", "x")
