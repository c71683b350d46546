"""How much memory does an export take?  `python -m tests.benchmarks.export_memory [--gigabytes 2.6] [--report FILE]`

Runs `python -m stages.export` (trace, binding, weights and parity gate) on a synthetic random Llama in sharded float16
safetensors of `--gigabytes`; twice that on disk while it runs. Counted is the whole resident size, sampled: anonymous
memory and pages of mapped files together. The system may take the mapped pages back at any time, so this is the strict
count; both are printed. Exit status 1 when the peak exceeds 1.3 x the checkpoint's size. Linux only.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stages.lib.console import say
from stages.lib.files import write_json
from stages.lib.tensor_files import write_checkpoint
from tests.benchmarks.merge import shapes_of

ROOT = Path(__file__).parents[2]
MODEL, BAR = "bench", 1.3
CONFIG = {"hidden_size": 2048, "intermediate_size": 5632, "vocab_size": 32000}
CONFIG |= {"num_attention_heads": 32, "num_key_value_heads": 4}
FIELDS = ("VmRSS", "RssAnon", "RssFile", "RssShmem")


def size_of(config: dict[str, int]) -> int:
    """Bytes in float16."""
    return sum(2 * int(np.prod(shape)) for shape in shapes_of(config).values())


def write_model(folder: Path, config: dict[str, int]) -> None:
    """Random weights, one tensor in memory at a time, in files of half a gigabyte; a tokenizer of bytes."""
    folder.mkdir(parents=True)
    fixed: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config | fixed), encoding="utf-8")
    draw = np.random.default_rng(0)
    shapes = shapes_of(config)

    def make(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        if len(shapes[name]) == 1:
            return np.ones(shapes[name], np.float32)
        return draw.standard_normal(shapes[name], np.float32) * np.float32(0.02)

    write_checkpoint(folder, shapes, np.dtype(np.float16), make, 500_000_000)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({"<s>": 0, "</s>": 1} | {byte: 2 + i for i, byte in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>", chat_template=template
    )
    tokenizer.save_pretrained(folder)


def write_project(folder: Path, config: dict[str, int]) -> None:
    """The base and the files that stage `export` reads."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    entry = next(iter(params["catalog"].values()))
    params["models"] = [MODEL]
    changed = {"source": {"kind": "folder", "path": "."}, "dtype": "float16", "chat_template": "own"}
    params["catalog"] = {MODEL: entry | changed}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (folder / "dvc.yaml").touch()
    shutil.copytree(ROOT / "data/prompts", folder / "data/prompts")
    write_model(folder / "models/base" / MODEL, config)


def resident(process: int) -> dict[str, int]:
    """Bytes of each of FIELDS; all 0 once the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        lines = []
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(FIELDS)}
    return {field: found.get(field, 0) for field in FIELDS}


def export(folder: Path) -> dict[str, int]:
    """Run the stage; the highest sample of each field."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "stages.export", MODEL, "base"]
    peaks = dict.fromkeys(FIELDS, 0)
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        while process.poll() is None:
            peaks = {field: max(peaks[field], size) for field, size in resident(process.pid).items()}
            time.sleep(0.02)
    output = (folder / "log").read_text(encoding="utf-8")
    if process.returncode:
        raise SystemExit(output[-2000:])
    say(output.strip().splitlines()[-1])
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.6, help="of the float16 checkpoint")
    parser.add_argument("--scratch", default=".", help="a folder on a disk with room")
    parser.add_argument("--report", type=Path, default=Path("runs/export_memory.json"), help="the file to write")
    arguments = parser.parse_args()
    rest = size_of(CONFIG | {"num_hidden_layers": 0})
    layer = size_of(CONFIG | {"num_hidden_layers": 1}) - rest
    config = CONFIG | {"num_hidden_layers": max(1, round((arguments.gigabytes * 1e9 - rest) / layer))}
    with TemporaryDirectory(dir=arguments.scratch) as name:
        write_project(Path(name), config)
        peaks = export(Path(name))
    size = size_of(config)
    ratio = peaks["VmRSS"] / size
    say(
        f"export of {size / 1e9:.2f} GB in float16: peak {peaks['VmRSS'] / 1e9:.2f} GB resident, {ratio:.2f} x "
        f"(bar {BAR} x), of it at most {peaks['RssAnon'] / 1e9:.2f} GB anonymous"
    )
    write_json(arguments.report, {"checkpoint_bytes": size, "peak_bytes": peaks, "ratio": round(ratio, 3), "bar": BAR})
    sys.exit(0 if ratio <= BAR else 1)


if __name__ == "__main__":
    main()
