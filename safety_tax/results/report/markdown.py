"""The little Markdown of the results' sentences as HTML: `code` and **bold**."""

import re

from markupsafe import Markup, escape


def inline(text: str) -> Markup:
    """HTML of a sentence; everything in it is escaped first, so that a name can bring no markup of its own."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html))
