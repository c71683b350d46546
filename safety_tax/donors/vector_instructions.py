"""Which of the processor's vector instructions torch computes with: they decide how sums are rounded."""

import os
from pathlib import Path

PROCESSOR = Path("/proc/cpuinfo")  # Linux
FIRST_PROCESSOR = 8_192  # characters, more than one of them takes


def use_avx2() -> None:
    """Compute with AVX2 where the processor has AVX-512 too, so that both kinds give the same bits.

    Call it before the first tensor operation, when torch and MKL read these variables. What the user has set stays.
    """
    try:
        with PROCESSOR.open(encoding="utf-8", errors="replace") as stream:
            has_avx2 = " avx2 " in stream.read(FIRST_PROCESSOR)
    except OSError:
        return
    if has_avx2:
        os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
        os.environ.setdefault("MKL_CBWR", "AVX2")
