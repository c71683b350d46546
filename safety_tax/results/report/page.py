"""The report as one HTML file that loads nothing: styles, script, figures and data are inside."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from safety_tax.results.report.markdown import as_html

HERE = Path(__file__).parent
ONE_LINE: dict[str, Any] = {"sort_keys": False, "default_flow_style": True, "width": 10**6}


def embedded(value: Any) -> Markup:
    """JSON that may stand in a script element, whatever text it holds: no `<`, `>` or `&` is left in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def render(
    model: str,
    words: str,
    recipes: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, bytes],
    index: dict[str, Any],
    chunks: Sequence[list[dict[str, Any]]],
    lower_bound: bool,
) -> str:
    """The page. `words` is `metrics/<model>.md`, `recipes` what params.yaml says of each, `figures` SVG by title.
    `lower_bound`: whether jailbreak resistance is one.

    Its content security policy lets nothing be fetched and no script run but the report's own, by its hash.
    """
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    script = (HERE / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html.jinja").render(
        model=model,
        lower_bound=lower_bound,
        words=Markup(as_html(words)),
        recipes={name: yaml.safe_dump(dict(keys), **ONE_LINE).strip()[1:-1] for name, keys in recipes.items()},
        figures={title: base64.b64encode(content).decode() for title, content in figures.items()},
        index=embedded(index),
        chunks=[embedded(chunk) for chunk in chunks],
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
