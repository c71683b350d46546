"""What the pages for people hold: headings, blocks of code, links, and text that a command writes."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = tuple([ROOT / "README.md", ROOT / "README.ja.md", *sorted((ROOT / "docs").rglob("*.md"))])

HEADING = re.compile(r"^#{1,6} (.+)$", re.M)
# The reason stands on the line before the block.
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)
WRITTEN = re.compile(r"(?P<begin><!-- begin: (?P<name>[\w-]+) -->\n).*?(?P<end>^<!-- end: (?P=name) -->)", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A block of code: the page and heading that it stands under, and why no test runs it, if none does."""

    page: str
    """Its path from the repository's folder."""
    heading: str
    language: str
    code: str
    reason: str | None

    @property
    def lines(self) -> list[str]:
        """Those that are more than a comment."""
        return [line for line in self.code.splitlines() if line.strip() and not line.startswith("#")]


def name_of(page: Path) -> str:
    """`docs/install.md`."""
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> Iterator[Block]:
    """Every block of the languages, page by page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        # A comment in a block looks like a heading.
        outside = BLOCK.sub(lambda found: re.sub(r"(?m)^#", " ", found[0]), text)
        for found in BLOCK.finditer(text):
            if found["language"] in languages:
                heading = [*HEADING.finditer(outside, 0, found.start())][-1][1]
                yield Block(name_of(page), heading, found["language"], found["code"], found["reason"])


def under(page: str, heading: str, *languages: str) -> list[Block]:
    """The blocks of one section that a test runs."""
    return [
        block
        for block in blocks(*(languages or ("sh",)))
        if (block.page, block.heading) == (page, heading) and block.reason is None
    ]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """The targets of links and pictures that lie in the repository."""
    return [target for target in LINK.findall(prose(page)) if not re.match(r"\w+:", target)]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may say behind `#`."""
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(prose(page)))
    return {re.sub(r"\s+", "-", text.strip()) for text in words}


def with_written(text: str, written: Mapping[str, str]) -> str:
    """A page with the text between its markers replaced. Raises KeyError for a marker that nothing writes."""
    return WRITTEN.sub(lambda found: f"{found['begin']}\n{written[found['name']]}\n\n{found['end']}", text)
