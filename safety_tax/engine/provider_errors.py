"""What ONNX Runtime raises while a model loads or runs, and which of it means that memory ran out."""

from onnxruntime.capi import onnxruntime_pybind11_state as state

# Its own types have no common base but Exception; with IO binding it raises a plain RuntimeError.
PROVIDER_ERRORS: tuple[type[Exception], ...] = (
    MemoryError,
    RuntimeError,
    *(value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)),
)
# How its CPU and CUDA allocators, CUDA and cuBLAS say it.
NO_MEMORY = (
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
    "out of memory",
    "smaller than requested bytes",
    "cuda_error_out_of_memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory, of the machine or of its GPU, ran out."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY)


def first_line(error: Exception) -> str:
    """An error in one line: ONNX Runtime's have several."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
