"""The card kit: what one GPU does with models of real shapes.  `python -m tests.card [PART …] [--models 1B 8B 14B]`

It needs numpy, onnx and onnxruntime-gpu alone. Weights are random and are made here. Parts, all by default:
- `open`: the device, its libraries, the attention kernels that are chosen;
- `parity`: two layers against float32 on the CPU;
- `prefill`, `decode`: shares of the matrix rate and of the copy bandwidth, both measured here; an H200 should reach
  55 % of the one, and 60 % of the other at 256 rows (65 % at one);
- `score`: five-shot questions a second; 200 or more on an H200 with 8B;
- `memory`: a whole batch of answers, the memory planned and taken, `transformers.generate` beside it where torch is.
"""

import argparse
import platform
from pathlib import Path
from tempfile import TemporaryDirectory

from onnx import TensorProto

from safety_tax.engine.session import CPU, CUDA
from tests.card.measures import PARTS, Card
from tests.card.models import MODELS

KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def main(arguments: list[str] | None = None) -> None:
    """Print one table of all parts and models; a part that fails says why, and the others go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default="all", choices=[*PARTS, "all"])
    parser.add_argument("--models", nargs="+", default=["1B", "8B", "14B"], choices=list(MODELS))
    parser.add_argument("--dtype", default="bfloat16", choices=list(KINDS))
    parser.add_argument("--provider", default="cuda", choices=["cuda", "cpu"])
    asked = parser.parse_args(arguments)
    parts = list(PARTS) if "all" in asked.parts else list(asked.parts)
    print(f"{platform.node()}: {asked.dtype} on {asked.provider}\n\n| model | part | what | found |\n|---|---|---|---|")
    failed = []
    for name in asked.models:
        with TemporaryDirectory(prefix="card-") as folder:
            provider = CUDA if asked.provider == "cuda" else CPU
            card = Card(name, MODELS[name], KINDS[asked.dtype], provider, Path(folder), name == "tiny")
            for part in parts:
                try:
                    for what, found in PARTS[part](card):
                        print(f"| {name} | {part} | {what} | {found} |", flush=True)
                except Exception as error:  # a table with a gap is worth more than none
                    failed.append(f"{name} {part}")
                    line = str(error).splitlines()[0] if str(error) else type(error).__name__
                    print(f"| {name} | {part} | failed | {line[:200]} |", flush=True)
    if failed:
        raise SystemExit(f"{len(failed)} of the parts failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
