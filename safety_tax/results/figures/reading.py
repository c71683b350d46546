"""What the figures are drawn from."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import LABELLED, VERDICT, LabelVerdict, read_rows
from safety_tax.core.workspace import DETAIL, VERDICTS
from safety_tax.results.figures import (
    answer_lengths,
    frontier,
    net_benefit,
    over_refusal,
    safety_by_category,
    utility_by_area,
)
from safety_tax.results.figures.run import Run
from safety_tax.results.variant import read_results

# In the order of a reader's questions. None: there is nothing to show.
DRAWN: dict[str, Callable[[Run], Figure | None]] = {
    "frontier": frontier.draw,
    "over_refusal": over_refusal.draw,
    "net_benefit": net_benefit.draw,
    "safety_by_category": safety_by_category.draw,
    "utility_by_area": utility_by_area.draw,
    "answer_lengths": answer_lengths.draw,
}


def read_answers(path: Path, base: Path) -> list[LabelVerdict]:
    """The verdicts on answers that get a label. Raises PipelineError when they are not on those of the `base`."""
    answers, of_base = (
        [row for row in read_rows(file, VERDICT) if isinstance(row, LabelVerdict)] for file in (path, base)
    )
    asked, answered = ({row.id for row in rows if row.tokens is not None} for rows in (of_base, answers))
    if asked != answered:
        raise PipelineError(
            f"Expected the length of an answer to each of the {len(of_base):,} prompts of {', '.join(LABELLED)} in "
            f"{path}, found {len(answered & asked):,}; run `dvc repro`."
        )
    return answers


def read_run(model: str) -> Run:
    """What the figures are drawn from. Raises PipelineError as its readers do."""
    results = read_results(DETAIL / f"{model}.json")
    folder = VERDICTS / model
    base = folder / "base.jsonl"
    return Run(results, {name: read_answers(folder / f"{name}.jsonl", base) for name in results.variants})
