"""An ONNX Runtime session of a causal language model, on the provider that was asked for and on no other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper

from safety_tax.core.errors import PipelineError
from safety_tax.core.processors import usable_cores
from safety_tax.engine.devices import DRIVER, driver, driver_version, free_gpu_memory
from safety_tax.engine.provider_errors import PROVIDER_ERRORS, first_line
from safety_tax.engine.weight_files import require_weights

GRAPH = "model.onnx"
LOGIT_POSITIONS = "logit_positions"
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
Float = NDArray[Any]


def cuda_problem() -> str | None:
    """Why a CUDA session cannot be had here, or None when one starts.

    `get_available_providers()` names CUDA even when its libraries are missing, so a session is built.
    """
    if CUDA not in ort.get_available_providers():
        return "this build of ONNX Runtime has no CUDA provider"
    if driver() is None:
        # Asked first, because ONNX Runtime would print a page of what else is missing.
        return f"there is no NVIDIA driver ({DRIVER})"
    if problem := driver_problem(driver_version(), getattr(ort, "cuda_version", "")):
        return problem
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


def driver_problem(version: tuple[int, int] | None, built: str) -> str | None:
    """Why a driver of CUDA `version` cannot serve libraries `built` for another, as "13.0"; None when it can.

    A driver serves its own CUDA and those before it: not a newer first number.
    """
    if version is None or not built or version[0] >= int(built.split(".")[0]):
        return None
    return (
        f"the NVIDIA driver knows CUDA {version[0]}.{version[1]} at most, and this ONNX Runtime is built for CUDA "
        f"{built}: update the driver"
    )


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


def external_bytes(folder: Path, graph: str = GRAPH) -> int:
    """Of the weights that lie outside one of a folder's graphs; 0 where there is none."""
    path = folder / graph
    tensors = onnx.load(str(path), load_external_data=False).graph.initializer if path.exists() else ()
    return sum(int(entry.value) for tensor in tensors for entry in tensor.external_data if entry.key == "length")


def cuda_options(folder: Path, graph: str = GRAPH, share: float = 0.75) -> dict[str, str]:
    """What the CUDA provider is told for a folder's graph, which may take a `share` of what the weights leave."""
    # TF32 rounds to 10 bits: float32 on a GPU must mean float32, or the parity gate means little.
    options = {"use_tf32": "0"}
    free, weights = free_gpu_memory(), external_bytes(folder, graph)
    if free is not None and free > weights:
        # A session gives nothing back, and takes more than it needs: the rest is left to others, or to its own buffers.
        options["gpu_mem_limit"] = str(weights + int((free - weights) * share))
    return options


@contextmanager
def starting(folder: Path, provider: str) -> Iterator[None]:
    """Raises PipelineError for what ONNX Runtime, or the driver that is asked for the GPU's memory, raises inside."""
    try:
        yield
    except (DecodeError, *PROVIDER_ERRORS) as error:  # the first is ONNX's own, of a graph that is none
        raise PipelineError(
            f"Expected ONNX Runtime to load {folder} on {provider}, found: {first_line(error)}; free the memory that "
            "others take, or make the folder again."
        ) from error


def start(folder: Path, provider: str, graph: str = GRAPH, share: float = 0.75) -> ort.InferenceSession:
    """A session of one of a folder's graphs; `share` is of a GPU's memory, see `cuda_options`.

    Raises PipelineError when its weight files are not those of the export, ONNX Runtime does not load it, or runs it on
    another provider than `provider`.
    """
    require_weights(folder)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    # Threads wait for a run's next operator awake, but not for the next run: the cores belong to others then.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    with starting(folder, provider):
        providers = [(CUDA, cuda_options(folder, graph, share))] if provider == CUDA else [CPU]
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


def require_finite(values: Float, folder: Path, of: str = "") -> None:
    """Raises PipelineError when a value from `folder`'s graph is NaN or infinite; `of` names the item."""
    if not np.isfinite(values).all():
        raise PipelineError(
            f"Expected finite logits from {folder}, found NaN or infinity{f' on {of}' if of else ''}; check the merged "
            "weights, or use dtype bfloat16 or float32 in the model's entry of params.yaml."
        )
