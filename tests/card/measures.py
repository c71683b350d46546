"""What the kit measures, each on one engine of random weights.

Long, since every measurement shares the card, the model and what is printed of them.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from safety_tax.engine.devices import capability, driver_version, free_gpu_memory
from safety_tax.engine.gqa.rows import Rows
from safety_tax.engine.gqa.rows_session import PASS_SHARE, ROWS_GRAPH, Wanted
from safety_tax.engine.protocol import Answers, Budget, Hooks, Question, Questions
from safety_tax.engine.session import CPU, CUDA, cuda_problem, external_bytes
from tests.card.models import Model, write

Row = tuple[str, str]
"""What was measured, and what was found."""
SHOWS_KERNELS = "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"


@dataclass
class Card:
    """A device, one model on it, and how much to ask of it."""

    name: str
    model: Model
    kind: int
    provider: str
    folder: Path
    small: bool
    """Little work: a test of the kit, not of the card."""
    multiplied: float = 0.0
    copied: float = 0.0
    _engine: Rows | None = None

    @property
    def engine(self) -> Rows:
        """Opened once."""
        if self._engine is None:
            self._engine = Rows(write(self.model, self.kind, self.folder), self.provider)
        return self._engine

    def rate(self) -> float:
        """Operations a second of a large product in the model's type, measured once."""
        self.multiplied = self.multiplied or multiplication(self)
        return self.multiplied

    def bandwidth(self) -> float:
        """Bytes a second, read and written, of a large copy, measured once."""
        self.copied = self.copied or copying(self)
        return self.copied


def seconds(work: Callable[[], object], times: int) -> float:
    """The median of some calls, after one to warm up."""
    work()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def multiplication(card: Card) -> float:
    """Of [size, size] by [size, size], which stays on the device."""
    size, kind = (64 if card.small else 8192), card.kind
    value = helper.make_tensor_value_info
    filled = helper.make_tensor("one", kind, [1], [0.01])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["a"], value=filled),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
        helper.make_node("ReduceMax", ["y"], ["top"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "product", [value("b", kind, [size, size])], [value("top", kind, [])],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [size, size])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=[card.provider])
    binding, device = session.io_binding(), "cuda" if card.provider == CUDA else "cpu"
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    memory = ort.OrtValue.ortvalue_from_numpy(np.full(size * size * dtype.itemsize, 7, np.uint8), device, 0)
    binding.bind_input("b", device, 0, kind, (size, size), memory.data_ptr())
    binding.bind_output("top", device)
    return 2 * size**3 / seconds(lambda: session.run_with_iobinding(binding), 3 if card.small else 20)


def copying(card: Card) -> float:
    """Of a gigabyte, from the device's memory to itself."""
    size, device = (1 << 20 if card.small else 1 << 29), "cuda" if card.provider == CUDA else "cpu"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Concat", ["x"], ["y"], axis=0)], "copy",
        [value("x", TensorProto.FLOAT16, [size])], [value("y", TensorProto.FLOAT16, [size])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it would drop the copy
    session = ort.InferenceSession(model.SerializeToString(), options, providers=[card.provider])
    binding = session.io_binding()
    source, target = (ort.OrtValue.ortvalue_from_numpy(np.zeros(size, np.float16), device, 0) for _ in range(2))
    binding.bind_ortvalue_input("x", source)
    binding.bind_ortvalue_output("y", target)
    return 2 * 2 * size / seconds(lambda: session.run_with_iobinding(binding), 10)


def opened(card: Card) -> Iterator[Row]:
    """The device, its driver and libraries, and which attention kernels ONNX Runtime chooses."""
    if card.provider == CUDA:
        yield (
            "CUDA",
            cuda_problem() or f"a session starts; compute capability {capability()}, driver {driver_version()}",
        )
        yield "memory free", f"{(free_gpu_memory() or 0) / 1e9:.1f} GB"
    yield "ONNX Runtime", f"{ort.__version__}, CUDA {getattr(ort, 'cuda_version', '') or 'none'}"
    os.environ[SHOWS_KERNELS] = "1"  # read when a session starts
    started = time.perf_counter()
    with _heard() as heard:
        engine = card.engine
        engine.session.reserve(4, 64, 256, 4)
        _pass(engine, 0, 32, 0)
        _step(engine, 4, 32)
    del os.environ[SHOWS_KERNELS]
    yield "seconds to open", f"{time.perf_counter() - started:.1f}"
    kernels = {part.split()[0] for part in "".join(heard).split("SdpaKernel=")[1:]}
    yield "attention kernels", ", ".join(sorted(kernels)) or "not said"
    engine.require_provider()


def parity(card: Card) -> Iterator[Row]:
    """Two layers of the shape, on the device and in float32 on the CPU."""
    two = replace(card.model, decoder=replace(card.model.decoder, layers=2))
    draw = np.random.default_rng(1)
    prompts = [draw.integers(0, two.decoder.vocabulary, length).tolist() for length in (40, 64, 21)]
    targets = [np.tile(draw.integers(0, two.decoder.vocabulary, 8), (len(p) - len(p) // 2, 1)) for p in prompts]
    found = {}
    for provider, computed in ((card.provider, card.kind), (CPU, TensorProto.FLOAT)):
        folder = write(two, card.kind, card.folder / f"two-{computed}-{provider}", computed)
        engine = Rows(folder, provider)
        questions = [
            Question(p[:-1], [[*p[:-1], int(token)] for token in t[0]]) for p, t in zip(prompts, targets, strict=True)
        ]
        part = Questions("parity", questions, [""] * len(questions))
        scores = dict(engine.score(part, range(len(questions)), Budget(4096, 8, 16, 4096), Hooks()))
        steps = np.concatenate(engine.by_steps(prompts, targets))
        found[computed, provider] = (steps, np.array([scores[n].logprobs for n in range(len(questions))]))
        engine.session.release()
    (one, other) = found.values() if len(found) == 2 else [*found.values()] * 2
    for name, mine, theirs in zip(("steps", "prefill"), one, other, strict=True):
        yield f"{name}, largest difference to float32", f"{np.abs(mine - theirs).max():.2g} nats"


def prefill(card: Card) -> Iterator[Row]:
    """Prompts of some lengths, alone: tokens a second, and the share of the matrix rate."""
    rate, model = card.rate(), card.model
    yield "matrix rate", f"{rate / 1e12:.2f} Tflop/s"
    for length in (16, 48) if card.small else (512, 2048, 4096):
        card.engine.session.reserve(1, length, length, 1)
        spent = seconds(partial(_pass, card.engine, 0, length, 0), 3 if card.small else 7)
        scores = 2 * 2 * model.decoder.layers * model.decoder.heads * model.decoder.head_size * length**2 / 2
        needed = 2 * model.products() * length + 2 * model.head() + scores
        yield f"prefill of {length}", f"{length / spent:,.0f} tokens/s, {needed / spent / rate:.0%} of the matrix rate"


def decode(card: Card) -> Iterator[Row]:
    """Steps of some rows that each hold some tokens: tokens a second, and the share of the copy bandwidth."""
    bandwidth, session = card.bandwidth(), card.engine.session
    yield "copy bandwidth", f"{bandwidth / 1e9:,.0f} GB/s"
    length = 24 if card.small else 256
    weights = (card.model.products() + card.model.head()) * helper.tensor_dtype_to_np_dtype(card.kind).itemsize
    for rows in (1, 4) if card.small else (1, 32, 256):
        assert rows == session.reserve(rows, length + 1, rows * (length + 1), rows), "no room for them"
        spent = seconds(partial(_step, card.engine, rows, length), 5 if card.small else 20)
        used = (weights + rows * length * session.token_bytes) / spent
        yield f"{rows} rows of {length}", f"{rows / spent:,.0f} tokens/s, {used / bandwidth:.0%} of the copy bandwidth"


def score(card: Card) -> Iterator[Row]:
    """Five-shot questions in the letter format, twenty a subject, through the engine."""
    draw, vocabulary = np.random.default_rng(2), card.model.decoder.vocabulary
    shots, length, count = (30, 8, 6) if card.small else (500, 100, 400)
    asked = []
    for number in range(count):
        if number % 20 == 0:
            context = draw.integers(0, vocabulary, shots).tolist()
        stem = [*context, *draw.integers(0, vocabulary, length).tolist()]
        asked.append(Question(stem, [[*stem, letter] for letter in range(4)]))
    part = Questions("letter", asked, [""] * count)
    started = time.perf_counter()
    done = dict(card.engine.score(part, range(count), Budget(8192, 8, 2048, 4096), Hooks()))
    spent = time.perf_counter() - started
    assert len(done) == count
    yield f"five-shot questions of {shots} and {length} tokens", f"{count / spent:,.0f} questions/s"


def memory(card: Card) -> Iterator[Row]:
    """What was free before, what was planned, and what is free after a batch of answers."""
    before = free_gpu_memory() if card.provider == CUDA else None
    rows, prompt, new = (4, 12, 8) if card.small else (256, 128, 64)
    draw = np.random.default_rng(3)
    prompts = [draw.integers(0, card.model.decoder.vocabulary, prompt).tolist() for _ in range(rows)]
    part = Answers("answers", prompts, frozenset(), [""] * rows, new)
    started = time.perf_counter()
    done = dict(card.engine.generate(part, range(rows), Budget(rows * (prompt + new), rows, 2048, 4096), Hooks()))
    spent = time.perf_counter() - started
    assert {len(answer.tokens) for answer in done.values()} == {new}
    yield f"{rows} answers of {new} tokens", f"{rows * new / spent:,.0f} tokens/s, prefill included"
    planned = rows * (prompt + new) * card.engine.session.token_bytes
    yield (
        "planned: weights, keys and values",
        f"{external_bytes(card.folder, ROWS_GRAPH) / 1e9:.2f} GB, {planned / 1e9:.2f} GB",
    )
    if before is not None:
        used = (before - (free_gpu_memory() or 0)) / 1e9
        yield "taken since the part began", f"{used:.2f} GB, passes granted {PASS_SHARE:.0%} of what weights leave"
    yield from transformers_beside(card, rows, prompt, new)


def transformers_beside(card: Card, rows: int, prompt: int, new: int) -> Iterator[Row]:
    """Transformers' `generate` on the same shape, where it and torch are there and the card has room for both."""
    try:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        yield "transformers.generate", "not installed"
        return
    of = card.model.decoder
    card.engine.session.release()
    config = LlamaConfig(
        vocab_size=of.vocabulary,
        hidden_size=of.width,
        intermediate_size=card.model.inner,
        num_hidden_layers=of.layers,
        num_attention_heads=of.heads,
        num_key_value_heads=of.kv_heads,
        head_dim=of.head_size,
        max_position_embeddings=of.positions,
        attention_bias=card.model.biased,
        tie_word_embeddings=card.model.tied,
        attn_implementation="sdpa",
    )
    device = "cuda" if card.provider == CUDA else "cpu"
    before = torch.get_default_dtype()
    torch.set_default_dtype(
        {TensorProto.FLOAT: torch.float32, TensorProto.FLOAT16: torch.float16}.get(card.kind, torch.bfloat16)
    )
    try:
        with torch.device(device):
            network = LlamaForCausalLM(config).eval()
        ids = torch.randint(0, of.vocabulary, (rows, prompt), device=device)
        settings = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        ask = lambda: network.generate(ids, attention_mask=torch.ones_like(ids), **settings).cpu()  # noqa: E731
        spent = seconds(ask, 1)
    except torch.cuda.OutOfMemoryError:
        yield "transformers.generate", "no room beside this engine"
        return
    finally:
        torch.set_default_dtype(before)
    yield f"transformers.generate (sdpa), {rows} rows", f"{rows * new / spent:,.0f} tokens/s"


def _pass(engine: Rows, row: int, tokens: int, past: int) -> None:
    """New tokens of one row; their last place is wanted."""
    ids = np.full((1, tokens), 5, np.int64)
    engine.session.run(row, ids, np.array([past], np.int64), Wanted.of(np.array([tokens - 1], np.int64)))


def _step(engine: Rows, rows: int, length: int) -> None:
    """A new token of each row."""
    ids, lengths = np.full((rows, 1), 5, np.int64), np.full(rows, length, np.int64)
    engine.session.run(0, ids, lengths, Wanted.of(np.arange(rows, dtype=np.int64)))


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What libraries print on stdout inside, below Python."""
    said: list[str] = []
    sys.stdout.flush()
    before = os.dup(1)
    with TemporaryFile() as stream:
        os.dup2(stream.fileno(), 1)
        try:
            yield said
        finally:
            os.dup2(before, 1)
            os.close(before)
            stream.seek(0)
            said.append(stream.read().decode("utf-8", "replace"))


PARTS: dict[str, Callable[[Card], Iterator[Row]]] = {
    "open": opened,
    "parity": parity,
    "prefill": prefill,
    "decode": decode,
    "score": score,
    "memory": memory,
}
