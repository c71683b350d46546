"""A model's graph with GroupQueryAttention, its keys and values in buffers that every step writes in place."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from safety_tax.engine.batches import Int64, shared_length
from safety_tax.engine.gqa.prefix_tree import Pack
from safety_tax.engine.session import CPU, LOGIT_POSITIONS, Float, require_provider, start

GROUPED_GRAPH = "grouped.onnx"
LAST_PLACES, TOTAL_LENGTH, ATTENTION_BIAS = "last_places", "total_length", "attention_bias"
# What an attention node reads beside queries, keys, values and the past.
NODE_INPUTS = ("position_ids", LAST_PLACES, TOTAL_LENGTH, ATTENTION_BIAS)
WINDOW_BIAS = "window_bias"
"""What layers with a window read in place of the last of them, where other layers have none."""
# A pass over trees has so many attention nodes a layer, each for a stretch of its tokens: one node would multiply every
# query with every key of the pass, most of which it must not see. With 4 or 16 a pass took as long.
BLOCKS = 8
IN_BLOCKS, BLOCK_LENGTHS = "in_blocks", "block_lengths"
# Far below any score, and still finite in float16 after a score is added.
HIDDEN = -6e4


def of_block(name: str, block: int) -> str:
    """An input or output of the graph, of one block of a pass."""
    return f"block_{block}.{name}"


class Block(NamedTuple):
    """Tokens for the trunk, from some place on; `at` has the positions of all tokens up to its last, theirs last.

    `seen` [tokens, columns] says which of the last of those each one sees; those before all see. `wanted` are places in
    `tokens`, ascending. What the trunk had from that place on is overwritten.
    """

    tokens: list[int]
    at: Int64
    seen: NDArray[np.bool_]
    wanted: list[int]
    ends_pack: bool

    def cut(self, place: int) -> tuple["Block", "Block"]:
        """Two that do the same, one after the other."""
        size, columns = len(self.tokens), self.seen.shape[1]
        before = [wanted for wanted in self.wanted if wanted < place]
        after = [wanted - place for wanted in self.wanted[len(before) :]]
        seen = self.seen[:place, : columns - size + place], self.seen[place:]
        return (
            Block(self.tokens[:place], self.at[: len(self.at) - size + place], seen[0], before, False),
            Block(self.tokens[place:], self.at, seen[1], after, self.ends_pack),
        )


class Cache(NamedTuple):
    """Keys and values by layer, each [rows, key-value heads, capacity, head size]; the graph writes into them."""

    buffers: list[Float]

    def rows(self, count: int) -> "Cache":
        """The first `count` rows, the same memory."""
        return Cache([buffer[:count] for buffer in self.buffers])


def passes(blocks: Iterable[Block], most: int) -> Iterator[list[Block]]:
    """Blocks, cut where a pass of `most` tokens is full, or of three, in passes of at most `BLOCKS`.

    No bit depends on the cut: only a single token is another kernel's, whose last bits differ. So none is cut off, and
    a block of one is a pass.
    """
    most = max(3, most)
    group: list[Block] = []
    room = most
    for block in blocks:
        rest: Block | None = block
        while rest is not None:
            size = len(rest.tokens)
            taken = size if size <= room else room - (size - room == 1)
            if group and (taken < 2 or size == 1 or len(group) == BLOCKS):
                yield group
                group, room = [], most
                continue
            part, rest = (rest, None) if taken == size else rest.cut(taken)
            group.append(part)
            room = room - taken if size > 1 else 0
    if group:
        yield group


def cut_into(count: int, group: Sequence[Block]) -> list[Block] | None:
    """A pass as exactly so many blocks, the longest halved; none where that would leave a single token."""
    blocks = list(group)
    while len(blocks) < count:
        longest = max(range(len(blocks)), key=lambda place: len(blocks[place].tokens))
        size = len(blocks[longest].tokens)
        if size < 4:
            return None
        blocks[longest : longest + 1] = blocks[longest].cut(size // 2)
    return blocks


def _node_inputs(positions: Int64, last_places: Int64, biases: dict[str, Float]) -> dict[str, NDArray[Any]]:
    """What an attention node reads beside queries, keys, values and the past."""
    total = np.array([biases[ATTENTION_BIAS].shape[-1]], np.int32)
    at, places = positions.astype(np.int64), last_places.astype(np.int32)
    return {"position_ids": at, LAST_PLACES: places, TOTAL_LENGTH: total, **biases}


class TreeSession:
    """Forward passes over trees of tokens in one buffer, the trunk, or over a new token of many rows."""

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
        from safety_tax.model_files.attention import read_attention  # only here: Transformers takes a second

        self._window: int | None = read_attention(folder).smallest  # of all layers that have one
        inputs = {entry.name for entry in self._session.get_inputs()}
        self._biases = [name for name in (ATTENTION_BIAS, WINDOW_BIAS) if name in inputs]
        self._held: list[int] = []
        self._trunk = self._buffers(1, 1)
        self._arena: list[Float] = []
        self._bindings: list[tuple[list[tuple[int, tuple[int, ...]]], ort.IOBinding]] = []
        empty = dict.fromkeys(self._biases, np.zeros((1, 1, 1, 1), self.dtype))
        nothing = _node_inputs(np.zeros((1, 1), np.int64), np.zeros(1, np.int64), empty)
        self._unread: dict[str, NDArray[Any]] = {IN_BLOCKS: np.array(False), BLOCK_LENGTHS: np.ones(BLOCKS, np.int64)}
        self._unread |= {of_block(name, number): nothing[name] for number in range(BLOCKS) for name in nothing}
        self._unread |= nothing
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

    def run_packs(self, packs: Iterable[tuple[Pack, Sequence[int]]], tokens_per_pass: int) -> Iterator[Float]:
        """Of every pack, the logits [wanted, vocabulary] at some places of its tokens, ascending.

        Neither the packs around it nor `tokens_per_pass` change what a pack gets. Its prefix is run first, as far as
        the trunk does not begin with it. Packs are read when their turn comes; the last one's keys and values lie in
        the trunk until the next call.
        """
        found: list[Float] = []
        trunk, self._held = self._held, []  # what a failed pass leaves is not to be trusted
        for group in passes(self._blocks(packs, trunk), tokens_per_pass):
            self._reserve(1 + max(len(block.at) for block in group))
            logits = self._extend(group)
            for block in group:
                found.append(logits[: len(block.wanted)])
                logits = logits[len(block.wanted) :]
                if block.ends_pack:
                    yield found[0] if len(found) == 1 else np.concatenate(found)
                    found = []
        self._held = trunk

    @staticmethod
    def _blocks(packs: Iterable[tuple[Pack, Sequence[int]]], trunk: list[int]) -> Iterator[Block]:
        """A block for each pack, after one for what its prefix has beyond the `trunk`, which is kept up to date."""
        for pack, wanted in packs:
            start = len(pack.prefix)
            done = shared_length(trunk, pack.prefix)
            done -= start - done == 1
            if done < start:
                rest = pack.prefix[done:]
                yield Block(rest, np.arange(start), np.tri(len(rest), dtype=bool), [], False)
            at = np.concatenate([np.arange(start), start + pack.depths()])
            yield Block(pack.tokens, at, pack.ancestors(), list(wanted), True)
            trunk[:] = [*pack.prefix, *(pack.tokens[place] for place in pack.paths[0][0])]

    def _extend(self, group: Sequence[Block]) -> Float:
        """Logits at all wanted places of a pass, in order."""
        blocks = cut_into(BLOCKS, group) if len(group[0].tokens) > 1 else None
        if blocks is None:
            return np.concatenate([self._extend_by_one(block) for block in group])
        inputs = {IN_BLOCKS: np.array(True), BLOCK_LENGTHS: np.array([len(b.tokens) for b in blocks], np.int64)}
        tokens: list[int] = []
        wanted: list[int] = []
        for number, block in enumerate(blocks):
            inputs |= {of_block(name, number): array for name, array in self._inputs_of(block).items()}
            wanted += [len(tokens) + place for place in block.wanted]
            tokens += block.tokens
        return self._run(self._trunk, np.array([tokens]), np.array([wanted], np.int64), inputs)

    def _extend_by_one(self, block: Block) -> Float:
        tokens, wanted = np.array([block.tokens]), np.array([block.wanted], np.int64)
        return self._run(self._trunk, tokens, wanted, self._inputs_of(block))

    def _inputs_of(self, block: Block) -> dict[str, NDArray[Any]]:
        """What an attention node reads for a block."""
        total, positions = 1 + len(block.at), block.at[-len(block.tokens) :]
        bias = np.zeros((len(block.tokens), total), self.dtype)
        # Place 0 is an empty key that nobody sees: with no past at all the operator would ignore `position_ids`.
        bias[:, 0] = HIDDEN
        bias[:, total - block.seen.shape[1] :][~block.seen] = HIDDEN
        windowed = bias
        if self._window is not None and positions.max() >= self._window:
            beyond = positions[:, None] - np.concatenate([[-1], block.at])[None] >= self._window
            windowed = np.where(beyond, self.dtype(HIDDEN), bias)
        biases = self._either(bias[None, None], windowed[None, None])
        return _node_inputs(positions[None], np.array([total - 1]), biases)

    def _either(self, bias: Float, windowed: Float) -> dict[str, Float]:
        """What layers read: all of them the second, or those without a window the first."""
        return dict(zip(self._biases, (windowed,) if len(self._biases) == 1 else (bias, windowed), strict=True))

    def step(self, cache: Cache, tokens: Int64, lengths: Int64) -> Float:
        """Logits [rows, vocabulary] after one more token a row; `lengths` counts the tokens before it."""
        total = int(lengths.max()) + 1
        bias = windowed = np.zeros((1, 1, 1, total), self.dtype)
        if self._window is not None and total > self._window:
            hidden = np.arange(total)[None] <= lengths[:, None] - self._window
            windowed = np.where(hidden, HIDDEN, 0).astype(self.dtype)[:, None, None]
        rows = len(tokens)
        wanted = np.zeros((rows, 1), np.int64)
        biases = self._either(bias, windowed)
        return self._run(cache.rows(rows), tokens[:, None], wanted, _node_inputs(lengths[:, None], lengths, biases))

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

    def _run(self, cache: Cache, tokens: Int64, wanted: Int64, inputs: dict[str, NDArray[Any]]) -> Float:
        """Logits [all wanted, vocabulary]; `wanted` [rows, places in a row]. What is not among `inputs` is not read."""
        binding = self._binding(cache)
        # A run wants at least one logit.
        places = wanted if wanted.size else np.zeros((len(tokens), 1), np.int64)
        given = self._unread | inputs | {"input_ids": tokens, LOGIT_POSITIONS: places}
        for name, array in given.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        logits = np.empty((*places.shape, self._vocabulary), self.dtype)
        binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(logits))
        self._session.run_with_iobinding(binding)
        return logits.reshape(-1, self._vocabulary)[: wanted.size]

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
            for number in range(BLOCKS):
                made.bind_ortvalue_output(of_block(present, number), value)
        # One for trees and one for steps.
        self._bindings = [*self._bindings[-1:], (places, made)]
        return made
