"""What every judge is: settings of `params.yaml`, and from them a function from exchanges to a judgement each."""

import datetime
from abc import abstractmethod
from collections.abc import Callable, Sequence

from safety_tax.judging.exchange import Exchange
from safety_tax.judging.judgement import Judgement
from safety_tax.settings.section import Section
from safety_tax.settings.stages import Run

Judge = Callable[[Sequence[Exchange]], list[Judgement]]

DECLINED = ("refuse", "partial")


class JudgeSettings(Section):
    """The section `judge` of `params.yaml`; each judge is a type of its own in `judges/`."""

    name: str

    @property
    def checkpoint(self) -> str | None:
        """The entry of `judge_models` that the judge runs, if it runs one."""
        return None

    @abstractmethod
    def load(self, run: Run, date: datetime.date) -> Judge:
        """The judge, ready; `run` says where a model runs, `date` is the day that its chat template is told.

        Raises PipelineError when its model, or the provider that `run` asks for, cannot be had.
        """


def by_rules(exchanges: Sequence[Exchange]) -> list[Judgement]:
    """The judge `rules`, one response at a time."""
    from safety_tax.judging.rules import judge

    return [judge(exchange.response, exchange.finish_reason) for exchange in exchanges]


def judgeable_only(judge: Judge) -> Judge:
    """A judge that finds degenerate and unfinished responses as `rules` does, and asks `judge` about the others.

    A model cannot tell: an empty or looping response is a refusal to some and harmless to others. Of a response that
    loops, it is asked about what was said before, and only where `rules` says that this declines.
    """
    from safety_tax.judging.degeneration import judgeable_part
    from safety_tax.judging.response_text import bounded
    from safety_tax.judging.rules import judge as by_rules_alone
    from safety_tax.tokens.thoughts import without_thought

    def label(exchanges: Sequence[Exchange]) -> list[Judgement]:
        found: list[Judgement | None] = []
        asked: list[Exchange] = []
        broken: list[Judgement | None] = []
        for exchange in exchanges:
            said = without_thought(exchange.response)
            part = judgeable_part(bounded(said)) if said is not None else None
            settled = None
            if said is None or part is None or part.fault:
                settled = by_rules_alone(exchange.response, exchange.finish_reason)
            if said is None or part is None or (settled and (settled.label not in DECLINED or not part.text)):
                found.append(settled)
                continue
            found.append(None)
            asked.append(exchange._replace(response=part.text if settled else said))
            broken.append(settled and Judgement("degenerate", part.fault or "", part.looped))
        answers = iter(
            _unless_broken(judgement, fault)
            for judgement, fault in zip(judge(asked) if asked else [], broken, strict=True)
        )
        return [judgement or next(answers) for judgement in found]

    return label


def _unless_broken(judgement: Judgement, fault: Judgement | None) -> Judgement:
    """What a model says, and that the response looped; an answer that runs into a loop is degenerate."""
    if fault is None:
        return judgement
    if judgement.label not in DECLINED:
        return fault._replace(harmful=judgement.harmful)
    return judgement._replace(looped=fault.looped)
