"""Writing files so that nobody ever reads half of one."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on any error it is gone.

    Its name is always the same, so that what a killed run left is replaced by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def folder_written_atomically(folder: Path) -> Iterator[Path]:
    """Like `written_atomically`, for a whole folder: an existing `folder` is replaced at the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def link_or_copy(file: Path, target: Path) -> None:
    """Let `target` be `file`: the same bytes on the disk, or a copy where the file system has no links.

    Nobody may write into a file that exists, then: writers make new ones and put them in its place.
    """
    try:
        os.link(file.resolve(), target)
    except OSError:
        shutil.copyfile(file, target)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (NaN and Infinity raise ValueError), indented, with a closing newline."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with written_atomically(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Hex SHA-256 digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
