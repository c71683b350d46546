"""adapter_config.json: which adapters are s · B · A on the base as it is, and what s is."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.model_config import read_config
from safety_tax.donors.tensor_names import layer_of

MOST_ALPHA = 1e6
MOST_REPETITIONS = 3
# Settings that the task vector is computed from, or that are checked here.
READ = {
    *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "bias"),
    *("target_modules", "exclude_modules", "layers_to_transform", "init_lora_weights", "ensure_weight_tying"),
}
# Settings that change no weight of a saved adapter. The configs of initialisations count by `init_lora_weights` alone:
# PEFT leaves them where it has turned such an adapter into a plain one.
HARMLESS = {
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"),
    "fan_in_fan_out",  # the base's class says it, and PEFT goes by that
    *("lora_dropout", "layers_pattern", "megatron_core", "qalora_group_size", "runtime_config"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config"),
}
# Any other setting is refused unless it is empty: biases, single tokens, routing, block-diagonal matrices, layers
# that are repeated, and what a later PEFT may bring.
# Initialisations that leave the base as it is. pissa, olora, corda, loftq and lora_ga take their start out of it.
KEEPS_BASE = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
# Kinds that are no s · B · A, and that PEFT merges as it runs them: tests show each.
MERGED_BY_PEFT = {
    *("ADALORA", "BOFT", "C3A", "DELORA", "FOURIERFT", "GLORA", "GRALORA", "HIRA", "HRA", "IA3", "LN_TUNING", "LOHA"),
    *("LOKR", "MISS", "OFT", "PVERA", "RANDLORA", "ROAD", "SHIRA", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA", "VBLORA"),
    *("VERA", "WAVEFT"),
}
# Kinds that add to what a model reads, or to its layers, and change none of its weights.
WITHOUT_MERGE = {
    *("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE", "ADAPTION_PROMPT"),
    *("POLY", "XLORA", "LILY"),
}
# Numbers that are no size of a tensor.
NO_SIZE = re.compile(r".*(seed|key|step|version|interval|init|final).*")
MOST_SIZE = 4096
"""Of a size that no tensor of the file shows."""


@dataclass(frozen=True)
class AdapterSettings:
    """What a plain LoRA adapter says of itself."""

    alpha: float
    rank: int | None
    alpha_pattern: dict[str, float]
    rank_pattern: dict[str, int]
    rslora: bool
    whole: tuple[str, ...]
    """`modules_to_save`: names of modules that are stored whole."""
    targets: tuple[str, ...] | None
    """None where they are no list of names."""
    excluded: tuple[str, ...]
    layers: tuple[int, ...] | None
    ties: bool
    """`ensure_weight_tying`: what adapts the embeddings adapts the head, too."""

    def scale(self, module: str, rank: int) -> float:
        """s of one module; the first `alpha_pattern` that matches the end of its name wins, as in PEFT."""
        alpha = _by_pattern(self.alpha_pattern, module, self.alpha)
        return float(alpha / (rank**0.5 if self.rslora else rank))

    def rank_of(self, module: str) -> int | None:
        """r of one module; None where the file does not say."""
        rank: int | None = _by_pattern(self.rank_pattern, module, self.rank)
        return rank

    def adapts(self, module: str) -> bool:
        """Whether PEFT would put an adapter there; it leaves out what else a file holds."""
        layer = layer_of(f".{module}.")
        return (
            (self.targets is None or _is_named(module, self.targets))
            and not _is_named(module, self.excluded)
            and (self.layers is None or layer in self.layers)
        )

    def stores(self, module: str) -> bool:
        """Whether `modules_to_save` has the end of the module's name, or of one that it is part of, as PEFT matches."""
        parts = module.split(".")
        paths = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
        return any(path.endswith(self.whole) for path in paths)


def _by_pattern(patterns: dict[str, Any], module: str, default: Any) -> Any:
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _is_named(module: str, names: tuple[str, ...]) -> bool:
    return any(f".{module}".endswith(f".{name}") for name in names)


def read_settings(file: Path) -> AdapterSettings:
    """Raises PipelineError when the adapter is not s · B · A alone, or a setting is not as PEFT writes it."""
    config = read_config(file)
    if config.get("peft_type") in WITHOUT_MERGE:
        raise PipelineError(
            f"Expected an adapter that changes weights in {file.parent}, found peft_type {config['peft_type']}, which "
            "adds to a model and has no merge; choose a donor of another kind (LoRA, DoRA, LoHa, ...)."
        )
    if unusual := _unusual(config):
        raise PipelineError(
            f"Expected a plain LoRA adapter in {file.parent}, found {unusual}; "
            "merge it into its base first and give the full checkpoint as the donor."
        )
    _require_types(config, file)
    targets, layers = config.get("target_modules"), config.get("layers_to_transform")
    excluded = config.get("exclude_modules")
    return AdapterSettings(
        alpha=config["lora_alpha"],
        rank=config.get("r"),
        alpha_pattern=config.get("alpha_pattern") or {},
        rank_pattern=config.get("rank_pattern") or {},
        rslora=bool(config.get("use_rslora")),
        whole=tuple(config.get("modules_to_save") or ()),
        targets=tuple(targets) if isinstance(targets, list) and targets else None,
        excluded=tuple(excluded) if isinstance(excluded, list) else (),
        layers=(layers,) if isinstance(layers, int) else tuple(layers) if layers else None,
        ties=bool(config.get("ensure_weight_tying")),
    )


def merged_by_peft(file: Path) -> dict[str, Any] | None:
    """The settings of an adapter that PEFT is to merge; None where it is plain, or of a kind that is not merged.

    Raises PipelineError when it changes more than PEFT merges, or a setting is not as PEFT writes it.
    """
    config = read_config(file)
    kind = config.get("peft_type")
    if kind == "LORA" and config.get("use_dora") is True:
        if unusual := _unusual({**config, "use_dora": False}):
            raise PipelineError(
                f"Expected a plain LoRA or DoRA adapter in {file.parent}, found {unusual}; merge it into its base "
                "first and give the full checkpoint as the donor."
            )
        _require_types(config, file)
    elif not isinstance(kind, str) or kind not in MERGED_BY_PEFT:
        return None
    _require_sound(config, file)
    return config


def _require_sound(config: dict[str, Any], file: Path) -> None:
    """Raises PipelineError for what would keep PEFT busy for ever, fill the memory, or change biases unmerged."""
    tensors = Checkpoint(file.parent, "adapter_model*.safetensors")
    largest = max((size for name in tensors.names() for size in tensors.shape(name)), default=0)
    for key, value in config.items():
        patterns = [value] if key in ("target_modules", "exclude_modules", "layers_pattern") else []
        patterns += list(value) if key.endswith("_pattern") and isinstance(value, dict | list) else []
        sizes = list(value.values()) if key.endswith("_pattern") and isinstance(value, dict) else [value]
        sound = all(_is_pattern(pattern) for pattern in patterns if isinstance(pattern, str))
        sound = sound and (bool(NO_SIZE.fullmatch(key)) or all(map(_within(max(largest, MOST_SIZE)), sizes)))
        if not sound or (key == "bias" and value not in ("none", False, None)):
            raise PipelineError(
                f"Expected a setting of an adapter whose tensors PEFT merges as {key[:80]} in {file}, found "
                f"{str(value)[:80]!r}; merge it into its base first and give the full checkpoint as the donor."
            )


def _within(most: int) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, int) or abs(value) <= most


def _unusual(config: dict[str, Any]) -> str:
    """What makes it no plain LoRA adapter; empty where nothing does."""
    if config.get("peft_type") != "LORA":
        return f"peft_type {str(config.get('peft_type'))[:80]}"
    if config.get("bias", "none") != "none":
        return f"bias {str(config['bias'])[:80]!r}, which trains the base's biases, too"
    start = config.get("init_lora_weights", True)
    plain = start.lower() if isinstance(start, str) else start
    if not any(plain is known or (isinstance(known, str) and plain == known) for known in KEEPS_BASE):
        return (
            f"init_lora_weights {str(start)[:80]}, which may have moved the base's weights, too "
            "(`save_pretrained` with `path_initial_model_for_weight_conversion` makes it plain)"
        )
    others = sorted(key for key, value in config.items() if key not in READ | HARMLESS and value)
    return ", ".join(f"{key[:80]} {str(config[key])[:80]}" for key in others)


def _require_types(config: dict[str, Any], file: Path) -> None:
    """Raises PipelineError when a setting that the task vector depends on is not as PEFT writes it."""
    checks = {
        "lora_alpha": _is_scale(config.get("lora_alpha")),
        "r": config.get("r") is None or _is_rank(config["r"]),
        "alpha_pattern": _are_patterns(config.get("alpha_pattern"), _is_scale),
        "rank_pattern": _are_patterns(config.get("rank_pattern"), _is_rank),
        "modules_to_save": _are_names(config.get("modules_to_save")),
        "target_modules": isinstance(config.get("target_modules"), str) or _are_names(config.get("target_modules")),
        "exclude_modules": isinstance(config.get("exclude_modules"), str) or _are_names(config.get("exclude_modules")),
        "layers_to_transform": _are_layers(config.get("layers_to_transform")),
    }
    for key, sound in checks.items():
        if not sound:
            raise PipelineError(
                f"Expected a setting that PEFT writes as {key} in {file}, found {str(config.get(key))[:80]!r}; "
                "fetch it again."
            )


def _is_scale(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_ALPHA


def _is_rank(value: object) -> bool:
    return type(value) is int and value > 0


def _are_patterns(patterns: object, is_sound: Any) -> bool:
    return not patterns or (
        isinstance(patterns, dict) and all(map(_is_pattern, patterns)) and all(map(is_sound, patterns.values()))
    )


def _are_names(names: object) -> bool:
    return not names or (isinstance(names, list) and all(isinstance(name, str) for name in names))


def _are_layers(layers: object) -> bool:
    return (
        layers is None
        or type(layers) is int
        or (isinstance(layers, list) and all(type(layer) is int for layer in layers))
    )


def _is_pattern(text: str) -> bool:
    """A regular expression that no name keeps busy: few repetitions, and none of a group."""
    if len(re.findall(r"[*+?{]", text)) > MOST_REPETITIONS or re.search(r"\)[*+?{]", text):
        return False
    try:
        re.compile(rf"(.*\.)?({text})$")
    except (re.error, RecursionError, OverflowError):
        return False
    return True
