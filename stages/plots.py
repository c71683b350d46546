"""Metrics of a model -> figures, one file each, in `metrics/figures/<model>/`.  `python -m stages.plots MODEL`

SVG, in Git. The same numbers give the same bytes with the same release of matplotlib.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from stages.lib.console import run_stage, say
from stages.lib.errors import PipelineError
from stages.lib.figures import answer_lengths, frontier, net_benefit, over_refusal, safety_by_category, utility_by_area
from stages.lib.figures.canvas import styled, write
from stages.lib.figures.run import Run
from stages.lib.files import folder_written_atomically
from stages.lib.params import load_params
from stages.lib.rows import Response, read_rows

DETAIL = Path("metrics/detail")
RESPONSES = Path("data/responses")
FIGURES = Path("metrics/figures")
# In the order of a reader's questions.
DRAWN: dict[str, Callable[[Run], Figure]] = {
    "frontier": frontier.draw,
    "over_refusal": over_refusal.draw,
    "net_benefit": net_benefit.draw,
    "safety_by_category": safety_by_category.draw,
    "utility_by_area": utility_by_area.draw,
    "answer_lengths": answer_lengths.draw,
}


def read_summary(path: Path) -> dict[str, dict[str, Any]]:
    """Every number of every variant. Raises PipelineError when the file is not what the metrics stage writes."""
    try:
        summary: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PipelineError(f"Expected the metrics of a model in {path}, found {error}; run `dvc repro`.") from None
    if not isinstance(summary, dict) or "base" not in summary:
        raise PipelineError(f"Expected numbers of `base` and the recipes in {path}, found no `base`; run `dvc repro`.")
    return summary


def read_run(model: str) -> Run:
    """What the figures are drawn from. Raises PipelineError as its readers do."""
    summary = read_summary(DETAIL / f"{model}.json")
    responses = {name: read_rows(RESPONSES / model / name / "responses.jsonl", Response) for name in summary}
    return Run(model, summary, responses, load_params().metrics)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    model = parser.parse_args().model
    run = read_run(model)
    with styled(), folder_written_atomically(FIGURES / model) as folder:
        for name, draw in DRAWN.items():
            write(draw(run), folder / f"{name}.svg")
    say(f"plots: {model}, {len(DRAWN)} figures in {FIGURES / model}")


if __name__ == "__main__":
    run_stage(main)
