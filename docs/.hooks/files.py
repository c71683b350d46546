"""Pages show files that lie outside docs/, such as figures: the site gets a copy, and the link leads there."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:metrics|data)/[^)]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Called by MkDocs for each page."""
    up = "../" * page.file.src_uri.count("/")

    def copied(found: re.Match[str]) -> str:
        name = found[1]
        if name not in files.src_uris:
            files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
        return f"]({up}{name})"

    return OUTSIDE.sub(copied, markdown)
