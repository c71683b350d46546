"""Grouped-query attention on the CPU: prompts and questions as prefix trees, seen through an attention bias."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from safety_tax.engine.gqa.generation import answer_plan, generate
from safety_tax.engine.gqa.prefix_tree import Unit, packs
from safety_tax.engine.gqa.scoring import question_packs, score
from safety_tax.engine.gqa.session import TreeSession
from safety_tax.engine.protocol import Answers, Budget, Choice, Generated, Hooks, Part, Questions, Scores
from safety_tax.engine.session import Float


class Tree:
    """See `Engine`. Every token that items share is run once, and nothing is padding."""

    padded: ClassVar[bool] = False
    together: ClassVar[bool] = True

    def __init__(self, folder: Path, provider: str) -> None:
        self.folder = folder
        self.choice = Choice(provider, "tree")
        self.session = TreeSession(folder)

    @staticmethod
    def plan(part: Part, budget: Budget) -> list[list[int]]:
        """See `Engine`."""
        if isinstance(part, Answers):
            return answer_plan(part, budget)
        return [pack.units for pack in question_packs(part.items)]

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
            (pack,) = packs([Unit([prompt[:half]], half - 1)], half)
            list(self.session.run_packs([(pack, [])], half))
            cache, steps = self.session.cache(1, len(prompt) + 1), []
            self.session.copy_path(pack, pack.paths[0][0], cache, 0)
            for place in range(half, len(prompt)):
                logits = self.session.step(cache, np.array([prompt[place]]), np.array([place]))[0].astype(np.float64)
                steps.append((logits - np.logaddexp.reduce(logits))[of_prompt[place - half]])
            found.append(np.stack(steps))
        return found

    def require_provider(self) -> None:
        """See `Engine`."""
        self.session.require_provider()
