"""DVC's cache, object by object: whether each still is what its name says.

DVC does not look: it trusts an object that is write-protected, and a damaged one becomes an output again, with a clean
`dvc status`.
"""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

OUTPUTS = ("data", "models", "metrics")


class Damaged(NamedTuple):
    """An object whose content is not that of its name, and the outputs that are links to it."""

    file: Path
    links: list[Path]


def damaged_objects(cache: Path, project: Path) -> list[Damaged]:
    """Read every object below `cache` (`.dvc/cache`), and compare its MD5 with its name."""
    bad = [file for file in sorted(cache.glob("files/md5/??/*")) if _md5(file) != _name(file)]
    links: dict[int, list[Path]] = defaultdict(list)
    for folder in OUTPUTS if bad else ():
        for file in sorted((project / folder).rglob("*")):
            if file.is_file():
                links[file.stat().st_ino].append(file)
    return [Damaged(file, links[file.stat().st_ino]) for file in bad]


def _name(file: Path) -> str:
    return file.parent.name + file.name.removesuffix(".dir")


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
