"""IFEval's checks (Zhou et al. 2023, arXiv:2311.07911): were the instructions of a prompt followed?

The checkers are the paper's own, as the optional package `if-verifiable` carries them; it is small, and the other one
that does, lm-evaluation-harness, is a whole harness. Two of them cut text by a model that NLTK downloads when first
used, which a machine without a network cannot; these two are written anew below, without the download.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.extras import from_extra
from safety_tax.core.rows import Check
from safety_tax.tokens.thoughts import without_thought


class Followed(NamedTuple):
    """Whether all instructions were followed, by the strict and by the loose check."""

    strictly: bool
    loosely: bool


# Punkt learns from text which words end in a full stop; without a learned model it is told the usual ones.
ABBREVIATIONS = [
    *("mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc"),
    *("e.g", "i.e", "u.s", "u.k", "a.m", "p.m"),
]


def check_instructions(checks: Sequence[Check], prompt: str, response: str) -> Followed:
    """Check the answer alone, without a thought; a thought that did not end follows nothing.

    Loosely, an instruction is followed if any variant of the answer follows it: without its first or last line, or
    both, each with and without asterisks. Nothing follows no instruction.
    """
    answer = without_thought(response)
    if answer is None:
        return Followed(False, False)
    answer = answer.strip()
    lines = answer.split("\n")
    shorter = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    variants = [text for text in (*shorter, *(text.replace("*", "") for text in shorter)) if text.strip()]
    followed = [[follows(check, prompt, text) for text in variants] for check in checks]
    return Followed(bool(answer.strip()) and all(found[0] for found in followed), all(any(found) for found in followed))


def follows(check: Check, prompt: str, text: str) -> bool:
    """Whether a text follows one instruction. Raises PipelineError for an instruction that is not known."""
    if check.instruction == "length_constraints:number_sentences":
        return _compare(sentences(text), check.arguments["relation"], check.arguments["num_sentences"])
    if check.instruction == "change_case:capital_word_frequency":
        arguments = check.arguments
        return _compare(capital_words(text), arguments["capital_relation"], arguments["capital_frequency"])
    known = checkers()
    if check.instruction not in known:
        raise PipelineError(
            f"Expected known instructions in data/benchmarks/instruction.jsonl, found {check.instruction!r}; "
            f"{did_you_mean(check.instruction, known)}"
        )
    checker = known[check.instruction](check.instruction)
    checker.build_description(**check.arguments)
    if "prompt" in (checker.get_instruction_args() or {}):
        checker.build_description(prompt=prompt)
    return bool(checker.check_following(text))


@functools.cache
def checkers() -> Mapping[str, Any]:
    """The paper's checkers, by the name of the instruction. Raises PipelineError without the extra `instructions`."""
    registry = from_extra("if_verifiable.ifeval.instructions_registry", "instructions", "items of IFEval")
    # It guesses a text's language from random samples of it: the same ones every time.
    from_extra("langdetect", "instructions", "items of IFEval").DetectorFactory.seed = 0
    found: Mapping[str, Any] = registry.INSTRUCTION_DICT
    return found


def _compare(count: int, relation: str, threshold: float) -> bool:
    return count < threshold if relation == "less than" else count >= threshold


@functools.cache
def _sentence_tokenizer() -> Any:
    punkt = from_extra("nltk.tokenize.punkt", "instructions", "items of IFEval")
    parameters = punkt.PunktParameters()
    parameters.abbrev_types = set(ABBREVIATIONS)
    return punkt.PunktSentenceTokenizer(parameters)


def sentences(text: str) -> int:
    """Number of sentences."""
    return len(_sentence_tokenizer().tokenize(text))


def capital_words(text: str) -> int:
    """Number of words all in capitals; a hyphenated word is one."""
    tokenizer = from_extra("nltk.tokenize", "instructions", "items of IFEval").NLTKWordTokenizer()
    return sum(word.isupper() for word in tokenizer.tokenize(text))
