"""Finished items of a run that was stopped: a file outside DVC's outputs, a line an item, each with its checksum.

Every line has a key of all that its value depends on, so one of other weights, prompts, settings or code is not found.
"""

import errno
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from safety_tax.core.processors import usable_cores
from safety_tax.engine.protocol import Answers, Choice, Part
from safety_tax.settings.stages import Run

CODE = Path(__file__).parents[1] / "engine"
CHECKSUM = 16
PIECE = 64 * 2**20
# How much runs at once: it decides which rows share a batch, which only a GPU's kernels may round by.
BUDGETS = {"generation_tokens", "rows_per_batch", "pass_tokens", "scoring_tokens"}


class Journal:
    """Reads what a stopped run left, and appends; an item is one write, so that a kill can tear only the last line."""

    def __init__(self, path: Path) -> None:
        """Take over the intact lines of `path`; `dropped` counts torn and damaged ones."""
        self.path = path
        self.dropped = 0
        self._lines: dict[str, dict[int, Any]] = {}
        content = path.read_bytes() if path.exists() else b""
        *lines, torn = content.split(b"\n")
        for line in lines:
            self._take(line)
        if torn:
            self.dropped += 1
            os.truncate(path, len(content) - len(torn))

    def _take(self, line: bytes) -> None:
        checksum, _, body = line.partition(b" ")
        if checksum.decode("ascii", "replace") != _checksum(body):
            self.dropped += 1
            return
        key, item, value = json.loads(body)
        self._lines.setdefault(key, {})[item] = value

    def finished(self, key: str) -> dict[int, Any]:
        """The values under a key, by item."""
        return self._lines.get(key, {})

    def note(self, key: str, item: int, value: Any) -> None:
        """Append an item's value, which JSON must know; NaN and Infinity raise ValueError."""
        body = json.dumps([key, item, value], allow_nan=False).encode("ascii")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as stream:
            line = _checksum(body).encode("ascii") + b" " + body + b"\n"
            if stream.write(line) < len(line):  # a full disk takes a part; the next run leaves it out as a torn line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def remove(self) -> None:
        """For when the output is written."""
        self.path.unlink(missing_ok=True)


def _checksum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:CHECKSUM]


def folder_digest(folder: Path) -> str:
    """Digest of names and contents of all files of a model's folder.

    All bytes are read, by all cores, just before the session reads them again from memory: a digest that was noted
    beside the weights, or one of sizes and times, could be that of others.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        places = [(path, start) for path in files for start in range(0, max(1, path.stat().st_size), PIECE)]
        pieces = pool.map(_piece_digest, places)
        listed = [[path.name, start, piece] for (path, start), piece in zip(places, pieces, strict=True)]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _piece_digest(place: tuple[Path, int]) -> str:
    path, start = place
    with path.open("rb") as stream:
        stream.seek(start)
        return hashlib.sha256(stream.read(PIECE)).hexdigest()


def _stop(part: Answers) -> list[Any]:
    # Where a string ends an answer, the tokenizer says where it is.
    text = [*sorted(part.stop_text.strings), version("tokenizers")] if part.stop_text else []
    return [sorted(part.stop), part.max_new_tokens, text, part.sampling]


def part_key(part: Part, weights: str, choice: Choice, settings: Run) -> str:
    """Digest of all that a part's results depend on: weights, token ids of all its items, settings, code, libraries."""
    code = {str(path.relative_to(CODE)): path.read_text(encoding="utf-8") for path in sorted(CODE.rglob("*.py"))}
    facts = [
        weights,
        *choice,
        None if choice.exact() else settings.model_dump(include=BUDGETS),
        code,
        [ort.__version__, np.__version__],
        [part.name, len(part.items), _stop(part) if isinstance(part, Answers) else None],
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    if isinstance(part, Answers):
        sequences = part.items
    else:
        sequences = [sequence for question in part.items for sequence in (question.context, *question.full)]
    for sequence in sequences:
        digest.update(len(sequence).to_bytes(8, "little") + np.array(sequence, np.int64).tobytes())
    return digest.hexdigest()[: 2 * CHECKSUM]
