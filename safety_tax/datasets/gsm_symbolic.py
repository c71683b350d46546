"""GSM-Symbolic (Mirzadeh et al. 2024, arXiv:2410.05229): GSM8K's problems with other names and numbers, generated.

By `reasoning-gym`, an optional extra, offline: the seed decides the problems, so no model can have learned them.
"""

from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.core.extras import from_extra
from safety_tax.datasets.item import Item
from safety_tax.datasets.solutions import EXAMPLES, problem
from safety_tax.settings.sources import GeneratedSource

# Its own request, at the end of each problem; `infer` makes the same request for every dataset.
REQUEST = " Give the result as your final answer. Do not include units."


def read(source: GeneratedSource) -> list[Item]:
    """`source.count` problems, or a few less where two are equal."""
    return [item._replace(solution=None) for item in _problems(source)[: source.count]]


def read_shots(source: GeneratedSource) -> list[Item]:
    """The five problems after those that are asked, solved."""
    return _problems(source)[source.count :]


def _problems(source: GeneratedSource) -> list[Item]:
    gym = from_extra("reasoning_gym", "reasoning", "the dataset gsm_symbolic")
    rows = gym.create_dataset("gsm_symbolic", seed=source.seed, size=source.count + EXAMPLES)
    return [_problem(rows[place]) for place in range(source.count + EXAMPLES)]


def _problem(row: dict[str, Any]) -> Item:
    question = row["question"]
    if not question.endswith(REQUEST):
        raise PipelineError(
            f"Expected each problem of gsm_symbolic to end with {REQUEST.strip()!r}, found {question[-60:]!r}; "
            "install the version of reasoning-gym that pyproject.toml names."
        )
    # The answer as it is checked: some solutions have 144.0 for 144.
    reasoning = row["metadata"]["answer_cot"].rpartition("####")[0].rstrip()
    return problem("gsm_symbolic", question.removesuffix(REQUEST), f"{reasoning}\n#### {row['answer']}")
