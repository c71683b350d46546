"""The network that a config.json describes, without weights: what shapes it wants, and whether it runs."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_utils import no_init_weights

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.model_files.weights import HEAD

# What Transformers raises, somewhere within, for a configuration that does not hold together.
FAULTS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    ImportError,
    OSError,
    MemoryError,
)
TOKENS = 8  # of the pass


def empty_network(config: dict[str, Any], name: str) -> PreTrainedModel:
    """The network on PyTorch's `meta` device, where nothing takes memory.

    Raises PipelineError when the pinned Transformers cannot build it.
    """
    try:
        made = AutoConfig.for_model(**config)
        with no_init_weights(), torch.device("meta"):
            network = AutoModelForCausalLM.from_config(made, dtype=torch.float32)
    except FAULTS as error:
        raise _refusal("builds", name, error) from None
    network.eval()
    assert isinstance(network, PreTrainedModel)
    return network


def require_shapes(network: PreTrainedModel, checkpoint: Checkpoint, unread: list[str], where: str) -> None:
    """The checkpoint holds the network's tensors, each in its shape, and no other but those that are left unread.

    `where` is the model's name for a person. Raises PipelineError otherwise.
    """
    wanted = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    if network.config.tie_word_embeddings:
        wanted.pop(HEAD, None)
    found = {name: checkpoint.shape(name) for name in checkpoint.names() if name not in unread}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) == found.get(name):
            continue
        if name == HEAD and name not in found:
            raise PipelineError(
                f"Expected a head of its own ({HEAD}) in {where!r}, since its config.json does not tie it to the "
                "embeddings, found none; set tie_word_embeddings to true in config.json if they are tied, else fetch "
                "the model again."
            )
        raise PipelineError(
            f"Expected {name[:120]} of {where!r} in the shape {wanted.get(name, 'of no tensor')} of its config.json, "
            f"found {found.get(name, 'none')}; "
            + ("fetch the model again." if name in wanted else "the pinned Transformers would leave it unread.")
        )


def require_forward(network: PreTrainedModel, name: str) -> None:
    """One pass over the shapes alone. Raises PipelineError when a layer's do not fit the next one's."""
    rotary = network.model.rotary_emb
    # Its own pass looks at positions, which have no values here, and wants a device that computes.
    table = torch.empty((1, TOKENS, 2 * rotary.inv_freq.numel()), device="meta")
    rotary.forward = lambda hidden, positions: (table, table)
    try:
        with torch.inference_mode():
            logits = network(torch.zeros((1, TOKENS), dtype=torch.long, device="meta"), use_cache=False).logits
    except FAULTS as error:
        raise _refusal("runs", name, error) from None
    assert logits.shape == (1, TOKENS, network.config.vocab_size)


def _refusal(does: str, name: str, error: BaseException) -> PipelineError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return PipelineError(
        f"Expected a config.json of {name!r} from which the pinned Transformers {does} a network, found: {reason}; "
        "choose another commit, or correct the file and give the model as a folder."
    )
