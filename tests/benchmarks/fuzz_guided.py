"""Inputs made up by a fuzzer that sees the branches.  `python -m tests.benchmarks.fuzz_guided TARGET RUNS SEED`

Wants atheris (libFuzzer for Python), of the extra `fuzz`. Exits with 0 after so many runs; at the first fault it prints
the traceback and the bytes that cause it, and exits with another status. `tests.benchmarks.fuzz --guided` calls this.
"""

import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))

# What the project wrote is instrumented: libFuzzer keeps an input that reaches a new branch of it.
with redirect_stderr(StringIO()), atheris.instrument_imports(include=["stages"]):
    from fuzzing import TARGETS, outcome, seeds

LONGEST = 4096  # bytes of an input; a seed that is longer may be as long again
SECONDS_PER_INPUT = 10


def main() -> None:
    name, runs, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with TemporaryDirectory(prefix="safety-tax-fuzz-") as scratch:
        folder, corpus = Path(scratch) / "work", Path(scratch) / "corpus"
        folder.mkdir()
        corpus.mkdir()
        sound = seeds(folder)[name]
        for number, data in enumerate(sound):
            (corpus / str(number)).write_bytes(data)
        counts = {"read": 0, "refused": 0}

        def one(data: bytes) -> None:
            try:
                counts[outcome(TARGETS[name], data, folder)[0]] += 1
            except Exception as error:
                print(f"{name}, seed {seed}: {error!r} from {data!r}", flush=True)
                raise
            if sum(counts.values()) == runs:  # libFuzzer ends the process: nothing after Fuzz() is reached
                print(f"{counts['read']} {counts['refused']}", flush=True)

        longest = max(LONGEST, *(2 * len(data) for data in sound))
        options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={longest}", f"-timeout={SECONDS_PER_INPUT}"]
        options += ["-rss_limit_mb=4096", "-verbosity=0", f"-artifact_prefix={scratch}/"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
