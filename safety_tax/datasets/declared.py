"""A dataset that is a table, as its entry in `params.yaml` describes it: no code of its own."""

from pathlib import Path
from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import Kind
from safety_tax.datasets.item import Item
from safety_tax.datasets.tables import read_table
from safety_tax.settings.data import Table

LETTERS = "ABCDEFGHIJ"


def read_declared(source: Path, kind: Kind, table: Table, files: list[str]) -> list[Item]:
    """The rows that `where` keeps, as items; `files` are those of the source, where the table names none.

    Raises PipelineError when a file or a column is missing, a value has another type, or a right option is none.
    """
    columns: dict[str, type | tuple[type, ...]] = {table.text: str, table.group: str}
    columns |= dict.fromkeys(table.where, (str, int, bool))
    if kind == "choice":
        columns |= {table.choices: list} if isinstance(table.choices, str) else dict.fromkeys(table.choices or [], str)
        columns |= {table.gold or "": (str, int)}
    if kind == "problem":
        columns |= {table.answer or "": (str, int, float)}
    rows = read_table(source, table.files or files, columns)
    return [_item(kind, table, row) for row in rows if _is_kept(table, row)]


def _is_kept(table: Table, row: dict[str, Any]) -> bool:
    return all(str(row[column]) in map(str, values) for column, values in table.where.items())


def _item(kind: Kind, table: Table, row: dict[str, Any]) -> Item:
    item = Item(group=row[table.group], text=row[table.text].strip())
    if kind == "problem":
        return item._replace(answer=str(row[table.answer or ""]).strip())
    if kind != "choice":
        return item
    choices = row[table.choices] if isinstance(table.choices, str) else [row[name] for name in table.choices or []]
    return item._replace(choices=choices, gold=_place(row[table.gold or ""], len(choices), item.text))


def _place(gold: str | int, options: int, text: str) -> int:
    """A number from 0, or a letter; an empty cell, as where a test's answers are kept secret, is neither."""
    told = str(gold).strip().upper() if isinstance(gold, str) else str(int(gold))
    place = int(told) if told.isdecimal() else LETTERS.find(told) if len(told) == 1 else -1
    if not 0 <= place < options:
        raise PipelineError(
            f"Expected the right option as a number from 0 to {options - 1} or a letter, found {gold!r} for "
            f"{text[:40]!r}; correct the dataset's `table` in params.yaml."
        )
    return place
