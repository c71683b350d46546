"""A model's config.json in the keys that the pinned Transformers reads.

`translate` is called once, when a model or a donor is brought; what reads the folder later finds the translation.
"""

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.quantised import require_unpacked_config
from safety_tax.model_files.rope import with_older_names, with_pinned_rope

CONFIG = "config.json"
DTYPES = ("float32", "float16", "bfloat16", "float64")
# How to return what is computed, classes of a classifier, how attention is run, and where code lies that is never run
# (the class of that very name is Transformers' own): none is the model's function, and each can break a program that
# reads the file.
LEFT_OUT = (
    "auto_map",
    *("output_attentions", "output_hidden_states", "return_dict", "torchscript", "attn_implementation"),
    *("id2label", "label2id", "num_labels"),
)
# What Transformers 5 calls a key that classes of the pinned version read by an older name.
OLDER = {"partial_rotary_factor": "rotary_pct", "rope_theta": "rotary_emb_base", "num_local_experts": "num_experts"}
WINDOW_KEYS = ("sliding_window", "use_sliding_window", "max_window_layers")


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object. Raises PipelineError when the file is none."""
    try:
        config = json.loads(file.read_text(encoding="utf-8-sig"))
        if isinstance(config, dict):
            return config
        fault = type(config).__name__
    except (ValueError, RecursionError, OSError) as error:
        fault = f"none ({error})"
    raise PipelineError(
        f"Expected a JSON object in {file.name} of {file.parent.name!r}, found {fault}; correct it, or fetch it again."
    )


def translate(file: Path, name: str, **absent: Any) -> dict[str, Any]:
    """Rewrite a config.json in the pinned version's keys, if it has others; return what it then holds.

    `name` is the model's for a person, `absent` what a key means that is absent or null. Raises PipelineError as
    `translated` does.
    """
    config = read_object(file)
    given = {key: value for key, value in config.items() if value is not None or key not in absent}
    pinned = translated({**absent, **given}, f"{CONFIG} of {name!r}")
    if pinned != config:
        replace_config(file, pinned)
    return pinned


def replace_config(file: Path, config: dict[str, Any]) -> None:
    """Write another config.json in the place of the one that is there."""
    file.unlink()  # it may be a link into a cache
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def translated(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The same model in the keys that the pinned Transformers reads.

    What the class of its type takes for granted and readers here ask for (`tie_word_embeddings`, `vocab_size`) is said
    outright.
    Raises PipelineError when the checkpoint is quantised, or a key that decides results is unknown to that version.
    """
    from transformers import CONFIG_MAPPING  # only here: it takes a second

    from safety_tax.model_files.unknown_keys import require_known_keys

    require_unpacked_config(config, where)
    _require_finite(config, where)
    config = {key: value for key, value in config.items() if key not in LEFT_OUT and not key.startswith("_")}
    for key in ("quantization_config", "compression_config"):
        config.pop(key, None)  # null
    config = _with_known_dtype(config, where)
    config = with_pinned_rope(config, where)
    kind = str(config.get("model_type"))
    if kind not in CONFIG_MAPPING:
        return config
    if config.get("rope_scaling") and kind in ("olmo", "olmo2", "phi3"):  # these ask for the older names
        config["rope_scaling"] = with_older_names(config)
    reads = inspect.signature(CONFIG_MAPPING[kind].__init__).parameters
    for newer, older in OLDER.items():
        if newer in config and newer not in reads and older in reads and config.get(older) is None:
            config[older] = config.pop(newer)
    config = _with_pinned_windows(config, reads, where)
    require_known_keys(config, where)
    stated = {"tie_word_embeddings": bool(CONFIG_MAPPING[kind]().tie_word_embeddings)}
    if "vocab_size" in reads:
        stated["vocab_size"] = reads["vocab_size"].default
    config |= {key: value for key, value in stated.items() if config.get(key) is None}
    words, pad = config.get("vocab_size"), config.get("pad_token_id")
    if type(words) is int and type(pad) is int and not 0 <= pad < words:
        config["pad_token_id"] = None  # -1 of old files, or a token that was added without a row; pads are masked
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    # Scaled rotations of the pinned version read the heads' size before anything fills it in.
    wanted = config.get("rope_scaling") and "head_dim" in reads and config.get("head_dim") is None
    if wanted and type(heads) is int and type(width) is int and heads > 0:
        config["head_dim"] = width // heads
    return config


def _require_finite(config: dict[str, Any], where: str) -> None:
    """Raises PipelineError for NaN and infinity, which Python's JSON reads and writes."""
    for key, value in config.items():
        numbers = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        found = [number for number in numbers if isinstance(number, float) and not math.isfinite(number)]
        if found:
            raise PipelineError(
                f"Expected finite numbers in {where}, found {key[:60]} = {found[0]}; correct the file, or choose "
                "another commit."
            )


def _with_known_dtype(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The type as Transformers writes it ("torch.bfloat16" is "bfloat16"); "auto" says no more than an absent key.

    The tensors themselves say what they are. Raises PipelineError for a type that is none.
    """
    for key in ("dtype", "torch_dtype"):
        value = config.get(key)
        named = value.removeprefix("torch.") if isinstance(value, str) else value
        if named is not None and named not in (*DTYPES, "auto"):
            raise PipelineError(
                f"Expected {key} in {where} to be {', '.join(DTYPES)}, found {str(value)[:40]!r}; correct it, or take "
                "it out: the tensors say what they are."
            )
        if named == "auto":
            config = {other: found for other, found in config.items() if other != key}
        elif named != value:
            config = {**config, key: named}
    return config


def _with_pinned_windows(config: dict[str, Any], reads: Mapping[str, inspect.Parameter], where: str) -> dict[str, Any]:
    """Without the keys of attention that the class leaves unread, where it computes what they say.

    A stray window is left out, as Transformers does. Raises PipelineError when layers are said to differ in a way that
    the class does not compute, or a window is no size.
    """
    window = config.get("sliding_window")
    if window is not None and (type(window) is not int or window < 1):
        raise PipelineError(
            f"Expected a size as sliding_window in {where}, found {str(window)[:40]!r}; fetch it again."
        )
    kinds = config.get("layer_types")
    if "layer_types" not in reads and kinds is not None:
        given = config.get("sliding_window", reads["sliding_window"].default) if "sliding_window" in reads else None
        computed = "full_attention" if given is None else "sliding_attention"
        if not isinstance(kinds, list) or any(kind != computed for kind in kinds):
            found = sorted(set(map(str, kinds))) if isinstance(kinds, list) else kinds
            raise PipelineError(
                f"Expected layer_types in {where} to be {computed!r} throughout, which is what the pinned Transformers "
                f"computes for {config.get('model_type')!r}, found {str(found)[:80]}; choose another model."
            )
        config = {key: value for key, value in config.items() if key != "layer_types"}
    return {key: value for key, value in config.items() if key in reads or key not in WINDOW_KEYS}
