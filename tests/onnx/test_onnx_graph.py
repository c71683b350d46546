"""A traced graph's weights by the checkpoint's names, on graphs of one product made here by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.onnx.onnx_graph import Traced, Unexplained, bind, without_transposes
from safety_tax.onnx.over_checkpoint import Bound

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


class Network(torch.nn.Module):
    """A linear layer from two to three, and a norm's weight."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(2, 3, bias=False, dtype=dtype)
        self.norm = torch.nn.RMSNorm(2, dtype=dtype)


def traced(nodes: list[onnx.NodeProto], **weights: tuple[int, list[int]]) -> Traced:
    """A graph from `x` to `y`, whose weights are inputs of a type and a shape."""
    named = {name.replace("__", "."): of for name, of in weights.items()}
    inputs = [helper.make_tensor_value_info(name, *of) for name, of in {"x": (FLOAT, ["n", 2]), **named}.items()]
    graph = helper.make_graph(nodes, "graph", inputs, [helper.make_tensor_value_info("y", FLOAT, ["n", 3])])
    return Traced(helper.make_model(graph), list(named), {})


def base(folder: Path, **tensors: list[int]) -> Checkpoint:
    shapes = {"fc.weight": [3, 2], "norm.weight": [2], **tensors}
    save_file(
        {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if shape}, folder / "model.safetensors"
    )
    return Checkpoint(folder)


def inputs(model: Traced) -> dict[str, tuple[int, list[int]]]:
    return {
        entry.name: (entry.type.tensor_type.elem_type, [of.dim_value for of in entry.type.tensor_type.shape.dim])
        for entry in model.model.graph.input
        if entry.name != "x"
    }


def kinds(model: Traced) -> list[str]:
    return [node.op_type for node in model.model.graph.node]


SCALED = helper.make_node("Mul", ["x", "norm.weight"], ["scaled"])
PRODUCT = helper.make_node("MatMul", ["scaled", "w"], ["y"], "/fc/MatMul")


def test_a_transposed_weight_becomes_a_weight_of_its_own() -> None:
    turn = helper.make_node("Transpose", ["fc.weight"], ["w"], perm=[1, 0])
    found = without_transposes(traced([turn, SCALED, PRODUCT], fc__weight=(FLOAT, [3, 2]), norm__weight=(FLOAT, [2])))
    assert kinds(found) == ["Mul", "MatMul"]
    assert inputs(found) == {"norm.weight": (FLOAT, [2]), "w": (FLOAT, [2, 3])}
    assert found.transposed == {"w": "fc.weight"} and found.weights == ["norm.weight", "w"]


def test_what_widens_it_goes_with_the_transpose() -> None:
    turn = helper.make_node("Transpose", ["fc.weight"], ["turned"], perm=[1, 0])
    widen = helper.make_node("Cast", ["turned"], ["w"], to=FLOAT)
    found = without_transposes(
        traced([turn, widen, SCALED, PRODUCT], fc__weight=(HALF, [3, 2]), norm__weight=(FLOAT, [2]))
    )
    assert kinds(found) == ["Mul", "MatMul"]
    assert inputs(found)["w"] == (FLOAT, [2, 3])


@pytest.mark.parametrize("use", [("Add", ["scaled", "w"]), ("MatMul", ["w", "scaled"])])
def test_a_transpose_for_anything_but_a_product_from_the_right_stays(use: tuple[str, list[str]]) -> None:
    turn = helper.make_node("Transpose", ["fc.weight"], ["w"], perm=[1, 0])
    other = helper.make_node(*use, ["y"])
    found = without_transposes(traced([turn, SCALED, other], fc__weight=(FLOAT, [3, 2]), norm__weight=(FLOAT, [2])))
    assert "Transpose" in kinds(found) and found.transposed == {}
    assert inputs(found)["fc.weight"] == (FLOAT, [3, 2])


def folded(**changed: tuple[int, list[int]]) -> Traced:
    """As the tracer leaves it when it has folded the transpose: under a name of its own."""
    return traced([SCALED, PRODUCT], **{"w": (FLOAT, [2, 3]), "norm__weight": (FLOAT, [2]), **changed})


def test_a_weight_is_known_by_its_name_or_by_the_layer_that_multiplies_by_it(tmp_path: Path) -> None:
    model = folded()
    binding = bind(model, Network(), base(tmp_path))  # type: ignore[arg-type]
    assert binding == {"w": Bound("fc.weight", True), "norm.weight": Bound("norm.weight", False)}
    assert inputs(model) == {}
    made = {entry.name: (entry.data_type, list(entry.dims)) for entry in model.model.graph.initializer}
    assert made == {"w": (FLOAT, [2, 3]), "norm.weight": (FLOAT, [2])}


def test_a_layer_that_the_trace_widened_multiplies_in_its_own_type(tmp_path: Path) -> None:
    model = folded(norm__weight=(HALF, [2]))
    bind(model, Network(torch.float16), base(tmp_path))  # type: ignore[arg-type]
    assert kinds(model) == ["Mul", "Cast", "MatMul", "Cast"]
    _, narrow, product, wide = model.model.graph.node
    assert [helper.get_node_attr_value(node, "to") for node in (narrow, wide)] == [HALF, FLOAT]
    assert (narrow.input[0], product.input[0], wide.output[0]) == ("scaled", narrow.output[0], "y")
    assert product.output[0] == wide.input[0]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            folded(w=(FLOAT, [3, 2])),
            "weight w to be a parameter or the transposed weight of a linear layer",
        ),
        (folded(norm__weight=(FLOAT, [3])), "Expected the graph's weight norm.weight to be a parameter"),
    ],
)
def test_a_weight_that_was_computed_from_one_is_unexplained(model: Traced, words: str, tmp_path: Path) -> None:
    with pytest.raises(Unexplained, match=words):
        bind(model, Network(), base(tmp_path))  # type: ignore[arg-type]


def test_a_widened_weight_at_another_node_is_unexplained(tmp_path: Path) -> None:
    with pytest.raises(Unexplained, match=r"weight norm\.weight in the type of its parameter, found it widened at Mul"):
        bind(folded(w=(HALF, [2, 3])), Network(torch.float16), base(tmp_path))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"fc.weight": None}, r"Expected the tensor fc.weight \(3, 2\) in .*, found none; fetch the model again"),
        ({"fc.weight": [2, 3]}, r"Expected the tensor fc.weight \(3, 2\) in .*, found \(2, 3\)"),
        ({"more.weight": [1]}, r"Expected every tensor of .* in the graph, found more.weight unused"),
    ],
)
def test_a_checkpoint_of_other_tensors_is_one_sentence(tensors: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=words):
        bind(folded(), Network(), base(tmp_path, **tensors))  # type: ignore[arg-type]
