"""A judge that is a sequence classifier."""

import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from safety_tax.core.rows import Label
from safety_tax.core.workspace import JUDGES
from safety_tax.judging.judge import Judge, JudgeSettings, judgeable_only
from safety_tax.settings.section import Count, CountOrNone
from safety_tax.settings.stages import Run


class ClassifierJudge(JudgeSettings):
    """A sequence classifier of `judge_models`, on the response alone."""

    name: Literal["classifier"]
    model: str
    labels: Annotated[dict[str, Label], Field(min_length=2)]
    """Every class of the checkpoint, by its own name, to a label."""
    window_tokens: Count
    overlap_tokens: CountOrNone

    @model_validator(mode="after")
    def _windows_advance(self) -> "ClassifierJudge":
        if self.overlap_tokens >= self.window_tokens:
            raise ValueError("overlap_tokens must be smaller than window_tokens")
        return self

    @property
    def checkpoint(self) -> str:
        """See JudgeSettings."""
        return self.model

    def load(self, run: Run, date: datetime.date) -> Judge:
        """See JudgeSettings."""
        from safety_tax.judging.classifier import load_classifier

        return judgeable_only(load_classifier(JUDGES / self.model, self, run))
