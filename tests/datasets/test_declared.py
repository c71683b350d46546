"""A table that params.yaml describes, read without code of its own: which rows, and what of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from safety_tax.core.errors import PipelineError
from safety_tax.datasets.declared import read_declared
from safety_tax.datasets.item import Item
from safety_tax.settings.data import Table

CHOICE: dict[str, Any] = {"text": "q", "group": "g", "choices": "options", "gold": "right"}


def written(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> Path:
    """A source with one file."""
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_the_rows_that_where_keeps_are_items(tmp_path: Path) -> None:
    rows = [
        {"q": " a ", "g": "x", "level": 1, "safe": True},
        {"q": "b", "g": "y", "level": 2, "safe": True},
        {"q": "c", "g": "y", "level": 1, "safe": False},
    ]
    source = written(tmp_path, *rows)
    table = Table(text="q", group="g", where={"level": [1, "3"], "safe": [True]})
    assert read_declared(source, "harmful", table, ["*.jsonl"]) == [Item(group="x", text="a")]
    # CSV knows texts alone: 1 is "1", True is "True".
    (tmp_path / "rows.csv").write_text("q,g,level,safe\na,x,1,True\nb,y,2,True\n", encoding="utf-8")
    assert read_declared(source, "harmful", table, ["*.csv"]) == [Item(group="x", text="a")]


@pytest.mark.parametrize(("gold", "place"), [(0, 0), (2, 2), ("1", 1), (" b ", 1), ("C", 2)])
def test_the_right_option_is_a_number_from_0_or_a_letter(gold: str | int, place: int, tmp_path: Path) -> None:
    source = written(tmp_path, {"q": "Which?", "g": "x", "options": ["p", "q", "r"], "right": gold})
    (item,) = read_declared(source, "choice", Table(**CHOICE), ["*"])
    assert item == Item(group="x", text="Which?", choices=["p", "q", "r"], gold=place)


def test_options_may_have_a_column_each(tmp_path: Path) -> None:
    source = written(tmp_path, {"q": "Which?", "g": "x", "one": "p", "two": "q", "right": "b"})
    table = Table(**CHOICE | {"choices": ["two", "one"]})
    assert read_declared(source, "choice", table, ["*"]) == [Item(group="x", text="Which?", choices=["q", "p"], gold=1)]


@pytest.mark.parametrize("gold", [3, -1, "D", "3", "", " ", "AB", "-1", "²"])
def test_an_option_that_is_not_there_is_refused(gold: str | int, tmp_path: Path) -> None:
    source = written(tmp_path, {"q": "Which?", "g": "x", "options": ["p", "q", "r"], "right": gold})
    with pytest.raises(PipelineError) as raised:
        read_declared(source, "choice", Table(**CHOICE), ["*"])
    assert str(raised.value) == (
        f"Expected the right option as a number from 0 to 2 or a letter, found {gold!r} for 'Which?'; correct the "
        "dataset's `table` in params.yaml."
    )


@pytest.mark.parametrize(("answer", "read"), [(7, "7"), (" 7 ", "7"), (7.5, "7.5")])
def test_a_problems_number_is_read_as_text(answer: Any, read: str, tmp_path: Path) -> None:
    source = written(tmp_path, {"q": "How many?", "g": "x", "n": answer})
    (item,) = read_declared(source, "problem", Table(text="q", group="g", answer="n"), ["*"])
    assert item == Item(group="x", text="How many?", answer=read)


def test_the_tables_own_files_come_before_the_sources(tmp_path: Path) -> None:
    written(tmp_path, {"q": "other", "g": "x"}, name="other.jsonl")
    source = written(tmp_path, {"q": "own", "g": "x"}, name="own.jsonl")
    table = Table(text="q", group="g", files=["own.jsonl"])
    assert [item.text for item in read_declared(source, "benign", table, ["other.jsonl"])] == ["own"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"g": "x"}, "Expected the column 'q' in rows.jsonl, found only 'g'"),
        (
            {"q": 1, "g": "x", "options": ["p", "q"], "right": 0},
            "Expected str in the column 'q' of rows.jsonl, found 1 in row 1",
        ),
        ({"q": "a", "g": "x", "options": "p", "right": 0}, "Expected list in the column 'options'"),
    ],
)
def test_a_column_that_is_not_as_described_is_named(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=words):
        read_declared(written(tmp_path, row), "choice", Table(**CHOICE), ["*"])
