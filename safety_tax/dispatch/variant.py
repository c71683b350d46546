"""One variant's run: who runs its parts, and what a person sees of it."""

from collections.abc import Callable
from pathlib import Path

from safety_tax.core.console import say
from safety_tax.core.progress import progress_bar
from safety_tax.core.rows import (
    Response,
)
from safety_tax.dispatch.processes import Processes
from safety_tax.dispatch.runners import Here, ResumedRun, Runner
from safety_tax.engine.opening import choose, devices_for
from safety_tax.engine.preparing import Prepared
from safety_tax.engine.protocol import Answers, Scores
from safety_tax.engine.rows import responses_of
from safety_tax.settings.stages import Run


def start_runner(folder: Path, settings: Run, weights: str) -> tuple[Runner, int]:
    """Who runs the items, as `run.cluster` and `run.processes` say, and how many processes they are.

    Raises PipelineError when they ask for what cannot be had.
    """
    if settings.cluster != "none":
        from safety_tax.dispatch.cluster import Cluster  # Ray is an extra, and takes a second to import

        cluster = Cluster(folder, settings, weights)
        return cluster, cluster.slots
    devices = devices_for(choose(folder, settings)) if settings.processes != 1 else []
    count = max(1, len(devices)) if settings.processes == "auto" else settings.processes
    if count == 1:
        return Here.opened(folder, settings), 1
    return Processes(folder, settings, count, devices), count


def respond(run: ResumedRun, prepared: Prepared, decode: Callable[[list[int]], str]) -> list[Response]:
    """Answers, in the order of the prepared items."""
    part = prepared.part
    assert isinstance(part, Answers)
    with progress_bar() as progress:
        # How many tokens will come is not known: the total shrinks as answers end early.
        task = progress.add_task(part.name, total=len(part.items) * part.max_new_tokens, unit="tokens")
        done = run.results(
            part, say, lambda tokens: progress.advance(task, tokens), lambda tokens: progress.take_up(task, tokens)
        )
        progress.update(task, total=progress.tasks[task].completed)
    return responses_of(prepared, done, decode)


def score_format(run: ResumedRun, prepared: Prepared) -> list[Scores]:
    """Scores of all options in one format, in the order of the prepared questions."""
    part = prepared.part
    with progress_bar() as progress:
        task = progress.add_task(part.name, total=len(part.items), unit="questions")
        done = run.results(
            part, say, lambda count: progress.advance(task, count), lambda count: progress.take_up(task, count)
        )
        progress.update(task, completed=len(part.items))
    return [scores for scores in done if isinstance(scores, Scores)]
