"""How a safetensors file begins: its header, as bytes.

Apart from the tensors, so that whoever compares headers need not import NumPy.
Format: https://github.com/huggingface/safetensors#format
"""

import struct
from pathlib import Path

from safety_tax.core.errors import PipelineError
from safety_tax.core.text_files import require_no_pointer

HEADER_LIMIT = 100_000_000  # bytes, as in the reference implementation


def header_bytes(file: Path) -> bytes:
    """A safetensors file up to its first tensor. Raises PipelineError where it is none."""
    with file.open("rb") as stream:
        start = stream.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        require_no_pointer(file, start)
        if not 0 < size <= min(HEADER_LIMIT, file.stat().st_size - 8):
            raise PipelineError(
                f"Expected a safetensors file at {file}, found a header of {size} bytes; fetch it again."
            )
        return start + stream.read(size)
