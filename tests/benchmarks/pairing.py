"""Ways of doing the same work, side by side in each repeat, and what the machine could do at best."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from stages.lib.console import console, say

GEMM_SIZE = 1536
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def gemm_rate() -> float:
    """Float32 operations a second of a square matrix product, the better of NumPy's and PyTorch's, best of ten."""
    one, other = (np.random.default_rng(seed).random((GEMM_SIZE, GEMM_SIZE), np.float32) for seed in (0, 1))
    tensors = torch.from_numpy(one), torch.from_numpy(other)
    best = min(
        min(timed(lambda: one @ other)[0], timed(lambda: torch.matmul(*tensors))[0])  # one after the other, ten times
        for _ in range(10)
    )
    return 2 * GEMM_SIZE**3 / best


def operations(config: Any, contexts: NDArray[np.int64], logits: int) -> float:
    """Multiplications and additions that tokens cost which see `contexts` tokens each, with so many logit rows wanted.

    Matrix products alone: of every linear layer, of queries with keys and weights with values, of the head.
    """
    hidden, heads = config.hidden_size, config.num_attention_heads
    size = getattr(config, "head_dim", None) or hidden // heads
    linear = hidden * size * (2 * heads + 2 * config.num_key_value_heads) + 3 * hidden * config.intermediate_size
    of_layers = config.num_hidden_layers * (2 * linear * len(contexts) + 4 * heads * size * float(contexts.sum()))
    return of_layers + 2 * hidden * config.vocab_size * logits


class Race(NamedTuple):
    """`seconds` of every repeat by way, the last result by way, and the matrix rates between repeats."""

    seconds: dict[str, list[float]]
    results: dict[str, Any]
    rates: list[float]


def race(ways: dict[str, Callable[[], Any]], repeats: int, label: str) -> Race:
    """Run all ways in turn, `repeats` times. A way may return (seconds, result) to say itself what it took."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Any] = {}
    rates = [gemm_rate()]
    for repeat in range(repeats):
        for name, work in ways.items():
            spent, result = timed(work)
            if isinstance(result, tuple):
                spent, result = result
            seconds[name].append(spent)
            results[name] = result
        rates.append(gemm_rate())
        say(f"{label}: repeat {repeat + 1} of {repeats}")
    return Race(seconds, results, rates)


def fastest(name: str, sizes: Sequence[int], probe: Callable[[int], float]) -> int:
    """The batch size at which a rival's `probe` took the fewest seconds."""
    spent = {rows: probe(rows) for rows in sizes}
    best = min(spent, key=spent.__getitem__)
    say(f"{name}: " + ", ".join(f"{rows} rows {found:.1f} s" for rows, found in spent.items()) + f"; taken: {best}")
    return best


def report(of: Race, title: str, amount: float, unit: str, first: str, notes: dict[str, str]) -> dict[str, Any]:
    """Print medians, and how many times faster `first` is than each other way in the same repeat; for the JSON."""
    table = Table("way", unit, "seconds", f"{first} is faster", "differ", title=title)
    result: dict[str, Any] = {}
    for name, times in of.seconds.items():
        ratio = statistics.median(their / own for their, own in zip(times, of.seconds[first], strict=True))
        median = statistics.median(times)
        table.add_row(name, f"{amount / median:.1f}", f"{median:.1f}", f"{ratio:.2f} x", notes.get(name, ""))
        result[name] = {
            "seconds": [round(spent, 3) for spent in times],
            unit: round(amount / median, 2),
            "times_slower": round(ratio, 3),
            "differ": notes.get(name, ""),
        }
    console.print(table)
    return result
