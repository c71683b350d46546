"""Datasets, and how many of their items are asked."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from safety_tax.core.rows import Kind
from safety_tax.settings.section import MOST, Count, CountOrNone, Inside, Section, Seed, Share
from safety_tax.settings.sources import DatasetSource, HubDatasetSource


class SampleSizes(Section):
    """How many items of each kind; `other_format` choice items are also scored in the other format.

    A mean over the choice items of a format needs two of them for its interval.
    """

    harmful: Count | Literal["all"]
    jailbreak: CountOrNone | Literal["all"]
    benign: Count | Literal["all"]
    problem: Count | Literal["all"]
    instruction: Count | Literal["all"]
    choice: Annotated[int, Field(ge=2, le=MOST)] | Literal["all"]
    other_format: Annotated[int, Field(ge=2, le=MOST)] | Literal[0, "all"]
    choice_characters: Count | Literal["all"] = "all"
    """Choice items whose question and options have more characters together are left out."""


class Table(Section):
    """A table whose rows are items: which columns hold what."""

    text: str
    """Column of the prompt, the question or the problem."""
    group: str
    """Column of the category or subject, by which items are sampled and intervals stratified."""
    where: dict[str, Annotated[list[str | int | bool], Field(min_length=1)]] = Field(default_factory=dict)
    """By column, the values of the rows that are kept."""
    files: Annotated[list[Inside], Field(min_length=1)] | None = None
    """Paths in the source, `*` allowed; for `hub_dataset` its own `files` when left out."""
    choices: str | Annotated[list[str], Field(min_length=2)] | None = None
    """Of questions: the column that holds the list of options, or a column for each option."""
    gold: str | None = None
    """Of questions: column of the right option's place, counted from 0, or of its letter."""
    answer: str | None = None
    """Of problems: column of the right number."""


class Dataset(Section):
    """One dataset: which kind of items it gives, and where the bytes come from.

    `table` says how to read it; without one, a file of its name in `safety_tax/datasets/` does.
    """

    kind: Kind
    source: DatasetSource
    table: Table | None = None

    @model_validator(mode="after")
    def _has_columns(self) -> "Dataset":
        if self.table is None:
            return self
        if self.kind == "instruction":
            raise ValueError("a table cannot describe instructions, whose checks are code; write a reader")
        wanted = {"choice": ("choices", "gold"), "problem": ("answer",)}.get(self.kind, ())
        for name in wanted:
            if getattr(self.table, name) is None:
                raise ValueError(f"a table of {self.kind} items needs the key {name!r}; add it")
        if self.table.files is None and not isinstance(self.source, HubDatasetSource):
            raise ValueError("the table's key 'files' is missing, and its source names none; add it")
        return self


class TuneShare(Section):
    """Share of the items of each kind kept for tuning; the rest is for evaluation."""

    harmful: Share
    benign: Share
    choice: Share


class FetchData(Section):
    """Stage `fetch_data`."""

    seed: Seed
    tune_share: TuneShare
    leakage_words: Annotated[int, Field(ge=3, le=1000)]
    boilerplate_documents: Count
    jailbreak_characters: Count
    datasets: dict[str, Dataset]
