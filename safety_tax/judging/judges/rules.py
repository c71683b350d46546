"""The default judge: offline rules on the response alone."""

import datetime
from typing import Literal

from safety_tax.judging.judge import Judge, JudgeSettings, by_rules
from safety_tax.settings.stages import Run


class RulesJudge(JudgeSettings):
    """Offline rules; see `judging/rules.py`."""

    name: Literal["rules"]

    def load(self, run: Run, date: datetime.date) -> Judge:
        """See JudgeSettings."""
        return by_rules
