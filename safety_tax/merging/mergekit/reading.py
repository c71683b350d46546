"""The language of mergekit's configurations, read strictly: what mergekit would leave unread is a fault here.

Raises ValueError throughout, with what is wrong and what to do; the caller knows where.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safety_tax.core.errors import did_you_mean
from safety_tax.core.text_files import read_text
from safety_tax.core.yaml_text import parse_yaml
from safety_tax.merging.mergekit.arithmetic import METHODS, Method
from safety_tax.merging.mergekit.settings import Choice, Setting, Settings, typed

INSTEAD = "run `mergekit-yaml` yourself and measure its output by `method: given`"
KEYS = ("merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype", "tokenizer_source")
# Read by mergekit, and not here: what to do instead.
NOT_HERE = {
    "modules": INSTEAD,
    "chat_template": "take it out: every variant is asked with the chat template of its entry in `catalog`",
}
LABEL = "name"
"""Of one configuration among several in a file, for mergekit-multi; it changes nothing."""
ELSEWHERE = ("arcee_fusion", "karcher", "multislerp", "nearswap", "ram", "ramplus_tl")
ADAPTER = "+"
"""Between a model and the adapter that is merged into it first."""
DTYPES = ("float32", "float16", "bfloat16")


class Source(NamedTuple):
    """Layers `first` to before `stop` of a model; None: all that it has."""

    model: str
    settings: Settings
    first: int = 0
    stop: int | None = None


class Slice(NamedTuple):
    """Layers of the result, merged from as many layers of each source."""

    sources: tuple[Source, ...]
    base: str | None
    settings: Settings


class Config(NamedTuple):
    """A configuration."""

    method: Method
    slices: tuple[Slice, ...]
    settings: Settings
    dtype: str | None
    """That weights are rounded to before they are merged."""
    out_dtype: str | None
    """That the result is rounded to; None: `dtype`, or the widest type of the inputs."""
    unread: tuple[str, ...]
    """Parameters of other methods, which mergekit leaves unread, too."""

    def models(self) -> list[str]:
        """Every model that it names, once, in the order in which they come."""
        named = [name for part in self.slices for name in (part.base, *(source.model for source in part.sources))]
        return list(dict.fromkeys(name for name in named if name is not None))

    def all_settings(self) -> Iterable[Settings]:
        """Every mapping of parameters in it."""
        yield self.settings
        for part in self.slices:
            yield part.settings
            yield from (source.settings for source in part.sources)


def read_file(path: Path) -> dict[str, Any]:
    """The content of a configuration's file."""
    if not path.is_file():
        known = [file.name for file in path.parent.glob("*") if file.suffix in (".yml", ".yaml")]
        raise ValueError(f"no file {path}; {did_you_mean(path.name, known)}")
    try:
        content = parse_yaml(read_text(path))
    except ValueError as error:
        if "another document" in str(error):  # mergekit-multi takes such files
            raise ValueError(f"{path} holds several configurations; give each a file of its own") from None
        raise ValueError(f"{path} is no YAML: {error}; mend that line") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__} in place of a mapping; write mergekit's keys there")
    return content


def read_config(content: Mapping[str, Any]) -> Config:
    """A configuration, checked but for what only its models can tell: depths and tensors' names."""
    for key in content:
        if key in NOT_HERE or key in ("tokenizer", LABEL):
            continue
        _require_key(key, KEYS, "")
    for key, instead in NOT_HERE.items():
        if content.get(key) is not None:
            raise ValueError(f"`{key}` is not supported; {instead}")
    method = _method(content.get("merge_method"))
    base = None if content.get("base_model") is None else _model(content["base_model"], "base_model")
    _require_base_tokenizer(content, base)
    if (content.get("models") is None) == (content.get("slices") is None):
        raise ValueError("it needs either `models` or `slices`, and not both")
    slices: tuple[Slice, ...]
    if content.get("models") is not None:
        slices = (_of_models(content["models"], method, base),)
    else:
        slices = tuple(_slice(entry, f"slices.{n}", base) for n, entry in enumerate(_list(content["slices"], "slices")))
    config = Config(
        method,
        slices,
        _settings(content.get("parameters"), "parameters"),
        _dtype(content, "dtype"),
        _dtype(content, "out_dtype"),
        (),
    )
    for n, part in enumerate(slices):
        _require_fit(part, method, "models" if content.get("models") is not None else f"slices.{n}")
    return config._replace(unread=_unread(config))


def _method(name: Any) -> Method:
    if isinstance(name, str) and name in METHODS:
        return METHODS[name]
    if name in ELSEWHERE:
        raise ValueError(f"merge_method {name!r} is not supported; {INSTEAD}")
    raise ValueError(f"unknown merge_method {name!r}; {did_you_mean(str(name), METHODS)}")


def _require_key(key: Any, known: Iterable[str], where: str) -> None:
    if key not in known:
        raise ValueError(f"unknown key {where}{key!r}; {did_you_mean(str(key), known)}")


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where} is {str(value)[:40]!r}; write a list with an entry for each")
    return value


def _mapping(value: Any, where: str, known: Iterable[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {str(value)[:40]!r}; write keys with values: {', '.join(known)}")
    for key in value:
        _require_key(key, known, f"{where}.")
    return value


def _model(value: Any, where: str) -> str:
    """A reference as it is written; mappings as `path@revision`, and as `model+lora`."""
    if isinstance(value, dict) and "model" in value and set(value) <= {"model", "lora"}:
        parts = [_model(part, where) for part in (value["model"], value.get("lora")) if part is not None]
        value = ADAPTER.join(parts)
    if isinstance(value, dict) and set(value) <= {"path", "revision"} and value.get("path"):
        value = f"{value['path']}@{value['revision']}" if value.get("revision") else value["path"]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} is {str(value)[:60]!r}; write a folder, or a repository as `owner/name@commit`")
    return value


def _of_models(entries: Any, method: Method, base: str | None) -> Slice:
    """`models` as one slice of all layers; the base is among its sources, as mergekit adds it."""
    sources = []
    for n, raw in enumerate(_list(entries, "models")):
        where = f"models.{n}"
        entry = _mapping(raw, where, ("model", "parameters"))
        sources.append(Source(_model(entry.get("model"), f"{where}.model"), _own(entry, where)))
    if base is not None and base not in [source.model for source in sources]:
        sources.append(Source(base, {}))
    return Slice(tuple(sources), base, {})


def _slice(raw: Any, where: str, base: str | None) -> Slice:
    entry = _mapping(raw, where, ("sources", "base_model", "parameters"))
    own = entry.get("base_model")
    sources = []
    for n, source in enumerate(_list(entry.get("sources"), f"{where}.sources")):
        place = f"{where}.sources.{n}"
        keys = _mapping(source, place, ("model", "layer_range", "parameters"))
        first, stop = _layers(keys.get("layer_range"), place)
        sources.append(Source(_model(keys.get("model"), f"{place}.model"), _own(keys, place), first, stop))
    if len({source.stop - source.first for source in sources if source.stop is not None}) > 1:
        raise ValueError(f"the sources of {where} have different numbers of layers; give each the same number")
    base = base if own is None else _model(own, f"{where}.base_model")
    return Slice(tuple(sources), base, _own(entry, where))


def _layers(value: Any, where: str) -> tuple[int, int]:
    match value:
        case [int(first), int(stop)] if 0 <= first < stop:
            return first, stop
    raise ValueError(f"{where}.layer_range is {str(value)[:40]}; write [first, end], the end not counted in")


def _own(entry: Mapping[str, Any], where: str) -> Settings:
    return _settings(entry.get("parameters"), f"{where}.parameters")


def _settings(raw: Any, where: str) -> Settings:
    if raw is None:
        return {}
    known = sorted({key for method in METHODS.values() for key in (*method.shared, *method.own)})
    return {key: _setting(value, f"{where}.{key}") for key, value in _mapping(raw, where, known).items()}


def _setting(raw: Any, where: str) -> Setting:
    if isinstance(raw, list) and raw and all(isinstance(entry, dict) for entry in raw):
        return tuple(_choice(entry, f"{where}.{n}") for n, entry in enumerate(raw))
    if isinstance(raw, dict):
        return (_choice(raw, where),)
    return (_choice({"value": raw}, where),)


def _choice(raw: dict[str, Any], where: str) -> Choice:
    entry = _mapping(raw, where, ("value", "filter"))
    value, name = entry.get("value"), entry.get("filter")
    points = tuple(value) if isinstance(value, list) else (value,)
    if not points or any(not isinstance(point, bool | int | float | str) for point in points):
        raise ValueError(f"{where} is {str(value)[:40]!r}; write a value, or a list of values over the layers")
    if name is not None and (not isinstance(name, str) or not name):
        raise ValueError(f"{where}.filter is {str(name)[:40]!r}; write a part of the names of tensors")
    return Choice(points, isinstance(value, list), name)


def _dtype(content: Mapping[str, Any], key: str) -> str | None:
    name = content.get(key)
    name = name.removeprefix("torch.") if isinstance(name, str) else name
    if name is not None and name not in DTYPES:
        raise ValueError(f"{key} is {str(name)[:40]!r}; write one of {', '.join(DTYPES)}")
    return name


def _require_base_tokenizer(content: Mapping[str, Any], base: str | None) -> None:
    """The merged model is asked with the base's tokenizer."""
    source = content.get("tokenizer_source")
    own = content.get("tokenizer")
    if own is not None and source is not None:
        raise ValueError("it has both `tokenizer` and `tokenizer_source`; take one of them out")
    if own is not None:
        source = _mapping(own, "tokenizer", ("source", "tokens", "pad_to_multiple_of")).get("source", "union")
        if own.get("tokens") or own.get("pad_to_multiple_of"):
            raise ValueError(f"`tokenizer` changes the vocabulary, which is not supported; {INSTEAD}")
    if source not in (None, "base", base):
        raise ValueError(
            f"tokenizer_source {str(source)[:60]!r} is not supported, only `base` is; write `base` where all models "
            f"have one vocabulary, or {INSTEAD}"
        )


def _require_fit(part: Slice, method: Method, where: str) -> None:
    """Raises ValueError when a method cannot merge these sources."""
    named = [source.model for source in part.sources]
    if len(set(named)) < len(named):
        raise ValueError(f"{where} names a model twice; name it once, or give it two names by the recipe's `names`")
    if method.base == "required" and part.base is None:
        raise ValueError(f"{method.name} needs `base_model`; add it")
    if method.base != "ignored" and part.base is not None and part.base not in named:
        raise ValueError(f"base_model {part.base!r} is none of the sources of {where}; add it there")
    count = len(named) - (method.base != "ignored" and part.base is not None)
    if not method.fewest <= count <= method.most:
        wanted = method.fewest if method.fewest == method.most else f"{method.fewest} or more"
        beside = " beside the base" if method.base == "required" else ""
        raise ValueError(f"{where} has {count} models{beside}, and {method.name} merges {wanted}")


def _unread(config: Config) -> tuple[str, ...]:
    """The parameters of other methods; those of this one are numbers, or true and false, as they must be."""
    kinds = {key: parameter.kind for key, parameter in {**config.method.shared, **config.method.own}.items()}
    unread = set()
    for settings in config.all_settings():
        for key, setting in settings.items():
            if key not in kinds:
                unread.add(key)
                continue
            for choice in setting:
                for point in choice.points:
                    try:
                        typed(point, kinds[key])
                    except ValueError as error:
                        raise ValueError(f"the parameter {key}: {error}; correct it") from None
    return tuple(sorted(unread))
