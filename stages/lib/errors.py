"""The one exception a person is meant to read."""

from collections.abc import Iterable
from difflib import get_close_matches


class PipelineError(Exception):
    """Bad input, said in one sentence: what was expected, what was found, where, what to do.

    A stage that raises it prints the sentence on stderr and exits with status 1.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Closing words for "unknown name" sentences: the near matches, or all there is."""
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(repr(match) for match in near) + "?"
    return "known: " + (", ".join(known) if known else "none") + "."
