"""Pages of the report for tests: their models and items made here, and what a page's HTML holds, in order."""

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

from sample_results import SHARES, results_of, verdicts_of

from safety_tax.core.rows import PROMPT, VERDICT, AnyPrompt, Kind, Response, Verdict
from safety_tax.results.report.items import Browsed
from safety_tax.results.report.page import Measured, render
from safety_tax.results.variant import ModelResults

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> & \u2028 \ud800 ünder"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><circle r="4" cx="5" cy="5"/></svg>'
RECIPES = {"ties": {"method": "ties", "donors": {"<safety>": 1.0}, "density": 0.5}}
TWO: dict[str, dict[Kind, float]] = {name: SHARES[name] for name in ("base", "ties")}


def run_of(items: int) -> tuple[list[AnyPrompt], list[Browsed]]:
    """A base that complies throughout, a recipe that refuses every second prompt; every fourth item is a question."""
    prompts: list[AnyPrompt] = []
    verdicts: dict[str, list[Verdict]] = {"base": [], "ties": []}
    responses: dict[str, list[Response]] = {"base": [], "ties": []}
    for i in range(items):
        kind = ("harmful", "benign", "jailbreak", "choice")[i % 4]
        about: dict[str, Any] = {"id": f"i{i}", "benchmark": f"b_{kind}", "kind": kind, "group": f"g{i % 7}"}
        question = {"choices": ["one", "two <b>"], "gold": 1} if kind == "choice" else {}
        text = f"Prompt number {i} of a report, with words enough to look like one. " * 3
        prompts.append(PROMPT.validate_python({**about, **question, "split": "eval", "text": text}))
        for name in verdicts:
            refused = name == "ties" and i % 8 < 4
            if kind == "choice":
                judged: dict[str, Any] = {"continuation_correct": refused, "gold_probability": 0.5, "options": 2}
            else:
                judged = {"label": "refuse" if refused else "comply", "rule": "declines" if refused else "answer"}
                judged["truncated"] = i == 1
                answer = HOSTILE if i == 1 else f"{name} says something about {i}. " * 8
                responses[name].append(Response(id=f"i{i}", text=answer, finish_reason="stop", tokens=9))
            verdicts[name].append(VERDICT.validate_python({**about, **judged}))
    return prompts, [browsed(name, verdicts[name], responses[name]) for name in verdicts]


def browsed(name: str, verdicts: list[Verdict], responses: list[Response] | None = None, form: str = "") -> Browsed:
    """A variant of the model `tiny` whose answers can be read."""
    return Browsed("tiny", name, name, 0, form or "continuation", verdicts, responses or [])


def measured(results: ModelResults, asked: str = "", **more: Any) -> Measured:
    """A model for a page; two with another `asked` were asked other items."""
    recipes = {name: RECIPES["ties"] for name in results.recipes}
    items = frozenset((row.kind, f"{row.id}{asked}") for row in verdicts_of("base", SHARES["base"]))
    return Measured(results, items, recipes, [], {"over refusal": SVG}, **more)


def named(name: str, shares: Mapping[str, Mapping[Kind, float]] = TWO, **more: Any) -> ModelResults:
    """Results of a model of that name."""
    return results_of(shares, **more).model_copy(update={"model": name})


def page_of(items: int, results: ModelResults | None = None) -> str:
    """A page of one model, its verdicts on so many items to browse."""
    return render([measured(results or results_of(TWO))], *run_of(items))


class Element:
    """A part of a page: its name, attributes and text."""

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name, self.attributes, self.text = name, attributes, ""

    def __repr__(self) -> str:
        return f"<{self.name} {self.attributes}>{self.text}"

    @property
    def words(self) -> str:
        """Its text with single spaces."""
        return " ".join(self.text.split())


class Page(HTMLParser):
    """What a page holds: `found("td")`, `found("tr", "choose")`, in its order."""

    BLOCKS = ("p", "summary", "td", "th", "tr", "li", "div", "dd", "dt", "h1", "h2", "h3", "h4", "button", "option")
    OPEN = ("br", "img", "input", "meta", "path")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.stack: list[Element] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.BLOCKS:
            self.handle_data(" ")
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in self.OPEN:
            self.stack.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.OPEN:
            assert self.stack.pop().name == tag

    def handle_data(self, data: str) -> None:
        for element in self.stack:
            element.text += data

    def found(self, name: str, of_class: str = "") -> list[Element]:
        """The elements of that name and class."""
        return [
            element
            for element in self.elements
            if element.name == name and (not of_class or of_class in element.attributes.get("class", "").split())
        ]

    @property
    def specifications(self) -> list[dict[str, Any]]:
        """The pictures', as Vega-Lite."""
        return [
            json.loads(element.text)
            for element in self.found("script")
            if element.attributes.get("type") == "application/json" and '"layer"' in element.text
        ]

    def marks(self, picture: int = 0) -> dict[str, dict[str, Any]]:
        """The recipes that a picture draws, and what hovering over each shows."""
        (layer,) = (of for of in self.specifications[picture]["layer"] if of.get("name") == "marks")
        return {row["variant"]: row for row in layer["data"]["values"]}


def rows_of(page: Page) -> list[str]:
    """The words of each row of the table of recipes."""
    return [
        re.sub(r" ?\[[^]]*\]", "", row.words) for row in page.found("tr") if row.attributes.get("class") is not None
    ]
