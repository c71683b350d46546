"""Optimum's graph as it was traced: for architectures that have no other, and what the others are tested against."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from safety_tax.engine.plain.generation import answer_plan, generate
from safety_tax.engine.plain.scoring import question_plan, score
from safety_tax.engine.plain.session import PlainSession
from safety_tax.engine.protocol import Answers, Budget, Choice, Generated, Hooks, Part, Questions, Scores
from safety_tax.engine.session import Float


class Plain:
    """See `Engine`. Batches of similar length, padded on the right."""

    padded: ClassVar[bool] = True
    together: ClassVar[bool] = False

    def __init__(self, folder: Path, provider: str) -> None:
        self.folder = folder
        self.choice = Choice(provider, "plain")
        self.session = PlainSession(folder, provider)

    @staticmethod
    def plan(part: Part, budget: Budget) -> list[list[int]]:
        """See `Engine`."""
        if isinstance(part, Answers):
            return answer_plan(part, budget)
        return question_plan(part.items, budget)

    def generate(
        self, requests: Answers, wanted: Collection[int], budget: Budget, hooks: Hooks
    ) -> Iterator[tuple[int, Generated]]:
        """See `Engine`."""
        return generate(self.session, requests, wanted, budget, hooks)

    def score(
        self, questions: Questions, wanted: Collection[int], budget: Budget, hooks: Hooks
    ) -> Iterator[tuple[int, Scores]]:
        """See `Engine`."""
        return score(self.session, questions.items, wanted, budget, hooks)

    def by_steps(self, prompts: list[list[int]], targets: list[Float]) -> list[Float]:
        """See `Engine`. A prompt alone."""
        found = []
        for prompt, of_prompt in zip(prompts, targets, strict=True):
            half = len(prompt) // 2
            past, steps = self.session.prefill(prompt[:half]), []
            for place in range(half, len(prompt)):
                token, at = np.array([[prompt[place]]], np.int64), np.array([[place]], np.int64)
                output = self.session.run(token, np.ones((1, place + 1), np.int64), at, np.zeros_like(at), past)
                wide, past = output.logits[0, 0].astype(np.float64), output.past
                steps.append((wide - np.logaddexp.reduce(wide))[of_prompt[place - half]])
            found.append(np.stack(steps))
        return found

    def require_provider(self) -> None:
        """See `Engine`."""
        self.session.require_provider()
