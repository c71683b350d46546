"""Safetensors checkpoints read through memory maps and written tensor by tensor.

The safetensors library writes a file from a whole state dict at once; here a checkpoint of any size is
written with one tensor in memory. Format: https://github.com/huggingface/safetensors#format
"""

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.core.tensor_header import header_bytes

DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "BOOL": np.bool_,
}
# Of the format, and of quantised checkpoints: numbers of 8 bits and fewer, or whole ones.
PACKED = ("U8", "I8", "I16", "U16", "U32", "U64")
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
MOST_DIMENSIONS = 32  # NumPy reads no more
INDEX = "model.safetensors.index.json"
CHECKED = 1 << 16  # elements at once, so that no mask of a whole tensor is made

Tensor = NDArray[Any]


class Place(NamedTuple):
    """Where a tensor lies: in `file`, from byte `start` on."""

    file: Path
    dtype: Any
    shape: tuple[int, ...]
    start: int

    def bytes(self) -> int:
        """Its length."""
        item: int = np.dtype(self.dtype).itemsize
        return math.prod(self.shape) * item


class Checkpoint:
    """The tensors of a folder of `*.safetensors` (or of one such file), read one at a time."""

    def __init__(self, path: Path, pattern: str = "*.safetensors") -> None:
        """Read the headers. Raises PipelineError when there are none, or one does not fit its file."""
        files = [path] if path.is_file() else sorted(path.glob(pattern))
        if not files:
            raise PipelineError(f"Expected safetensors weights in {path}, found none; {how_to_have()}.")
        self.path = path
        self.files = files
        self._places: dict[str, Place] = {}
        if path.is_dir() and (path / INDEX).exists():
            _require_shards(path)
        for file in files:
            places = _read_header(file)
            if twice := sorted(places.keys() & self._places.keys()):
                raise PipelineError(
                    f"Expected each tensor once in {path}, found {twice[0]!r} in {file.name} and in "
                    f"{self._places[twice[0]].file.name}; remove one file, or save the model again."
                )
            self._places.update(places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def names(self) -> list[str]:
        """Tensor names, sorted."""
        return sorted(self._places)

    def in_file(self, file: Path) -> list[str]:
        """Names of the tensors in one of `files`, in the order of their bytes."""
        found = [name for name, place in self._places.items() if place.file == file]
        return sorted(found, key=lambda name: (self._places[name].start, self._places[name].bytes()))

    def place(self, name: str) -> Place:
        """Where one tensor lies."""
        return self._places[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor."""
        return self._places[name].shape

    def size(self, name: str) -> int:
        """Number of elements of one tensor."""
        return math.prod(self._places[name].shape)

    def dtype(self, name: str) -> np.dtype[Any]:
        """Stored type of one tensor."""
        dtype: np.dtype[Any] = np.dtype(self._places[name].dtype)
        return dtype

    def read(self, name: str) -> Tensor:
        """One tensor, as a read-only view of the file."""
        place = self._places[name]
        if 0 in place.shape:
            return np.empty(place.shape, place.dtype)
        mapped = np.memmap(place.file, place.dtype, mode="r", offset=place.start, shape=place.shape or (1,))
        # A plain array keeps the file mapped, too, and its slices cost less.
        return np.asarray(mapped).reshape(place.shape)


def _read_header(file: Path) -> dict[str, Place]:
    """Where each tensor is. Nothing that the file says is believed, and nothing of its size allocated, before it fits.

    As in the reference implementation, tensors lie side by side from the header's end to the file's.
    """
    length, start = file.stat().st_size, header_bytes(file)
    try:
        header = json.loads(start[8:].decode("utf-8"), object_pairs_hook=_without_repeats)
        places = {
            name: _place(file, entry, len(start), length) for name, entry in header.items() if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PipelineError(
            f"Expected a safetensors header in {file}, found one that cannot be read ({error}); fetch it again."
        ) from None
    end = len(start)
    for name, place in sorted(places.items(), key=lambda item: (item[1].start, item[1].bytes())):
        if place.start != end:
            raise PipelineError(
                f"Expected tensor {name!r} of {file} to begin where the one before it ends, at byte {end:,}, found it "
                f"at {place.start:,}; fetch it again."
            )
        end += place.bytes()
    if end != length:
        raise PipelineError(
            f"Expected {file} to end with its last tensor, at byte {end:,}, found {length:,} bytes; fetch it again."
        )
    return places


def _place(file: Path, entry: dict[str, Any], begin: int, length: int) -> Place:
    """One entry of a header, checked; raises ValueError, KeyError or TypeError where it is none."""
    shape, offsets = entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets]
    # A bool is an int to Python. No size below overflows: Python's integers have no end.
    if len(offsets) != 2 or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"a shape or an offset that is no size: {str(entry)[:80]}")
    kind = str(entry["dtype"])
    if kind not in DTYPES and (kind.startswith(("F8", "F6", "F4")) or kind in PACKED):  # F64 is no F6_E2M3
        raise PipelineError(
            f"Expected weights of 16 or 32 bits a number in {file}, found numbers of the type {kind[:20]!r}: the "
            f"checkpoint is quantised{' (FP8)' if kind.startswith('F8') else ''}. Name the model that it was made "
            "from, or dequantise it, save it in bfloat16 and give the folder."
        )
    dtype = DTYPES[entry["dtype"]]
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if offsets[1] - offsets[0] != size or begin + offsets[1] > length:
        raise ValueError(f"a tensor of {size:,} bytes at {offsets[0]:,} to {offsets[1]:,} in {length - begin:,} bytes")
    return Place(file, dtype, tuple(shape), begin + offsets[0])


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; raises ValueError when a key comes twice, where readers differ on which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that comes twice")
    return found


def _require_shards(folder: Path) -> None:
    """Raises PipelineError when the index of a sharded checkpoint names a file that is not beside it."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        named = {str(file) for file in index["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PipelineError(
            f"Expected a `weight_map` in {folder / INDEX}, found one that cannot be read ({error!r}); fetch it again."
        ) from None
    for file in sorted(named):
        # Other readers follow the index: it may not lead them out of the folder.
        if Path(file).name != file or "\\" in file or not (folder / file).is_file():
            raise PipelineError(
                f"Expected the file {file!r}, which {INDEX} names, in {folder}, found none; fetch the model again."
            )


def plan_shards(shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any], shard_bytes: int) -> dict[str, list[str]]:
    """File -> tensor names, sorted, in the Hub's layout; a tensor larger than `shard_bytes` has a file of its own."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name in sorted(shapes):
        size = int(np.prod(shapes[name], dtype=np.int64)) * dtype.itemsize
        if filled and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {
        f"model-{number:05d}-of-{len(shards):05d}.safetensors": names for number, names in enumerate(shards, start=1)
    }


def write_index(
    folder: Path, shards: Mapping[str, list[str]], shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]
) -> None:
    """Say which tensor is in which file, where there is more than one."""
    if len(shards) > 1:
        total = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()) * dtype.itemsize
        weight_map = {name: file for file, names in shards.items() for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_checkpoint(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype[Any],
    make: Callable[[str], Tensor],
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Write `make(name)` for every name, one at a time, as sharded safetensors in the Hub's layout.

    `make` returns a tensor of the given shape; it is cast to `dtype` here, once.
    """
    shards = plan_shards(shapes, dtype, shard_bytes)
    for file, names in shards.items():
        write_shard(folder / file, names, shapes, dtype, make)
    write_index(folder, shards, shapes, dtype)


def write_shard(
    path: Path,
    names: list[str],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype[Any],
    make: Callable[[str], Tensor],
) -> None:
    """Write `make(name)` for the names, one at a time, as one safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        end = offset + int(np.prod(shapes[name], dtype=np.int64)) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shapes[name]), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            _write_tensor(stream, make(name), shapes[name], dtype)


def write_alike(file: Path, model: Checkpoint, make: Callable[[str], Tensor], path: Path) -> None:
    """Write `make(name)` for every tensor of `file`, a file of `model`, in its type and place.

    The header is the same to the byte: whoever knows where a tensor of the model lies knows where it lies here.
    """
    with path.open("wb") as stream:
        stream.write(header_bytes(file))
        for name in model.in_file(file):
            _write_tensor(stream, make(name), model.shape(name), model.dtype(name))


def _write_tensor(stream: BinaryIO, tensor: Tensor, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    tensor = np.asarray(tensor, dtype=dtype, order="C")
    assert tensor.shape == tuple(shape)
    stream.write(tensor.data if dtype != ml_dtypes.bfloat16 else tensor.view(np.uint16).data)


def require_finite(tensor: Tensor, name: str, where: Path) -> None:
    """Raises PipelineError when the tensor holds NaN or infinity."""
    flat = tensor.reshape(-1)
    for start in range(0, flat.size, CHECKED):
        if not np.isfinite(flat[start : start + CHECKED]).all():
            raise PipelineError(
                f"Expected finite weights, found NaN or infinity in {name} of {where}; "
                "fetch or tune the model again, with a lower learning rate if it was tuned."
            )
