"""Our safetensors reader and writer against the reference library, and what they refuse."""

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, require_finite, write_checkpoint

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([1.5, -2], np.float16),
    "c": np.zeros((0, 4), np.float32),
    "d": np.array(3, np.float32),
}


def test_reads_what_the_reference_library_writes(tmp_path: Path) -> None:
    save_file({name: np.asarray(tensor) for name, tensor in TENSORS.items()}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.names() == ["a", "b", "c", "d"]
    for name, tensor in TENSORS.items():
        found = checkpoint.read(name)
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        np.testing.assert_array_equal(found, tensor)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_reference_library_reads_what_we_write(tmp_path: Path, dtype: type) -> None:
    source = {name: TENSORS[name] for name in ("a", "c", "d")}
    shapes = {name: tensor.shape for name, tensor in source.items()}
    write_checkpoint(tmp_path, shapes, np.dtype(dtype), lambda name: source[name])
    found = load_file(tmp_path / "model.safetensors")
    for name, tensor in source.items():
        np.testing.assert_array_equal(found[name], tensor.astype(dtype))


def test_bfloat16_survives(tmp_path: Path) -> None:
    values = np.array([1.0, 2.5, -3.0])
    write_checkpoint(tmp_path, {"a": (3,)}, np.dtype(ml_dtypes.bfloat16), lambda name: values)
    assert Checkpoint(tmp_path).read("a").astype(np.float32).tolist() == [1.0, 2.5, -3.0]


def test_a_large_checkpoint_is_sharded_with_an_index(tmp_path: Path) -> None:
    shapes = {name: (2, 2) for name in "abc"}
    write_checkpoint(tmp_path, shapes, np.dtype("float32"), lambda name: np.ones((2, 2)), shard_bytes=32)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["weight_map"] == {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00001-of-00002.safetensors",
        "c": "model-00002-of-00002.safetensors",
    }
    assert index["metadata"]["total_size"] == 48
    assert Checkpoint(tmp_path).names() == ["a", "b", "c"]


def header(entry: dict[str, object], body: bytes = b"\0" * 16) -> bytes:
    text = json.dumps({"a": entry}).encode()
    return struct.pack("<Q", len(text)) + text + body


GOOD = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 2) + b"[]",
        header(GOOD, b"\0" * 15),
        header(GOOD | {"shape": [400_000_000_000]}),
        header(GOOD | {"shape": [-4]}),
        header(GOOD | {"data_offsets": [-8, 8]}),
        header(GOOD | {"data_offsets": [0, 12]}),
        header(GOOD | {"dtype": "PICKLE"}),
        header({"dtype": "F32"}),
    ],
)
def test_a_damaged_file_is_refused_before_anything_is_allocated(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(PipelineError, match="fetch it again"):
        Checkpoint(tmp_path)


def test_no_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="found none"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weights_are_named(value: float) -> None:
    require_finite(np.full(3, 3e38, np.float32), "a", Path("m"))  # the sum overflows float32, the weights are fine
    with pytest.raises(PipelineError, match="in a of m"):
        require_finite(np.array([1, value, 2], np.float32), "a", Path("m"))
