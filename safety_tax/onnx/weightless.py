"""A network without its weights: parameters of the right shape that take no memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_utils import no_init_weights

from safety_tax.model_files.attention import implementation_of


def weightless(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The network of a folder's `config.json`, every parameter one element that is repeated; tied ones stay tied.

    Buffers are real. It can be traced, or run with each layer's weights put in their place for as long as it runs.
    """
    config = AutoConfig.from_pretrained(folder)
    with no_init_weights(), init_empty_weights(include_buffers=False):
        attention = implementation_of(config)
        network: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            placeholder = torch.zeros(1, dtype=parameter.dtype).expand(parameter.shape)
            setattr(module, name, torch.nn.Parameter(placeholder, requires_grad=False))
    network.tie_weights()
    network.eval()
    return network


@contextmanager
def cheap_products() -> Iterator[None]:
    """Let a linear layer whose weight is one zero repeated take no time: a column and a row give the same zeros.

    Processors without arithmetic of 16 bits multiply float16 so slowly that a trace of 14 billion weights would take
    over an hour. A tracer writes the same graph, since it notes the layer before this computes it.
    """
    library = torch.library.Library("aten", "IMPL")
    library.impl("linear", _linear, "CPU")
    try:
        yield
    finally:
        library._destroy()


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear` without gradients."""
    product = torch.matmul(x, weight.t()) if any(weight.stride()) else x[..., :1] * weight[:, 0]
    return product if bias is None else product + bias
