"""Models of real shapes and random weights, written where they are run: nothing is fetched.

All matrices are stretches of one random file, some of them the same bytes. A GPU reads each as its own copy, so time
and memory are those of the real model, and the file is hardly larger than the largest matrix.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from safety_tax.engine.gqa.rows_session import ROWS_GRAPH
from safety_tax.engine.weight_files import write_record
from safety_tax.onnx.rows_graph import Decoder, rows_graph

Table = NDArray[np.float32]
DATA = "rows.onnx.data"
SLACK = 1 << 20
BLOCK = 1 << 22
SPREAD = 0.02
OPSET = 18


@dataclass(frozen=True)
class Model:
    """A decoder with the sizes that only its weights show."""

    decoder: Decoder
    inner: int
    biased: bool
    tied: bool

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, by its checkpoint name."""
        of, found = self.decoder, {"model.embed_tokens.weight": (self.decoder.vocabulary, self.decoder.width)}
        for layer in range(of.layers):
            name = f"model.layers.{layer}"
            for part, heads in (("q", of.heads), ("k", of.kv_heads), ("v", of.kv_heads)):
                found[f"{name}.self_attn.{part}_proj.weight"] = (heads * of.head_size, of.width)
                if self.biased:
                    found[f"{name}.self_attn.{part}_proj.bias"] = (heads * of.head_size,)
            found[f"{name}.self_attn.o_proj.weight"] = (of.width, of.heads * of.head_size)
            for part in ("gate", "up"):
                found[f"{name}.mlp.{part}_proj.weight"] = (self.inner, of.width)
            found[f"{name}.mlp.down_proj.weight"] = (of.width, self.inner)
            for norm in ("input_layernorm", "post_attention_layernorm"):
                found[f"{name}.{norm}.weight"] = (of.width,)
        found["model.norm.weight"] = (of.width,)
        if not self.tied:
            found["lm_head.weight"] = (of.vocabulary, of.width)
        return found

    def products(self) -> int:
        """Numbers of the matrices that a token is multiplied by, the head left out."""
        return sum(int(np.prod(shape)) for name, shape in self.shapes().items() if "_proj.weight" in name)

    def head(self) -> int:
        """Numbers of the head."""
        return self.decoder.vocabulary * self.decoder.width


MODELS = {
    "tiny": Model(Decoder(2, 64, 4, 2, 16, 600, 512, 1e-5), 128, True, True),
    "1B": Model(Decoder(16, 2048, 32, 8, 64, 128_256, 8192, 1e-5), 8192, False, True),  # as Llama-3.2-1B
    "8B": Model(Decoder(32, 4096, 32, 8, 128, 128_256, 8192, 1e-5), 14_336, False, False),  # as Llama-3.1-8B
    "14B": Model(Decoder(48, 5120, 40, 8, 128, 152_064, 8192, 1e-6), 13_824, True, False),  # as Qwen2.5-14B
}


def write(model: Model, kind: int, folder: Path, computed: int | None = None) -> Path:
    """Write the graph in ONNX type `kind` and its weights to `folder`, which is returned. `computed` is another type
    that products are made in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights: dict[str, TensorProto] = {}
    draw = np.random.default_rng(0)
    shapes = model.shapes()
    largest = max(int(np.prod(shape)) for shape in shapes.values()) * dtype.itemsize
    for number, (name, shape) in enumerate(shapes.items()):
        length = int(np.prod(shape)) * dtype.itemsize
        if len(shape) == 1:
            values = np.zeros(shape) if name.endswith("bias") else np.ones(shape)
            weights[name] = numpy_helper.from_array(values.astype(dtype), name)
            continue
        tensor = TensorProto(name=name, data_type=kind, dims=shape, raw_data=b"")
        set_external_data(tensor, DATA, offset=number * 4096 % SLACK, length=length)
        tensor.ClearField("raw_data")
        weights[name] = tensor
    if not (folder / DATA).exists() or (folder / DATA).stat().st_size != largest + SLACK:
        block = (draw.standard_normal(BLOCK, np.float32) * np.float32(SPREAD)).astype(dtype).view(np.uint8)
        with (folder / DATA).open("wb") as stream:
            for start in range(0, largest + SLACK, block.nbytes):
                stream.write(block[: largest + SLACK - start].data)
    graph = rows_graph(model.decoder, computed or kind, weights, *tables(model.decoder), OPSET)
    (folder / ROWS_GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
    write_record(folder)  # none: these numbers are no checkpoint's
    return folder


def tables(decoder: Decoder) -> tuple[Table, Table]:
    """Cosines and sines of plain rotation, base 500,000."""
    rates = 500_000.0 ** (-np.arange(0, decoder.head_size, 2) / decoder.head_size)
    angles = np.arange(decoder.positions)[:, None] * rates
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
