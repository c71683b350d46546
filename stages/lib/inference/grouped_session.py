"""A model's graph with GroupQueryAttention, its keys and values in buffers that every step writes in place."""

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from stages.lib.inference.batches import Int64
from stages.lib.inference.forest import Pack, shared_length
from stages.lib.inference.session import CPU, LOGIT_POSITIONS, Float, require_provider, start

GROUPED_GRAPH = "grouped.onnx"
LAST_PLACES, TOTAL_LENGTH, ATTENTION_BIAS = "last_places", "total_length", "attention_bias"
# Far below any score, and still finite in float16 after a score is added.
HIDDEN = -6e4


class Cache(NamedTuple):
    """Keys and values by layer, each [rows, key-value heads, capacity, head size]; the graph writes into them."""

    buffers: list[Float]

    def rows(self, count: int) -> "Cache":
        """The first `count` rows, the same memory."""
        return Cache([buffer[:count] for buffer in self.buffers])


def spans(start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut `start` to `end` into spans of at most `most` tokens, but at least three, so that no bit depends on the cut.

    For a single token ONNX Runtime takes another kernel, whose last bits differ. So only a range of one token is a span
    of one.
    """
    most = max(3, most)
    while start < end:
        stop = min(start + most, end)
        stop -= end - stop == 1
        yield start, stop
        start = stop


class GroupedSession:
    """One forward pass over a tree of tokens, or over one new token of many rows."""

    def __init__(self, folder: Path) -> None:
        """Load the graph on the CPU: ONNX Runtime's CUDA kernel knows no bias, so no trees."""
        self.folder = folder
        self.provider = CPU
        # Its tiled kernel is the slower one for passes and steps of the sizes here.
        os.environ["ORT_GQA_DISABLE_FLASH_ATTENTION"] = "1"
        self._session = start(folder, CPU, GROUPED_GRAPH)
        self._past = [entry for entry in self._session.get_inputs() if entry.name.startswith("past_key_values.")]
        self._present = [entry.name.replace("past_key_values", "present") for entry in self._past]
        self.dtype = np.float16 if "16" in self._past[0].type else np.float32
        from transformers import AutoConfig  # only here: it takes a second

        config = AutoConfig.from_pretrained(folder)
        uses_window = getattr(config, "use_sliding_window", True)
        self._window: int | None = getattr(config, "sliding_window", None) if uses_window else None
        self._held: list[int] = []
        self._trunk = self._buffers(1, 1)
        self._arena: list[Float] = []
        self._bindings: list[tuple[list[tuple[int, tuple[int, ...]]], ort.IOBinding]] = []
        logits = next(entry for entry in self._session.get_outputs() if entry.name == "logits")
        self._vocabulary: int = logits.shape[-1]

    def require_provider(self) -> None:
        """See the function of this name."""
        require_provider(self._session, self.provider, self.folder)

    def cache(self, rows: int, capacity: int) -> Cache:
        """Buffers for `rows` of up to `capacity` tokens; they take the place of those that this gave before.

        Memory that was used once is used again: a page's first touch can cost more than the token written to it.
        """
        shapes = [(rows, entry.shape[1], capacity, entry.shape[3]) for entry in self._past]
        sizes = [int(np.prod(shape)) for shape in shapes]
        if not self._arena or any(arena.size < size for arena, size in zip(self._arena, sizes, strict=True)):
            self._arena = [np.zeros(size, self.dtype) for size in sizes]
        cut = zip(self._arena, sizes, shapes, strict=True)
        return Cache([arena[:size].reshape(shape) for arena, size, shape in cut])

    def _buffers(self, rows: int, capacity: int) -> Cache:
        return Cache([np.zeros((rows, e.shape[1], capacity, e.shape[3]), self.dtype) for e in self._past])

    def run_pack(self, pack: Pack, wanted: Sequence[int], tokens_per_pass: int) -> Float:
        """Logits [wanted, vocabulary] at places of `pack.tokens`; its keys and values lie in the trunk until the next.

        The prefix is run first, as far as the last pack's prefix did not begin with it.
        """
        start_of_tree, width = len(pack.prefix), len(pack.tokens)
        # Place 0 is an empty key that nobody sees: with no past at all the operator would ignore `position_ids`.
        self._reserve(1 + start_of_tree + max(width, tokens_per_pass))
        done = shared_length(self._held, pack.prefix)
        done -= start_of_tree - done == 1 and done > 0
        self._held = []  # what a failed pass leaves is not to be trusted
        for begin, end in spans(done, start_of_tree, tokens_per_pass):
            chunk = pack.prefix[begin:end]
            self._extend(chunk, np.arange(end), np.tri(len(chunk), dtype=bool), [len(chunk) - 1])
        self._held = list(pack.prefix)
        positions = np.concatenate([np.arange(start_of_tree), start_of_tree + pack.depths()])
        seen, places = pack.ancestors(), np.array(wanted, np.int64)
        logits: Float | None = None
        for begin, end in spans(0, width, tokens_per_pass):
            here = np.flatnonzero((places >= begin) & (places < end))
            # A pass wants at least one logit.
            asked = (places[here] - begin).tolist() or [0]
            found = self._extend(pack.tokens[begin:end], positions[: start_of_tree + end], seen[begin:end, :end], asked)
            if end - begin == width:
                return found
            logits = np.empty((len(places), found.shape[-1]), found.dtype) if logits is None else logits
            logits[here] = found[: len(here)]
        assert logits is not None  # a pack has tokens
        return logits

    def _extend(self, tokens: Sequence[int], at: Int64, seen: Float, wanted: Sequence[int]) -> Float:
        """Run `tokens` at the trunk's end; `at` has the position of every token of the trunk, theirs last.

        `seen` [tokens, columns] says which of the trunk's last tokens each one sees; those before all see.
        """
        total, positions = 1 + len(at), at[-len(tokens) :]
        bias = np.zeros((len(tokens), total), self.dtype)
        bias[:, 0] = HIDDEN
        bias[:, total - seen.shape[1] :][~seen] = HIDDEN
        if self._window is not None and positions.max() >= self._window:
            bias[positions[:, None] - np.concatenate([[-1], at])[None] >= self._window] = HIDDEN
        logits = self._run(
            self._trunk,
            np.array([tokens], np.int64),
            positions[None],
            np.array([total - 1]),
            bias[None, None],
            np.array([wanted], np.int64),
        )
        of_row: Float = logits[0]
        return of_row

    def step(self, cache: Cache, tokens: Int64, lengths: Int64) -> Float:
        """Logits [rows, vocabulary] after one more token a row; `lengths` counts the tokens before it."""
        total = int(lengths.max()) + 1
        bias = np.zeros((1, 1, 1, total), self.dtype)
        if self._window is not None and total > self._window:
            hidden = np.arange(total)[None] <= lengths[:, None] - self._window
            bias = np.where(hidden, HIDDEN, 0).astype(self.dtype)[:, None, None]
        rows = len(tokens)
        wanted = np.zeros((rows, 1), np.int64)
        logits: Float = self._run(cache.rows(rows), tokens[:, None], lengths[:, None], lengths, bias, wanted)[:, 0]
        return logits

    def copy_path(self, pack: Pack, path: Sequence[int], cache: Cache, row: int) -> None:
        """Put the prefix and the tree's places `path` into a row of `cache`, one after another."""
        columns = np.concatenate([np.arange(len(pack.prefix)), len(pack.prefix) + np.array(path, np.int64)]) + 1
        # Stretch by stretch of neighbours: a path through a tree has few.
        ends = [*(np.flatnonzero(np.diff(columns) != 1) + 1).tolist(), len(columns)]
        stretches = [(begin, end, int(columns[begin])) for begin, end in pairwise([0, *ends])]
        for source, target in zip(self._trunk.buffers, cache.buffers, strict=True):
            for begin, end, place in stretches:
                target[row, :, begin:end] = source[0, :, place : place + end - begin]

    def _reserve(self, capacity: int) -> None:
        held = self._trunk.buffers[0].shape[2]
        if capacity > held:
            grown = self._buffers(1, max(capacity, 2 * held))
            for old, new in zip(self._trunk.buffers, grown.buffers, strict=True):
                new[:, :, :held] = old
            self._trunk = grown

    def _run(
        self, cache: Cache, tokens: Int64, positions: Int64, last_places: Int64, bias: Float, wanted: Int64
    ) -> Float:
        binding = self._binding(cache)
        inputs = {
            "input_ids": tokens,
            "position_ids": positions.astype(np.int64),
            LAST_PLACES: last_places.astype(np.int32),
            TOTAL_LENGTH: np.array([bias.shape[-1]], np.int32),
            ATTENTION_BIAS: bias,
            LOGIT_POSITIONS: wanted,
        }
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        logits = np.empty((*wanted.shape, self._vocabulary), self.dtype)
        binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(logits))
        self._session.run_with_iobinding(binding)
        return logits

    def _binding(self, cache: Cache) -> ort.IOBinding:
        """Inputs and outputs with `cache` bound: the same object while a run goes on with the same memory."""
        places = [(buffer.__array_interface__["data"][0], buffer.shape) for buffer in cache.buffers]
        for known, binding in self._bindings:
            if known == places:
                return binding
        made = self._session.io_binding()
        for entry, present, buffer in zip(self._past, self._present, cache.buffers, strict=True):
            value = ort.OrtValue.ortvalue_from_numpy(buffer)
            made.bind_ortvalue_input(entry.name, value)
            made.bind_ortvalue_output(present, value)
        # One for trees and one for steps.
        self._bindings = [*self._bindings[-1:], (places, made)]
        return made
