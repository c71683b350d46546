"""The traced graph: its past key values stay on the device between calls, and every step copies them."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from safety_tax.engine.batches import Int64
from safety_tax.engine.devices import free_gpu_memory
from safety_tax.engine.session import CPU, CUDA, LOGIT_POSITIONS, Float, require_provider, start, starting

Past = list[ort.OrtValue]
# A step of the plain graph holds the past, the past with the new token, and in a layer both for every query head.
COPIES_OF_PAST = 4


class Output(NamedTuple):
    """`logits` is [batch, wanted, vocabulary]; `past` has one [batch, heads, past, head size] a key or value."""

    logits: Float
    past: Past


def _start_gather(kind: int, provider: str) -> ort.InferenceSession:
    """A graph that takes `rows` of `values`, on the device where those lie."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gather", ["values", "rows"], ["chosen"], axis=0)],
        "rows_of",
        [value("values", kind, [None] * 4), value("rows", TensorProto.INT64, [None])],
        [value("chosen", kind, [None] * 4)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=[provider], enable_fallback=0)


class PlainSession:
    """A model's graph, with past key values kept on the device between calls."""

    def __init__(self, folder: Path, provider: str) -> None:
        """Load the model. Raises PipelineError when the session runs on another provider than `provider`."""
        self.provider = provider
        self.folder = folder
        self._session = start(folder, provider)
        with starting(folder, provider):
            # Asked once, before the first run: later the session holds memory that is not in use.
            self._free = free_gpu_memory() if provider == CUDA else None
        self._device = "cuda" if provider == CUDA else "cpu"
        self._past_inputs = [i for i in self._session.get_inputs() if i.name.startswith("past_key_values.")]
        self._past_outputs = [i.name.replace("past_key_values", "present") for i in self._past_inputs]
        self.dtype = np.float16 if "16" in self._past_inputs[0].type else np.float32
        with starting(folder, provider):
            self._rows = _start_gather(helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)), provider)

    def token_budget(self, asked: int) -> int:
        """`asked` tokens of past key values, or on a GPU as many as fit beside the weights; at least one."""
        if self._free is None:
            return asked
        of_token = sum(entry.shape[1] * entry.shape[3] for entry in self._past_inputs) * np.dtype(self.dtype).itemsize
        fitting: int = self._free // (COPIES_OF_PAST * of_token)
        return max(1, min(asked, fitting))

    def require_provider(self) -> None:
        """See the function of this name."""
        require_provider(self._session, self.provider, self.folder)

    def empty_past(self, rows: int) -> Past:
        """Past key values of no tokens at all."""
        shapes = ([rows, entry.shape[1], 0, entry.shape[3]] for entry in self._past_inputs)
        return [self._on_device(np.zeros(shape, self.dtype)) for shape in shapes]

    def prefill(self, tokens: Sequence[int]) -> Past:
        """Past key values of one row of these tokens; of none, empty ones."""
        if not tokens:
            return self.empty_past(1)
        row = np.array([tokens], np.int64)
        positions = np.arange(len(tokens), dtype=np.int64)[None]
        last = np.array([[len(tokens) - 1]], np.int64)
        return self.run(row, np.ones_like(row), positions, last, self.empty_past(1)).past

    def rows_of(self, past: Past, rows: Int64) -> Past:
        """Past key values of the given rows, in that order; a row may be repeated. They never leave the device."""
        found = []
        for value in past:
            binding = self._rows.io_binding()
            binding.bind_ortvalue_input("values", value)
            binding.bind_cpu_input("rows", np.ascontiguousarray(rows))
            binding.bind_output("chosen", self._device)
            self._rows.run_with_iobinding(binding)
            found += binding.get_outputs()
        return found

    def _on_device(self, array: Float) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device, 0)

    def run(self, tokens: Int64, mask: Int64, positions: Int64, logit_positions: Int64, past: Past) -> Output:
        """One forward pass.

        `tokens`, `positions`: [batch, time]; `mask`: [batch, past + time], 1 where a token is; `logit_positions`:
        [batch, wanted], places in `tokens` at which logits are wanted.
        """
        binding = self._session.io_binding()
        inputs = {
            "input_ids": tokens,
            "attention_mask": mask,
            "position_ids": positions,
            LOGIT_POSITIONS: logit_positions,
        }
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for entry, value in zip(self._past_inputs, past, strict=True):
            binding.bind_ortvalue_input(entry.name, value)
        binding.bind_output("logits", "cpu")
        for name in self._past_outputs:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        return Output(logits.numpy(), present)


def rows_to_run(session: PlainSession, batch: Sequence[int], needed: Collection[int]) -> list[int]:
    """Places in a batch that must run so that the `needed` items of it get the bits that the whole batch gives them.

    On the CPU a row's bits do not depend on the other rows. On a GPU the number of rows chooses the kernel.
    """
    places = [place for place, item in enumerate(batch) if item in needed]
    return places if session.provider == CPU or not places else list(range(len(batch)))
