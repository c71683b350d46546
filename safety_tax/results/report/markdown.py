"""The little Markdown of `metrics/<model>.md` as HTML: a heading, tables, paragraphs, `code`, **bold**."""

import re
from html import escape


def as_html(page: str) -> str:
    """HTML of a page; everything in it is escaped first, so that a name can bring no markup of its own."""
    blocks = [block for block in re.split(r"\n\s*\n", page.strip()) if block.strip()]
    return "\n".join(_block(block.strip()) for block in blocks)


def _block(block: str) -> str:
    if block.startswith("# "):
        return f"<h1>{_inline(block[2:])}</h1>"
    if block.startswith("|"):
        return _table(block.splitlines())
    return f"<p>{_inline(block)}</p>"


def _table(lines: list[str]) -> str:
    rows = [[_inline(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines]
    head, _, *body = rows
    parts = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    parts += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    return f'<div class="wide"><table>{"".join(parts)}</table></div>'


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
