"""Keeping tuning and evaluation apart: no shared prompt, no long run of shared words.

Word n-grams after Brown et al. 2020 (arXiv:2005.14165, appendix C), who also set aside n-grams that many
documents share.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import Prompt
from safety_tax.datasets.item import normalised


def ngrams(text: str, words: int) -> Iterator[str]:
    """Every run of `words` words of the normalised text; the whole text when it is shorter."""
    parts = normalised(text).split()
    for start in range(max(1, len(parts) - words + 1)):
        yield " ".join(parts[start : start + words])


def common_ngrams(prompts: Iterable[Prompt], words: int, boilerplate: int) -> set[str]:
    """N-grams of more than `boilerplate` prompts, which say nothing about any one of them.

    A jailbreak prompt is not counted: what it asks for is a harmful prompt that it wraps, as others do.
    """
    texts = (prompt.text for prompt in prompts if prompt.kind != "jailbreak")
    documents = Counter(ngram for text in texts for ngram in set(ngrams(text, words)))
    return {ngram for ngram, count in documents.items() if count > boilerplate}


def leaking(tune: Sequence[Prompt], held: Sequence[Prompt], words: int, common: Set[str]) -> list[tuple[str, str]]:
    """Ids of tuning rows that share words with an evaluation item, each with the words they share.

    Words that are among the `common` n-grams do not count, unless they are the whole of the item.
    """
    telling = {ngram for prompt in held for ngram in ngrams(prompt.text, words)} - common
    telling |= {normalised(prompt.text) for prompt in held}
    found = []
    for prompt in tune:
        shared = next((n for n in _signatures(prompt, words) if n in telling), None)
        if shared is not None:
            found.append((prompt.id, shared))
    return found


def _signatures(prompt: Prompt, words: int) -> Iterable[str]:
    yield normalised(prompt.text)
    yield from ngrams(prompt.text, words)


def require_apart(tune: Sequence[Prompt], held: Sequence[Prompt], words: int, common: Set[str]) -> None:
    """The gate: raises PipelineError when any tuning row meets an evaluation item."""
    found = leaking(tune, held, words, common)
    if found:
        row, shared = found[0]
        raise PipelineError(
            f"Expected no tuning row to meet an evaluation item, found {len(found)}: row {row} shares {shared!r}; "
            "run `dvc repro fetch_data` to split them again."
        )
