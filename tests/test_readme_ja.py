"""README.ja.md says what README.md says: sections, code blocks, tables, links and figures, in the same order."""

import re
from collections import Counter
from itertools import pairwise, zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH, JAPANESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md"))
MIRROR = re.compile(r"^(?:日本語|English): \[.*$", re.M)  # the line that links the other file
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")
NUMBER = re.compile(r"(?:\d[\d,]*(?:\.\d+)?|(?<!\w)\.\d+)(?:e[+-]?\d+)?(?:\s*%)?")
JAPANESE_LETTER = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
SPELLED = {str(number) for number in range(1, 13)}  # English may write these as words


def sections(text: str) -> list[tuple[int, str]]:
    """First line and text of the parts between `## ` headings; a `##` in a code block is none."""
    text = MIRROR.sub("", text, count=1)
    hidden = FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    starts = [0, *(heading.start() for heading in re.finditer(r"^## ", hidden, re.M)), len(text)]
    return [(text.count("\n", 0, at) + 1, text[at:end]) for at, end in pairwise(starts)]


def split(first: int, text: str) -> tuple[list[tuple[int, str]], str]:
    """The table rows with their lines, and the prose, both without the code blocks."""
    lines = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text).split("\n")
    rows = [(first + at, line) for at, line in enumerate(lines) if line.startswith("|")]
    return rows, "\n".join(line for line in lines if not line.startswith("|"))


def facts(text: str) -> Counter[str]:
    """The code spans, and the figures outside of code and link targets."""
    prose = LINK.sub(lambda link: link[0].split("](")[0], CODE.sub(" ", text))
    return Counter(CODE.findall(text)) + Counter(re.sub(r"\s|,$", "", number) for number in NUMBER.findall(prose))


def unequal(ours: str, theirs: str) -> list[str]:
    """Code and figures that one of two texts lacks."""
    ours_only, theirs_only = facts(ours) - facts(theirs), facts(theirs) - facts(ours)
    told = [f"{fact} only in README.md" for fact in ours_only]
    return told + [f"{fact} only in README.ja.md" for fact in theirs_only if fact not in SPELLED]


def differences(english: str, japanese: str) -> list[str]:
    """One sentence for each thing that one README has and the other lacks."""
    left, right = sections(english), sections(japanese)
    if len(left) != len(right):
        return [f"{len(left) - 1} sections in README.md, {len(right) - 1} in README.ja.md"]
    found = []
    for (at, ours), (to, theirs) in zip(left, right, strict=True):
        where = f"section {ours.splitlines()[0]!r} (README.md:{at}, README.ja.md:{to})"
        for kind, pattern in (("code block", FENCE), ("link", LINK)):
            pairs = zip_longest(pattern.findall(ours), pattern.findall(theirs))
            found += [f"{where}: {kind} {a!r} against {b!r}" for a, b in pairs if a != b]
        (rows, prose), (their_rows, their_prose) = split(at, ours), split(to, theirs)
        found += [f"{where}: {told}" for told in unequal(prose, their_prose)]
        if len(rows) != len(their_rows):
            found.append(f"{where}: {len(rows)} table rows against {len(their_rows)}")
        for (row_at, row), (row_to, their_row) in zip(rows, their_rows, strict=False):
            for a, b in zip_longest(row.split("|"), their_row.split("|"), fillvalue=""):
                if unequal(a, b) if JAPANESE_LETTER.search(b) else a != b:  # a cell is translated or the same
                    found.append(f"README.md:{row_at}, README.ja.md:{row_to}: cell {a!r} against {b!r}")
    return found


def test_both_readmes_say_the_same() -> None:
    assert differences(ENGLISH, JAPANESE) == []
    assert "(README.ja.md)" in MIRROR.findall(ENGLISH)[0] and "(README.md)" in MIRROR.findall(JAPANESE)[0]


def test_every_figure_that_changes_in_one_of_them_is_found() -> None:
    for text, other in ((ENGLISH, JAPANESE), (JAPANESE, ENGLISH)):
        body = FENCE.sub(lambda block: " " * len(block[0]), text)
        body = LINK.sub(lambda link: " " * len(link[0]), body)
        hits = [hit for hit in NUMBER.finditer(body) if text is ENGLISH or hit[0].strip() not in SPELLED]
        digits = [hit.start() + hit[0].startswith(".") for hit in hits]
        assert len(digits) > 150
        for at in digits:
            changed = f"{text[:at]}{9 - int(text[at])}{text[at + 1 :]}"
            told = differences(changed, other) if text is ENGLISH else differences(other, changed)
            assert told, f"nobody sees that {text[at - 20 : at + 20]!r} changed"


@pytest.mark.parametrize("english", [True, False])
@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("pip install --quiet -e . ", "pip install -e . ", "code block"),
        ("smollm2_135m/frontier.svg", "smollm2_135m/other.svg", "link"),
        ("`metrics.margin`", "`metrics.margins`", "cell"),
        ("\n| `merge` |", "\n`merge` |", "table rows"),
        (" 95 %", " 90 %", "90% only in"),
        ("\n## ", "\n### ", "sections"),
    ],
)
def test_what_differs_is_named(was: str, becomes: str, told: str, english: bool) -> None:
    before = ENGLISH if english else JAPANESE
    after = before.replace(was, becomes, 1)
    assert after != before
    found = differences(after, JAPANESE) if english else differences(ENGLISH, after)
    assert any(told in sentence for sentence in found), found
