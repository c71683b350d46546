"""Many damaged inputs for every parser and the rules judge.  `python -m tests.benchmarks.fuzz --inputs 1000000`

Prints, for each target, how many inputs were read and how many refused in one sentence, and the slowest; stops at the
first fault with the bytes that cause it.
"""

import argparse
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzzing import TARGETS, damaged, outcome, seeds

BLOCK = 1000


class Count(NamedTuple):
    """What came of one block of inputs of one target."""

    target: str
    read: int
    refused: int
    slowest: float


def run_block(target: str, number: int, inputs: int) -> Count:
    """One block; the inputs depend on the target and the number alone."""
    chance = random.Random(f"{target}/{number}")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets (100000)")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--target", choices=TARGETS, help="one of them alone")
    arguments = parser.parse_args()
    chosen = [arguments.target] if arguments.target else list(TARGETS)
    each = -(-arguments.inputs // len(chosen))
    blocks = [(name, start, min(BLOCK, each - start)) for name in chosen for start in range(0, each, BLOCK)]
    total: dict[str, Count] = {}
    # Not forked: the libraries have threads by now, and a fork of a process with threads may wait for ever.
    pool = ProcessPoolExecutor(arguments.processes, get_context("spawn")) if arguments.processes > 1 else None
    run = pool.map if pool else map
    with pool or nullcontext():
        for count in run(run_block, *zip(*blocks, strict=True)):
            before = total.get(count.target, Count(count.target, 0, 0, 0.0))
            total[count.target] = Count(
                count.target,
                before.read + count.read,
                before.refused + count.refused,
                max(before.slowest, count.slowest),
            )
    for count in total.values():
        print(f"{count.target:14} {count.read:>9,} read {count.refused:>9,} refused, slowest {count.slowest:.3f} s")


if __name__ == "__main__":
    main()
