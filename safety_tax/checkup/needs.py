"""What a run needs of disk and memory, by stage: estimates from a model's shape, good to a third or so."""

from pathlib import Path
from typing import NamedTuple

from safety_tax.checkup.shape import ITEM, Shape
from safety_tax.core.workspace import MODELS
from safety_tax.core.yaml_text import parse_yaml
from safety_tax.params import Params
from safety_tax.settings.catalog import Model
from safety_tax.settings.donors import Donor
from safety_tax.settings.sources import HubSource
from safety_tax.settings.stages import JudgeModel

PROGRAM = 0.7e9
"""Bytes of Python with torch, Transformers and ONNX Runtime loaded."""
WORKSPACE = 0.5e9
"""Bytes of what one pass of the model writes down between its layers."""
EXPORT_COPIES = {"float16": 0.2, "bfloat16": 0.2, "float32": 1.0}
"""What an export's peak grows by with the bytes of its weights: the gate of float32 holds them all, in a session."""
ALL_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Need(NamedTuple):
    """Bytes of main memory, and of a GPU's; where there is no GPU all of it is main memory."""

    main: float
    gpu: float = 0.0


def memory_needs(shape: Shape, model: Model, params: Params, on_gpu: bool, infers_on_gpu: bool) -> dict[str, Need]:
    """Peak memory of the stages that take the most, by the stage's name.

    `on_gpu` says whether torch has a GPU to tune on, `infers_on_gpu` whether ONNX Runtime starts on it.
    """
    donors = max((recipe.held() for recipe in params.recipes.values()), default=0)
    needs = {}
    if any(isinstance(donor, Donor) for donor in params.donors.values()):
        tuning = tuning_bytes(shape, model, params)
        # Weights pass through main memory on their way to the GPU.
        loaded = frozen_item(model, params) * shape.parameters
        needs["tune"] = Need(PROGRAM + loaded, tuning) if on_gpu else Need(PROGRAM + tuning, tuning)
    if params.curvature.forms:
        collecting = curvature_memory(shape, params)
        needs["curvature"] = (
            Need(PROGRAM + 4.0 * shape.parameters, collecting) if on_gpu else Need(PROGRAM + collecting)
        )
    if params.importance.donors:
        # Float32 weights with their gradients, sums over the rows, and the scores of the base.
        locating = 4.0 * shape.parameters + 12.0 * shape.linear
        needs["importance"] = Need(PROGRAM + 4.0 * shape.parameters, locating) if on_gpu else Need(PROGRAM + locating)
    # A float32 copy each of base, result, donors' updates and what a method makes of these.
    needs["merge"] = Need(PROGRAM + 4.0 * shape.largest * (2 * donors + 3))
    needs["export"] = Need(PROGRAM + export_bytes(shape, model.dtype))
    inference = inference_bytes(shape, model, params, infers_on_gpu)
    # Beside a GPU that only tunes, nothing of this is asked of it; without one it says what one would have to hold.
    of_gpu = 0.0 if on_gpu and not infers_on_gpu else inference_bytes(shape, model, params, on_gpu=True)
    needs["infer"] = Need(PROGRAM if infers_on_gpu else PROGRAM + inference, of_gpu)
    return needs


def curvature_memory(shape: Shape, params: Params) -> float:
    """Float32 weights, with the rows' hidden states and a layer's moments, or with gradients and two Fishers."""
    curvature = params.curvature
    states = 4.0 * (curvature.harmful + curvature.benign) * curvature.max_tokens * shape.width
    # The moments of a layer's inputs, of two kinds, and what the eigensolver makes of the widest in float64.
    kfac = states + 8.0 * shape.inputs + 40.0 * max(shape.width, shape.inner) ** 2
    diagonal = 12.0 * shape.linear
    forms = {"kfac": kfac, "diagonal": diagonal}
    return 4.0 * shape.parameters + max(forms[form] for form in curvature.forms)


def curvature_bytes(shape: Shape, params: Params) -> float:
    """On disk, in float32: two matrices of each distinct layer input, two numbers of each linear weight."""
    sizes = {"kfac": 8.0 * shape.layers * shape.inputs, "diagonal": 8.0 * shape.linear}
    return sum(sizes[form] for form in params.curvature.forms)


def importance_bytes(shape: Shape, params: Params) -> float:
    """On disk, in float32: a number of each linear weight, once a located donor."""
    return 4.0 * shape.linear * len(params.importance.donors)


def judge_memory_needs(shape: Shape, entry: JudgeModel, params: Params, on_gpu: bool) -> dict[str, Need]:
    """Peak memory of exporting a judge, and of judging by it; a classifier is compared with itself in float32."""
    past = 2 * ITEM[entry.dtype] * shape.layers * shape.key_values * params.run.generation_tokens
    running = shape.bytes(entry.dtype) + WORKSPACE + (past if entry.judge == "guard" else 0)
    here = running + shape.bytes("float32")
    exported = export_bytes(shape, entry.dtype)
    if entry.judge == "classifier":
        exported = shape.bytes(entry.dtype) + 2.0 * shape.bytes("float32")
    return {
        "judge_model": Need(PROGRAM + exported),
        "judge": Need(PROGRAM, running) if on_gpu else Need(PROGRAM + here),
    }


def export_bytes(shape: Shape, dtype: str) -> float:
    """The trace and the graph, without weights, and what a gate holds of these."""
    return WORKSPACE + EXPORT_COPIES[dtype] * shape.bytes(dtype)


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
    targets = ALL_LAYERS if model.lora_targets == "all" else model.lora_targets
    adapter = shape.layers * tune.rank * sum(widths.get(name, 2 * shape.width) for name in targets)
    # A layer keeps about ten vectors of its width and five of its inner width, some in two bytes, some in four.
    layer = 3.0 * (10 * shape.width + 5 * shape.inner) * tokens
    kept = 4.0 * shape.width * tokens * shape.layers + layer if tune.gradient_checkpointing else layer * shape.layers
    # Weight, gradient and Adam's two moments of the adapter; logits, their softmax, their gradient and a copy.
    return frozen_item(model, params) * shape.parameters + 16.0 * adapter + kept + 16.0 * tokens * shape.words


def inference_bytes(shape: Shape, model: Model, params: Params, on_gpu: bool) -> float:
    """Weights, past key values and logits of the largest batch; on a GPU past key values take what is left."""
    run = params.run
    # On a CPU the file is mapped, and ONNX Runtime rearranges a float32 copy of every matrix.
    weights = shape.bytes(model.dtype) + (0 if on_gpu else shape.bytes("float32"))
    past = 0 if on_gpu else 2 * ITEM[model.dtype] * shape.layers * shape.key_values * run.generation_tokens
    logits = 8 * shape.words * run.rows_per_batch
    # The plain graph writes the new past beside the old one, and leaves rows out by one more copy.
    grouped = params.export.grouped_query and model.dtype == "float32" and not on_gpu and run.attention != "plain"
    return float(weights + past * (1 if grouped else 3) + logits + WORKSPACE)


def disk_need(name: str, stored: int, shape: Shape | None, model: Model, params: Params) -> float:
    """Bytes that the run still writes for one model of `stored` bytes at its source.

    The base and, for each recipe, the merged weights; the ONNX graphs read these where they lie, and DVC's cache
    shares them by links. A base of another type is stored once more, in its entry's. What lies there already is taken
    off.
    """
    copy = shape.bytes(model.dtype) if shape else stored
    collected = curvature_bytes(shape, params) + importance_bytes(shape, params) if shape else 0
    whole = stored + copy * len(params.recipes) + collected
    if shape and shape.dtype not in (None, model.dtype):
        whole += copy
    return max(0.0, whole - sum(_there(kind, name) for kind in ("base", "merged", "curvature", "importance")))


def judge_disk_need(name: str, stored: int, shape: Shape | None, entry: JudgeModel) -> float:
    """Bytes that a run still writes for a judge; 0 once it is there.

    Its source in the Hub's cache, and its ONNX. A guard of the entry's type is read where that cache has it.
    """
    if _there("judges", name):
        return 0.0
    copy = shape.bytes(entry.dtype) if shape else stored
    if not isinstance(entry.source, HubSource):
        return float(copy)
    linked = entry.judge == "guard" and shape is not None and shape.dtype == entry.dtype
    return float(stored if linked else stored + copy)


def donor_disk_need(name: str, stored: int) -> float:
    """Bytes that the run still writes for the donor `<donor> of <model>`, whose source holds `stored`."""
    donor, _, model = name.partition(" of ")
    return float(max(0, stored - _there("donors", f"{model}/{donor}")))


def _there(kind: str, name: str) -> int:
    return sum(file.stat().st_size for file in (MODELS / kind / name).rglob("*") if file.is_file())


def recorded_bytes(params: Params, name: str) -> int:
    """What a model took when dvc.lock was written, if its catalogue entry has not changed since; else 0.

    For a source that tells no size before it is fetched: a wheel.
    """
    try:
        lock = parse_yaml(Path("dvc.lock").read_bytes())
        stage = lock["stages"][f"fetch_model@{name}"]
        said = stage["params"]["params.yaml"][f"catalog.{name}.source"]
        same = said == params.model(name).source.model_dump()
        return sum(out["size"] for out in stage["outs"]) if same else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
