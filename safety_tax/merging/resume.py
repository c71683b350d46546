"""A merge's work folder, outside of DVC's outputs: shards of a killed run are taken over by the next one."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safety_tax.core.files import write_json, written_atomically
from safety_tax.merging.measure import Sums, new_sums

LIBRARY = Path(__file__).parents[1]


def fingerprint(settings: dict[str, Any], inputs: Iterable[Path]) -> str:
    """Hash of all that a shard depends on: settings, code, and the input files by name, size and time of change.

    An input is a file, or a folder with all that lies in it.
    """
    code = [
        LIBRARY / "core/arrays.py",
        LIBRARY / "core/tensor_files.py",
        *sorted(LIBRARY.glob("donors/*.py")),
        *sorted(LIBRARY.glob("merging/**/*.py")),
    ]
    stamps = []
    for place in inputs:
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file():
                stat = file.stat()
                stamps.append([str(file), stat.st_size, stat.st_mtime_ns])
    content = json.dumps([settings, stamps, [file.read_text(encoding="utf-8") for file in code]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


class WorkFolder:
    """Finished shards with their sums."""

    def __init__(self, folder: Path, key: str) -> None:
        """Take over what is there if it was made under the same key; begin afresh otherwise."""
        self.folder = folder
        plan = folder / "plan.json"
        if _read(plan) != key:
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "model").mkdir(parents=True)
            write_json(plan, key)
        self.model = folder / "model"

    def sums(self, shard: str) -> Sums | None:
        """What a finished shard measured; None for one that is not finished."""
        file = self.folder / f"{shard}.json"
        found = _read(file)
        if found is None or not (self.model / shard).exists():
            return None
        sums = new_sums()
        sums.update(found)
        return sums

    def write(self, shard: str) -> Any:
        """Context of a shard's temporary path; it takes the shard's name when all went well."""
        return written_atomically(self.model / shard)

    def finish_shard(self, shard: str, sums: Sums) -> None:
        """Note a written shard as finished."""
        write_json(self.folder / f"{shard}.json", dict(sums))

    def move_to(self, target: Path) -> None:
        """The finished model becomes the output, in one step; the work folder goes."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.move(self.model, partial)
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
        self.discard()

    def discard(self) -> None:
        """Keep nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(file: Path) -> Any:
    """What a JSON file holds; None where it is not there, or a machine went down before it reached the disk."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
