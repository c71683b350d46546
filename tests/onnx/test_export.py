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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import yaml
from conftest import EXPORT, ROOT, stored_as, tiny_params
from families import FAMILIES, YARN
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, write_alike
from safety_tax.engine.gqa.rows_session import ROWS_GRAPH
from safety_tax.engine.gqa.session import GROUPED_GRAPH
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.session import CPU, GRAPH
from safety_tax.engine.weight_files import RECORD, require_weights
from safety_tax.model_files.attention import unwritten
from safety_tax.onnx.exporting import export_base
from safety_tax.onnx.graph_pieces import cut, run_in_pieces
from safety_tax.onnx.grouped_query import grouped_logits
from safety_tax.onnx.linking import link_variant
from safety_tax.onnx.logit_positions import add_logit_positions
from safety_tax.onnx.onnx_graph import _refused
from safety_tax.onnx.over_checkpoint import CONTRIB, tensors_of
from safety_tax.onnx.parity import gate_difference, largest_difference, onnx_logits, pytorch_logits
from safety_tax.onnx.rows_export import write_rows_graph

NUMBERS = {"float32": np.float32, "float16": np.float16}


def exported(weights: Path, folder: Path, dtype: str = "float32") -> Path:
    """The weights are stored in that type first, as stage `fetch_model` does."""
    checkpoint = Checkpoint(weights)
    if {checkpoint.dtype(name) for name in checkpoint.names()} == {np.dtype(np.float32)} and dtype != "float32":
        weights = stored_as(weights, folder.with_name(f"{folder.name}-{dtype}"), dtype, 10**9)
    folder.mkdir()
    export_base(weights, dtype, EXPORT, folder)
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
    """How many nodes of each kind; an Identity is only a second name, and products are products."""
    graph = onnx.load(str(folder / GRAPH), load_external_data=False).graph
    return Counter(node.op_type.removeprefix("Fused") for node in graph.node if node.op_type != "Identity")


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
    # A tied head reads the embeddings as they lie, which Optimum transposes first.
    assert kinds(theirs) - kinds(ours) == Counter({"Transpose": 1} if name == "tiny_llama" else {})
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


def chain(*kinds: str) -> onnx.ModelProto:
    """A graph of nodes one behind another, of which the last one makes the logits."""
    names = [*(f"v{place}" for place in range(len(kinds))), "logits"]
    nodes = [
        helper.make_node(kind, [names[place], "w"], [names[place + 1]], f"/{kind}") for place, kind in enumerate(kinds)
    ]
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", "time", 600])
    return helper.make_model(helper.make_graph(nodes, "g", [], [logits]))


def test_logits_are_cut_before_the_heads_product_whatever_stands_behind_it() -> None:
    model = chain("Pow", "MatMul", "Add", "Div", "Mul")
    add_logit_positions(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Pow", "Unsqueeze", "GatherND", "MatMul", "Add", "Div", "Mul"]
    assert model.graph.node[3].input[0] == "wanted_hidden"


def test_a_bias_of_the_head_that_is_widened_is_no_second_head() -> None:
    model = chain("Pow", "MatMul", "Add")
    model.graph.node.insert(0, helper.make_node("Cast", ["bias"], ["w"], "/Cast", to=TensorProto.FLOAT))
    model.graph.node[2].input[1] = "weight"
    add_logit_positions(model)
    assert [node.op_type for node in model.graph.node][-3:] == ["GatherND", "MatMul", "Add"]


def test_a_graph_without_a_linear_head_is_one_sentence() -> None:
    with pytest.raises(PipelineError, match="end in the product of a linear head, found Pow at /Pow"):
        add_logit_positions(chain("MatMul", "Pow", "Add"))


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_qwen2"])
def test_every_tensor_is_read_once_from_its_place(name: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder, checkpoint = exported(tiny_models[name], tmp_path / "onnx"), Checkpoint(tiny_models[name])
    for file in (GRAPH, GROUPED_GRAPH):
        graph = onnx.load(str(folder / file), load_external_data=False).graph
        assert sorted(weight.name for weight in tensors_of(graph)) == checkpoint.names()
        for weight in tensors_of(graph):
            place = {entry.key: entry.value for entry in weight.external_data}
            content = (folder / place["location"]).read_bytes()[int(place["offset"]) :][: int(place["length"])]
            expected = checkpoint.read(weight.name)
            np.testing.assert_array_equal(np.frombuffer(content, np.float32).reshape(weight.dims), expected)
        products = [node for node in graph.node if node.input and node.input[-1] in checkpoint]
        products = [node for node in products if node.op_type.endswith("MatMul")]
        assert {(node.domain, node.op_type) for node in products} == {(CONTRIB, "FusedMatMul")}
        assert len(products) == 2 * 7 + 1
    assert {file.name for file in folder.glob("*.safetensors")} == {"model.safetensors"}
    assert (folder / "model.safetensors").samefile(tiny_models[name] / "model.safetensors")


def test_a_tied_head_is_the_embeddings(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    graph = onnx.load(
        str(exported(tiny_models["tiny_llama"], tmp_path / "onnx") / GRAPH), load_external_data=False
    ).graph
    users = Counter(node.op_type for node in graph.node if "model.embed_tokens.weight" in node.input)
    assert users == {"Gather": 1, "FusedMatMul": 1}


def test_equal_tensors_stay_apart(tmp_path: Path) -> None:
    """A fresh model: all norms are ones, and so equal. A merge changes one and not the other."""
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    network = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1))
    network.save_pretrained(tmp_path / "fresh")
    folder = exported(tmp_path / "fresh", tmp_path / "onnx")
    weights = tensors_of(onnx.load(str(folder / GRAPH), load_external_data=False).graph)
    offsets = {entry.value for weight in weights for entry in weight.external_data if entry.key == "offset"}
    assert len(offsets) == len(weights) == 2 * 9 + 3


def moved(weights: Path, folder: Path, shift: int) -> Path:
    """The same model, its header so many bytes longer: no tensor lies where a number of its type may begin."""
    shutil.copytree(weights, folder)
    file = folder / "model.safetensors"
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    longer = content[8 : 8 + size] + b" " * shift
    file.write_bytes((size + shift).to_bytes(8, "little") + longer + content[8 + size :])
    return folder


@pytest.mark.parametrize("graph", [GRAPH, GROUPED_GRAPH])
def test_a_tensor_may_begin_at_any_byte(graph: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = exported(moved(tiny_models["tiny_qwen2"], tmp_path / "moved", 3), tmp_path / "odd")
    plain = exported(tiny_models["tiny_qwen2"], tmp_path / "even")
    weights = tensors_of(onnx.load(str(folder / GRAPH), load_external_data=False).graph)
    offsets = [int(entry.value) for weight in weights for entry in weight.external_data if entry.key == "offset"]
    assert {offset % 4 for offset in offsets} == {3}
    prompts = [[5, 6, 7, 8, 9], [5, 6, 11, 12]]
    logits = onnx_logits if graph == GRAPH else grouped_logits
    for odd, even in zip(logits(folder, prompts), logits(plain, prompts), strict=True):
        np.testing.assert_array_equal(odd, even)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_sharded_checkpoint_is_exported_over_its_shards(
    dtype: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    weights = stored_as(tiny_models["tiny_mistral"], tmp_path / "shards", dtype, 100_000)
    shards = sorted(file.name for file in weights.glob("*.safetensors"))
    assert len(shards) > 2
    ours = exported(weights, tmp_path / "ours", dtype)
    assert sorted(file.name for file in ours.glob("*.safetensors")) == shards
    theirs = optimum_export(weights, tmp_path / "theirs", dtype)
    require_equal(ours, theirs, dtype)


def changed(weights: Path, folder: Path, name: str) -> Path:
    """A merge's output: the base's companions and layout, another number in every place of one tensor."""
    shutil.copytree(weights, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    base = Checkpoint(weights)
    for file in base.files:
        write_alike(file, base, lambda tensor: base.read(tensor) + (0.125 if tensor == name else 0), folder / file.name)
    return folder


def test_a_variant_is_the_bases_graph_beside_its_own_weights(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    shards = stored_as(tiny_models["tiny_llama"], tmp_path / "shards", "float32", 100_000)
    for name, weights in (("one", tiny_models["tiny_llama"]), ("many", shards)):
        base = exported(weights, tmp_path / f"{name}-base")
        merged = changed(weights, tmp_path / f"{name}-merged", "model.layers.1.mlp.up_proj.weight")
        variant = tmp_path / f"{name}-variant"
        variant.mkdir()
        link_variant(merged, base, variant)
        assert {file.name for file in variant.iterdir()} == {file.name for file in base.iterdir()}
        for file in (GRAPH, GROUPED_GRAPH, RECORD):
            assert (variant / file).read_bytes() == (base / file).read_bytes()
        for file in merged.glob("*.safetensors"):
            assert (variant / file.name).samefile(file)
        require_equal(variant, optimum_export(merged, tmp_path / f"{name}-theirs", "float32"), "float32")


def test_an_export_never_loads_the_weights_to_trace(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    """The graph is made from config.json and the headers: the same with any weights."""
    weights = stored_as(tiny_models["tiny_llama"], tmp_path / "zeros", "float32", 10**9)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in load_file(weights / "model.safetensors").items()}
    save_file(tensors, weights / "model.safetensors", {"format": "pt"})
    zeros, real = exported(weights, tmp_path / "a"), exported(tiny_models["tiny_llama"], tmp_path / "b")
    assert (zeros / GRAPH).read_bytes() == (real / GRAPH).read_bytes()
    for one, other in zip(outputs(zeros, "float32", True), outputs(real, "float32", True), strict=True):
        assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra.weight": torch.ones(3)}, r"extra\.weight unused"),
        ({"model.norm.weight": None}, r"the tensor model\.norm\.weight \(64,\).*found none"),
        ({"model.norm.weight": torch.ones(65)}, r"model\.norm\.weight \(64,\).*found \(65,\)"),
        (
            {"model.norm.weight": torch.ones(64, dtype=torch.bfloat16)},
            r"norm\.weight of .* as float32 \[64\], found bfloat16 \[64\]",
        ),
        ({"lm_head.weight": torch.ones(600, 64)}, r"embed_tokens\.weight unused|lm_head\.weight unused"),
    ],
)
def test_a_checkpoint_that_is_not_the_configs_is_refused(
    change: dict[str, torch.Tensor | None], message: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    weights = stored_as(tiny_models["tiny_llama"], tmp_path / "changed", "float32", 10**9)
    tensors = load_file(weights / "model.safetensors") | change
    save_file({k: v for k, v in tensors.items() if v is not None}, weights / "model.safetensors", {"format": "pt"})
    with pytest.raises(PipelineError, match=message):
        exported(weights, tmp_path / "onnx")


def test_an_architecture_that_optimum_does_not_know_is_refused(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    weights = stored_as(tiny_models["tiny_llama"], tmp_path / "other", "float32", 10**9)
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
    assert 1e-4 < difference < EXPORT.tolerance("float16")


def test_a_variant_that_is_not_the_bases_kind_is_refused(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    base = exported(tiny_models["tiny_llama"], tmp_path / "base")
    merged = stored_as(tiny_models["tiny_llama"], tmp_path / "merged", "float32", 10**9)

    def variant(name: str) -> None:
        (tmp_path / name).mkdir()
        link_variant(merged, base, tmp_path / name)

    config = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps(config | {"rope_theta": 5e5}))
    with pytest.raises(PipelineError, match=r"to be the base's, .* found another 'rope_theta'"):
        variant("turned")
    (merged / "config.json").write_text(json.dumps(config))
    tensors = load_file(merged / "model.safetensors")

    def other(change: dict[str, torch.Tensor | None]) -> None:
        kept = {key: value for key, value in (tensors | change).items() if value is not None}
        save_file(kept, merged / "model.safetensors", {"format": "pt"})

    norm = "model.norm.weight"
    for number, (change, message) in enumerate(
        (
            ({"lm_head.weight": torch.ones(600, 64)}, r"tensors in .*, lm_head\.weight as none, found \(\(600, 64\)"),
            ({norm: None}, r"model\.norm\.weight as \(\(64,\), 'float32'\), found none; merge again"),
            ({norm: torch.ones(65)}, r"found \(\(65,\), 'float32'\)"),
            ({norm: tensors[norm].half()}, r"found \(\(64,\), 'float16'\)"),
        )
    ):
        other(change)
        with pytest.raises(PipelineError, match=message):
            variant(f"other{number}")
    other({})
    variant("same")
    elsewhere = moved(merged, tmp_path / "moved", 8)
    with pytest.raises(PipelineError, match=r"every tensor of .*moved at its place in .* found model\.safetensors to"):
        link_variant(elsewhere, base, tmp_path / "same")
    for graph in base.glob("*.onnx"):
        graph.unlink()
    with pytest.raises(PipelineError, match=r"Expected the base's graph in .*, found none"):
        variant("alone")


def test_weight_files_that_changed_after_the_export_are_refused(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    weights = stored_as(tiny_models["tiny_llama"], tmp_path / "shards", "float32", 100_000)
    folder = exported(weights, tmp_path / "onnx")
    require_weights(folder)
    file = folder / sorted(file.name for file in weights.glob("*.safetensors"))[1]
    content, name = file.read_bytes(), file.name.replace(".", r"\.")

    def refused(change: bytes | Path | None, message: str) -> None:
        file.unlink(missing_ok=True)
        if isinstance(change, Path):
            file.symlink_to(change)
        elif change is not None:
            file.write_bytes(change)
        for load in (lambda: Plain(folder, CPU), lambda: Tree(folder, CPU)):
            with pytest.raises(PipelineError, match=message):
                load()

    refused(None, rf"Expected the weights .*{name}, found no such file")
    refused(content[:-4], rf"{name} of {len(content):,} bytes, as they were exported, found {len(content) - 4:,} bytes")
    size = int.from_bytes(content[:8], "little")
    refused(
        content[:8] + content[8 : 8 + size].replace(b"F32", b"I32", 1) + content[8 + size :], "found another header"
    )
    refused(b"\xff" * len(content), "Expected a safetensors file at")
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(content)
    refused(outside, rf"{name} in that folder, found a link to .*outside\.safetensors, which ONNX Runtime")
    file.unlink()
    file.write_bytes(content)
    Plain(folder, CPU)
    (folder / RECORD).write_text('{"../model.safetensors": {"bytes": 1, "header": ""}}', encoding="utf-8")
    refused(content, r"found the name '\.\./model\.safetensors'")
    (folder / RECORD).write_text("[]", encoding="utf-8")
    refused(content, "found what cannot be read")
    (folder / RECORD).unlink()
    refused(content, r"Expected the sizes of the weights in .*weights\.json, found no such file")


def test_a_variant_imports_next_to_nothing(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    weights = tiny_models["tiny_llama"]
    (tmp_path / "models/onnx/tiny_llama").mkdir(parents=True)
    exported(weights, tmp_path / "models/onnx/tiny_llama/base")
    changed(weights, tmp_path / "models/merged/tiny_llama/ties", "model.norm.weight")
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
    assert "MB of weights, the base's graph" in result.stdout, result.stdout + result.stderr
    loaded = result.stdout.splitlines()[-1]
    assert "'safety_tax.onnx.linking'" in loaded
    # The last two are soon imported: a variant takes less time than they do.
    slow = ("torch", "transformers", "optimum", "accelerate", "onnx", "onnxruntime", "datasets", "numpy", "pydantic")
    assert not [name for name in slow if f"'{name}'" in loaded]


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


@pytest.mark.parametrize("kind", ["gemma2", "phi4", "gpt2", "gpt_neox", "phi"])
def test_a_family_in_float16_passes_its_own_gate(kind: str, tmp_path: Path) -> None:
    """Gemma's is traced without folding, and its products are in float16 all the same. Others have layer norms."""
    FAMILIES[kind].network().to(torch.float16).save_pretrained(tmp_path / "weights")
    folder = exported(tmp_path / "weights", tmp_path / "onnx", "float16")
    assert 0 < largest_difference(tmp_path / "weights", folder, [list(range(10, 40))]) < 0.1
    graph = onnx.load(str(folder / GRAPH), load_external_data=False).graph
    weights = {weight.name for weight in tensors_of(graph)}
    assert not [node.name for node in graph.node if node.op_type == "Transpose" and node.input[0] in weights]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["gemma", "gemma2", "gemma3", "phi4", "olmo2", "olmo3", "granite", "smollm3"])
def test_a_family_in_16_bits_has_its_graph_for_gpus(kind: str, dtype: str, tmp_path: Path) -> None:
    """Against PyTorch in float32 on the CPU; that its types are those of a graph shows when it is loaded."""
    FAMILIES[kind].network().to(getattr(torch, dtype)).save_pretrained(tmp_path / "weights")
    folder = exported(tmp_path / "weights", tmp_path / "onnx", dtype)
    asked = [list(range(10, 40)), list(range(100, 150))]
    assert gate_difference(tmp_path / "weights", folder, asked, 0.2) < {"float16": 0.1, "bfloat16": 1e-3}[dtype]
    try:
        ort.InferenceSession(str(folder / ROWS_GRAPH), providers=["CPUExecutionProvider"])
    except NoKernel as error:
        assert dtype == "bfloat16" and "Could not find an implementation" in str(error)


def test_a_factor_of_a_graph_for_gpus_is_not_rounded_to_16_bits(tmp_path: Path) -> None:
    """PyTorch multiplies by Granite's 0.22 in float32; the gate would not see it, which computes in float32."""
    FAMILIES["granite"].network().to(torch.bfloat16).save_pretrained(tmp_path / "weights")
    folder = exported(tmp_path / "weights", tmp_path / "onnx", "bfloat16")
    graph = onnx.load(str(folder / ROWS_GRAPH), load_external_data=False).graph
    (factor,) = (tensor for tensor in graph.initializer if tensor.name == "times_0.22")
    assert numpy_helper.to_array(factor) == np.float32(0.22)
    multiplied = [node for node in graph.node if "times_0.22" in node.input]
    casts = {node.output[0]: helper.get_node_attr_value(node, "to") for node in graph.node if node.op_type == "Cast"}
    assert len(multiplied) == 4 and {casts[node.input[0]] for node in multiplied} == {TensorProto.FLOAT}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("gemma3", {"layer_types": ["sliding_attention"] * 2}),  # which rotate otherwise than the others
        ("gemma3", {"attn_logit_softcapping": 0.5}),  # which its class reads and never applies
        ("phi4", {"sliding_window": 12}),
        ("exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 2}),  # then all rotate
        ("cohere", {"use_qk_norm": False}),
        ("olmo3", {"rope_scaling": YARN}),
        ("granite", {"attention_bias": True, "mlp_bias": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_other_settings_of_a_family_pass_the_gates_of_both_fast_graphs(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    family = FAMILIES[kind]
    other = replace(family, settings=family.settings | settings)
    other.network().save_pretrained(tmp_path / "weights")
    folder = exported(tmp_path / "weights", tmp_path / "onnx")
    assert (folder / GROUPED_GRAPH).exists()
    if unwritten(other.config()) is None:
        write_rows_graph(folder)
    asked = [list(range(10, 40)), list(range(100, 150))]
    assert gate_difference(tmp_path / "weights", folder, asked, 0.2) < 2e-4


def test_a_family_whose_trace_in_float16_is_no_graph_is_one_sentence() -> None:
    """A sum of two types, as a tracer may leave it."""
    kinds = {"narrow": TensorProto.FLOAT16, "wide": TensorProto.FLOAT, "sum": TensorProto.FLOAT}
    one, other, found = (helper.make_tensor_value_info(name, kind, [1]) for name, kind in kinds.items())
    graph = helper.make_graph([helper.make_node("Add", ["narrow", "wide"], ["sum"])], "g", [one, other], [found])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    network = FAMILIES["gpt2"].network()
    words = r"traces in float16, found the family 'gpt2'.*different types.*set its dtype to float32"
    with pytest.raises(PipelineError, match=words), _refused(network, "float16"):
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
