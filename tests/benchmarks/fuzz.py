"""Many hostile inputs for every parser and the judges.  `python -m tests.benchmarks.fuzz --inputs N --guided N`

`--inputs` are sound files with random damage, `--guided` are made up by atheris, which keeps what reaches a new branch
(`pip install -e '.[fuzz]'`). Prints, for each target, how many were read and how many refused in one sentence; stops at
the first fault with the bytes that cause it. One seed gives the same inputs. A run over all targets keeps its counts in
`metrics/benchmarks/fuzz.json`.
"""

import argparse
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context
from operator import call
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzzing import TARGETS, damaged, outcome, seeds

from tests.benchmarks.results import keep

BLOCK = 1000


class Count(NamedTuple):
    """What came of one block of inputs of one target; the slowest in seconds of processor time, where it was taken."""

    target: str
    read: int
    refused: int
    slowest: float


def run_block(target: str, number: int, inputs: int, seed: int) -> Count:
    """One block of damaged inputs; they depend on the target, the number and the seed alone."""
    chance = random.Random(f"{seed}/{target}/{number}")
    counts = {"read": 0, "refused": 0}
    slowest = 0.0
    with TemporaryDirectory(prefix="safety-tax-fuzz-") as scratch:
        sound = seeds(Path(scratch))[target]
        for _ in range(inputs):
            data = damaged(chance.choice(sound), chance)
            started = time.process_time()
            try:
                counts[outcome(TARGETS[target], data, Path(scratch))[0]] += 1
            except Exception as error:
                raise SystemExit(f"{target}, block {number}: {error!r} from {data!r}") from error
            slowest = max(slowest, time.process_time() - started)
    return Count(target, counts["read"], counts["refused"], slowest)


def run_guided(target: str, runs: int, seed: int) -> Count:
    """Inputs by atheris, in a process of its own: libFuzzer ends the one that it runs in."""
    command = [sys.executable, "-m", "tests.benchmarks.fuzz_guided", target, str(runs), str(seed)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"(?m)^(\d+) (\d+)$", result.stdout)
    if result.returncode != 0 or found is None:
        raise SystemExit(f"{target}: {result.stdout[-4000:]}{result.stderr[-4000:]}")
    return Count(target, int(found[1]), int(found[2]), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="damaged ones, over all targets (100000)")
    parser.add_argument("--guided", type=int, default=0, help="by atheris, over all targets (0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--target", choices=TARGETS, help="only its share of the inputs")
    arguments = parser.parse_args()
    chosen = [arguments.target] if arguments.target else list(TARGETS)
    each, guided = (-(-number // len(TARGETS)) for number in (arguments.inputs, arguments.guided))
    seed = arguments.seed
    work: dict[str, list[Callable[[], Count]]] = {}
    for name in chosen:
        blocks = [partial(run_block, name, start, min(BLOCK, each - start), seed) for start in range(0, each, BLOCK)]
        work[name] = [partial(run_guided, name, guided, seed)] * bool(guided) + blocks
    # Not forked: the libraries have threads by now, and a fork of a process with threads may wait for ever.
    pool = ProcessPoolExecutor(arguments.processes, get_context("spawn")) if arguments.processes > 1 else None
    run = pool.map if pool else map
    inputs = 0
    with pool or nullcontext():
        done = run(call, chain(*work.values()))
        for name, tasks in work.items():
            counts = list(islice(done, len(tasks)))
            read, refused = sum(count.read for count in counts), sum(count.refused for count in counts)
            inputs += read + refused
            slowest = max(count.slowest for count in counts)
            print(f"{name:14} {read:>9,} read {refused:>9,} refused, slowest {slowest:.3f} s", flush=True)
    if not arguments.target:
        made = {"inputs": inputs, "guided": guided * len(chosen), "targets": len(chosen), "seed": seed, "faults": 0}
        keep("fuzz", all_targets=made)
    print(f"{inputs:,} inputs over {len(chosen)} targets with the seed {seed}, no fault")


if __name__ == "__main__":
    main()
