"""An ONNX Runtime session of a causal language model, on the provider that was asked for and on no other."""

import ctypes
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from safety_tax.core.errors import PipelineError
from safety_tax.core.processors import usable_cores
from safety_tax.engine.provider_errors import PROVIDER_ERRORS, first_line
from safety_tax.engine.weight_files import require_weights, weights_bytes

GRAPH = "model.onnx"
LOGIT_POSITIONS = "logit_positions"
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
Int64 = NDArray[np.int64]
Float = NDArray[Any]
Past = list[ort.OrtValue]
# A step of the plain graph holds the past, the past with the new token, and in a layer both for every query head.
COPIES_OF_PAST = 4


class Output(NamedTuple):
    """`logits` is [batch, wanted, vocabulary]; `past` has one [batch, heads, past, head size] a key or value."""

    logits: Float
    past: Past


def cuda_problem() -> str | None:
    """Why a CUDA session cannot be had here, or None when one starts.

    `get_available_providers()` names CUDA even when its libraries are missing, so a session is built.
    """
    if CUDA not in ort.get_available_providers():
        return "this build of ONNX Runtime has no CUDA provider"
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(driver)
    except OSError:
        # Asked first, because ONNX Runtime would print a page of what else is missing.
        return f"there is no NVIDIA driver ({driver})"
    # Torch's and NVIDIA's wheels carry CUDA and cuDNN; without this call ONNX Runtime looks only in the system.
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "probe",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    probe = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(probe.SerializeToString(), options, providers=[CUDA])
    except Exception as error:  # ONNX Runtime raises its own types, and none is documented
        return str(error).splitlines()[0]
    return None if session.get_providers()[0] == CUDA else "CUDA or cuDNN libraries, or the GPU itself, are missing"


def choose_provider(setting: Literal["auto", "cuda", "cpu"]) -> str:
    """The provider to run on. Raises PipelineError when `cuda` was asked for and cannot be had."""
    if setting == "cpu":
        return CPU
    problem = cuda_problem()
    if problem is None:
        return CUDA
    if setting == "cuda":
        raise PipelineError(
            f"Expected a CUDA GPU, as run.provider asks for, found none that starts: {problem}; "
            "install CUDA and cuDNN for ONNX Runtime, or set run.provider to auto or cpu in params.yaml."
        )
    return CPU


def free_gpu_memory() -> int | None:
    """Bytes that nobody on the first GPU has taken; None where torch, which is asked, knows no GPU."""
    import torch  # only here: it takes seconds

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None


def cuda_options(folder: Path) -> dict[str, str]:
    """What the CUDA provider is told for a folder's graph."""
    # TF32 rounds to 10 bits: float32 on a GPU must mean float32, or the parity gate means little.
    options = {"use_tf32": "0"}
    free, weights = free_gpu_memory(), weights_bytes(folder)
    if free is not None and free > weights:
        # A session gives nothing back, and takes more than it needs: a quarter is left to the one that gathers rows.
        options["gpu_mem_limit"] = str(weights + (free - weights) * 3 // 4)
    return options


@contextmanager
def _starting(folder: Path, provider: str) -> Iterator[None]:
    """Raises PipelineError for what ONNX Runtime, or torch that is asked for the GPU's memory, raises inside."""
    try:
        yield
    except PROVIDER_ERRORS as error:
        raise PipelineError(
            f"Expected ONNX Runtime to load {folder} on {provider}, found: {first_line(error)}; free the memory that "
            "others take, or make the folder again."
        ) from error


def start(folder: Path, provider: str, graph: str = GRAPH) -> ort.InferenceSession:
    """A session of one of a folder's graphs.

    Raises PipelineError when its weight files are not those of the export, ONNX Runtime does not load it, or runs it on
    another provider than `provider`.
    """
    require_weights(folder)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    # Threads wait for a run's next operator awake, but not for the next run: the cores belong to others then.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    with _starting(folder, provider):
        providers = [(CUDA, cuda_options(folder))] if provider == CUDA else [CPU]
        session = ort.InferenceSession(str(folder / graph), options, providers=providers, enable_fallback=0)
    require_provider(session, provider, folder)
    return session


def require_provider(session: ort.InferenceSession, provider: str, folder: Path) -> None:
    """The guard, before and after a run: raises PipelineError when the provider is not the one asked for."""
    found = session.get_providers()[0]
    if found != provider:
        raise PipelineError(
            f"Expected {folder} to run on {provider}, found it on {found}; "
            "nothing measured on another device is kept: check the GPU's memory and ONNX Runtime's log."
        )


def require_finite(values: Float, folder: Path) -> None:
    """Raises PipelineError when a value from `folder`'s graph is NaN or infinite."""
    if not np.isfinite(values).all():
        raise PipelineError(
            f"Expected finite logits from {folder}, found NaN or infinity; "
            "check the merged weights, or use dtype float32 in the model's entry of params.yaml."
        )


def _start_gather(kind: int, provider: str) -> ort.InferenceSession:
    """A graph that takes `rows` of `values`, on the device where those lie."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gather", ["values", "rows"], ["chosen"], axis=0)],
        "rows_of",
        [value("values", kind, [None] * 4), value("rows", TensorProto.INT64, [None])],
        [value("chosen", kind, [None] * 4)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=[provider], enable_fallback=0)


class ModelSession:
    """A model's graph, with past key values kept on the device between calls."""

    def __init__(self, folder: Path, provider: str) -> None:
        """Load the model. Raises PipelineError when the session runs on another provider than `provider`."""
        self.provider = provider
        self.folder = folder
        self._session = start(folder, provider)
        with _starting(folder, provider):
            # Asked once, before the first run: later the session holds memory that is not in use.
            self._free = free_gpu_memory() if provider == CUDA else None
        self._device = "cuda" if provider == CUDA else "cpu"
        self._past_inputs = [i for i in self._session.get_inputs() if i.name.startswith("past_key_values.")]
        self._past_outputs = [i.name.replace("past_key_values", "present") for i in self._past_inputs]
        self.dtype = np.float16 if "16" in self._past_inputs[0].type else np.float32
        with _starting(folder, provider):
            self._rows = _start_gather(helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)), provider)

    def token_budget(self, asked: int) -> int:
        """`asked` tokens of past key values, or on a GPU as many as fit beside the weights; at least one."""
        if self._free is None:
            return asked
        of_token = sum(entry.shape[1] * entry.shape[3] for entry in self._past_inputs) * np.dtype(self.dtype).itemsize
        fitting: int = self._free // (COPIES_OF_PAST * of_token)
        return max(1, min(asked, fitting))

    def require_provider(self) -> None:
        """See the function of this name."""
        require_provider(self._session, self.provider, self.folder)

    def empty_past(self, rows: int) -> Past:
        """Past key values of no tokens at all."""
        shapes = ([rows, entry.shape[1], 0, entry.shape[3]] for entry in self._past_inputs)
        return [self._on_device(np.zeros(shape, self.dtype)) for shape in shapes]

    def prefill(self, tokens: Sequence[int]) -> Past:
        """Past key values of one row of these tokens; of none, empty ones."""
        if not tokens:
            return self.empty_past(1)
        row = np.array([tokens], np.int64)
        positions = np.arange(len(tokens), dtype=np.int64)[None]
        last = np.array([[len(tokens) - 1]], np.int64)
        return self.run(row, np.ones_like(row), positions, last, self.empty_past(1)).past

    def rows_of(self, past: Past, rows: Int64) -> Past:
        """Past key values of the given rows, in that order; a row may be repeated. They never leave the device."""
        found = []
        for value in past:
            binding = self._rows.io_binding()
            binding.bind_ortvalue_input("values", value)
            binding.bind_cpu_input("rows", np.ascontiguousarray(rows))
            binding.bind_output("chosen", self._device)
            self._rows.run_with_iobinding(binding)
            found += binding.get_outputs()
        return found

    def _on_device(self, array: Float) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device, 0)

    def run(self, tokens: Int64, mask: Int64, positions: Int64, logit_positions: Int64, past: Past) -> Output:
        """One forward pass.

        `tokens`, `positions`: [batch, time]; `mask`: [batch, past + time], 1 where a token is; `logit_positions`:
        [batch, wanted], places in `tokens` at which logits are wanted.
        """
        binding = self._session.io_binding()
        inputs = {
            "input_ids": tokens,
            "attention_mask": mask,
            "position_ids": positions,
            LOGIT_POSITIONS: logit_positions,
        }
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for entry, value in zip(self._past_inputs, past, strict=True):
            binding.bind_ortvalue_input(entry.name, value)
        binding.bind_output("logits", "cpu")
        for name in self._past_outputs:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        return Output(logits.numpy(), present)


def rows_to_run(session: ModelSession, batch: Sequence[int], needed: Collection[int]) -> list[int]:
    """Places in a batch that must run so that the `needed` items of it get the bits that the whole batch gives them.

    On the CPU a row's bits do not depend on the other rows. On a GPU the number of rows chooses the kernel.
    """
    places = [place for place, item in enumerate(batch) if item in needed]
    return places if session.provider == CPU or not places else list(range(len(batch)))
