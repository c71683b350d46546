"""Text files as people write them: UTF-8, with or without a byte-order mark, lines ended by LF or CRLF."""

import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safety_tax.core.errors import PipelineError

MARK = b"\xef\xbb\xbf"
# As editors on Windows write "Unicode".
OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
POINTER = b"version https://git-lfs"
"""How a file begins that Git LFS puts in the place of a large one."""
OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
UNPACKING = (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)
MOST_CELL = 2**24
"""Characters of one CSV cell: responses are longer than the 131,072 that Python allows by itself."""


ARRAY = "a JSON array in place of one object a line (`jq -c '.[]'` makes lines of it)"
SEPARATORS = ",;\t"
"""Of CSV cells. Excel writes the second where a comma is a decimal sign."""


class JsonLine(NamedTuple):
    """One line of a JSON-lines file: its value, or what is wrong with it."""

    number: int
    value: Any
    fault: str | None = None


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank, cut at line feeds alone, without CR and byte-order mark.

    A text may hold U+2028 and other characters at which Python's `splitlines` cuts. A `.gz` or `.xz` file is unpacked.
    Raises PipelineError for UTF-16, and when a packed file is damaged.
    """
    number = 0
    with OPENERS.get(path.suffix.lower(), open)(path, "rb") as stream:
        try:
            for number, line in enumerate(stream, start=1):
                if number == 1:
                    _require_utf8_mark(path, line)
                    line = line.removeprefix(MARK)
                line = line.rstrip(b"\r\n")
                if line.strip():
                    yield number, line
        except UNPACKING as error:
            raise PipelineError(
                f"Expected {path} to be a whole file, found after line {number}: {error}; fetch it again."
            ) from None


def read_json_lines(path: Path) -> Iterator[JsonLine]:
    """The JSON lines of a file; a faulty one comes with its fault."""
    for place, (number, content) in enumerate(read_lines(path)):
        if place == 0 and content.lstrip().startswith(b"["):
            yield JsonLine(number, None, ARRAY)
            continue
        try:
            # json.loads and not pydantic's own parser, which refuses lone surrogates.
            yield JsonLine(number, json.loads(content.decode("utf-8")))
        except UnicodeDecodeError as error:
            yield JsonLine(number, None, f"the byte {content[error.start]:#04x}, which is not UTF-8")
        except (ValueError, RecursionError) as error:
            yield JsonLine(number, None, f"no JSON ({error})")


def read_objects(path: Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """JSON objects, one a line, each with a text under every one of `keys`.

    Raises PipelineError, with file and line, for a line that is none, and when there is no line.
    """
    rows = []
    for line in read_json_lines(path):
        fault = line.fault
        if fault is None and not isinstance(line.value, dict):
            fault = f"{type(line.value).__name__} in place of an object"
        if fault is None:
            missing = [key for key in keys if not isinstance(line.value.get(key), str)]
            fault = f"no text under {missing[0]!r}" if missing else None
        if fault is not None:
            raise PipelineError(
                f"Expected a JSON object with {', '.join(keys)} in {path} line {line.number}, found {fault}; "
                "mend that line."
            )
        rows.append(line.value)
    if not rows:
        raise PipelineError(f"Expected at least one row in {path}, found none; add one, or restore the file.")
    return rows


def read_text(path: Path) -> str:
    """A file's text, without byte-order mark, its lines ended by LF.

    Raises PipelineError when a byte is not UTF-8, and names its line.
    """
    return _decoded(path).replace("\r\n", "\n")


def drop_mark(path: Path, found: Path) -> None:
    """Take the byte-order mark off a file that libraries will read, and fail at one. A link's target stays as it is.

    `found` is where a person has it. Raises PipelineError for UTF-16, which they do not read either, and for a pointer
    of Git LFS.
    """
    with path.open("rb") as stream:
        start = stream.read(len(POINTER))
        require_no_pointer(found, start)
        _require_utf8_mark(found, start)
        content = start[len(MARK) :] + stream.read() if start.startswith(MARK) else None
    if content is not None:
        path.unlink()
        path.write_bytes(content)


def require_no_pointer(path: Path, start: bytes) -> None:
    """Raises PipelineError when the bytes that a file starts with are those of a pointer of Git LFS."""
    if start.startswith(POINTER[: max(8, len(start))]) and len(start) >= 8:
        raise PipelineError(
            f"Expected {path} itself, found a pointer of Git LFS in its place; run `git lfs pull` in that folder."
        )


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    _require_utf8_mark(path, content)
    content = content.removeprefix(MARK)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PipelineError(
            f"Expected {path} to be text in UTF-8, found the byte {content[error.start]:#04x} in line {line}; "
            "save the file as UTF-8."
        ) from None


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises PipelineError when it is none."""
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"Expected a JSON object in {path}, found no JSON ({error}); fetch it again.") from None
    if not isinstance(value, dict):
        raise PipelineError(f"Expected a JSON object in {path}, found {type(value).__name__}; fetch it again.")
    return value


def read_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Last line and cells of every row of a CSV file with a header; rows without a cell are left out.

    What separates the cells is seen in the header. Raises PipelineError when the file is not CSV in UTF-8, or a row has
    more or fewer cells than the header.
    """
    csv.field_size_limit(MOST_CELL)
    # As they are: a line end in a cell belongs to its text.
    text = _decoded(path)
    separator = max(SEPARATORS, key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise PipelineError(
                    f"Expected {len(reader.fieldnames or ())} cells, as the header has, in {path} line "
                    f"{reader.line_num}, found {'more' if None in row else 'fewer'}; quote cells with {separator!r}."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise PipelineError(
            f"Expected CSV in {path}, found after line {reader.line_num}: {error}; repair that row."
        ) from None


def _require_utf8_mark(path: Path, content: bytes) -> None:
    for mark, name in OTHER_MARKS.items():
        if content.startswith(mark):
            raise PipelineError(f"Expected {path} to be text in UTF-8, found {name}; save the file as UTF-8.")
