"""Ways of doing the same work, side by side in each repeat, and what the machine could do at best."""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rich.table import Table

from safety_tax.core.console import console, say
from safety_tax.core.processors import usable_cores
from safety_tax.engine.session import CPU

GEMM_SIZE = 1536
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def gemm_rate() -> float:
    """Float32 operations a second of a square matrix product, in the fastest of NumPy, PyTorch and ONNX Runtime.

    The median of twenty in a row: another library's threads spin for a tenth of a second after its last product, and
    in turns they halved what ONNX Runtime reached. The fastest of twenty is a moment in which a shared machine was
    quiet, a tenth and more above what it keeps up.
    """
    one, other = (np.random.default_rng(seed).random((GEMM_SIZE, GEMM_SIZE), np.float32) for seed in (0, 1))
    tensors = torch.from_numpy(one), torch.from_numpy(other)
    session = _matrix_product(other)
    ways: tuple[Callable[[], Any], ...] = (
        lambda: one @ other,
        lambda: torch.matmul(*tensors),
        lambda: session.run(None, {"one": one}),
    )
    fastest_library = min(statistics.median(timed(way)[0] for _ in range(20)) for way in ways)
    return 2 * GEMM_SIZE**3 / fastest_library


def _matrix_product(other: NDArray[np.float32]) -> ort.InferenceSession:
    """`one` by a constant, as a linear layer is run."""
    kind, shape = TensorProto.FLOAT, list(other.shape)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["one", "other"], ["product"])],
        "product",
        [helper.make_tensor_value_info("one", kind, shape)],
        [helper.make_tensor_value_info("product", kind, shape)],
        [numpy_helper.from_array(other, "other")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    return ort.InferenceSession(model.SerializeToString(), options, providers=[CPU])


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
    """`seconds` of every repeat by way, the last result by way, and the matrix rates before, between and after."""

    seconds: dict[str, list[float]]
    results: dict[str, Any]
    rates: list[float]

    def rate(self) -> float:
        """Median matrix rate."""
        return statistics.median(self.rates)

    def share(self, name: str, needed: float) -> float:
        """What part of the matrix rate a way reached that needs so many operations: the median of its repeats, each
        against the rates before and after it.
        """
        around = [(before + after) / 2 for before, after in pairwise(self.rates)]
        pairs = zip(self.seconds[name], around, strict=True)
        return statistics.median(needed / spent / rate for spent, rate in pairs)


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
