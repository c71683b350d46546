"""Which families of models run: every decoder that Optimum exports as a text generator with a past.

A family is a `model_type` of Transformers. Nothing here names one: what Optimum has registered, and what
`registrations.py` adds, is asked.
"""

from difflib import get_close_matches
from functools import cache
from inspect import signature
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from safety_tax.core.errors import PipelineError

TASK = "text-generation-with-past"
WITH_SIGHT = {"gemma3": "gemma3_text", "mistral3": "mistral"}
"""Families that see, too, and the family of the model inside that writes: given text alone, it computes the same."""
OUTSIDE = ("tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype")
"""Keys of the text model that may stand outside its configuration."""


@cache
def exported_families() -> dict[str, str]:
    """`model_type` -> the class of Transformers, of every text decoder that can be exported."""
    # Optimum takes seconds to import.
    from optimum.exporters.tasks import TasksManager

    from safety_tax.model_files.registrations import DECODER

    found = {}
    for kind in TasksManager.get_supported_model_type_for_task(TASK, "onnx"):
        architecture = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
        whole = kind in CONFIG_MAPPING and not CONFIG_MAPPING[kind].sub_configs  # no text model inside another one
        if architecture and whole and issubclass(_constructor(kind).func, DECODER):
            found[kind] = architecture
    return found


def require_family(config: dict[str, Any], name: str) -> tuple[str, str]:
    """The `model_type` and the class that a config.json names; where one is absent, the other decides.

    Raises PipelineError when the family is none that can be exported, or the two do not belong together.
    """
    families = exported_families()
    given, named = config.get("model_type"), config.get("architectures")
    architecture = str(named[0])[:60] if isinstance(named, list) and named else None
    of_class = {value: kind for kind, value in families.items()}
    if isinstance(named, str | dict) or (given is None and architecture is None):
        raise PipelineError(
            f"Expected the model's family in config.json of {name!r} (model_type, architectures as a list), found "
            "none; fetch the model again."
        )
    kind = of_class.get(str(architecture), "") if given is None else str(given)[:60]
    if kind not in families:
        said = " of ".join(filter(None, [architecture, f"the family {kind!r}" if kind else None]))
        known = sorted(families)
        near = get_close_matches(kind or str(architecture).lower(), known, n=3, cutoff=0.7)
        least = f"by name the nearest of these are {', '.join(near)}" if near else f"these are {', '.join(known)}"
        raise PipelineError(
            f"Expected a model of a family that Optimum exports as a text generator, found {said} in {name!r}, which "
            f"it does not; {least}: choose a model of one of them."
        )
    if architecture is not None and architecture != families[kind]:
        raise PipelineError(
            f"Expected {families[kind]}, by which Transformers chooses the network of model_type {kind!r}, in "
            f"config.json of {name!r}, found {architecture}; correct the one that is wrong, or choose a model that "
            "writes text."
        )
    return kind, families[kind]


def inner_text(config: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration of the text model inside one that sees, too, where that is known to be all it needs."""
    inner, family = config.get("text_config"), WITH_SIGHT.get(str(config.get("model_type")))
    if family is None or not isinstance(inner, dict):
        return None
    outside = {key: config[key] for key in OUTSIDE if config.get(key) is not None}
    architecture = exported_families()[family]
    return {**outside, "model_type": family, **inner, "architectures": [architecture]}


def require_positions(network: PreTrainedModel, name: str) -> None:
    """The network is told each token's place. Raises PipelineError where it counts by itself (ALiBi)."""
    if "position_ids" not in signature(network.forward).parameters or getattr(network.config, "alibi", False):
        raise PipelineError(
            f"Expected a network that takes position_ids, found the family {network.config.model_type!r} in {name!r}, "
            "which does not, so that one item could not share another's beginning; choose a model of another family."
        )


def export_config(network: PreTrainedModel, float_dtype: str) -> Any:
    """Optimum's configuration of a text generator with a past, with `position_ids` among its inputs.

    Raises PipelineError when Optimum cannot export the architecture.
    """
    kind = network.config.model_type
    if kind not in exported_families():
        raise PipelineError(
            f"Expected an architecture that Optimum exports as a text generator, found {kind!r}; choose another model."
        )
    made = _constructor(kind)

    class WithPositions(made.func):  # type: ignore[misc, name-defined]
        """Some leave them out, and the network then counts padding, too."""

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {**super().inputs, "position_ids": {0: "batch_size", 1: "sequence_length"}}

    return WithPositions(network.config, *made.args, **made.keywords, float_dtype=float_dtype, use_past_in_inputs=True)


def _constructor(kind: str) -> Any:
    """A partial of a class of Optimum's."""
    from optimum.exporters.tasks import TasksManager

    import safety_tax.model_files.registrations  # noqa: F401  # and with it all of Optimum's own

    return TasksManager.get_exporter_config_constructor("onnx", model_type=kind, task=TASK, library_name="transformers")
