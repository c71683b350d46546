"""The frontier as Vega-Lite: what each recipe gained in safety against what it paid, a picture for each currency.

Colours are the page's own (`var(--choose)`), so that a picture follows its light, dark and printed forms.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from safety_tax.core.currencies import CURRENCIES
from safety_tax.results.estimate import shown
from safety_tax.results.iso_tax import Limits, TaxLine, lines_of_equal_tax, padded
from safety_tax.results.report.labels import HEIGHT, LINE, WIDTH, places, shown_name
from safety_tax.results.report.looks import PLACES, look_of, opposite
from safety_tax.results.variant import ModelResults, VariantResult
from safety_tax.results.words import tax_cell

Spec = dict[str, Any]
INCH = 96  # pixels
CROWD = 12  # recipes, from which on intervals are drawn faintly
SHAPES = {"choose": "M0,-1L.28,-.39L.95,-.31L.45,.15L.59,.81L0,.48L-.59,.81L-.45,.15L-.95,-.31L-.28,-.39Z"}
"""Vega's own shapes for the others."""
LOOKS = {"base": "diamond", "choose": SHAPES["choose"], "stands": "circle", "dominated": "circle"}


class Picture(NamedTuple):
    """One currency of one model: its name, what the picture says to those who do not see it, and its specification."""

    currency: str
    noun: str
    measurable: bool
    told: str
    spec: Spec


def pictures(
    results: ModelResults,
    like: Sequence[ModelResults],
    numbers: Mapping[str, int],
    before: ModelResults | None = None,
    alone: bool = True,
) -> list[Picture]:
    """A picture for each currency, drawn to the scale that all of `like` fit into, `results` among them.

    `numbers` are those of the variants in the browser of items. `before` adds where each recipe stood. Unless it stands
    `alone`, a picture is small and has no line of equal tax but the price's. None where no recipe is.
    """
    if not results.recipes:
        return []
    return [_picture(results, name, _limits(like, name), numbers, before, alone) for name in results.currencies]


def _limits(like: Iterable[ModelResults], currency: str) -> tuple[Limits, Limits]:
    xs, ys = [0.0], [0.0]
    for results in like:
        for recipe in results.recipes.values():
            paid = recipe.currencies[currency].paid if currency in recipe.currencies else None
            if paid is not None:
                xs += 100 * recipe.gain.low, 100 * recipe.gain.high
                ys += -100 * paid.loss.low, -100 * paid.loss.high
    return padded(xs), padded(ys)


def _picture(
    results: ModelResults,
    currency: str,
    limits: tuple[Limits, Limits],
    numbers: Mapping[str, int],
    before: ModelResults | None,
    alone: bool,
) -> Picture:
    noun = CURRENCIES[currency].noun
    measurable = results.base.currencies[currency].standing == "measurable"
    rows: list[Spec] = [{"variant": "base", "look": "base", "x": 0.0, "y": 0.0, "name": "base"}]
    rows += [_row(recipe, currency, results, numbers) for recipe in results.recipes.values()]
    order = sorted(rows, key=lambda row: list(LOOKS).index(row["look"]))
    placed = places([(row["variant"], row["x"], row["y"]) for row in order], *limits)
    names = [
        row | {"name": shown_name(row["variant"])} | placed[row["variant"]]._asdict()
        for row in rows
        if row["variant"] in placed
    ]
    layers = _lines(results.price[currency], limits, alone) if measurable else []
    layers += [_rule("x"), _rule("y")]
    if before is not None and currency in before.currencies:
        layers.append(_moves(results, before, currency))
    layers += [*_intervals(rows[1:]), _marks(rows, _axes(limits, noun)), _names(names)]
    told = "; ".join(f"{row['variant']}: safety {row['safety']}, {noun} {row['paid']}" for row in rows[1:])
    return Picture(currency, noun, measurable, f"Safety gained against {noun}, in points. {told}.", _sheet(layers))


def _row(recipe: VariantResult, currency: str, results: ModelResults, numbers: Mapping[str, int]) -> dict[str, Any]:
    """One mark, and what hovering over it shows."""
    paid = recipe.currencies[currency].paid
    assert paid is not None and recipe.net_benefit is not None  # a recipe's always are
    change = opposite(paid.loss)
    look = look_of(recipe.name, results)
    return {
        "variant": recipe.name,
        "number": numbers.get(recipe.name, -1),
        "look": look,
        "standing": f"{PLACES[look].symbol} {PLACES[look].word}",
        "x": 100 * recipe.gain.value,
        "x_low": 100 * recipe.gain.low,
        "x_high": 100 * recipe.gain.high,
        "y": 100 * change.value,
        "y_low": 100 * change.low,
        "y_high": 100 * change.high,
        "safety": shown(recipe.gain),
        "paid": shown(change),
        "tax": tax_cell(paid.tax),
        "worth": shown(recipe.net_benefit.estimate),
    }


def _sheet(layers: list[Spec]) -> Spec:
    label = {"labelColor": "var(--ink)", "titleColor": "var(--quiet)", "domainColor": "var(--quiet)"}
    size = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 400, "tickColor": "var(--rule)"}
    return {
        "width": "container",
        "height": HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "background": "transparent",
        "layer": layers,
        "config": {"font": "system-ui, sans-serif", "view": {"stroke": None}, "axis": label | size},
    }


def _axes(limits: tuple[Limits, Limits], noun: str) -> Spec:
    titles = "change in safety, points →", f"change in {noun}, points →"
    return {
        key: {
            "field": key,
            "type": "quantitative",
            "scale": {"domain": list(domain), "nice": False, "zero": False},
            "axis": {"title": title, "tickCount": 5, "grid": False},
        }
        for key, domain, title in zip("xy", limits, titles, strict=True)
    }


def _xy(x: str = "x", y: str = "y", **more: Any) -> Spec:
    return {
        "x": {"field": x, "type": "quantitative"},
        "y": {"field": y, "type": "quantitative"},
        **{key: {"field": field} for key, field in more.items()},
    }


def _lines(price: float, limits: tuple[Limits, Limits], alone: bool) -> list[Spec]:
    """The ground below the price, where a point of safety costs more than it is worth; and the lines of equal tax.

    Of small pictures side by side, the price's line alone.
    """
    (_, right), (low, _) = limits
    found = lines_of_equal_tax(*limits, price, (WIDTH / INCH, HEIGHT / INCH))
    edge = found[0].end[0]
    ground = [{"x": x, "y": max(-price * x, low), "y2": low} for x in sorted({0.0, edge, right})]
    lines = [
        {
            "x": 0.0,
            "y": 0.0,
            "x2": line.end[0],
            "y2": line.end[1],
            "price": line.tax == price,
            "name": f"{'price' if line.tax == price else 'tax'} {line.tax:g}",
            **_beside(line, limits),
        }
        for line in (found if alone else found[:1])
    ]
    colour = {"condition": {"test": "datum.price", "value": "var(--ink)"}, "value": "var(--quiet)"}
    hidden = {"aria": False, "tooltip": None}
    return [
        {
            "data": {"values": ground},
            "mark": {"type": "area", "color": "var(--dear)", "opacity": 0.1, **hidden},
            "encoding": _xy(y2="y2"),
        },
        {
            "data": {"values": lines},
            "mark": {"type": "rule", "strokeDash": [5, 4], **hidden},
            "encoding": _xy(x2="x2", y2="y2")
            | {"color": colour, "size": {"condition": {"test": "datum.price", "value": 1.4}, "value": 0.8}},
        },
        {
            "data": {"values": lines},
            "mark": {"type": "text", **_of_each("align", "baseline", "dx", "dy"), **hidden},
            "encoding": _xy("x2", "y2", text="name") | {"color": colour},
        },
    ]


def _beside(line: TaxLine, limits: tuple[Limits, Limits]) -> Spec:
    """Where a line's name stands, clear of the line, which comes from the top left, and of the axes.

    Right of where it ends at the bottom; below where it ends at the right; left of it in the corner between.
    """
    (left, right), (low, high) = limits
    x, y = line.end
    if x < right - 0.2 * (right - left):
        return {"align": "left", "baseline": "bottom", "dx": 4, "dy": -3}
    if y > low + 0.1 * (high - low):
        return {"align": "right", "baseline": "top", "dx": -2, "dy": 4}
    slope = line.tax * (HEIGHT / (high - low)) / (WIDTH / (right - left))
    return {"align": "right", "baseline": "bottom", "dx": -round(6 + 2 * LINE / slope), "dy": -3}


def _of_each(*keys: str) -> Spec:
    """Properties of a mark that each row has itself."""
    return {key: {"expr": f"datum.{key}"} for key in keys}


def _rule(axis: str) -> Spec:
    return {
        "data": {"values": [{axis: 0.0}]},
        "mark": {"type": "rule", "color": "var(--rule)", "aria": False},
        "encoding": {axis: {"field": axis, "type": "quantitative"}},
    }


COLOUR = {
    "field": "look",
    "type": "nominal",
    "scale": {"domain": list(LOOKS), "range": [f"var(--{look})" for look in LOOKS]},
    "legend": None,
}


def _intervals(rows: list[Spec]) -> list[Spec]:
    mark = {"type": "rule", "aria": False, "opacity": 0.3 if len(rows) > CROWD else 0.6, "strokeWidth": 1.5}
    return [
        {"data": {"values": rows}, "mark": mark, "encoding": encoding | {"color": COLOUR}}
        for encoding in (_xy("x_low", "y", x2="x_high"), _xy("x", "y_low", y2="y_high"))
    ]


def _marks(rows: list[Spec], axes: Spec) -> Spec:
    titles = {
        "variant": "recipe",
        "standing": "standing",
        "safety": "safety gained",
        "paid": "change here",
        "tax": "tax here",
        "worth": "net benefit",
    }
    filled = {"condition": {"test": "datum.look === 'dominated'", "value": "var(--page)"}, **COLOUR}
    return {
        "data": {"values": rows},
        "name": "marks",
        "mark": {"type": "point", "opacity": 1, "strokeWidth": 1.6, "cursor": "pointer"},
        "encoding": axes
        | {
            "stroke": COLOUR,
            "fill": filled,
            "shape": {
                "field": "look",
                "type": "nominal",
                "scale": {"domain": list(LOOKS), "range": list(LOOKS.values())},
                "legend": None,
            },
            "size": {"condition": {"test": "datum.look === 'choose'", "value": 260}, "value": 95},
            "tooltip": [{"field": field, "type": "nominal", "title": title} for field, title in titles.items()],
            "description": {"field": "variant", "type": "nominal"},
        },
    }


def _names(rows: list[Spec]) -> Spec:
    mark: Spec = {"type": "text", "baseline": "middle", "fontSize": 12, "aria": False}
    mark |= _of_each("align", "dx", "dy")
    weight = {"expr": "datum.look === 'choose' ? 'bold' : 'normal'"}
    return {
        "data": {"values": rows},
        "mark": mark | {"fontWeight": weight, "color": "var(--ink)"},
        "encoding": _xy(text="name"),
    }


def _moves(results: ModelResults, before: ModelResults, currency: str) -> Spec:
    """A line from where each recipe stood before to where it is."""
    rows = []
    for name, recipe in results.recipes.items():
        now = recipe.currencies[currency].paid
        then = before.recipes[name].currencies[currency].paid if name in before.recipes else None
        if now is not None and then is not None:
            rows.append(
                {
                    "x": 100 * before.recipes[name].gain.value,
                    "y": -100 * then.loss.value,
                    "x2": 100 * recipe.gain.value,
                    "y2": -100 * now.loss.value,
                }
            )
    mark = {"type": "rule", "color": "var(--quiet)", "strokeWidth": 3, "opacity": 0.45, "aria": False}
    return {"data": {"values": rows}, "mark": mark, "encoding": _xy(x2="x2", y2="y2")}
