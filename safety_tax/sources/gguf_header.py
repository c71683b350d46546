"""The header of a GGUF file, walked with every number checked against the file's size.

The `gguf` package believes the counts that a file declares: one number can keep it busy, or filling memory, without
end. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from pathlib import Path
from typing import NamedTuple

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader

from safety_tax.core.errors import PipelineError

MOST_HEADER = 500_000_000  # bytes; the largest vocabularies take a few dozen million
MOST_DIMENSIONS = 4
VERSIONS = (2, 3)
# Bytes of each value type; 8 is a string, 9 an array.
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY, UINT32 = 8, 9, 4


class _Fault(Exception):
    """What is wrong with the file."""


class _Tensor(NamedTuple):
    name: str
    bytes: int
    offset: int


def open_gguf(path: Path) -> GGUFReader:
    """The package's reader, of a file whose header fits it. Raises PipelineError otherwise."""
    require_sound(path)
    try:
        return GGUFReader(path)
    except (ValueError, KeyError, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise _refused(path, str(error)) from None


def require_sound(path: Path) -> None:
    """Raises PipelineError where the header does not fit the file; takes time and memory of the header's real size."""
    length = path.stat().st_size
    with path.open("rb") as stream:
        try:
            _Header(stream.read(min(length, MOST_HEADER)), length).walk()
        except (_Fault, UnicodeDecodeError) as fault:
            raise _refused(path, str(fault)) from None


def _refused(path: Path, reason: str) -> PipelineError:
    return PipelineError(f"Expected a GGUF file at {path}, found {reason}; fetch it again, or use another conversion.")


class _Header:
    """A cursor on the header's bytes."""

    def __init__(self, data: bytes, length: int) -> None:
        self.data = data
        self.length = length
        self.place = 0

    def walk(self) -> None:
        """Go through it all; raises _Fault at the first thing that does not fit."""
        if self.take(4) != b"GGUF":
            raise _Fault("another kind of file")
        version = self.number("<I")
        if version not in VERSIONS:
            raise _Fault(f"version {version}, and versions {' and '.join(map(str, VERSIONS))} are known")
        tensors, pairs = self.number("<Q"), self.number("<Q")
        self.require_room(tensors, 24, "tensors")  # name, dimensions, type, offset
        self.require_room(pairs, 13, "keys")  # name, type, a byte
        alignment = 32
        keys: set[str] = set()
        for _ in range(pairs):
            key = self.text()
            if key in keys:
                raise _Fault(f"the key {key[:80]!r} twice")
            keys.add(key)
            kind = self.number("<I")
            begin = self.place
            self.skip(kind)
            if key == "general.alignment":
                alignment = struct.unpack_from("<I", self.data, begin)[0] if kind == UINT32 else 0
                if alignment == 0 or alignment & (alignment - 1):
                    raise _Fault("an alignment that is no power of two")
        found = [self.tensor() for _ in range(tensors)]
        begin = -(-self.place // alignment) * alignment
        for tensor in found:
            if tensor.offset % alignment or begin + tensor.offset + tensor.bytes > self.length:
                raise _Fault(
                    f"the tensor {tensor.name[:80]!r} of {tensor.bytes:,} bytes at {tensor.offset:,} in "
                    f"{max(self.length - begin, 0):,} bytes"
                )
        if len({tensor.name for tensor in found}) != len(found):
            raise _Fault("one tensor twice")

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > len(self.data) - self.place:
            raise _Fault(f"{size:,} bytes declared at byte {self.place:,} of {len(self.data):,}")
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, form: str) -> int:
        """The next number."""
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def text(self) -> str:
        """The next string."""
        return self.take(self.number("<Q")).decode("utf-8")

    def require_room(self, count: int, smallest: int, what: str) -> None:
        """So many things, of so many bytes at least, can still come."""
        if count * smallest > len(self.data) - self.place:
            raise _Fault(f"{count:,} {what} declared in {len(self.data) - self.place:,} bytes")

    def skip(self, kind: int) -> None:
        """Go past a value."""
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            inner, count = self.number("<I"), self.number("<Q")
            if inner == STRING:
                self.require_room(count, 8, "texts")
                for _ in range(count):
                    self.text()
            elif inner in SCALARS:
                self.take(count * SCALARS[inner])
            else:
                raise _Fault(f"an array of type {inner}")  # an array of arrays too: no model has one
        elif kind in SCALARS:
            self.take(SCALARS[kind])
        else:
            raise _Fault(f"a value of type {kind}")

    def tensor(self) -> _Tensor:
        """Go past the description of a tensor."""
        name, count = self.text(), self.number("<I")
        if not 1 <= count <= MOST_DIMENSIONS:
            raise _Fault(f"the tensor {name[:80]!r} of {count} dimensions")
        shape = [self.number("<Q") for _ in range(count)]
        kind, offset = self.number("<I"), self.number("<Q")
        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError):
            raise _Fault(f"the tensor {name[:80]!r} of type {kind}") from None
        if 0 in shape or shape[0] % block:
            raise _Fault(f"the tensor {name[:80]!r} of the shape {shape} in blocks of {block}")
        return _Tensor(name, math.prod(shape) // block * size, offset)
