"""How much memory and time does a merge take?  `python -m tests.benchmarks.merge [--gigabytes 6] [--runs 3]`

Memory: peak resident size of `python -m stages.merge`, TIES of a synthetic base and two full checkpoints, `--gigabytes`
each; four times that on disk while it runs. Time: the same merge of checkpoints of the default model's shape, whole
process, against `mergekit-yaml` where MERGEKIT_PYTHON names the Python of an environment that has mergekit. Keeps its
figures in `metrics/benchmarks/merge.json`. Exit status 1 where a bar is missed: 6 x the largest tensor in float32 +
500 MB, and 5 x mergekit's time.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import yaml

from safety_tax.core.console import say
from safety_tax.core.tensor_files import write_checkpoint
from tests.benchmarks.results import keep

ROOT = Path(__file__).parents[2]
MODEL, RECIPE = "bench", "ties"
SETTINGS = {"method": "ties", "donors": {"safety": 1.0, "utility": 1.0}, "density": 0.5}
DONORS = tuple(SETTINGS["donors"])  # type: ignore[arg-type]
SMOLLM2 = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "vocab_size": 49152}
SMOLLM2 |= {"num_attention_heads": 9, "num_key_value_heads": 3}
WIDE = {"hidden_size": 4096, "intermediate_size": 11008, "vocab_size": 32000}
WIDE |= {"num_attention_heads": 32, "num_key_value_heads": 32}


class Cost(NamedTuple):
    """Of one process."""

    seconds: float
    processor_seconds: float
    """Of all threads: what other programs on the machine change least."""
    peak_bytes: int
    """Largest resident size, pages of mapped files included."""


def shapes_of(config: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Tensors of a Llama with tied embeddings."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    shapes["model.norm.weight"] = (hidden,)
    for layer in range(config["num_hidden_layers"]):
        parts: dict[str, tuple[int, ...]] = {f"self_attn.{name}_proj": (kv, hidden) for name in "kv"}
        parts |= {f"self_attn.{name}_proj": (hidden, hidden) for name in "qo"}
        parts |= {f"mlp.{name}_proj": (inner, hidden) for name in ("gate", "up")} | {"mlp.down_proj": (hidden, inner)}
        parts |= {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in parts.items()}
    return shapes


def write_model(folder: Path, config: dict[str, int], seed: int) -> None:
    """A float32 checkpoint of random weights."""
    folder.mkdir(parents=True)
    fixed: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config | fixed), encoding="utf-8")
    draw = np.random.default_rng(seed)
    shapes = shapes_of(config)

    def make(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        return draw.random(shapes[name], np.float32)

    write_checkpoint(folder, shapes, np.dtype(np.float32), make)


def write_project(folder: Path, config: dict[str, int]) -> None:
    """A base, two donors and the files that stage `merge` reads."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    entry = next(iter(params["catalog"].values()))
    params |= {"models": [MODEL], "recipes": {RECIPE: SETTINGS}}
    params["catalog"] = {MODEL: entry | {"source": {"kind": "folder", "path": "."}, "dtype": "float32"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (folder / "dvc.yaml").touch()
    for seed, name in enumerate((f"base/{MODEL}", *(f"donors/{MODEL}/{donor}" for donor in DONORS))):
        write_model(folder / "models" / name, config, seed)


def run(command: list[str], folder: Path) -> Cost:
    """Run a process to its end; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((folder / "log").read_text(encoding="utf-8")[-2000:])
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def ours(folder: Path) -> Cost:
    """This project's merge stage."""
    return run([sys.executable, "-m", "stages.merge", MODEL, RECIPE], folder)


def mergekit(program: Path, folder: Path) -> Cost:
    """mergekit, on the same files."""
    parameters = {"weight": 1.0, "density": SETTINGS["density"]}
    donors = [{"model": str(folder / f"models/donors/{MODEL}/{name}"), "parameters": parameters} for name in DONORS]
    config = {"merge_method": "ties", "base_model": str(folder / f"models/base/{MODEL}"), "models": donors}
    (folder / "mergekit.yaml").write_text(yaml.safe_dump(config | {"dtype": "float32"}), encoding="utf-8")
    return run([str(program), "mergekit.yaml", "mergekit", "--no-copy-tokenizer"], folder)


def memory(gigabytes: float, scratch: str) -> bool:
    """Print and keep the peak and the bar; whether it is met."""
    layer = sum(4 * int(np.prod(s)) for s in shapes_of(WIDE | {"num_hidden_layers": 1}).values())
    rest = sum(4 * int(np.prod(s)) for s in shapes_of(WIDE | {"num_hidden_layers": 0}).values())
    config = WIDE | {"num_hidden_layers": max(1, round((gigabytes * 1e9 - rest) / (layer - rest)))}
    sizes = [4 * int(np.prod(shape)) for shape in shapes_of(config).values()]
    with TemporaryDirectory(dir=scratch) as name:
        folder = Path(name).resolve()
        write_project(folder, config)
        cost = ours(folder)
    bar = 6 * max(sizes) + 500_000_000
    say(
        f"memory: three checkpoints of {sum(sizes) / 1e9:.1f} GB, largest tensor {max(sizes) / 1e6:,.0f} MB: peak "
        f"{cost.peak_bytes / 1e6:,.0f} MB resident (bar {bar / 1e6:,.0f} MB), {cost.seconds:.0f} s"
    )
    keep("merge", memory={"checkpoint_bytes": sum(sizes), "peak_bytes": cost.peak_bytes, "bar_bytes": bar})
    return cost.peak_bytes <= bar


def plain_copy(folder: Path) -> float:
    """Seconds that it takes to read the three checkpoints and to write one: no merge can be faster."""
    start = time.perf_counter()
    for place in (f"base/{MODEL}", *(f"donors/{MODEL}/{name}" for name in DONORS)):
        target = folder / "copy" if place.startswith("base") else Path(os.devnull)
        with (folder / "models" / place / "model.safetensors").open("rb") as source, target.open("wb") as copy:
            while chunk := source.read(1 << 20):
                copy.write(chunk)
    return time.perf_counter() - start


def speed(runs: int, scratch: str) -> bool:
    """Print and keep times and peaks; whether the bar is met (or mergekit is not there)."""
    python = os.environ.get("MERGEKIT_PYTHON")
    with TemporaryDirectory(dir=scratch) as name:
        folder = Path(name).resolve()
        write_project(folder, SMOLLM2)
        # In turns, so that what else the machine does falls on both.
        programs = [ours] if python is None else [ours, partial(mergekit, Path(python).parent / "mergekit-yaml")]
        rounds = [[program(folder) for program in programs] for _ in range(runs)]
        costs = [min(column) for column in zip(*rounds, strict=True)]
        floor = min(plain_copy(folder) for _ in range(runs))
    for who, cost in zip(("time", "mergekit"), costs, strict=False):
        say(
            f"{who}, best of {runs}: {cost.seconds:.1f} s, {cost.processor_seconds:.1f} s of processor, "
            f"peak {cost.peak_bytes / 1e6:,.0f} MB resident"
        )
    say(f"reading three checkpoints and writing one takes {floor:.1f} s without a merge")
    figures = {who: cost._asdict() for who, cost in zip(("ours", "mergekit"), costs, strict=False)}
    keep("merge", speed={"runs": runs, "copy_seconds": floor, **figures})
    if python is None:
        say("set MERGEKIT_PYTHON to compare with mergekit")
        return True
    ratio = costs[1].seconds / costs[0].seconds
    say(f"mergekit takes {ratio:.1f} x the time (bar 5 x)")
    return ratio >= 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--gigabytes", type=float, default=6, help="of each of the three checkpoints; 0: no memory test"
    )
    parser.add_argument("--runs", type=int, default=3, help="of the timed merges; 0: no timing")
    parser.add_argument("--scratch", default=".", help="a folder on a disk with room")
    arguments = parser.parse_args()
    met = not arguments.runs or speed(arguments.runs, arguments.scratch)
    met &= not arguments.gigabytes or memory(arguments.gigabytes, arguments.scratch)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
