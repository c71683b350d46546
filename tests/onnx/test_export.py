"""The exported graph against Optimum's own export, and what an export refuses."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import yaml
from conftest import ROOT, tiny_params
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, write_checkpoint
from safety_tax.engine.gqa.session import GROUPED_GRAPH
from safety_tax.engine.session import GRAPH
from safety_tax.onnx.exporting import export
from safety_tax.onnx.graph_pieces import cut, run_in_pieces
from safety_tax.onnx.onnx_graph import add_logit_positions
from safety_tax.onnx.onnx_weights import BINDING, WEIGHTS, Bound, load_binding, require_equal_weights
from safety_tax.onnx.parity import largest_difference, pytorch_logits
from safety_tax.settings.catalog import Model
from safety_tax.settings.stages import Export

SETTINGS = Export(opset=18, parity_prompts=2, parity_tolerance=1e-3, parity_tolerance_float16=0.1, grouped_query=True)
NUMBERS = {"float32": np.float32, "float16": np.float16}


def entry(dtype: str = "float32") -> Model:
    return Model.model_construct(dtype=dtype)  # an export reads the dtype alone


def exported(weights: Path, folder: Path, dtype: str = "float32") -> Path:
    folder.mkdir()
    export(weights, None, entry(dtype), SETTINGS, folder)
    return folder


def optimum_export(weights: Path, folder: Path, dtype: str) -> Path:
    """What `optimum-cli export onnx` writes."""
    from optimum.exporters.onnx import main_export

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        main_export(
            str(weights),
            output=folder,
            task="text-generation-with-past",
            opset=18,
            dtype={"float32": "fp32", "float16": "fp16"}[dtype],
            do_validation=False,
        )
    return folder


def inputs(folder: Path, dtype: str, ours: bool) -> dict[str, np.ndarray]:
    """Two rows, one of them padded, after a past of three tokens."""
    session = ort.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(3)
    feed = {"input_ids": draw.integers(3, 600, (2, 7)), "attention_mask": np.ones((2, 10), np.int64)}
    feed["attention_mask"][1, -2:] = 0
    feed["position_ids"] = np.broadcast_to(np.arange(3, 10), (2, 7))
    if ours:
        feed["logit_positions"] = np.broadcast_to(np.arange(7), (2, 7))
    for value in session.get_inputs():
        if value.name.startswith("past"):
            feed[value.name] = draw.standard_normal((2, value.shape[1], 3, value.shape[3])).astype(NUMBERS[dtype])
    return feed


def outputs(folder: Path, dtype: str, ours: bool) -> list[np.ndarray]:
    """Logits and present key values."""
    session = ort.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])
    return session.run(None, inputs(folder, dtype, ours))


def kinds(folder: Path) -> Counter[str]:
    """How many nodes of each kind; an Identity is only a second name."""
    graph = onnx.load(str(folder / GRAPH), load_external_data=False).graph
    return Counter(node.op_type for node in graph.node if node.op_type != "Identity")


def require_equal(ours: Path, theirs: Path, dtype: str) -> None:
    for mine, optimum in zip(outputs(ours, dtype, True), outputs(theirs, dtype, False), strict=True):
        assert mine.dtype == optimum.dtype == NUMBERS[dtype]
        if dtype == "float32":
            np.testing.assert_array_equal(mine, optimum)
        else:  # two roundings of o_proj a layer, which Optimum widens to float32
            np.testing.assert_allclose(mine, optimum, rtol=0, atol=2e-3 * np.abs(optimum).max())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_qwen2"])
def test_the_graph_is_optimums(name: str, dtype: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    ours = exported(tiny_models[name], tmp_path / "ours", dtype)
    theirs = optimum_export(tiny_models[name], tmp_path / "theirs", dtype)
    ours_only = {"Unsqueeze": 1, "GatherND": 1}  # of `logit_positions`
    layers = 2
    assert kinds(ours) - kinds(theirs) == Counter(ours_only | ({"Cast": 2 * layers} if dtype == "float16" else {}))
    assert kinds(theirs) - kinds(ours) == Counter()
    require_equal(ours, theirs, dtype)


def read_before(graph: onnx.GraphProto, name: str) -> set[str]:
    """Every value that the value `name` depends on."""
    made = {output: node for node in graph.node for output in node.output}
    found, waiting = set(), [name]
    while waiting:
        node = made.get(waiting.pop())
        new = set(node.input) - found if node else set()
        found |= new
        waiting += new
    return found


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_qwen2"])
def test_the_last_mlp_runs_only_where_a_logit_is_wanted(
    name: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    folder = exported(tiny_models[name], tmp_path / "onnx")
    for file in (GRAPH, GROUPED_GRAPH):
        graph = onnx.load(str(folder / file), load_external_data=False).graph
        products = [node.output[0] for node in graph.node if node.name.endswith("/mlp/gate_proj/MatMul")]
        assert ["wanted_hidden" in read_before(graph, product) for product in products] == [False, True]
        for output in graph.output:
            assert ("wanted_hidden" in read_before(graph, output.name)) == (output.name == "logits")


def test_layers_of_another_shape_are_one_sentence(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = exported(tiny_models["tiny_llama"], tmp_path / "onnx")
    model = onnx.load(str(folder / GRAPH), load_external_data=False)
    for node in model.graph.node:
        node.name = node.name.replace("self_attn", "attention")
    with pytest.raises(PipelineError, match=r"Expected layers that add what /self_attn/o_proj/MatMul gives"):
        add_logit_positions(model)


def test_a_float16_export_stores_float16_only(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = exported(tiny_models["tiny_mistral"], tmp_path / "onnx", "float16")
    binding = load_binding(folder)
    weights = onnx.load(str(folder / GRAPH), load_external_data=False).graph.initializer
    assert {weight.data_type for weight in weights if weight.name in binding} == {onnx.TensorProto.FLOAT16}


def test_every_tensor_is_bound_once(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    for name, weights in tiny_models.items():
        folder = exported(weights, tmp_path / name)
        binding = load_binding(folder)
        assert sorted(bound.tensor for bound in binding.values()) == Checkpoint(weights).names()
        graph = onnx.load(str(folder / GRAPH)).graph  # with the data
        checkpoint = Checkpoint(weights)
        for weight in graph.initializer:
            if weight.name in binding:
                tensor = checkpoint.read(binding[weight.name].tensor)
                expected = tensor.T if binding[weight.name].transposed else tensor
                np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), expected)
    assert binding["model.layers.0.self_attn.q_proj.bias"] == Bound("model.layers.0.self_attn.q_proj.bias", False)


def test_equal_tensors_stay_apart(tmp_path: Path) -> None:
    """A fresh model: all norms are ones, and so equal. A merge changes one and not the other."""
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    network = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1))
    network.save_pretrained(tmp_path / "fresh")
    binding = load_binding(exported(tmp_path / "fresh", tmp_path / "onnx"))
    assert len({bound.tensor for bound in binding.values()}) == len(binding) == 2 * 9 + 3


def stored_as(weights: Path, folder: Path, dtype: np.dtype, shard_bytes: int) -> Path:
    """The same model with its tensors in another type, and in several files."""
    checkpoint = Checkpoint(weights)
    folder.mkdir()
    shapes = {name: checkpoint.shape(name) for name in checkpoint.names()}
    write_checkpoint(folder, shapes, dtype, checkpoint.read, shard_bytes)
    for file in weights.glob("*.json"):
        if "safetensors" not in file.name:
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_sharded_bfloat16_checkpoint_is_exported_as_its_values(
    dtype: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    weights = stored_as(tiny_models["tiny_mistral"], tmp_path / "bf16", np.dtype(ml_dtypes.bfloat16), 100_000)
    assert len(list(weights.glob("*.safetensors"))) > 2
    ours = exported(weights, tmp_path / "ours", dtype)
    theirs = optimum_export(weights, tmp_path / "theirs", dtype)
    require_equal(ours, theirs, dtype)


def test_a_variant_is_the_bases_graph_with_its_own_weights(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    base = exported(tiny_models["tiny_llama"], tmp_path / "base")
    merged = tmp_path / "merged"
    network = AutoModelForCausalLM.from_pretrained(tiny_models["tiny_llama"])
    with torch.no_grad():
        network.model.layers[1].mlp.up_proj.weight += 0.125
    network.save_pretrained(merged)
    (tmp_path / "variant").mkdir()
    export(merged, base, entry(), SETTINGS, tmp_path / "variant")
    assert (tmp_path / "variant" / GRAPH).read_bytes() == (base / GRAPH).read_bytes()
    theirs = optimum_export(merged, tmp_path / "theirs", "float32")
    require_equal(tmp_path / "variant", theirs, "float32")


def test_an_export_never_loads_the_weights_to_trace(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    """The graph is made from config.json and the headers: the same with any weights."""
    weights = stored_as(tiny_models["tiny_llama"], tmp_path / "zeros", np.dtype(np.float32), 10**9)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in load_file(weights / "model.safetensors").items()}
    save_file(tensors, weights / "model.safetensors", {"format": "pt"})
    zeros, real = exported(weights, tmp_path / "a"), exported(tiny_models["tiny_llama"], tmp_path / "b")
    assert (zeros / GRAPH).read_bytes() == (real / GRAPH).read_bytes()
    assert not np.fromfile(zeros / WEIGHTS, np.float32).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra.weight": torch.ones(3)}, r"extra\.weight unused"),
        ({"model.norm.weight": None}, r"the tensor model\.norm\.weight \(64,\).*found none"),
        ({"model.norm.weight": torch.ones(65)}, r"model\.norm\.weight \(64,\).*found \(65,\)"),
        ({"lm_head.weight": torch.ones(600, 64)}, r"embed_tokens\.weight unused|lm_head\.weight unused"),
    ],
)
def test_a_checkpoint_that_is_not_the_configs_is_refused(
    change: dict[str, torch.Tensor | None], message: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    weights = stored_as(tiny_models["tiny_llama"], tmp_path / "changed", np.dtype(np.float32), 10**9)
    tensors = load_file(weights / "model.safetensors") | change
    save_file({k: v for k, v in tensors.items() if v is not None}, weights / "model.safetensors", {"format": "pt"})
    with pytest.raises(PipelineError, match=message):
        exported(weights, tmp_path / "onnx")


def test_an_architecture_that_optimum_does_not_know_is_refused(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    weights = stored_as(tiny_models["tiny_llama"], tmp_path / "other", np.dtype(np.float32), 10**9)
    config = json.loads((weights / "config.json").read_text()) | {"model_type": "seed_oss", "head_dim": 16}
    (weights / "config.json").write_text(json.dumps(config))
    with pytest.raises(PipelineError, match="'seed_oss'; choose another model"):
        exported(weights, tmp_path / "onnx")


def test_the_gate_runs_the_checkpoint_as_transformers_does(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    prompt = [5, 6, 7, 8, 9]
    for name, weights in tiny_models.items():
        network = AutoModelForCausalLM.from_pretrained(weights).eval()
        with torch.inference_mode():
            expected = network(torch.tensor([prompt])).logits[0].numpy()
        np.testing.assert_array_equal(pytorch_logits(weights, [prompt])[0], expected, err_msg=name)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_qwen2"])
def test_a_float16_export_passes_its_own_gate(name: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = exported(tiny_models[name], tmp_path / "onnx", "float16")
    difference = largest_difference(tiny_models[name], folder, [[5, 6, 7, 8, 9, 10, 11], list(range(20, 60))])
    assert 1e-4 < difference < SETTINGS.tolerance("float16")


def damaged(folder: Path, place: int, value: bytes) -> None:
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.seek(place)
        stream.write(value)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_one_flipped_bit_anywhere_is_found(dtype: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    weights = tiny_models["tiny_qwen2"]
    folder = exported(weights, tmp_path / "onnx", dtype)
    graph, binding = onnx.load(str(folder / GRAPH), load_external_data=False), load_binding(folder)
    require_equal_weights(graph, binding, Checkpoint(weights), folder)
    intact = (folder / WEIGHTS).read_bytes()
    for weight in graph.graph.initializer:
        if weight.name in binding:
            where = {entry.key: int(entry.value) for entry in weight.external_data if entry.key != "location"}
            place = (
                where["offset"] + where["length"] - (4 if dtype == "float32" else 2)
            )  # the last number's lowest bits
            damaged(folder, place, bytes([intact[place] ^ 1]))
            expected = rf"{binding[weight.name].tensor} of .* bit for bit, found 1 numbers"
            with pytest.raises(PipelineError, match=expected):
                require_equal_weights(graph, binding, Checkpoint(weights), folder)
            damaged(folder, place, intact[place : place + 1])


def test_a_weight_that_is_no_number_is_found(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    """A bfloat16 number can be too large for float16."""
    weights = stored_as(tiny_models["tiny_mistral"], tmp_path / "bf16", np.dtype(ml_dtypes.bfloat16), 10**9)
    tensors = load_file(weights / "model.safetensors")
    tensors["model.norm.weight"][3] = 1e5
    save_file(tensors, weights / "model.safetensors", {"format": "pt"})
    exported(weights, tmp_path / "wide")
    with pytest.raises(PipelineError, match=r"NaN or infinity in model\.norm\.weight of .* as float16; set dtype"):
        exported(weights, tmp_path / "narrow", "float16")


def test_a_binding_of_another_graph_is_refused(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    base = exported(tiny_models["tiny_llama"], tmp_path / "base")
    binding = json.loads((base / BINDING).read_text())
    del binding["model.norm.weight"]
    (base / BINDING).write_text(json.dumps(binding))
    with pytest.raises(PipelineError, match=r"found 'model\.norm\.weight' in one of them only"):
        require_equal_weights(
            onnx.load(str(base / GRAPH), load_external_data=False),
            load_binding(base),
            Checkpoint(tiny_models["tiny_llama"]),
            base,
        )


def test_a_variant_that_is_not_the_bases_kind_is_refused(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    base = exported(tiny_models["tiny_llama"], tmp_path / "base")
    merged = stored_as(tiny_models["tiny_llama"], tmp_path / "merged", np.dtype(np.float32), 10**9)

    def variant(name: str) -> None:
        (tmp_path / name).mkdir()
        export(merged, base, entry(), SETTINGS, tmp_path / name)

    config = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps(config | {"rope_theta": 5e5}))
    with pytest.raises(PipelineError, match=r"to be the base's, .* found another 'rope_theta'"):
        variant("turned")
    (merged / "config.json").write_text(json.dumps(config))
    tensors = load_file(merged / "model.safetensors")
    save_file(tensors | {"lm_head.weight": torch.ones(600, 64)}, merged / "model.safetensors", {"format": "pt"})
    with pytest.raises(PipelineError, match=r"the base's tensors in .*, found lm_head\.weight too"):
        variant("untied")
    (base / GRAPH).unlink()
    with pytest.raises(PipelineError, match=r"Expected the base's graph in .*, found none"):
        variant("alone")


def test_a_variant_needs_neither_torch_nor_transformers(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    weights = tiny_models["tiny_llama"]
    (tmp_path / "models/onnx/tiny_llama").mkdir(parents=True)
    exported(weights, tmp_path / "models/onnx/tiny_llama/base")
    shutil.copytree(weights, tmp_path / "models/merged/tiny_llama/ties")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_params(tiny_models)), encoding="utf-8")
    (tmp_path / "dvc.yaml").touch()
    code = "import sys; from stages.export import main; main(); print(sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code, "tiny_llama", "ties"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "every weight equals its tensor" in result.stdout, result.stdout + result.stderr
    loaded = result.stdout.splitlines()[-1]
    assert "'onnx'" in loaded
    assert not [name for name in ("torch", "transformers", "optimum", "accelerate") if f"'{name}'" in loaded]


@pytest.mark.parametrize("piece_bytes", [1, 40_000, 1 << 30])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_graph_in_pieces_gives_what_it_gives_whole(
    dtype: str, piece_bytes: int, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    for name, weights in tiny_models.items():
        folder = exported(weights, tmp_path / name, dtype)
        whole = outputs(folder, dtype, True)
        graph = onnx.load(str(folder / GRAPH), load_external_data=False).graph
        (found,) = run_in_pieces(folder / GRAPH, [inputs(folder, dtype, True)], piece_bytes)
        for output, expected in zip(graph.output, whole, strict=True):
            limit = (1e-6 if dtype == "float32" else 2e-3) * np.abs(expected).max()
            np.testing.assert_allclose(found[output.name], expected, rtol=0, atol=limit, err_msg=output.name)


def test_pieces_hold_every_node_once_and_few_weights(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    graph = onnx.load(
        str(exported(tiny_models["tiny_llama"], tmp_path / "onnx") / GRAPH), load_external_data=False
    ).graph
    sizes = {weight.name: 4 * int(np.prod(weight.dims)) for weight in graph.initializer}
    pieces = cut(graph, 40_000)
    names = [node.name for piece in pieces for node in piece.nodes]
    assert sorted(names) == sorted(node.name for node in graph.node)
    assert len(pieces) > 8
    for piece in pieces:
        assert sum(sizes[name] for name in piece.weights) <= 40_000 or len(piece.weights) <= 2
    tied = [place for place, piece in enumerate(pieces) if "model.embed_tokens.weight" in piece.weights]
    assert tied == [0, len(pieces) - 1]  # the head's transpose is not kept from the start on


TRACE = """
import resource, sys
from pathlib import Path
import torch
from safety_tax.onnx import onnx_graph
from safety_tax.onnx.weightless import weightless

def traced(folder):
    network = weightless(Path(folder), torch.float32)
    onnx_graph.trace(network, "float32", 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

small = traced(sys.argv[1])  # imports everything
print(traced(sys.argv[2]) - small)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="macOS counts ru_maxrss in another unit")
def test_a_trace_takes_no_memory_for_weights(tmp_path: Path) -> None:
    layers, hidden, inner = 8, 1024, 4096
    for name, wide in (("small", 1), ("large", 8)):
        config = LlamaConfig(
            vocab_size=100,
            hidden_size=hidden * wide // 8,
            intermediate_size=inner * wide // 8,
            num_hidden_layers=layers,
            num_attention_heads=8,
            num_key_value_heads=8,
        )
        config.architectures = ["LlamaForCausalLM"]
        config.save_pretrained(tmp_path / name)
    command = [sys.executable, "-c", TRACE, str(tmp_path / "small"), str(tmp_path / "large")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    weights = layers * (4 * hidden**2 + 3 * hidden * inner) * 4
    assert int(result.stdout.split()[-1]) < weights / 2
