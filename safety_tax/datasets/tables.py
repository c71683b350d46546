"""Parquet files of a dataset, read by `datasets`, JSON lines, packed or not, and CSV; their columns checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import disable_progress_bars, enable_progress_bars, load_dataset
from datasets.exceptions import DatasetsError

from safety_tax.core.errors import PipelineError
from safety_tax.core.text_files import JsonLine, read_csv, read_json_lines

Columns = Mapping[str, type | tuple[type, ...]]
"""By name, the type of each value, or the types that it may have."""


def read_table(source: Path, patterns: Sequence[str], columns: Columns) -> list[dict[str, Any]]:
    """Rows of every file below `source` that matches one of `patterns`, with at least the given columns.

    Raises PipelineError when there is no such file or row, a column is missing, or a value has another type.
    """
    files = sorted({file for pattern in patterns for file in source.glob(pattern)})
    if not files:
        raise PipelineError(
            f"Expected a file {' or '.join(patterns)} in the dataset, found none in {source}; "
            "its layout has changed: correct its commit or files in params.yaml."
        )
    rows = []
    for file in files:
        for number, row in enumerate(_rows(file), start=1):
            _require(row, columns, file, number)
            rows.append(row)
    if not rows:
        raise PipelineError(
            f"Expected rows in {files[0].name}, found none; correct the dataset's source in params.yaml."
        )
    return rows


def _rows(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".csv":
        # Not by `datasets`, which leaves CSV files open and guesses types: every column that is read here is text.
        return [row for _, row in read_csv(file)]
    if ".jsonl" in file.suffixes:
        return [_object(file, line) for line in read_json_lines(file)]
    if file.suffix != ".parquet":
        raise PipelineError(
            f"Expected a file of type .csv, .parquet or .jsonl, found {file.name}; correct the dataset's `files`."
        )
    disable_progress_bars()
    try:
        with TemporaryDirectory(prefix="safety-tax-") as scratch:
            table = load_dataset("parquet", data_files=str(file), split="train", cache_dir=scratch, keep_in_memory=True)
            rows: list[dict[str, Any]] = table.to_list()
    except (DatasetsError, ValueError, OSError, EOFError, StopIteration) as error:
        reason = str(error.__cause__ or error).splitlines() or [type(error).__name__]
        raise PipelineError(
            f"Expected {file.name} to be a whole parquet file with rows, found: {reason[0]}; fetch it again."
        ) from None
    finally:
        enable_progress_bars()
    return rows


def _object(file: Path, line: JsonLine) -> dict[str, Any]:
    if not isinstance(line.value, dict):
        fault = line.fault or type(line.value).__name__
        raise PipelineError(f"Expected a JSON object in {file.name} line {line.number}, found {fault}; fetch it again.")
    return line.value


def _require(row: dict[str, Any], columns: Columns, file: Path, number: int) -> None:
    missing = [name for name in columns if name not in row]
    if missing:
        raise PipelineError(
            f"Expected the column {missing[0]!r} in {file.name}, found only {', '.join(map(repr, row))}; "
            "correct its commit, or the `table` of a dataset that has one, in params.yaml."
        )
    for name, kind in columns.items():
        # A bool is an int to Python; a label that turned from one into the other is a change all the same.
        if not isinstance(row[name], kind) or (kind is int and isinstance(row[name], bool)):
            wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise PipelineError(
                f"Expected {wanted} in the column {name!r} of {file.name}, found {row[name]!r} in row {number}; "
                "correct its commit, or the `table` of a dataset that has one, in params.yaml."
            )
