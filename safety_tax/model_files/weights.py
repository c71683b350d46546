"""Which files hold a model's weights, and a copy of them without some tensors, or with other names."""

import json
import re
import shutil
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import INDEX, Checkpoint, Tensor, require_finite, write_checkpoint

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".mar")
SINGLE = "model.safetensors"
SHARD = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")
BLOCK = 1 << 24  # bytes copied at once


def weight_files(folder: Path) -> list[Path]:
    """The files that Transformers would load, with the index of shards; what lies beside them is not the model's.

    Raises PipelineError when there are none, a shard is missing, or a link in the folder leads nowhere.
    """
    if lost := sorted(file.name for file in folder.iterdir() if file.is_symlink() and not file.exists()):
        raise PipelineError(
            f"Expected the files of a model in {folder}, found {lost[0]}, a link to {(folder / lost[0]).readlink()}, "
            "which is not there; copy the folder with what its links lead to (`cp -rL`)."
        )
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if (folder / INDEX).exists():
        return [*(folder / name for name in _indexed(folder)), folder / INDEX]
    shards = {file: match for file in sorted(folder.glob("*.safetensors")) if (match := SHARD.fullmatch(file.name))}
    if not shards:
        raise _nothing(folder)
    counts = {int(match[2]) for match in shards.values()}
    missing = sorted(set(range(1, max(counts) + 1)) - {int(match[1]) for match in shards.values()})
    if len(counts) != 1 or missing:
        raise PipelineError(
            f"Expected all shards of one checkpoint in {folder}, found no number {missing[0] if missing else 1} of "
            f"{max(counts)}; fetch the model again."
        )
    return list(shards)


def _indexed(folder: Path) -> list[str]:
    """The files that the index names. Raises PipelineError when it cannot be read, or one is not beside it."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8-sig"))
        named = sorted({str(file) for file in index["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PipelineError(
            f"Expected a `weight_map` in {folder / INDEX}, found one that cannot be read ({error!r}); fetch it again."
        ) from None
    for file in named:
        if Path(file).name != file or "\\" in file or not (folder / file).is_file():
            raise PipelineError(
                f"Expected the file {file!r}, which {INDEX} names, in {folder}, found none; fetch the model again."
            )
    return named


def _nothing(folder: Path) -> PipelineError:
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in PICKLES)
    if others:
        found = f"{others[0]}, which Transformers does not load"
        step = "choose a commit that has model.safetensors or its shards, or convert the model and give the folder"
    elif pickled:
        found, step = f"pickled weights in {folder / pickled[0]}", "convert them: they run code when they are read"
    else:
        found, step = "none", "correct its source in params.yaml"
    return PipelineError(f"Expected safetensors weights (model*.safetensors) in {folder}, found {found}; {step}.")


def write_missing_index(folder: Path) -> None:
    """Transformers loads shards by their index alone: write it where shards came without one."""
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        return
    shards = sorted(folder.glob("model-*.safetensors"))
    places = {name: file.name for file in shards for name in Checkpoint(file).names()}
    size = sum(file.stat().st_size for file in shards)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def rewrite(folder: Path, unwanted: Iterable[str], renamed: Mapping[str, str]) -> None:
    """Take tensors out of the checkpoint in `folder`, and give others their new names; all keep their bytes."""
    gone = set(unwanted)
    touched = gone | renamed.keys()
    for file in sorted(folder.glob("*.safetensors")) if touched else ():
        names = set(Checkpoint(file).names())
        if names <= gone:
            file.unlink()
        elif names & touched:
            _copy(file, file.with_suffix(".kept"), gone, renamed)
            file.with_suffix(".kept").replace(file)
    index = folder / INDEX
    if touched and index.exists():
        content = json.loads(index.read_text(encoding="utf-8"))
        content["weight_map"] = {
            renamed.get(name, name): file for name, file in content["weight_map"].items() if name not in gone
        }
        index.unlink()  # it may be a link into a cache
        index.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def name_format(folder: Path) -> None:
    """Let files whose metadata name no format, or another one, say "pt": Transformers refuses or converts them."""
    for file in sorted(folder.glob("*.safetensors")):
        metadata = _header(file)[1].get("__metadata__")
        if metadata is not None and metadata.get("format") not in ("pt", "mlx"):
            _copy(file, file.with_suffix(".kept"), set(), {}, {**metadata, "format": "pt"})
            file.with_suffix(".kept").replace(file)


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    """Its length in bytes, and what it says."""
    with file.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        return length, json.loads(stream.read(length))


def store_as(folder: Path, dtype: np.dtype[Any], name: str) -> bool:
    """Let every tensor of the checkpoint in `folder` be of one type; return whether any was of another.

    Raises PipelineError when a number is too large for that type. `name` is the model's, for a person.
    """
    checkpoint = Checkpoint(folder)
    if all(checkpoint.dtype(tensor) == dtype for tensor in checkpoint.names()):
        return False

    def converted(tensor: str) -> Tensor:
        with np.errstate(over="ignore"):
            found: Tensor = checkpoint.read(tensor).astype(dtype)
        try:
            require_finite(found, tensor, folder)
        except PipelineError:
            raise PipelineError(
                f"Expected weights that {dtype} can hold in {name!r}, found larger ones in {tensor}; set its dtype to "
                "float32 in params.yaml."
            ) from None
        return found

    shapes = {tensor: checkpoint.shape(tensor) for tensor in checkpoint.names()}
    with TemporaryDirectory(dir=folder, prefix=".") as scratch:
        write_checkpoint(Path(scratch), shapes, dtype, converted)
        for file in (*checkpoint.files, folder / INDEX):
            file.unlink(missing_ok=True)
        for file in Path(scratch).iterdir():
            file.replace(folder / file.name)
    return True


def _copy(
    source: Path, target: Path, gone: set[str], renamed: Mapping[str, str], metadata: Mapping[str, str] | None = None
) -> None:
    length, header = _header(source)
    if metadata is not None:
        header["__metadata__"] = metadata
    with source.open("rb") as stream, target.open("wb") as out:
        kept = {renamed.get(name, name): entry for name, entry in header.items() if name not in gone}
        tensors = sorted((entry["data_offsets"], name) for name, entry in kept.items() if name != "__metadata__")
        end = 0
        for (start, stop), name in tensors:
            kept[name] = {**kept[name], "data_offsets": [end, end + stop - start]}
            end += stop - start
        text = json.dumps(kept, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
        out.write(struct.pack("<Q", len(text)) + text)
        for (start, stop), _ in tensors:
            stream.seek(8 + length + start)
            for place in range(start, stop, BLOCK):
                out.write(stream.read(min(BLOCK, stop - place)))
    shutil.copymode(source, target)
