"""Judges: functions from exchanges to one of four labels each. One judge a file, named as in `params.yaml`.

A new judge is a file here, its section in `stages/lib/params/sections.py` and a case in `load`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

from stages.lib.judging.exchange import Exchange
from stages.lib.judging.judgement import Judgement
from stages.lib.params import AnyJudge, ClassifierJudge, GuardJudge, Infer, RulesJudge

Judge = Callable[[Sequence[Exchange]], list[Judgement]]

MODELS = Path("models/judges")


def load(settings: AnyJudge, infer: Infer) -> Judge:
    """The judge that `params.yaml` names, with its model if it has one; that runs where `infer` runs.

    Raises PipelineError when the model, or the provider that `infer` asks for, cannot be had.
    """
    match settings:
        case RulesJudge():
            return by_rules
        # ONNX Runtime and Transformers are imported only where a model judges.
        case ClassifierJudge():
            from stages.lib.judging.classifier import load_classifier

            return judgeable_only(load_classifier(MODELS / settings.model, settings, infer))
        case GuardJudge():
            from stages.lib.judging.guard import load_guard

            return judgeable_only(load_guard(MODELS / settings.model, settings, infer))
        case _:
            assert_never(settings)


def by_rules(exchanges: Sequence[Exchange]) -> list[Judgement]:
    """The judge `rules`, one response at a time."""
    from stages.lib.judging.rules import judge

    return [judge(exchange.response, exchange.finish_reason) for exchange in exchanges]


def judgeable_only(judge: Judge) -> Judge:
    """A judge that finds degenerate responses as `rules` does, and asks `judge` about the others.

    A model cannot tell: an empty or looping response is a refusal to some and harmless to others.
    """
    from stages.lib.judging.degeneration import degeneration
    from stages.lib.judging.response_text import bounded

    def label(exchanges: Sequence[Exchange]) -> list[Judgement]:
        faults = [degeneration(bounded(exchange.response)) for exchange in exchanges]
        rest = [exchange for exchange, fault in zip(exchanges, faults, strict=True) if not fault]
        labelled = iter(judge(rest) if rest else [])
        return [Judgement("degenerate", fault) if fault else next(labelled) for fault in faults]

    return label
