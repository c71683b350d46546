"""What a model's config.json says of the function that its weights compute."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safety_tax.core.errors import PipelineError

MOST_LAYERS = 10_000  # a config lists something for each of them before any weight is looked at
# Neither these nor what all classes share (generation, labels, token ids) move a log-probability in inference.
BOOKKEEPING = frozenset(
    {
        *("initializer_range", "use_cache", "pretraining_tp", "output_router_logits", "router_aux_loss_coef"),
        *("attention_dropout", "hidden_dropout", "classifier_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"),
        "vocab_size",  # the tensors' rows are compared instead
        *("max_position_embeddings", "n_positions"),  # the longest context; see STRETCHED
        *("use_sliding_window", "max_window_layers"),  # the class makes `sliding_window` and `layer_types` of them
    }
)
# Rotary embeddings that are computed from the longest context, too.
STRETCHED = ("dynamic", "yarn", "longrope")
CONTEXT = {"max_position_embeddings"}
FIXED = {
    "model_type": "the donor is of another architecture: choose one of this base",
    "tie_word_embeddings": (
        "one of the two has a head of its own: choose a donor of this base, or name it in `catalog` as another model"
    ),
}
"""What may not differ, as it decides which tensors there are, and what to do."""
# A key that the class does not know may be of a newer Transformers, or be read by a layer all the same. It counts when
# its name is of something that decides results.
DECIDING = (
    *("rope", "rotary", "theta", "attn", "attention", "window", "bias", "norm", "eps", "act", "softcap", "scal"),
    *("multiplier", "head", "layer", "expert", "moe", "mlp", "embed", "auto_map"),
)


def read_config(file: Path) -> dict[str, Any]:
    """A JSON object. Raises PipelineError when the file holds none."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise PipelineError(f"Expected a JSON object in {file}, found {error}; fetch it again.") from None
    if not isinstance(config, dict):
        raise PipelineError(f"Expected a JSON object in {file}, found {type(config).__name__}; fetch it again.")
    return config


def has_tied_embeddings(folder: Path) -> bool:
    """Whether the head of the model in `folder` is its embeddings; an absent key is its class's default."""
    return bool(deciding_settings(folder)["tie_word_embeddings"])


def require_same_function(name: str, base: Path, donor: Path, may_differ: Collection[str]) -> None:
    """Two models of equal weights must compute the same. Raises PipelineError for a setting that may not differ."""
    ours, theirs = read_config(base / "config.json"), read_config(donor / "config.json")
    if ours.get("model_type") == theirs.get("model_type"):
        ours, theirs = deciding_settings(base), deciding_settings(donor)
    else:
        ours, theirs = ({"model_type": config.get("model_type")} for config in (ours, theirs))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) == theirs.get(key) or key in may_differ:
            continue
        if key in CONTEXT and not (key in ours and key in theirs):
            continue  # it decides something in one of the two alone: that they differ in `rope_scaling` says why
        remedy = FIXED.get(
            key,
            (
                "its weights mean something else in the base: choose a donor of this base, or, where the difference "
                f"does not matter, add `may_differ: [{key}]` to donors.{name} in params.yaml"
            ),
        )
        raise PipelineError(
            f"Expected donor {name!r} to have the base's {key} {_short(ours.get(key))}, found "
            f"{_short(theirs.get(key))} in {donor / 'config.json'}; {remedy}."
        )


def deciding_settings(folder: Path) -> dict[str, Any]:
    """The settings of config.json that decide what the weights compute, as Transformers' class has them.

    Raises PipelineError when Transformers does not know the model's type, or cannot make a configuration of the file.
    """
    from transformers import CONFIG_MAPPING, PretrainedConfig  # seconds

    file = folder / "config.json"
    raw = read_config(file)
    model_type, layers = raw.get("model_type"), raw.get("num_hidden_layers", 0)
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise PipelineError(
            f"Expected a model_type that Transformers knows in {file}, found {_short(model_type)}; "
            "choose a checkpoint of a model that is part of Transformers."
        )
    if type(layers) is not int or not 0 <= layers <= MOST_LAYERS:
        raise PipelineError(
            f"Expected num_hidden_layers of {MOST_LAYERS:,} at most in {file}, found {_short(layers)}; fetch it again."
        )
    # `num_labels` makes a name for each.
    shared = PretrainedConfig().to_dict().keys() - {"tie_word_embeddings"} | {"num_labels"}
    kind = CONFIG_MAPPING[model_type]
    try:
        config = kind.from_dict({key: value for key, value in raw.items() if key not in shared})
        values, known = config.to_dict(), kind().to_dict().keys()
    except Exception as error:  # whatever the class of a damaged file makes of it
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PipelineError(
            f"Expected a configuration of {model_type!r} in {file}, found {said}; fetch it again."
        ) from None
    values["rope_scaling"] = rope = _rope(values.get("rope_scaling"))
    if "head_dim" in values:
        values["head_dim"] = values["head_dim"] or values["hidden_size"] // values["num_attention_heads"]
    ignored = BOOKKEEPING - (CONTEXT if rope and rope.get("rope_type") in STRETCHED else set())
    return {
        key: value
        for key, value in values.items()
        if key not in shared | ignored
        and value is not None
        and (key in known or any(word in key for word in DECIDING))
        and not key.startswith("_")
    }


def _rope(scaling: Any) -> dict[str, Any] | None:
    """How positions are scaled, under the present name of its kind; None where they are not."""
    if not isinstance(scaling, dict):
        return None
    kind = scaling.get("rope_type", scaling.get("type"))
    rest = {key: value for key, value in scaling.items() if key not in ("type", "rope_type")}
    return None if kind in (None, "default") else {"rope_type": kind, **rest}


def _short(value: object) -> str:
    return repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
