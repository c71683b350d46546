"""The CUDA devices that this process may see, and their memory, from the driver itself: no library is needed."""

import ctypes
import os
import sys
from contextlib import suppress
from functools import lru_cache
from typing import Any

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
OUT_OF_MEMORY = 2
# `CUdevice_attribute`s of the first and second number of the compute capability.
CAPABILITY = (75, 76)


@lru_cache(maxsize=1)
def driver() -> Any:
    """The driver's library, or None where there is none."""
    with suppress(OSError):
        return ctypes.CDLL(DRIVER)
    return None


def visible_devices() -> list[str]:
    """Their names as CUDA_VISIBLE_DEVICES has them; empty where there is none."""
    count = ctypes.c_int()
    library = driver()
    if library is None or library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count.value)])[: count.value]


def driver_version() -> tuple[int, int] | None:
    """The newest CUDA that the driver knows, 12.8 for instance."""
    number = ctypes.c_int()
    library = driver()
    if library is None or library.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return None
    return number.value // 1000, number.value % 1000 // 10


def capability() -> tuple[int, int] | None:
    """The compute capability of the first device: 8.0 and more multiply in bfloat16."""
    if not visible_devices():
        return None
    found = [ctypes.c_int() for _ in CAPABILITY]
    for number, attribute in zip(found, CAPABILITY, strict=True):
        driver().cuDeviceGetAttribute(ctypes.byref(number), attribute, 0)
    return found[0].value, found[1].value


def free_gpu_memory() -> int | None:
    """Bytes of the first device that nobody has taken; None where there is no device."""
    if not visible_devices():
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _enter()
    _require(driver().cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)), "ask for its free memory")
    return free.value


class DeviceMemory:
    """Zeroed memory of the first device, exactly as much as is asked for: an arena would round up, or keep it."""

    def __init__(self, size: int) -> None:
        """Raises MemoryError when there is not so much."""
        _enter()
        pointer = ctypes.c_uint64()
        _require(driver().cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size)), f"give {size:,} bytes")
        self.pointer: int | None = pointer.value
        # What no token has written yet is read and then masked: it must be no NaN.
        _require(driver().cuMemsetD8_v2(pointer, 0, ctypes.c_size_t(size)), "clear memory")
        _require(driver().cuCtxSynchronize(), "clear memory")

    def free(self) -> None:
        """Give it back; once is enough."""
        if self.pointer is not None:
            driver().cuMemFree_v2(ctypes.c_uint64(self.pointer))
            self.pointer = None


def _enter() -> None:
    """Make the first device's primary context, the one that ONNX Runtime uses, this thread's own."""
    context = ctypes.c_void_p()
    _require(driver().cuInit(0), "start")
    _require(driver().cuDevicePrimaryCtxRetain(ctypes.byref(context), 0), "start")
    _require(driver().cuCtxSetCurrent(context), "start")


def _require(status: int, what: str) -> None:
    if status == OUT_OF_MEMORY:
        raise MemoryError(f"the GPU could not {what}: out of memory")
    if status != 0:
        raise RuntimeError(f"the GPU could not {what}: CUDA error {status}")
