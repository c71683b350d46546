"""The weights of an exported graph: `model.onnx.data`, and `binding.json`, which says what tensor each of them is.

A variant is the base's graph over weights of its own. They are written, and compared with their tensors, one at a time.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from onnx.external_data_helper import set_external_data

from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.tensor_files import Checkpoint

WEIGHTS, BINDING = "model.onnx.data", "binding.json"
ALIGNMENT = 4096  # ONNX Runtime maps external data into memory by pages
ROWS = 64  # compared at a time; a transposed matrix is then read by whole cache lines


class Bound(NamedTuple):
    """Which checkpoint tensor a weight of the graph is."""

    tensor: str
    transposed: bool


def save_graph(model: ModelProto, binding: dict[str, Bound], graph: Path) -> None:
    """Write `graph`, whose weights point into `model.onnx.data`, and `binding.json` beside it."""
    offset = 0
    for weight in model.graph.initializer:
        if weight.name in binding:
            length = int(np.prod(weight.dims, dtype=np.int64)) * _dtype(weight).itemsize
            weight.raw_data = b""  # set_external_data wants the field
            set_external_data(weight, location=WEIGHTS, offset=offset, length=length)
            weight.ClearField("raw_data")
            offset += -(-length // ALIGNMENT) * ALIGNMENT
    graph.write_bytes(model.SerializeToString(deterministic=True))
    write_json(graph.parent / BINDING, {name: bound._asdict() for name, bound in sorted(binding.items())})


def load_binding(folder: Path) -> dict[str, Bound]:
    """Read `binding.json`."""
    content = json.loads((folder / BINDING).read_text(encoding="utf-8"))
    return {name: Bound(**bound) for name, bound in content.items()}


def write_weights(model: ModelProto, binding: dict[str, Bound], checkpoint: Checkpoint, folder: Path) -> None:
    """Write `model.onnx.data`, every weight in the graph's own type and place, one tensor at a time.

    Raises PipelineError when the checkpoint lacks a tensor, has one that the graph does not, or one of another shape.
    """
    left_over = set(checkpoint.names()) - {bound.tensor for bound in binding.values()}
    if left_over:
        raise PipelineError(
            f"Expected the base's tensors in {checkpoint.path}, found {sorted(left_over)[0]} too; merge again."
        )
    with (folder / WEIGHTS).open("wb") as stream:
        for weight, bound in _bound_weights(model, binding, folder):
            if bound.tensor not in checkpoint:
                raise PipelineError(
                    f"Expected the tensor {bound.tensor} in {checkpoint.path}, found none; merge again."
                )
            tensor = checkpoint.read(bound.tensor)
            array = np.ascontiguousarray(tensor.T if bound.transposed else tensor, dtype=_dtype(weight))
            place = _place(weight)
            if array.shape != tuple(weight.dims) or array.nbytes != place["length"]:
                raise PipelineError(
                    f"Expected {bound.tensor} of {checkpoint.path} to have the base's shape {tuple(weight.dims)}, "
                    f"found {array.shape}; the donor is of another architecture or vocabulary."
                )
            stream.seek(place["offset"])
            stream.write(array.reshape(-1).view(np.uint8).data)  # NumPy hands out no bfloat16


def require_equal_weights(model: ModelProto, binding: dict[str, Bound], checkpoint: Checkpoint, folder: Path) -> None:
    """The exact gate: what lies in `model.onnx.data` for every weight of the graph is its tensor, bit for bit.

    A tensor of another type than the graph's is rounded to that type once. Raises PipelineError when a bit differs, a
    weight is not finite, or the binding does not name exactly the graph's weights.
    """
    for weight, bound in _bound_weights(model, binding, folder):
        stored = np.memmap(folder / WEIGHTS, _dtype(weight), "r", _place(weight)["offset"], tuple(weight.dims) or (1,))
        # A sum is finite only if every number is, and takes no mask the size of the weight.
        if not np.isfinite(np.sum(stored, dtype=np.float64)):
            raise PipelineError(
                f"Expected finite weights, found NaN or infinity in {bound.tensor} of {checkpoint.path} as "
                f"{stored.dtype}; set dtype float32 if its numbers are larger than that, else fetch or merge again."
            )
        differing = _differing(stored.T if bound.transposed else stored, checkpoint.read(bound.tensor))
        if differing:
            raise PipelineError(
                f"Expected {weight.name} in {folder / WEIGHTS} to be {bound.tensor} of {checkpoint.path} bit for bit, "
                f"found {differing:,} numbers that differ; check the disk, then run `dvc repro`."
            )


def _differing(stored: NDArray[Any], tensor: NDArray[Any]) -> int:
    """How many numbers have other bits, some rows at a time."""
    bits, step = f"u{stored.itemsize}", ROWS if tensor.ndim > 1 else tensor.size
    count = 0
    for start in range(0, len(tensor), step):
        expected = tensor[start : start + step].astype(stored.dtype, copy=False)
        count += int(np.count_nonzero(stored[start : start + step].view(bits) != expected.view(bits)))
    return count


def _bound_weights(model: ModelProto, binding: dict[str, Bound], folder: Path) -> list[tuple[TensorProto, Bound]]:
    """The weights outside the graph, in its order. Raises PipelineError when `binding` is not about these."""
    weights = [weight for weight in model.graph.initializer if weight.data_location == TensorProto.EXTERNAL]
    differing = sorted({weight.name for weight in weights} ^ binding.keys())
    if differing:
        raise PipelineError(
            f"Expected {BINDING} in {folder} to name the graph's weights, found {differing[0]!r} in one of them only; "
            "run `dvc repro` to export the base again."
        )
    return [(weight, binding[weight.name]) for weight in weights]


def _dtype(weight: TensorProto) -> np.dtype[Any]:
    return helper.tensor_dtype_to_np_dtype(weight.data_type)


def _place(weight: TensorProto) -> dict[str, int]:
    """`offset` and `length`, in bytes."""
    return {entry.key: int(entry.value) for entry in weight.external_data if entry.key in ("offset", "length")}
