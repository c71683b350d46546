"""A network without its weights: parameters of the right shape that take no memory."""

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
