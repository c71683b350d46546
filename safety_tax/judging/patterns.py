"""Building blocks of the judge's patterns, which are matched against plain sentences.

A plain sentence (see `response_text`) is lower case with contractions written out: "cannot", "will not", "do not",
"i am". Every repetition is bounded, so no input makes a search slow. Alternatives stand behind one common `\\b` and
begin with a letter rather than a group: Python's matcher then skips them by their first letter, several times faster.
"""

import re

WORD = r"\b"
# A word after a quotation mark is said by somebody in a story.
UNQUOTED_WORD = r"\b(?<![\"'])"


def either(*alternatives: str) -> str:
    """A group of alternatives."""
    return "(?:" + "|".join(alternatives) + ")"


def words(text: str) -> str:
    """A group of alternatives that are written with spaces between them."""
    return either(*text.split())


def each(beginnings: str, rest: str) -> str:
    """The alternatives "beginning rest", ungrouped; a "|" between parentheses does not divide beginnings."""
    return "|".join(beginning + rest for beginning in re.split(r"\|(?![^(]*\))", beginnings))
