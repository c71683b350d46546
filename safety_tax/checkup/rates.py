"""How fast this machine is at what the stages do, measured in about twenty seconds on matrices of a model's own sizes.

A pass of a model is bound by arithmetic, or by reading the weights when few rows run (the roofline of Williams et al.
2009), so both are measured.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from safety_tax.checkup.shape import Shape
from safety_tax.engine.trial import Trial, computed_type
from safety_tax.settings.donors import Tune

CACHES = 128_000_000
"""Bytes of weights that no processor keeps near."""
ROWS = 384
STORED = 200_000_000
RANKED = 1 << 22
LIBRARIES = "import datasets, onnxruntime, torch, transformers"


class Rates(NamedTuple):
    """Of this machine. One operation is a multiplication or an addition."""

    multiply: float
    """Operations a second of ONNX Runtime in a layer's matrix products, many rows at once."""
    read: float
    """Bytes of weights a second that it gets through for a single row."""
    tuning: float
    """Operations a second of PyTorch, forwards and backwards, in the precision of `tune`."""
    rank: float
    """Weights a second that NumPy sets in order by size, as most merge methods want."""
    store: float
    """Bytes a second that are written to this disk and hashed, as DVC does."""
    start: float
    """Seconds until a stage's process has its libraries."""


def measure(shape: Shape, provider: str, dtype: str, tune: Tune, seconds: float = 12.0) -> Rates:
    """The rates, with layers of `shape`, in the type that the provider computes in.

    `seconds` is what the three rates of matrix products take together; warming up and the rest come on top.
    """
    kind = computed_type(provider, dtype)
    pairs = -(-CACHES // (2 * shape.width * shape.inner * kind.itemsize))
    weights = 2.0 * shape.width * shape.inner * pairs
    trial = Trial(layers(shape, kind, pairs), provider)

    def passes(rows: int) -> Callable[[], None]:
        return trial.runs(np.full((rows, shape.width), 0.01, kind))

    return Rates(
        multiply=2 * weights * ROWS / seconds_of(passes(ROWS), seconds / 3),
        read=kind.itemsize * weights / seconds_of(passes(1), seconds / 3),
        tuning=tuning_rate(shape, dtype, tune, seconds / 3),
        rank=RANKED / seconds_of(rank_weights(), 0.5),
        store=STORED / seconds_of(store_bytes, 0.0, warm=False),
        start=seconds_of(load_libraries, 0.0, warm=False),
    )


def seconds_of(work: Callable[[], object], at_least: float, warm: bool = True) -> float:
    """The median time of one call, of as many as `at_least` seconds take, after one to warm up."""
    if warm:
        work()
    times: list[float] = []
    while not times or sum(times) < at_least:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def layers(shape: Shape, dtype: np.dtype[Any], pairs: int) -> ModelProto:
    """A graph that multiplies `x` [rows, width] up to the inner width and down again, so many times."""
    draw = np.random.default_rng(0)
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []
    last = "x"
    for place in range(pairs):
        for name, size in ((f"up{place}", (shape.width, shape.inner)), (f"down{place}", (shape.inner, shape.width))):
            values = draw.standard_normal(size, np.float32) * np.float32(size[0] ** -0.5)
            weights.append(numpy_helper.from_array(values.astype(dtype), name))
            nodes.append(helper.make_node("MatMul", [last, name], [f"{name}_out"]))
            last = f"{name}_out"
    nodes[-1].output[0] = "y"
    ends = [helper.make_tensor_value_info(name, kind, ["rows", shape.width]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def tuning_rate(shape: Shape, dtype: str, tune: Tune, seconds: float) -> float:
    """Operations a second through frozen layers and back to their input, as `tune` runs a base of that type."""
    import torch  # it takes seconds

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = tune.batch_size * tune.max_tokens
    half = tune.base_weights == "bfloat16" or (tune.base_weights == "auto" and dtype != "float32")
    kind = torch.bfloat16 if half else torch.float32
    up = (torch.randn(shape.inner, shape.width, device=device) * shape.width**-0.5).to(kind)
    down = (torch.randn(shape.width, shape.inner, device=device) * shape.inner**-0.5).to(kind)
    hidden = torch.randn(rows, shape.width, device=device, dtype=kind, requires_grad=True)
    mixed = tune.precision == "bf16" or (tune.precision == "auto" and device == "cuda")

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=mixed):
            linear = torch.nn.functional.linear
            linear(linear(hidden, up), down).float().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * 2 * 2 * rows * shape.width * shape.inner / seconds_of(step, seconds)


def rank_weights() -> Callable[[], None]:
    """Work on a tensor as `ties` does: magnitudes in order, the larger half kept."""
    values = np.random.default_rng(0).standard_normal(RANKED, np.float32)

    def work() -> None:
        sizes = np.abs(values)
        np.where(sizes >= np.partition(sizes, RANKED // 2)[RANKED // 2], values, 0)

    return work


def store_bytes() -> None:
    """Write to the project's disk and hash, by pieces."""
    piece = os.urandom(STORED // 20)
    with TemporaryDirectory(prefix=".safety-tax-", dir=".") as folder:
        digest = hashlib.md5(usedforsecurity=False)  # DVC's
        with (Path(folder) / "bytes").open("wb") as stream:
            for _ in range(20):
                stream.write(piece)
                digest.update(piece)
            stream.flush()
            os.fsync(stream.fileno())


def load_libraries() -> None:
    """Start Python with what most stages import."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", LIBRARIES], check=True, capture_output=True)
