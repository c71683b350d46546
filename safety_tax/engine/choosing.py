"""Which token comes next, from logits on the host."""

import hashlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from safety_tax.engine.batches import Int64
from safety_tax.engine.session import Float, require_finite


def random_of(*numbers: int) -> np.random.Generator:
    """Random numbers that depend on these alone: NumPy would take milliseconds to seed itself with a long prompt."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(array("q", numbers).tobytes()).digest()[:16]))


class Chooser(NamedTuple):
    """The most likely token, or at a `temperature` above 0 one drawn by its probability.

    A draw depends on the seed, the prompt and the number of tokens written, and on no other row.
    """

    folder: Path
    temperature: float = 0.0
    seed: int = 0

    def __call__(self, logits: Float, prompts: Sequence[Sequence[int]], steps: Sequence[int]) -> Int64:
        """Tokens [rows] from logits [rows, vocabulary]. Raises PipelineError when a chosen logit is not finite."""
        scores = logits.astype(np.float32, copy=False)  # NumPy's argmax over float16 takes more than twice as long
        if self.temperature > 0:
            # Gumbel's trick: the largest of log-probability plus Gumbel noise is a draw from the distribution.
            noise = [
                random_of(self.seed, step, *prompt).gumbel(size=logits.shape[-1])
                for prompt, step in zip(prompts, steps, strict=True)
            ]
            scores = logits.astype(np.float64) / self.temperature + np.stack(noise)
        chosen: Int64 = scores.argmax(axis=-1)
        # argmax returns the place of a NaN if there is one, so the chosen logits tell.
        require_finite(logits[np.arange(len(chosen)), chosen], self.folder)
        return chosen
