"""Vega-Lite for a page that loads nothing: Vega, Vega-Lite and Vega-Embed as one script, out of vl-convert's wheel."""

from functools import cache

NOTICE = (
    "Vega, Vega-Lite and Vega-Embed: Copyright University of Washington Interactive Data Lab and contributors, "
    "BSD-3-Clause; with D3, Copyright Mike Bostock, ISC."
)


@cache
def vega_script() -> str:
    """JavaScript that defines `vegaEmbed`; the same bytes with the same release of vl-convert. Takes seconds."""
    from vl_convert import javascript_bundle  # here, because it holds an engine of its own

    script: str = javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in script.lower() and "<!--" not in script  # would end the element that holds it
    return script
