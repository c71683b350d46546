"""The network that a config.json describes, without weights: what shapes it wants, and whether it runs."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_utils import no_init_weights

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.model_files.faults import FAULTS
from safety_tax.model_files.layout import Layout

TOKENS = 8  # of the pass


def empty_network(config: dict[str, Any], name: str) -> PreTrainedModel:
    """The network on PyTorch's `meta` device, where nothing takes memory.

    Raises PipelineError when the pinned Transformers cannot build it.
    """
    try:
        made = AutoConfig.for_model(**config)
        with no_init_weights(), torch.device("meta"):
            # The other kinds of attention look at the mask's values.
            network = AutoModelForCausalLM.from_config(made, dtype=torch.float32, attn_implementation="eager")
    except FAULTS as error:
        raise _refusal("builds", name, error) from None
    network.eval()
    network.tie_weights()
    assert isinstance(network, PreTrainedModel)
    return network


def require_shapes(network: PreTrainedModel, checkpoint: Checkpoint, layout: Layout, where: str) -> None:
    """The checkpoint holds the network's tensors, each in its shape, and no other but those that are left unread.

    `where` is the model's name for a person. Raises PipelineError otherwise.
    """
    parameters = dict(network.named_parameters())
    wanted = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    found = layout.shapes(checkpoint)
    if beside := sorted(network.state_dict().keys() - dict(network.named_parameters(remove_duplicate=False)).keys()):
        raise PipelineError(
            f"Expected a network all of whose tensors are weights, found the family {network.config.model_type!r} in "
            f"{where!r}, which keeps {beside[0]} beside them; choose a model of another family."
        )
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) == found.get(name):
            continue
        if name not in found and parameters.get(name) is getattr(network.get_output_embeddings(), "weight", None):
            raise PipelineError(
                f"Expected a head of its own ({name}) in {where!r}, since its config.json does not tie it to the "
                "embeddings, found none; set tie_word_embeddings to true in config.json if they are tied, else fetch "
                "the model again."
            )
        raise PipelineError(
            f"Expected {name[:120]} of {where!r} in the shape {wanted.get(name, 'of no tensor')} of its config.json, "
            f"found {found.get(name, 'none')}; "
            + (
                "fetch the model again."
                if name in wanted
                else "the pinned Transformers would leave it unread: save the model without it if it served training "
                "alone (a value head), else choose another model."
            )
        )


def require_forward(network: PreTrainedModel, name: str) -> None:
    """One pass over the shapes alone. Raises PipelineError when a layer's do not fit the next one's.

    Experts are chosen by values, which are not here: of a mixture of them, nothing is said.
    """
    if any(hasattr(module, "experts") for module in network.modules()):
        return
    inner: Any = network.base_model
    inner.warn_if_padding_and_no_attention_mask = lambda *tokens: None  # it looks at their values
    try:
        for rotary in [module for module in network.modules() if hasattr(module, "inv_freq")]:
            # Its own pass looks at positions, which have no values here, and wants a device that computes.
            tables = type(rotary)(network.config)(torch.zeros(1, TOKENS, 1), torch.arange(TOKENS)[None])
            empty = tuple(table.to("meta") for table in tables)
            rotary.forward = lambda hidden, positions, empty=empty: empty
        tokens = torch.zeros((1, TOKENS), dtype=torch.long, device="meta")
        with torch.inference_mode(), _without_autocast():
            logits = network(tokens, use_cache=False).logits
    except FAULTS as error:
        raise _refusal("runs", name, error) from None
    assert logits.shape == (1, TOKENS, network.config.vocab_size)


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Networks switch it off for a norm or a rotation by the device's name, and PyTorch knows none for `meta`."""
    autocast = torch.autocast
    torch.autocast = lambda *arguments, **settings: nullcontext()  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        torch.autocast = autocast  # type: ignore[misc]


def _refusal(does: str, name: str, error: BaseException) -> PipelineError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return PipelineError(
        f"Expected a config.json of {name!r} from which the pinned Transformers {does} a network, found: {reason}; "
        "choose another commit, or correct the file and give the model as a folder."
    )
