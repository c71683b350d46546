"""The gate of an export: ONNX Runtime against PyTorch in float32, neither with a whole model in memory of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from stages.lib.inference.processors import usable_cores
from stages.lib.inference.session import CPU, GRAPH, LOGIT_POSITIONS
from stages.lib.tensor_files import Checkpoint
from stages.lib.weightless import weightless

Float32 = NDArray[np.float32]


@contextmanager
def weights_in_turn(network: PreTrainedModel, checkpoint: Checkpoint) -> Iterator[None]:
    """Let each layer of a `weightless` network have its checkpoint tensors while it runs, in the network's type."""
    names: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if name in checkpoint:
            names[id(parameter)] = name  # a tied head finds the embedding's

    def fill(layer: torch.nn.Module, arguments: object) -> None:
        for parameter in layer.parameters(recurse=False):
            tensor = np.array(checkpoint.read(names[id(parameter)]), np.float32)
            parameter.data = torch.from_numpy(tensor).to(parameter.dtype)

    def clear(layer: torch.nn.Module, arguments: object, output: object) -> None:
        for parameter in layer.parameters(recurse=False):
            parameter.data = torch.zeros(1, dtype=parameter.dtype).expand(parameter.shape)

    layers = [layer for layer in network.modules() if next(layer.parameters(recurse=False), None) is not None]
    hooks = [layer.register_forward_pre_hook(fill) for layer in layers]
    hooks += [layer.register_forward_hook(clear) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def pytorch_logits(weights: Path, prompts: list[list[int]]) -> list[Float32]:
    """Logits [time, vocabulary] of each prompt alone, in float32."""
    network = weightless(weights, torch.float32)
    with weights_in_turn(network, Checkpoint(weights)), torch.inference_mode():
        return [network(torch.tensor([prompt]), use_cache=False).logits[0].numpy() for prompt in prompts]


def frugal_session(onnx: Path) -> ort.InferenceSession:
    """A session on the CPU that leaves the weights in the mapped file.

    ONNX Runtime would widen every float16 weight to float32 when it loads (the CPU has no float16 products), and
    rearrange every matrix into a copy of its own.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(str(onnx / GRAPH), options, providers=[CPU], disabled_optimizers=["ConstantFolding"])


def onnx_logits(session: ort.InferenceSession, prompt: list[int]) -> Float32:
    """Logits [time, vocabulary], the second half of the prompt with the first half as its past."""
    past_inputs = [entry for entry in session.get_inputs() if entry.name.startswith("past_key_values.")]
    dtype = np.float16 if "16" in past_inputs[0].type else np.float32
    past = [np.zeros((1, entry.shape[1], 0, entry.shape[3]), dtype) for entry in past_inputs]
    outputs = ["logits", *(entry.name.replace("past_key_values", "present") for entry in past_inputs)]
    tokens, half, found = np.array([prompt], np.int64), len(prompt) // 2, []
    for start, end in ((0, half), (half, len(prompt))):
        positions = np.arange(start, end)[None]
        feed = {
            "input_ids": tokens[:, start:end],
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": positions,
            LOGIT_POSITIONS: positions - start,
        }
        feed |= {entry.name: value for entry, value in zip(past_inputs, past, strict=True)}
        logits, *past = session.run(outputs, feed)
        found.append(logits[0].astype(np.float32))
    return np.concatenate(found)


def largest_difference(weights: Path, onnx: Path, prompts: list[list[int]]) -> float:
    """Largest difference in log-probability (nats) between PyTorch and ONNX Runtime on the CPU, at any position.

    PyTorch runs the checkpoint's own values in float32, so a float16 export shows all that its rounding costs. One
    after the other: their memory does not add up.
    """
    expected = pytorch_logits(weights, prompts)
    session = frugal_session(onnx)
    worst = 0.0
    for prompt, logits in zip(prompts, expected, strict=True):
        pair = (
            torch.log_softmax(torch.from_numpy(one).double(), dim=-1) for one in (onnx_logits(session, prompt), logits)
        )
        difference = float((next(pair) - next(pair)).abs().max())
        worst = max(worst, difference) if np.isfinite(difference) else float("inf")
    return worst
