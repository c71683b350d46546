"""What a run needs of disk and memory, by stage: estimates from a model's shape, good to a third or so."""

from pathlib import Path
from typing import NamedTuple

from stages.lib.checkup.shape import ITEM, Shape
from stages.lib.params import Donor, Model, Params

PROGRAM = 0.7e9
"""Bytes of Python with torch, Transformers and ONNX Runtime loaded."""
WORKSPACE = 0.5e9
"""Bytes of what one pass of the model writes down between its layers."""
EXPORT_COPIES = {"float16": 1.3, "float32": 2.3}
"""Peak of an export over the bytes of its weights: the gate of float32 holds a session of the second graph, too."""


class Need(NamedTuple):
    """Bytes of main memory, and of a GPU's; where there is no GPU all of it is main memory."""

    main: float
    gpu: float = 0.0


def memory_needs(shape: Shape, model: Model, params: Params, on_gpu: bool) -> dict[str, Need]:
    """Peak memory of the stages that take the most, by the stage's name."""
    export = PROGRAM + EXPORT_COPIES[model.dtype] * shape.bytes(model.dtype)
    donors = max((len(recipe.donors) for recipe in params.recipes.values()), default=0)
    needs = {}
    if any(isinstance(donor, Donor) for donor in params.donors.values()):
        tuning = tuning_bytes(shape, model, params)
        # Weights pass through main memory on their way to the GPU.
        loaded = frozen_item(model, params) * shape.parameters
        needs["tune"] = Need(PROGRAM + loaded, tuning) if on_gpu else Need(PROGRAM + tuning, tuning)
    # A float32 copy each of base, result, donors' updates and what a method makes of these.
    needs["merge"] = Need(PROGRAM + 4.0 * shape.largest * (2 * donors + 3))
    needs["export"] = Need(export)
    inference = inference_bytes(shape, model, params, on_gpu)
    gpu_inference = inference_bytes(shape, model, params, on_gpu=True)
    needs["infer"] = Need(PROGRAM if on_gpu else PROGRAM + inference, gpu_inference)
    return needs


def frozen_item(model: Model, params: Params) -> int:
    """Bytes of a base weight while a donor is tuned."""
    return {"auto": ITEM[model.dtype], "bfloat16": 2, "float32": 4}[params.tune.base_weights]


def tuning_bytes(shape: Shape, model: Model, params: Params) -> float:
    """LoRA on frozen weights: these, the adapter and its optimizer, activations for the backward pass, logits."""
    tune = params.tune
    tokens = tune.batch_size * tune.max_tokens
    widths = {"k_proj": shape.width + shape.key_values, "v_proj": shape.width + shape.key_values}
    widths |= {"gate_proj": shape.width + shape.inner, "up_proj": shape.width + shape.inner}
    widths |= {"down_proj": shape.width + shape.inner}
    adapter = shape.layers * tune.rank * sum(widths.get(name, 2 * shape.width) for name in model.lora_targets)
    # A layer keeps about ten vectors of its width and five of its inner width, some in two bytes, some in four.
    layer = 3.0 * (10 * shape.width + 5 * shape.inner) * tokens
    kept = 4.0 * shape.width * tokens * shape.layers + layer if tune.gradient_checkpointing else layer * shape.layers
    # Weight, gradient and Adam's two moments of the adapter; logits, their softmax, their gradient and a copy.
    return frozen_item(model, params) * shape.parameters + 16.0 * adapter + kept + 16.0 * tokens * shape.words


def inference_bytes(shape: Shape, model: Model, params: Params, on_gpu: bool) -> float:
    """Weights, past key values and logits of the largest batch; on a GPU past key values take what is left."""
    infer = params.infer
    # On a CPU the file is mapped, and ONNX Runtime rearranges a float32 copy of every matrix.
    weights = shape.bytes(model.dtype) + (0 if on_gpu else shape.bytes("float32"))
    past = 0 if on_gpu else 2 * ITEM[model.dtype] * shape.layers * shape.key_values * infer.generation_tokens
    logits = 8 * shape.words * infer.rows_per_batch
    # The plain graph writes the new past beside the old one, and leaves rows out by one more copy.
    grouped = params.export.grouped_query and model.dtype == "float32" and not on_gpu and infer.attention != "plain"
    return float(weights + past * (1 if grouped else 3) + logits + WORKSPACE)


def disk_need(name: str, stored: int, shape: Shape | None, model: Model, params: Params) -> float:
    """Bytes that the run still writes for one model of `stored` bytes at its source.

    The base, its ONNX, and for each recipe the merged weights and their ONNX; DVC's cache shares them by links. What
    lies there already is taken off.
    """
    copy = shape.bytes(model.dtype) if shape else stored
    whole = stored + copy * (1 + 2 * len(params.recipes))
    there = sum(
        file.stat().st_size
        for kind in ("base", "merged", "onnx")
        for file in (Path("models") / kind / name).rglob("*")
        if file.is_file()
    )
    return float(max(0, whole - there))
