"""The gate on a user's own GPU: before its first item, a model says there what PyTorch said of a few prompts.

What only a card shows is the kernels that were chosen, rounding to 16 bits, and a driver that is broken.
"""

import json

import numpy as np

from safety_tax.core.errors import PipelineError
from safety_tax.engine.protocol import Budget, Engine, Hooks, Question, Questions
from safety_tax.engine.session import Float, starting

EXPECTED = "parity.json"
BUDGET = Budget(generation_tokens=4096, rows=16, pass_tokens=512, scoring_tokens=4096)


def require_parity(engine: Engine) -> float | None:
    """The largest difference to what PyTorch said, in nats; None where the export kept nothing.

    Raises PipelineError when it is larger than the export grants, a number is not finite, or a pass fails.
    """
    path = engine.folder / EXPECTED
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    prompts = [entry["tokens"] for entry in kept["prompts"]]
    targets = [np.array(entry["targets"], np.int64) for entry in kept["prompts"]]
    expected = [np.array(entry["logprobs"]) for entry in kept["prompts"]]
    with starting(engine.folder, engine.choice.provider):
        by_way = {"prefill": by_scores(engine, prompts, targets), "steps": engine.by_steps(prompts, targets)}
    worst, where = 0.0, ""
    for way, found in by_way.items():
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            differences = np.abs(one - other).max(axis=-1)
            if not np.isfinite(differences).all():
                differences = np.where(np.isfinite(differences), differences, np.inf)
            if differences.max() > worst:
                worst = float(differences.max())
                where = f"{way} of prompt {number + 1}, token {len(prompts[number]) // 2 + int(differences.argmax())}"
    if not worst <= kept["tolerance"]:
        raise PipelineError(
            f"Expected {engine.folder} on {engine.choice.provider} to agree with PyTorch within {kept['tolerance']} "
            f"nats, found {worst:.2g} in the {where}; do not measure on this device: update its driver, try another "
            "dtype, or set run.attention to plain in params.yaml."
        )
    return worst


def by_scores(engine: Engine, prompts: list[list[int]], targets: list[Float]) -> list[Float]:
    """Log-probabilities [places, k] of `targets` after each token of the prompts' second halves, as questions'."""
    asked, found = [], []
    for prompt, of_prompt in zip(prompts, targets, strict=True):
        half = len(prompt) // 2
        for place, tokens in enumerate(of_prompt.tolist()):
            context = prompt[: half + place + 1]
            asked.append(Question(context, [[*context, token] for token in tokens]))
    part = Questions("parity", asked, [f"place {number} of the parity prompts" for number in range(len(asked))])
    scores = dict(engine.score(part, range(len(asked)), BUDGET, Hooks()))
    done = 0
    for of_prompt in targets:
        found.append(np.array([scores[number].logprobs for number in range(done, done + len(of_prompt))]))
        done += len(of_prompt)
    return found
