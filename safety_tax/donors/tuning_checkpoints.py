"""Checkpoints of a tuning run, outside of DVC's outputs: a killed run goes on from its last whole one.

The Trainer writes a folder file by file, so a folder counts only once its seal is there and fits. Its optimizer and
random states are pickles, of the project's own making; torch reads them with `weights_only`, which builds tensors and
numbers and calls nothing.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from safety_tax.core.files import sha256_of, write_json
from safety_tax.donors.tuning_rows import TuningRow

CODE = Path(__file__).parent
PACKAGES = ("torch", "transformers", "peft", "accelerate")
SEAL = "seal.json"
ORDER = "order.json"
SETTINGS = "training_args.bin"  # a pickle that nobody needs


def fingerprint(base: Path, rows: Iterable[TuningRow], settings: dict[str, Any]) -> str:
    """Hash of all that decides a donor: the base's files by content, rows, settings, code, packages and device."""
    code = ("trainer.py", "tuning_checkpoints.py", "tuning_rows.py")
    content = {
        "base": {file.name: sha256_of(file) for file in sorted(base.iterdir()) if file.is_file()},
        "rows": [row._asdict() for row in rows],
        "settings": settings,
        "code": [(CODE / name).read_text(encoding="utf-8") for name in code],
        "packages": {name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class TuningCheckpoints:
    """The checkpoints of one donor."""

    def __init__(self, folder: Path, key: str) -> None:
        """Take over what is there if it was made under the same key; begin afresh otherwise."""
        self.folder = folder
        plan = folder / "plan.json"
        if _read(plan) != key:
            shutil.rmtree(folder, ignore_errors=True)
            write_json(plan, key)

    def last(self) -> Path | None:
        """The newest whole checkpoint, or None; what is torn goes."""
        found = self._found()
        whole = [path for path in found if _digests(path) == _read(path / SEAL)]
        for torn in set(found) - set(whole):
            shutil.rmtree(torn)
        return whole[-1] if whole else None

    def seal(self, step: int, order: list[int] | None) -> None:
        """Note that the Trainer wrote the whole checkpoint of a step, and the rows' order in the epoch under way."""
        folder = self.folder / f"checkpoint-{step}"
        (folder / SETTINGS).unlink(missing_ok=True)
        write_json(folder / ORDER, order)
        write_json(folder / SEAL, _digests(folder))
        # The one before stays until the next one is whole. By number: Transformers goes by the clock, which may jump.
        for old in self._found()[:-2]:
            shutil.rmtree(old)

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))

    def discard(self) -> None:
        """Keep nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)


def saved_order(checkpoint: Path) -> list[int] | None:
    """The rows' order in the epoch that a checkpoint was written in; None where it was written between two."""
    order: list[int] | None = json.loads((checkpoint / ORDER).read_text(encoding="utf-8"))
    return order


def _digests(folder: Path) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in sorted(folder.iterdir()) if file.is_file() and file.name != SEAL}


def _read(file: Path) -> Any:
    """What a JSON file holds; None where it is not there or not whole."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
