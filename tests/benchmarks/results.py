"""Where benchmarks keep their figures: `metrics/benchmarks/`, in Git, so that those on the pages can be looked up."""

import json
import platform
import re
from pathlib import Path
from typing import Any

from safety_tax.core.files import write_json
from safety_tax.core.processors import usable_cores

FOLDER = Path(__file__).parents[2] / "metrics/benchmarks"


def keep(benchmark: str, **parts: dict[str, Any]) -> None:
    """Write the figures of each part, with the machine's name, beside those of other parts of that benchmark."""
    path = FOLDER / f"{benchmark}.json"
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    here = machine()
    write_json(path, kept | {part: {"machine": here, **figures} for part, figures in parts.items()})


def machine() -> str:
    """Like `AMD EPYC, 2 cores, AVX2`."""
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.processor() or platform.machine()}, {usable_cores()} cores"
    name = re.search(r"model name\s*: (.*)", said)
    flags = set(re.findall(r"avx512f|avx2", said))
    widest = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    return f"{name[1].strip() if name else platform.machine()}, {usable_cores()} cores, {widest}"
