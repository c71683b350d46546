"""Names under which a published model's settings and tokenizer lie beside its weights, and code."""

from typing import Any

SETTINGS = ("config.json", "generation_config.json")
# None of them is code: no Python file is ever loaded here.
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "chat_template.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model"),
)


def brings_code(settings: dict[str, Any]) -> bool:
    """Whether a configuration wants Python code of the repository's own.

    Some name it beside a family that Transformers has meanwhile, by the very name of its class: that class is taken.
    """
    places = settings.get("auto_map")
    if not places:
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES  # takes a second

    own = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(settings.get("model_type")))
    named = places.get("AutoModelForCausalLM") if isinstance(places, dict) else None
    return own is None or not isinstance(named, str) or named.rpartition(".")[2] != own
