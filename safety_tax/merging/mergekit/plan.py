"""What each tensor of the result is merged from, by a configuration, before any weight is read."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from safety_tax.donors.tensor_names import in_layer, layer_of, precedes_layers
from safety_tax.merging.mergekit.arithmetic import Parameter
from safety_tax.merging.mergekit.reading import Config, Slice, Source
from safety_tax.merging.mergekit.settings import EVERYTHING, Settings, Value, evaluate

HEAD = "lm_head.weight"
"""That a filter names it is no fault where a model has none of its own."""


class Term(NamedTuple):
    """One model's part in a tensor."""

    model: str
    tensor: str
    own: dict[str, Value | None]


class Step(NamedTuple):
    """How one tensor of the result is made."""

    terms: list[Term]
    base: int | None
    """Which of them is the base's, where the method knows one."""
    shared: dict[str, Value | None]


def plan(config: Config, names: list[str]) -> dict[str, Step]:
    """The base's tensors by name. Raises ValueError where the configuration does not fit them."""
    depth = 1 + max((layer for layer in map(layer_of, names) if layer is not None), default=-1)
    places = _places(config, depth)
    _require_filters(config, names)
    return {name: _step(config, name, places, depth) for name in names}


def _places(config: Config, depth: int) -> list[tuple[Slice, int, int]]:
    """For each layer of the result: its slice, its number in it, and how many layers the slice has."""
    places = []
    for number, part in enumerate(config.slices):
        for source in part.sources:
            if source.stop is not None and source.stop > depth:
                raise ValueError(
                    f"slices.{number} takes layers up to {source.stop} of {source.model!r}, which has {depth}; correct "
                    "its layer_range"
                )
        first = part.sources[0]
        count = (depth if first.stop is None else first.stop) - first.first
        places += [(part, layer, count) for layer in range(count)]
    if len(places) != depth:
        raise ValueError(
            f"its slices make a model of {len(places)} layers, and the base has {depth}; a merge of another depth is "
            "another model: name it in `catalog` as one"
        )
    return places


def _require_filters(config: Config, names: list[str]) -> None:
    known = [*names, HEAD]
    for settings in config.all_settings():
        for key, setting in settings.items():
            for choice in setting:
                word = choice.filter
                if word not in (None, EVERYTHING) and not any(str(word) in name for name in known):
                    parts = sorted({part for name in known for part in name.split(".") if not part.isdigit()})
                    raise ValueError(f"the filter {word!r} of {key} is in no tensor's name; known: {', '.join(parts)}")


def _step(config: Config, name: str, places: list[tuple[Slice, int, int]], depth: int) -> Step:
    layer = layer_of(name)
    part, offset, count = places[layer] if layer is not None else places[0 if precedes_layers(name) else -1]
    # Outside the layers a gradient stands at its beginning; a slice of one layer has its end.
    t = 0.0 if layer is None else offset / (count - 1) if count > 1 else 1.0
    method = config.method
    base = None if method.base == "ignored" else part.base
    scopes = (part.settings, config.settings)
    terms = []
    for source in part.sources:
        tensor = name if layer is None else in_layer(name, source.first + offset)
        own = {} if source.model == base else _values(method.own, (source.settings, *scopes), tensor, t, source)
        terms.append(Term(source.model, tensor, own))
    shared = _values(method.shared, scopes, name, t, None)
    place = next((place for place, term in enumerate(terms) if base is not None and term.model == base), None)
    return Step(terms, place, shared)


def _values(
    wanted: Mapping[str, Parameter], scopes: Iterable[Settings], name: str, t: float, source: Source | None
) -> dict[str, Value | None]:
    """Each parameter from the first of the scopes that has a value for the tensor, or its default."""
    found: dict[str, Value | None] = {}
    for key, parameter in wanted.items():
        values = (evaluate(scope[key], name, t, parameter.kind) for scope in scopes if key in scope)
        value = next((value for value in values if value is not None), parameter.default)
        if value is None and not parameter.optional:
            of = f" of {source.model!r}" if source else ""
            raise ValueError(f"no {key}{of} for {name}; add it under `parameters`")
        found[key] = value
    return found
