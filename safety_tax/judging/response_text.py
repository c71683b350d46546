"""A response made plain enough to match: one spelling for quotes, case, contractions and white space."""

import json
import re
import unicodedata
from collections.abc import Iterator

from safety_tax.judging.phrases import Sentence

# A longer response is judged by its beginning, where refusals stand, and its end, where loops show.
HEAD_CHARACTERS = 4_000
TAIL_CHARACTERS = 1_000

_SPACES = " \t\r\n\f\v\u00a0\u200b\ufeff"
_INVISIBLE = dict.fromkeys(
    [0xAD, 0x34F, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
)
_QUOTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u2035\u02b9\u02bb\u02bc\u02bd\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"')
    | dict.fromkeys("\u2013\u2014\u2015", "-")
)
_MARKDOWN = "*_#~|>"

# What is written out, by what the spellings have in common. In this order, so that "can't" does not become "ca not".
_CONTRACTIONS = {
    "n't": {"can't": "cannot", "won't": "will not", "shan't": "shall not", "ain't": "am not", "n't": " not"},
    "'m ": {"'m ": " am "},
    "'re ": {"'re ": " are "},
    "'ve ": {"'ve ": " have "},
    "'ll ": {"'ll ": " will "},
    "i'd ": {"i'd ": "i would "},
    "'s ": {
        "it's ": "it is ",
        "that's ": "that is ",
        "there's ": "there is ",
        "here's ": "here is ",
        "let's ": "let us ",
    },
}
# The same where the apostrophe was dropped, and other spellings.
_BARE_SPELLINGS = {
    "can not ": {"can not ": "cannot "},
    "nt ": {"i cant ": "i cannot ", "i wont ": "i will not ", "i dont ": "i do not "},
    "im ": {"im sorry": "i am sorry", "im not ": "i am not ", "im unable": "i am unable"},
}

# What a page or a fine-tuned format puts around words. Lines end at the first kind.
_BREAK = re.compile(r"</?(?:br|p|div|li|ul|ol|h[1-6]|tr|blockquote)\b[^<>]{0,80}>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:b|strong|em|i|u|s|span|font|mark|small|code|pre|html|body"
    r"|answer|final_answer|response|output|result|solution|refusal|assistant)\b[^<>]{0,80}>",
    re.IGNORECASE,
)
_FENCED = re.compile(r"```\w*\s*(.*?)\s*(?:```)?", re.DOTALL)

_LIST_MARK = re.compile(r"(?:[-*+\u2022] |\(?\d{1,2}[.):] ?(?=\D)|step \d{1,2}\b:?)[ *]*")
# A list whose line breaks were lost: "1. Wash the rice. 2. Bring water to the boil."
_INLINE_MARK = re.compile(r"(?<=[.:;!?] )(?=[1-9][.)] [a-z\"'(*])")
# Plain replacement cuts sentences several times faster than a pattern that looks behind each space.
_SENTENCE_ENDS = tuple((mark + after + " ", mark + after + "\n") for after in ("", '"', "'", ")") for mark in ".!?")


def bounded(text: str) -> str:
    """The response without white space around it and, when it is very long, without its middle; NFKC, plain quotes."""
    text = text.strip(_SPACES)
    if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        text = text[:HEAD_CHARACTERS] + "\n" + text[-TAIL_CHARACTERS:]
    if text.isascii():
        return text
    # Quotes first: NFKC makes a space and a combining accent of an acute accent in an apostrophe's place.
    return unicodedata.normalize("NFKC", text.translate(_QUOTES)).translate(_INVISIBLE).strip(_SPACES)


def sentences_of(text: str) -> Iterator[Sentence]:
    """The sentences of a bounded text, cut as they are asked for."""
    # The space lets a contraction at the end be written out, too.
    plain = _unpacked(text).lower().strip("' ")
    if plain.count('"') == 2 and plain[0] == plain[-1] == '"':  # a reply in quotation marks is no quotation
        plain = plain[1:-1]
    plain = _written_out(plain + " ")
    if "1" in plain and "2" in plain:
        plain = _INLINE_MARK.sub("\n", plain)
    has_markdown = any(map(plain.__contains__, _MARKDOWN))
    for line in plain.split("\n"):
        line = line.strip()
        # A mark begins with a sign, a digit or the word "step".
        mark = _LIST_MARK.match(line) if line[:1] == "s" or not line[:1].isalpha() else None
        if mark:
            line = line[mark.end() :]
        if has_markdown:
            for sign in _MARKDOWN:
                line = line.replace(sign, "")
            line = line.strip()
        if "  " in line or not line.isprintable():  # white space other than single spaces
            line = " ".join(line.split())
        for end, cut in _SENTENCE_ENDS if '"' in line or "'" in line or ")" in line else _SENTENCE_ENDS[:3]:
            line = line.replace(end, cut)
        is_item = mark is not None
        for sentence in line.split("\n") if line else ():
            yield Sentence(sentence, is_item)
            is_item = False


def _unpacked(text: str) -> str:
    """The words of a response that is one JSON object, or is set in tags, as a page or a format of tuning has them."""
    if "{" in text[:12] and '"' in text:
        inner = _FENCED.fullmatch(text)
        try:
            value = json.loads(inner[1] if inner else text)
        except (ValueError, RecursionError):
            value = None
        said = [part for part in value.values() if isinstance(part, str)] if isinstance(value, dict) else []
        return "\n".join(said) or text
    if "<" in text:
        bare = _TAG.sub("", _BREAK.sub("\n", text))
        return bare if any(map(str.isalnum, bare)) else text
    return text


def _written_out(text: str) -> str:
    text = text.replace("`", "'")
    for table in (_CONTRACTIONS, _BARE_SPELLINGS) if "'" in text else (_BARE_SPELLINGS,):
        for common, spellings in table.items():
            if common in text:
                for short, long in spellings.items():
                    text = text.replace(short, long)
    return text
