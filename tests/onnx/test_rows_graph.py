"""How the rows graph chooses a token, by hand: a decoder whose layer adds nothing and whose logits are log p."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper

from safety_tax.onnx.rows_graph import Decoder, rows_graph

SIZE = 16
P = np.array([0.1, 0.4, 0.2, 0.25, 0.05])
"""Of each token, whatever came before."""
DECODER = Decoder(
    layers=1, width=SIZE, heads=1, kv_heads=1, head_size=SIZE, vocabulary=len(P), positions=8, epsilon=1e-12
)


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    zeros, ones = np.zeros((SIZE, SIZE), np.float32), np.ones(SIZE, np.float32)
    layer = "model.layers.0"
    names = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    weights = {f"{layer}.{name}.weight": zeros for name in names}
    for norm in (f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm", "model.norm"):
        weights[f"{norm}.weight"] = ones
    # Every token is the first unit vector, whose root mean square is a quarter: the norm makes it four times as long.
    weights["model.embed_tokens.weight"] = np.tile(np.eye(SIZE, dtype=np.float32)[:1], (len(P), 1))
    weights["lm_head.weight"] = np.outer(np.log(P) / 4, np.eye(SIZE)[0]).astype(np.float32)
    tables = np.ones((8, SIZE // 2), np.float32), np.zeros((8, SIZE // 2), np.float32)
    tensors = {name: numpy_helper.from_array(value, name) for name, value in weights.items()}
    model = rows_graph(DECODER, TensorProto.FLOAT, tensors, *tables, 18)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, uniforms: list[float], coldness: float, targets: Any = None) -> list[Any]:
    """chosen, best and logprobs after the last of three tokens, once for each uniform number."""
    count = len(uniforms)
    past = {f"past_key_values.0.{part}": np.zeros((1, 1, 8, SIZE), np.float32) for part in ("key", "value")}
    given = {
        "input_ids": np.array([[0, 1, 2]]),
        "last_places": np.array([2], np.int32),
        "total_length": np.array([3], np.int32),
        "wanted": np.full(count, 2),
        "targets": np.array(targets or [[0]] * count),
        "uniforms": np.array(uniforms, np.float32),
        "coldness": np.array([coldness], np.float32),
        **past,
    }
    return [found.tolist() for found in session.run(["chosen", "best", "logprobs"], given)]


def test_without_a_temperature_it_is_the_most_likely(session: ort.InferenceSession) -> None:
    chosen, best, _ = run(session, [0.0, 0.999], coldness=0)
    assert chosen == [1, 1]
    assert best == pytest.approx([np.log(0.4)] * 2)


def test_a_draw_is_the_token_whose_share_the_number_lies_in(session: ort.InferenceSession) -> None:
    # The shares end at .1, .5, .7, .95 and 1; the third and the fourth token are of two groups.
    uniforms = [0.0, 0.099, 0.101, 0.499, 0.501, 0.699, 0.701, 0.949, 0.951, 0.9999]
    chosen, best, _ = run(session, uniforms, coldness=1)
    assert chosen == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert best == pytest.approx([np.log(0.4)] * 10)  # not of what was drawn


def test_a_lower_temperature_sharpens_the_shares(session: ort.InferenceSession) -> None:
    ends = np.cumsum(P**2 / (P**2).sum())  # a temperature of a half: .0362, .6159, .7609, .9871, 1
    uniforms = [float(end + step) for end in ends[:-1] for step in (-1e-3, 1e-3)]
    assert run(session, uniforms, coldness=2)[0] == [0, 1, 1, 2, 2, 3, 3, 4]


def test_no_number_draws_a_token_that_is_not_there(session: ort.InferenceSession) -> None:
    """Five tokens fill two groups of three but for one place."""
    assert run(session, [1.0, float(np.nextafter(np.float32(1), np.float32(0)))], coldness=1)[0] == [4, 4]


def test_targets_have_their_own_log_probabilities(session: ort.InferenceSession) -> None:
    _, _, logprobs = run(session, [0.5, 0.5], coldness=0, targets=[[4, 1], [3, 3]])
    np.testing.assert_allclose(logprobs, np.log([[0.05, 0.4], [0.25, 0.25]]), rtol=1e-6)
