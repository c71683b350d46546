"""A judge that is a generative guard model."""

import datetime
from typing import Literal

from safety_tax.core.workspace import JUDGES
from safety_tax.judging.judge import Judge, JudgeSettings, judgeable_only
from safety_tax.settings.section import Count
from safety_tax.settings.stages import Run


class GuardJudge(JudgeSettings):
    """A generative guard of `judge_models`, which reads prompt and response."""

    name: Literal["guard"]
    model: str
    template: Literal["wildguard", "llama_guard_3", "qwen3guard"]
    max_new_tokens: Count

    @property
    def checkpoint(self) -> str:
        """See JudgeSettings."""
        return self.model

    def load(self, run: Run, date: datetime.date) -> Judge:
        """See JudgeSettings."""
        from safety_tax.judging.guard import load_guard

        return judgeable_only(load_guard(JUDGES / self.model, self, run, date))
