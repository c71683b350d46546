"""A graph of `safety_tax/onnx/rows_graph.py`, its keys and values in memory that is taken once and written in place.

Rows of one length lie one after another, so a row is a stretch of every buffer: it is bound by its address, as a batch
of its own or as one of many. Token ids and log-probabilities come back, logits never do.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from safety_tax.core.errors import PipelineError
from safety_tax.engine.batches import Int64
from safety_tax.engine.devices import DeviceMemory, capability, free_gpu_memory
from safety_tax.engine.gqa.session import LAST_PLACES, TOTAL_LENGTH
from safety_tax.engine.session import CUDA, external_bytes, require_provider, start, starting

ROWS_GRAPH = "rows.onnx"
WANTED, TARGETS, UNIFORMS, COLDNESS = "wanted", "targets", "uniforms", "coldness"
CHOSEN, BEST, LOGPROBS = "chosen", "best", "logprobs"
POSITIONS = "positions"
# Of the memory beside a GPU's weights, what a pass may take; the rest holds keys and values.
PASS_SHARE = 0.3
BFLOAT16_CAPABILITY = (8, 0)
TYPES = {"tensor(float)": TensorProto.FLOAT, "tensor(float16)": TensorProto.FLOAT16}
TYPES |= {"tensor(bfloat16)": TensorProto.BFLOAT16}
Float32 = NDArray[np.float32]


class Chosen(NamedTuple):
    """Of every wanted place: the next token [n], the largest log-probability [n], those of its targets [n, k]."""

    tokens: Int64
    best: Float32
    logprobs: Float32


class Wanted(NamedTuple):
    """Places [n] in the flattened tokens of a pass, what is asked of each, and how a token is drawn, if it is."""

    places: Int64
    targets: Int64
    uniforms: Float32
    coldness: float = 0.0

    @classmethod
    def of(cls, places: Int64, targets: Int64 | None = None) -> "Wanted":
        """The most likely tokens, and the log-probabilities of `targets` [n, k]."""
        asked = np.zeros((len(places), 1), np.int64) if targets is None else targets
        return cls(places, asked, np.zeros(len(places), np.float32))


class RowsSession:
    """Forward passes over new tokens of one row, or over one new token of each of several rows."""

    def __init__(self, folder: Path, provider: str) -> None:
        """Load the graph. Raises PipelineError when the device has no room for it, or not its type."""
        self.folder = folder
        self.provider = provider
        self._device = "cuda" if provider == CUDA else "cpu"
        with starting(folder, provider):
            free = free_gpu_memory() if provider == CUDA else None
            weights = external_bytes(folder, ROWS_GRAPH)
        require_room(folder, free, weights)
        self._session = start(folder, provider, ROWS_GRAPH, PASS_SHARE)
        self._past = [entry for entry in self._session.get_inputs() if entry.name.startswith("past_key_values.")]
        self.kind: int = TYPES[self._past[0].type]
        _, self._heads, _, self._size = self._past[0].shape
        if provider == CUDA and self.kind == TensorProto.BFLOAT16:
            require_bfloat16(folder, capability())
        self.positions = int(self._session.get_modelmeta().custom_metadata_map[POSITIONS])
        """Tokens that a row may have: beyond its tables the operator does not rotate, and says nothing."""
        self._item = helper.tensor_dtype_to_np_dtype(self.kind).itemsize
        self._tokens = 0
        self._memory: list[NDArray[np.uint8] | DeviceMemory] = []
        self._capacity = 0
        self._bindings: dict[tuple[int, int], ort.IOBinding] = {}
        # Asked once, before the first run: later the session holds memory that is not in use.
        self._free = None if free is None else int((free - weights) * (1 - PASS_SHARE))

    @property
    def token_bytes(self) -> int:
        """Of the keys and values of one token in all layers."""
        size: int = len(self._past) * self._heads * self._size * self._item
        return size

    def require_provider(self) -> None:
        """See the function of this name."""
        require_provider(self._session, self.provider, self.folder)

    def reserve(self, items: int, capacity: int, tokens: int, most: int, parts: int = 1) -> int:
        """Lay out rows of `capacity` tokens for so many items, `most` at the most, in `tokens` together; how many.

        `parts` divides both, and the tokens only after they are no more than the device holds.
        Raises PipelineError when a row is longer than the model's positions, or the device holds none.
        """
        if capacity > self.positions:
            raise PipelineError(
                f"Expected at most {self.positions:,} tokens, the positions of {self.folder}, found an item of "
                f"{capacity:,} with its answer; lower `shots` or `max_new_tokens`, or set infer.truncate to left, in "
                "params.yaml."
            )
        if self._free is not None:
            require_room(self.folder, self._free, capacity * self.token_bytes, f"a row of {capacity:,} tokens")
            tokens = min(tokens, self._free // self.token_bytes)
        tokens = max(tokens // parts, capacity)
        rows = max(1, min(items, most // parts, tokens // capacity))
        if tokens != self._tokens:
            self.release()
            for _ in self._past:  # one by one: what was had before memory ran out is given back next time
                self._memory.append(self._take(tokens))
            self._tokens = tokens
        self._capacity = capacity
        self._bindings.clear()
        return rows

    def release(self) -> None:
        """Give the buffers back."""
        self._bindings.clear()
        for memory in self._memory:
            if isinstance(memory, DeviceMemory):
                memory.free()
        self._memory, self._tokens = [], 0

    def _take(self, tokens: int) -> NDArray[np.uint8] | DeviceMemory:
        size = tokens * self._heads * self._size * self._item
        return DeviceMemory(size) if self._device == "cuda" else np.zeros(size, np.uint8)

    def run(self, first: int, tokens: Int64, lengths: Int64, wanted: Wanted) -> Chosen:
        """Run `tokens` [rows, time] on the rows from `first` on, after the `lengths` [rows] tokens that each has.

        Several new tokens are run on a single row.
        """
        binding = self._binding(first, len(tokens))
        last = lengths + tokens.shape[1] - 1
        inputs = {
            "input_ids": tokens,
            LAST_PLACES: last.astype(np.int32),
            TOTAL_LENGTH: np.array([last.max() + 1], np.int32),
            WANTED: wanted.places,
            TARGETS: wanted.targets,
            UNIFORMS: wanted.uniforms,
            COLDNESS: np.array([wanted.coldness], np.float32),
        }
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in (CHOSEN, BEST, LOGPROBS):
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        # Behind the buffers, which were bound before.
        return Chosen(*(value.numpy() for value in binding.get_outputs()[len(self._past) :]))

    def _binding(self, first: int, rows: int) -> ort.IOBinding:
        """With the buffers of rows `first` to `first + rows` bound as both past and present."""
        if (first, rows) in self._bindings:
            return self._bindings[first, rows]
        made = self._session.io_binding()
        shape = (rows, self._heads, self._capacity, self._size)
        start_of_row = first * self._heads * self._capacity * self._size * self._item
        for entry, memory in zip(self._past, self._memory, strict=True):
            base = memory.pointer if isinstance(memory, DeviceMemory) else memory.ctypes.data
            place = (self._device, 0, self.kind, shape, base + start_of_row)
            made.bind_input(entry.name, *place)
            made.bind_output(entry.name.replace("past_key_values", "present"), *place)
        self._bindings[first, rows] = made
        return made


def require_room(folder: Path, free: int | None, needed: int, of: str = "its weights") -> None:
    """Raises PipelineError when a device with `free` bytes has no room for what is `needed`; None is no device."""
    if free is not None and needed > free:
        raise PipelineError(
            f"Expected a GPU with room for {of} of {folder}, {needed / 1e9:,.1f} GB, found {free / 1e9:,.1f} GB free; "
            "use a GPU with more memory, free what others take, or set run.provider to cpu in params.yaml."
        )


def require_bfloat16(folder: Path, found: tuple[int, int] | None) -> None:
    """Raises PipelineError when a device's compute capability is below that of bfloat16 products."""
    if found is not None and found < BFLOAT16_CAPABILITY:
        raise PipelineError(
            f"Expected a GPU that multiplies in bfloat16, compute capability 8.0 or more, for {folder}, found "
            f"{found[0]}.{found[1]}; set dtype float16 in the model's entry of params.yaml."
        )
