"""Drawing in the graph, where two sums of the same numbers differ; `test_rows_graph` draws by hand."""

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from safety_tax.engine.gqa.rows_session import CHOSEN, COLDNESS, TARGETS, UNIFORMS
from safety_tax.engine.session import CPU
from safety_tax.onnx.rows_pieces import Pieces
from safety_tax.onnx.token_choice import choose


def test_a_token_of_no_probability_is_never_drawn() -> None:
    """The graph looks for the group of tokens, then for the token: its sums differ in the last bits at the seams."""
    vocabulary, size = 900, 30
    pieces = Pieces(TensorProto.FLOAT, {})
    choose(pieces, "logits", vocabulary)
    shapes: dict[str, list[str | int]] = {
        "logits": ["n", vocabulary],
        TARGETS: ["n", "k"],
        UNIFORMS: ["n"],
        COLDNESS: [1],
    }
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64 if name == TARGETS else TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    outputs = [helper.make_tensor_value_info(CHOSEN, TensorProto.INT64, ["n"])]
    graph = helper.make_graph(pieces.nodes, "choose", inputs, outputs, list(pieces.initializers.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=[CPU])
    logits = np.random.default_rng(0).normal(0, 3, (40, vocabulary)).astype(np.float32)
    logits[:, ::size] = logits[:, size - 1 :: size] = -200  # the first and the last token of every group
    for of_row in logits:
        weights = np.exp(of_row.astype(np.float64))
        ends = (np.cumsum(weights) / weights.sum())[size - 1 : -1 : size].astype(np.float32)
        near = (ends.view(np.int32)[:, None] + np.arange(-8, 9, dtype=np.int32)).reshape(-1).view(np.float32)
        given = {"logits": np.tile(of_row, (len(near), 1)), UNIFORMS: near, COLDNESS: np.ones(1, np.float32)}
        (drawn,) = session.run([CHOSEN], given | {TARGETS: np.zeros((len(near), 1), np.int64)})
        assert (of_row[drawn] > -200).all()
