"""A small graph, timed on a provider: what `doctor` makes its estimates from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from safety_tax.core.processors import usable_cores
from safety_tax.engine.session import CPU, CUDA


def computed_type(provider: str, dtype: str) -> np.dtype[Any]:
    """What weights of `dtype` are multiplied in: on a CPU float32; a GPU takes both kinds of 16 bits equally fast."""
    return np.dtype("float16" if provider == CUDA and dtype != "float32" else "float32")


class Trial:
    """A graph of one input `x` and one output `y` that is run again and again in the provider's own memory."""

    def __init__(self, model: ModelProto, provider: str) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = usable_cores()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = [(CUDA, {"use_tf32": "0"})] if provider == CUDA else [CPU]
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=providers, enable_fallback=0)
        self._device = "cuda" if provider == CUDA else "cpu"

    def runs(self, x: NDArray[Any]) -> Callable[[], None]:
        """A function that runs the graph on `x`, which is already where the provider reads it."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(x, self._device, 0))
        binding.bind_output("y", self._device)

        def run() -> None:
            self._session.run_with_iobinding(binding)

        return run
