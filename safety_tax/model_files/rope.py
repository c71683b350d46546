"""The rotary embedding's settings: Transformers 5 has them in `rope_parameters`, the pinned one in several keys."""

import math
from typing import Any

from safety_tax.core.errors import PipelineError

# What each kind of scaling reads, as the pinned Transformers validates it.
SETTINGS: dict[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "dynamic": frozenset({"factor", "original_max_position_embeddings"}),
    "yarn": frozenset(
        {"factor", "attention_factor", "beta_fast", "beta_slow", "original_max_position_embeddings", "mscale"}
        | {"mscale_all_dim", "truncate"}
    ),
    "longrope": frozenset(
        {"short_factor", "long_factor", "attention_factor", "factor", "original_max_position_embeddings"}
    ),
    "llama3": frozenset({"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"}),
}
# Classes whose layers with a window rotate unscaled, and the key of their theta; None where it is that of all layers.
OF_WINDOWS = {"gemma3_text": "rope_local_base_freq", "olmo3": None}
NAMES = ("rope_type", "type")  # the second is the older one
OLD_KINDS = {"su": "longrope"}  # as the first Phi-3 files have it


def with_pinned_rope(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The same rotation in `rope_theta`, `rope_scaling` and what else the pinned Transformers reads.

    Raises PipelineError when layers rotate by different settings, the file says two different things, or a setting is
    one that the pinned version does not know.
    """
    config = _with_windows_apart(config, where)
    new = _flat(config.pop("rope_parameters", None), config, where)
    old = _object(config.get("rope_scaling"), "rope_scaling", where)
    if new is None and old.keys() & {"rope_theta", "partial_rotary_factor"}:
        new, old = old, {}  # the newer settings under the older name, where nobody would look for them
        del config["rope_scaling"]
    if new is None:
        scaling = _known(old, where)
    else:
        if old and _known(old, where) != _known({**new, "rope_theta": None, "partial_rotary_factor": None}, where):
            raise _twice("rope_scaling", "rope_parameters", where)
        for key in ("rope_theta", "partial_rotary_factor"):
            value = new.pop(key, None)
            if value is not None and config.get(key) not in (None, value):
                raise _twice(key, "rope_parameters", where)
            if value is not None:
                config[key] = value
        scaling = _known(new, where)
    if config.get("rope_theta", 0) is None:
        del config["rope_theta"]
    kind = scaling.get("rope_type", "default")
    if kind == "longrope":
        _place_switch(config, scaling, where)
    if kind != "default" and (new is not None or scaling != old):
        config["rope_scaling"] = scaling
    elif kind == "default" and (new is not None or config.get("rope_scaling") == {}):
        config.pop("rope_scaling", None)
    return config


def with_older_names(config: dict[str, Any]) -> dict[str, Any]:
    """`rope_scaling` for a class that wants the kind under `type`, and no `attention_factor` beside it (Phi-3).

    Such a class computes the factor of `longrope` from the two lengths; another one stays, and the class refuses it.
    """
    scaling = {"type" if key == "rope_type" else key: value for key, value in config["rope_scaling"].items()}
    longest, switch = config.get("max_position_embeddings"), config.get("original_max_position_embeddings")
    if scaling.get("type") == "longrope" and type(longest) is int and type(switch) is int and longest > switch > 1:
        computed = math.sqrt(1 + math.log(longest / switch) / math.log(switch))
        if math.isclose(scaling.get("attention_factor") or computed, computed, rel_tol=1e-6):
            scaling.pop("attention_factor", None)
    return scaling


def _flat(parameters: Any, config: dict[str, Any], where: str) -> dict[str, Any] | None:
    """The settings that all layers share, or None where the file has no `rope_parameters`."""
    if parameters is None:
        return None
    found = _object(parameters, "rope_parameters", where)
    if not found or not all(isinstance(value, dict) for value in found.values()):
        return found
    kinds = config.get("layer_types")
    of_layers = {str(kind): found.get(str(kind)) for kind in (kinds if isinstance(kinds, list) else found)}
    first, *others = of_layers.values()
    if first is None or any(other != first for other in others):
        raise PipelineError(
            f"Expected one rotation for all layers in rope_parameters of {where}, found one for each of "
            f"{', '.join(sorted(of_layers))}, which the pinned Transformers does not compute for this architecture; "
            "choose another model."
        )
    return dict(first)


def _with_windows_apart(config: dict[str, Any], where: str) -> dict[str, Any]:
    """A copy whose `rope_parameters` are those of the layers without a window, where the class rotates others apart."""
    config = dict(config)
    kind, parameters = str(config.get("model_type")), config.get("rope_parameters")
    if kind not in OF_WINDOWS or not isinstance(parameters, dict):
        return config
    full, windows = (parameters.get(f"{layers}_attention") for layers in ("full", "sliding"))
    if len(parameters) != 2 or not isinstance(full, dict) or not isinstance(windows, dict):
        return config
    key, theta = OF_WINDOWS[kind], windows.get("rope_theta")
    scaled = _known({**windows, "rope_theta": None}, where)
    if scaled or theta is None or (key is None and theta != full.get("rope_theta")):
        return config  # which layers are of which kind decides whether it matters
    if key is not None:
        if config.get(key) not in (None, theta):
            raise _twice(key, "rope_parameters", where)
        config[key] = theta
    config["rope_parameters"] = full
    return config


def _object(value: Any, key: str, where: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise PipelineError(
            f"Expected settings by name as {key} in {where}, found {str(value)[:80]!r}; fetch it again."
        )
    return dict(value or {})


def _known(settings: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings without those that are null, their kind under `rope_type`; empty where nothing is scaled."""
    given = {key: value for key, value in settings.items() if value is not None and key not in NAMES}
    kind = settings.get("rope_type") or settings.get("type") or ("default" if not given else None)
    kind = OLD_KINDS.get(str(kind), kind)
    if not isinstance(kind, str) or kind not in SETTINGS:
        raise PipelineError(
            f"Expected a rotation of the kind {', '.join(SETTINGS)} in {where}, found {str(kind)[:40]!r}, which the "
            "pinned Transformers does not compute; choose another model."
        )
    for key in sorted(given.keys() - SETTINGS[kind] - {"rope_theta", "partial_rotary_factor"}):
        raise PipelineError(
            f"Expected settings of the rotation {kind!r} in {where}, found {key[:40]!r} = {str(given[key])[:40]!r}, "
            "which the pinned Transformers does not read; choose another model, or remove a key that decides nothing."
        )
    return {} if kind == "default" and not given else {"rope_type": kind, **given}


def _place_switch(config: dict[str, Any], scaling: dict[str, Any], where: str) -> None:
    """Where `longrope` takes its long factors: the pinned version reads it beside `rope_scaling`, not in it.

    It then computes the factor itself, as the ratio of the two lengths; another one is kept in `attention_factor`.
    """
    inside, beside = scaling.pop("original_max_position_embeddings", None), "original_max_position_embeddings"
    if inside is not None and config.get(beside) not in (None, inside):
        raise _twice(beside, "the rotation's settings", where)
    switch = config.get(beside) or inside
    if switch is None:
        return
    if type(switch) is not int or switch < 2:
        raise PipelineError(f"Expected a size as {beside} in {where}, found {str(switch)[:40]!r}; fetch it again.")
    config[beside] = switch
    factor = scaling.pop("factor", None)
    if factor is not None and scaling.get("attention_factor") is None:
        if not isinstance(factor, int | float):
            raise PipelineError(f"Expected a number as factor in {where}, found {str(factor)[:40]!r}; fetch it again.")
        scaling["attention_factor"] = math.sqrt(1 + math.log(factor) / math.log(switch)) if factor > 1 else 1.0


def _twice(key: str, place: str, where: str) -> PipelineError:
    return PipelineError(
        f"Expected {key} in {where} to say what {place} says, found two different values; remove the one that is not "
        "the model's."
    )
