"""A graph that `doctor` times."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from safety_tax.engine.session import CPU, CUDA
from safety_tax.engine.trial import Trial, computed_type


def test_a_graph_is_run_on_what_it_is_given() -> None:
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", "columns"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    trial = Trial(model, CPU)
    trial.runs(np.ones((5, 3), np.float32))()
    with pytest.raises(Exception, match="MatMul dimension mismatch"):  # it does multiply
        trial.runs(np.ones((5, 4), np.float32))()


@pytest.mark.parametrize(
    ("provider", "dtype", "computed"),
    [
        (CPU, "float32", "float32"),
        (CPU, "bfloat16", "float32"),
        (CUDA, "float32", "float32"),
        (CUDA, "float16", "float16"),
        (CUDA, "bfloat16", "float16"),
    ],
)
def test_what_weights_are_multiplied_in(provider: str, dtype: str, computed: str) -> None:
    assert computed_type(provider, dtype) == np.dtype(computed)
