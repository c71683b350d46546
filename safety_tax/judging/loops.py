"""Where a text begins to do nothing but repeat itself."""

import operator
import statistics
from collections.abc import Sequence
from itertools import pairwise

# Share of 4-grams of words that occurred before: seq-rep-4 of Welleck et al. 2020 (arXiv:1908.04319), who measure
# .005 for people and .44 for greedy decoding that has begun to loop. The highest among the 900 labelled responses that
# the rules were developed on is .27; two copies of a text have about .5.
REPEATED_SHARE = 0.5
# A stumble or a refrain inside a sensible response is still judgeable: a run of one word counts when the response ends
# in it, or when it is twice as long and makes up this share of the words.
RUN_SHARE = 0.05
RUN_LENGTH = 4
# A loop at the end of a longer text: so many copies, that repeat so many words. A refrain, which comes back after a
# stanza, has few copies running; a line that is sung four times has few words.
COPIES = 3
LOOP_WORDS = 20
# A word that is new inside a loop weighs so many repeated ones: four 4-grams in five must repeat.
NEW_WEIGHT = 4
# With a number that counts on ("Step 7: open the panel."), copies have to be more and longer. A table or a plan has
# several numbers a line, and is none.
COUNTED_COPIES = 4
COUNTED_PERIOD = 4


def loop_start(words: Sequence[str]) -> int | None:
    """Index of the first word of the second copy when the text ends in a loop, or is half repetition; or None."""
    distances = repeat_distances(words)
    start, period = _dense_end(distances, NEW_WEIGHT)
    if start is not None and len(words) - start >= max(LOOP_WORDS, (COPIES - 1) * period):
        return start
    if sum(map(bool, distances)) >= max(1, REPEATED_SHARE * len(distances)):
        return _dense_end(distances, 1)[0] or 0
    return _counted_loop_start(words)


def repeat_distances(words: Sequence[str]) -> list[int]:
    """For every 4-gram the number of words since it last stood there, 0 where it is new."""
    seen: dict[tuple[str, ...], int] = {}
    distances = []
    for place, gram in enumerate(zip(words, words[1:], words[2:], words[3:], strict=False)):
        distances.append(place - seen.get(gram, place))
        seen[gram] = place
    return distances


def repeated_share(words: Sequence[str]) -> float:
    """Share of 4-grams, in [0, 1], that occurred before: 1 - distinct / all (seq-rep-4, Welleck et al. 2020)."""
    if len(words) < 4:
        return 0.0
    grams = set(zip(words, words[1:], words[2:], words[3:], strict=False))
    return 1 - len(grams) / (len(words) - 3)


def run_start(words: Sequence[str]) -> int | None:
    """Index of the second word of a run of one word, at the end or as a good part of the response; or None.

    Numbers do not count: tables and code repeat them.
    """
    # In a run of four, two words at even places stand together.
    if not any(map(operator.eq, words[::2], words[2::2])):
        return None
    longest = length = 1
    start = 0
    for place, (word, following) in enumerate(pairwise(words), start=1):
        length = length + 1 if word == following and not word.isdecimal() else 1
        if length > longest:
            longest, start = length, place - length + 2
    # `length` is now that of the run which ends the response.
    if length >= RUN_LENGTH:
        return len(words) - length + 1
    return start if longest >= 2 * RUN_LENGTH and longest >= RUN_SHARE * len(words) else None


def _dense_end(distances: Sequence[int], new_weight: int) -> tuple[int | None, float]:
    """Where the end that repeats most begins, new 4-grams weighed against repeated ones, and its period in words."""
    total = best = 0
    start = None
    for place in range(len(distances) - 1, -1, -1):
        total += 1 if distances[place] else -new_weight
        if total > best:
            best, start = total, place
    if start is None:
        return None, 0
    return start, statistics.median(filter(None, distances[start:]))


def _counted_loop_start(words: Sequence[str]) -> int | None:
    """The same as `loop_start` for copies that differ by one number each."""
    places = [place for place, word in enumerate(words) if not word.isdecimal()]
    if len(places) == len(words):
        return None
    start, period = _dense_end(repeat_distances([words[place] for place in places]), NEW_WEIGHT)
    if start is None:
        return None
    repeated = len(places) - start
    numbers = len(words) - places[start] - repeated
    counted = period >= COUNTED_PERIOD and repeated >= max(LOOP_WORDS, (COUNTED_COPIES - 1) * period)
    return places[start] if counted and numbers <= repeated / period + 1 else None
