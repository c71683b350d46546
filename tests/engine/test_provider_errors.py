"""What ONNX Runtime itself raises is known for what it is: memory that ran out, or another fault."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from safety_tax.engine.provider_errors import PROVIDER_ERRORS, first_line, out_of_memory

BEYOND = 2**50
"""Numbers that no address space holds: 4 petabytes."""


@pytest.fixture(scope="module")
def zeros() -> ort.InferenceSession:
    """A graph that writes as many zeros as it is asked for."""
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["count"], ["zeros"])],
        "zeros",
        [helper.make_tensor_value_info("count", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("zeros", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def raised(run: Callable[[], Any]) -> Exception:
    """What a call raises, caught as the engine catches it."""
    with pytest.raises(PROVIDER_ERRORS) as caught:
        run()
    return caught.value


def test_memory_that_runs_out_is_told_from_other_faults(zeros: ort.InferenceSession) -> None:
    assert zeros.run(None, {"count": np.array([2])})[0].tolist() == [0, 0]
    short = raised(lambda: zeros.run(None, {"count": np.array([BEYOND])}))
    assert out_of_memory(short)
    assert first_line(short).startswith("[ONNXRuntimeError]") and "\n" not in first_line(short)
    wrong = raised(lambda: zeros.run(None, {"count": np.array([2], np.float32)}))
    assert not out_of_memory(wrong)
    assert "Unexpected input data type" in first_line(wrong)


def test_a_file_that_is_no_graph_is_a_fault_of_the_provider() -> None:
    error = raised(lambda: ort.InferenceSession(b"no graph", providers=["CPUExecutionProvider"]))
    assert not out_of_memory(error)
    assert first_line(error).endswith("Failed to load model because protobuf parsing failed.")


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0"), True),
        (RuntimeError("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA failure 700: an illegal memory access was encountered"), False),
        (RuntimeError(""), False),
    ],
)
def test_every_allocator_says_it_in_its_own_words(error: Exception, short: bool) -> None:
    assert out_of_memory(error) is short


def test_an_error_is_one_line() -> None:
    assert first_line(RuntimeError("\n  first \nsecond\n")) == "first"
    assert first_line(RuntimeError("x" * 301)) == "x" * 300
    assert first_line(MemoryError()) == "MemoryError"
    assert first_line(RuntimeError(" \n ")) == "RuntimeError"
