"""How fast is an export, and how much memory does it take?  `python -m tests.benchmarks.export [--runs N]`

Time: whole processes on random float32 weights of the default model's shape, one after another in each run: Optimum's
`main_export` without its validation, `python -m stages.export_base` (trace and gate), `python -m stages.export` of a
recipe's variant (links), and beside them Python's bare start. Memory: the two stages on models of several gigabytes,
whose weights are twice on the disk while it runs. Counted is the whole resident size, pages of mapped files included,
though the system may take those back at any time; the anonymous part is printed beside it. Opens the ONNX in ONNX
Runtime afterwards, in two processes at once, and says what of the weights' pages they share: a CPU widens float16 into
memory of its own. Keeps its figures in `metrics/benchmarks/export.json`. Exit status 1 where a bar is missed: a variant
within a quarter of a second of Python's start, and 1.6 x the weights' size: in float32 the gate
opens the whole graph. Linux only.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from safety_tax.core.console import say
from safety_tax.core.tensor_files import write_checkpoint
from tests.benchmarks.merge import SMOLLM2, shapes_of
from tests.benchmarks.results import keep

ROOT = Path(__file__).parents[2]
MODEL, RECIPE = "bench", "ties"
BEYOND_START, MEMORY = 0.25, 1.6  # the bars: seconds, and times the size of the weights
WIDE = {"hidden_size": 2048, "intermediate_size": 5632, "vocab_size": 32000, "max_position_embeddings": 2048}
WIDE |= {"num_attention_heads": 32, "num_key_value_heads": 4}
OPENED = """
import sys
from pathlib import Path
import numpy as np
from safety_tax.engine.plain.session import PlainSession
from safety_tax.engine.session import CPU
session = PlainSession(Path(sys.argv[1]), CPU)
row = np.array([[5, 6, 7]], np.int64)
output = session.run(row, np.ones_like(row), np.arange(3)[None], np.array([[2]]), session.empty_past(1))
assert np.isfinite(output.logits).all()
print("ready", flush=True)
sys.stdin.read()
"""
OPTIMUM = """
import sys
from optimum.exporters.onnx import main_export
main_export(sys.argv[1], sys.argv[2], task="text-generation-with-past", opset=18, dtype="fp32", do_validation=False)
"""


class Cost(NamedTuple):
    """Of one process; bytes are the highest of samples 20 ms apart."""

    seconds: float
    processor_seconds: float
    """Of all cores together: what a machine that others use changes least."""
    resident: int
    anonymous: int


def write_model(folder: Path, config: dict[str, int], dtype: str, seed: int) -> None:
    """Random weights, one tensor in memory at a time, in files of half a gigabyte; a tokenizer of bytes."""
    folder.mkdir(parents=True)
    fixed: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config | fixed), encoding="utf-8")
    draw = np.random.default_rng(seed)
    shapes = shapes_of(config)

    def make(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        if len(shapes[name]) == 1:
            return np.ones(shapes[name], np.float32)
        return draw.standard_normal(shapes[name], np.float32) * np.float32(0.02)

    write_checkpoint(folder, shapes, np.dtype(dtype), make, 500_000_000)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({"<s>": 0, "</s>": 1} | {byte: 2 + i for i, byte in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>", chat_template=template
    )
    tokenizer.save_pretrained(folder)


def write_project(folder: Path, config: dict[str, int], dtype: str) -> None:
    """A base, a merged variant and the files that stage `export` reads."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    entry = next(iter(params["catalog"].values()))
    params |= {"models": [MODEL], "recipes": {RECIPE: params["recipes"][RECIPE]}}
    changed = {"source": {"kind": "folder", "path": "."}, "dtype": dtype, "chat_template": "own"}
    params["catalog"] = {MODEL: entry | changed}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (folder / "dvc.yaml").touch()
    shutil.copytree(ROOT / "data/prompts", folder / "data/prompts")
    write_model(folder / "models/base" / MODEL, config, dtype, 0)
    write_model(folder / "models/merged" / MODEL / RECIPE, config, dtype, 1)


def resident(process: int) -> tuple[int, int]:
    """Bytes resident now, and those of them that are anonymous memory; 0 once the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        lines = []
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmRSS", "RssAnon"))}
    return found.get("VmRSS", 0), found.get("RssAnon", 0)


def run(command: list[str], folder: Path) -> Cost:
    """Run a process to its end; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    most = (0, 0)
    with (folder / "log").open("w", encoding="utf-8") as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        ended = 0
        while not ended:
            now = resident(process.pid)
            most = (max(most[0], now[0]), max(most[1], now[1]))
            time.sleep(0.02)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((folder / "log").read_text(encoding="utf-8")[-2000:])
    return Cost(seconds, usage.ru_utime + usage.ru_stime, *most)


def base(folder: Path) -> Cost:
    """This project's export of the base; what it wrote stays."""
    return run([sys.executable, "-m", "stages.export_base", MODEL], folder)


def variant(folder: Path) -> Cost:
    """This project's export of a recipe's variant; what it wrote stays."""
    return run([sys.executable, "-m", "stages.export", MODEL, RECIPE], folder)


def optimum(folder: Path) -> Cost:
    """Optimum's export of the variant; what it wrote goes."""
    cost = run([sys.executable, "-c", OPTIMUM, f"models/merged/{MODEL}/{RECIPE}", "optimum"], folder)
    shutil.rmtree(folder / "optimum")
    return cost


def start(folder: Path) -> Cost:
    """Python, which does nothing."""
    return run([sys.executable, "-c", ""], folder)


def mapped(process: int) -> tuple[int, int, int]:
    """Bytes of a process: its own memory, its mapped weights, and of these what another process shares."""
    own = weights = shared = 0
    inside = False
    for line in Path(f"/proc/{process}/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            inside = line.endswith(".safetensors")
        elif words[0] == "Anonymous:":
            own += int(words[1]) * 1024
        elif inside and words[0] == "Rss:":
            weights += int(words[1]) * 1024
        elif inside and words[0].startswith("Shared_"):
            shared += int(words[1]) * 1024
    return own, weights, shared


def open_twice(onnx: Path) -> dict[str, int]:
    """Two sessions at once, in processes of their own: what one of them holds once both have run."""
    command = [sys.executable, "-c", OPENED, str(onnx)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise SystemExit(f"the session of {onnx} did not run")
        own, weights, shared = mapped(processes[0].pid)
    finally:
        for process in processes:
            process.communicate()
    return {"session_anonymous_bytes": own, "session_mapped_bytes": weights, "session_shared_bytes": shared}


def speed(runs: int, scratch: str) -> dict[str, Any]:
    """Seconds and peaks of each way in each run, and how the medians of paired ratios stand."""
    costs: dict[str, list[Cost]] = {"optimum": [], "base": [], "variant": [], "start": []}
    with TemporaryDirectory(dir=scratch) as name:
        folder = Path(name).resolve()
        write_project(folder, SMOLLM2 | {"max_position_embeddings": 8192}, "float32")
        for number in range(runs):
            costs["optimum"].append(optimum(folder))
            costs["base"].append(base(folder))
            costs["variant"].append(variant(folder))
            costs["start"].append(start(folder))
            say("; ".join(f"{way} {of[-1].seconds:.1f} s" for way, of in costs.items()) + f" (run {number + 1})")
    result: dict[str, Any] = {"bar": BEYOND_START}
    for way, of in costs.items():
        pairs = zip(costs["optimum"], of, strict=True)
        result[way] = {
            "seconds": [round(cost.seconds, 3) for cost in of],
            "median_seconds": round(statistics.median(cost.seconds for cost in of), 3),
            "times_faster_than_optimum": round(statistics.median(a.seconds / b.seconds for a, b in pairs), 2),
            "median_processor_seconds": round(statistics.median(cost.processor_seconds for cost in of), 3),
            "peak_bytes": max(cost.resident for cost in of),
        }
        say(
            f"{way}: median {result[way]['median_seconds']:.2f} s, {result[way]['median_processor_seconds']:.2f} s of "
            f"processor time, {result[way]['times_faster_than_optimum']:.1f} x as fast as Optimum, peak "
            f"{result[way]['peak_bytes'] / 1e6:,.0f} MB resident"
        )
    pairs = zip(costs["variant"], costs["start"], strict=True)
    beyond = statistics.median(variant.seconds - bare.seconds for variant, bare in pairs)
    result["variant"]["seconds_beyond_start"] = round(beyond, 3)
    say(f"variant: {beyond:.2f} s beyond Python's start (bar {BEYOND_START} s)")
    return result


def memory(gigabytes: float, dtype: str, scratch: str) -> dict[str, Any]:
    """Peaks of a base's and a variant's export and of a session, against the size of the weights."""

    def size_of(layers: int) -> int:
        return sum(
            np.dtype(dtype).itemsize * int(np.prod(shape))
            for shape in shapes_of(WIDE | {"num_hidden_layers": layers}).values()
        )

    layers = max(1, round((gigabytes * 1e9 - size_of(0)) / (size_of(1) - size_of(0))))
    size = size_of(layers)
    result: dict[str, Any] = {"weights_bytes": size, "dtype": dtype}
    with TemporaryDirectory(dir=scratch) as made:
        folder = Path(made).resolve()
        write_project(folder, WIDE | {"num_hidden_layers": layers}, dtype)
        for name, way in (("base", base), (RECIPE, variant)):
            cost = way(folder)
            onnx = folder / "models/onnx" / MODEL / name
            held = open_twice(onnx)
            result[name] = {
                "peak_bytes": cost.resident,
                "peak_anonymous_bytes": cost.anonymous,
                "ratio": round(cost.resident / size, 3),
                "seconds": round(cost.seconds, 1),
                "bytes_beside_weights": sum(f.stat().st_size for f in onnx.iterdir() if f.suffix != ".safetensors"),
                **held,
            }
            say(
                f"export of {size / 1e9:.2f} GB in {dtype}, {name}: {cost.seconds:.1f} s, peak "
                f"{cost.resident / 1e9:.2f} GB resident, {cost.resident / size:.2f} x (bar {MEMORY} x), of it at most "
                f"{cost.anonymous / 1e9:.2f} GB own; a session holds {held['session_anonymous_bytes'] / 1e9:.2f} GB of "
                f"its own and {held['session_mapped_bytes'] / 1e9:.2f} GB of mapped weights, of which two share "
                f"{held['session_shared_bytes'] / 1e9:.2f} GB"
            )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of the timed exports; 0: no timing")
    sizes = ["2.2:float16", "2.2:float32", "6:float32"]
    parser.add_argument("--models", nargs="*", default=sizes, help="gigabytes and type of the weights of each")
    parser.add_argument("--scratch", default=".", help="a folder on a disk with room")
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    met = True
    if arguments.runs:
        result["speed"] = speed(arguments.runs, arguments.scratch)
        met &= result["speed"]["variant"]["seconds_beyond_start"] <= BEYOND_START
    if arguments.models:
        wanted = [model.split(":") for model in arguments.models]
        models = [memory(float(size), dtype, arguments.scratch) for size, dtype in wanted]
        result["memory"] = {"bar": MEMORY, "models": models}
        met &= max(model[way]["ratio"] for model in models for way in ("base", RECIPE)) <= MEMORY
    keep("export", **result)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
