"""The CUDA devices that this process may see."""

import ctypes
import os
import sys


def visible_devices() -> list[str]:
    """Their names as CUDA_VISIBLE_DEVICES has them, from the driver itself; empty where there is none."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count.value)])[: count.value]
