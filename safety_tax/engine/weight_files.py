"""The safetensors files that a folder's graphs read their weights from, as they were when the graphs were made.

A graph says at which byte of which file each weight lies. A file of another layout would be read as if it had this one,
without an error: so a graph's folder keeps the size of each file and the digest of its header, which names every
tensor with its type, shape and place.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.core.files import write_json
from safety_tax.core.tensor_header import header_bytes

RECORD = "weights.json"


class WeightFile(NamedTuple):
    """A file's size, and the hex SHA-256 digest of it up to its first tensor."""

    bytes: int
    header: str


def describe(file: Path) -> WeightFile:
    """What is on the disk; only the header is read."""
    return WeightFile(file.stat().st_size, hashlib.sha256(header_bytes(file)).hexdigest())


def write_record(folder: Path) -> None:
    """Note what the weight files of `folder` are."""
    files = sorted(folder.glob("*.safetensors"))
    write_json(folder / RECORD, {file.name: describe(file)._asdict() for file in files})


def read_record(folder: Path) -> dict[str, WeightFile]:
    """File name -> what it was. Raises PipelineError when the record is missing, or none."""
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {name: WeightFile(int(entry["bytes"]), str(entry["header"])) for name, entry in content.items()}
    except FileNotFoundError:
        raise PipelineError(
            f"Expected the sizes of the weights in {path}, found no such file; {how_to_have()}."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PipelineError(
            f"Expected the sizes of the weights in {path}, found what cannot be read ({error!r}); run `dvc repro`."
        ) from None
    for name in found:
        if Path(name).name != name or any(sign in name for sign in "\\:\0"):
            raise PipelineError(f"Expected files beside {path}, found the name {name[:80]!r}; run `dvc repro`.")
    return found


def weight_bytes(folder: Path) -> int:
    """Size of a folder's weight files together, as they were when its graphs were made."""
    return sum(file.bytes for file in read_record(folder).values())


def require_weights(folder: Path) -> None:
    """Raises PipelineError when a weight file of `folder` is missing, leads elsewhere or is not the one of the export.

    Headers alone are read.
    """
    for name, expected in read_record(folder).items():
        file = folder / name
        if not file.is_file():
            raise PipelineError(f"Expected the weights {file}, found no such file; {how_to_have()}.")
        if file.resolve().parent != folder.resolve():
            raise PipelineError(
                f"Expected the weights {file} in that folder, found a link to {file.resolve()}, which ONNX Runtime "
                "refuses; run `dvc config cache.type hardlink,reflink,copy` and `dvc checkout --relink`."
            )
        found = describe(file)
        if found != expected:
            what = f"{found.bytes:,} bytes" if found.bytes != expected.bytes else "another header"
            raise PipelineError(
                f"Expected the weights {file} of {expected.bytes:,} bytes, as they were exported, found {what}; run "
                "`dvc repro` to export them again."
            )
