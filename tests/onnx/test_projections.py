"""Queries, keys and values in a traced graph, by its nodes' names."""

import pytest
from onnx import GraphProto, NodeProto, helper

from safety_tax.core.errors import PipelineError
from safety_tax.onnx.projections import Projections

LAYER = "/model/layers.0/self_attn"


def graph_of(*nodes: NodeProto) -> GraphProto:
    return helper.make_graph(list(nodes), "g", [], [])


def node(name: str, operator: str, *inputs: str) -> NodeProto:
    return helper.make_node(operator, list(inputs), [f"{name}.out"], name)


def product(kind: str) -> NodeProto:
    return node(f"{LAYER}/{kind}_proj/MatMul", "MatMul", "x", f"{kind}.weight")


def test_a_bias_comes_after_the_product() -> None:
    biased = node(f"{LAYER}/k_proj/Add", "Add", f"{LAYER}/k_proj/MatMul.out", "k.bias")
    found = Projections(graph_of(product("q"), product("k"), biased, product("v"))).of(LAYER)
    assert found == [f"{LAYER}/{name}.out" for name in ("q_proj/MatMul", "k_proj/Add", "v_proj/MatMul")]


def test_one_product_for_all_is_cut_into_three() -> None:
    parts = [node(f"{LAYER}/Slice_{place}", "Slice", f"{LAYER}/qkv_proj/MatMul.out") for place in range(3)]
    found = Projections(graph_of(product("qkv"), *parts)).of(LAYER)
    assert found == [part.output[0] for part in parts]


@pytest.mark.parametrize("turned", [False, True])
def test_behind_a_norm_the_heads_are_in_one_row_again(turned: bool) -> None:
    before = node(f"{LAYER}/heads", "Transpose" if turned else "Reshape", f"{LAYER}/q_proj/MatMul.out")
    norm = [
        node(f"{LAYER}/q_norm/Div", "Div", before.output[0], "scale"),
        node(f"{LAYER}/q_norm/Mul", "Mul", f"{LAYER}/q_norm/Div.out", "weight"),
    ]
    after = node(f"{LAYER}/rotation", "Mul", norm[-1].output[0], "cosines")
    projections = Projections(graph_of(product("q"), before, *norm, after, product("k"), product("v")))
    added_to = projections.of(LAYER)[0]
    added = projections.take_added()
    assert [made.op_type for made in added] == [*(["Transpose"] if turned else []), "Constant", "Reshape"]
    assert norm[-1].output[0] in {name for made in added for name in made.input}
    assert added[-1].output[0] == added_to
    assert projections.take_added() == []


def test_a_projection_of_another_name_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"Expected the node .*/k_proj/MatMul in the traced graph, found none"):
        Projections(graph_of(product("q"), product("v"))).of(LAYER)
