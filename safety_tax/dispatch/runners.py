"""Who runs the items of a part: this process, others on this machine, or a cluster."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from safety_tax.dispatch.journal import Journal, part_key
from safety_tax.engine.opening import open_engine
from safety_tax.engine.protocol import Budget, Choice, Engine, Generated, Hooks, Part, Result
from safety_tax.engine.running import first_alike, result_of, run_items
from safety_tax.settings.stages import Run


class Runner(Protocol):
    """Runs items, in any order, and reports each as it is finished."""

    choice: Choice

    def run(self, part: Part, wanted: Sequence[int], hooks: Hooks) -> None:
        """Raises PipelineError when an item cannot be run, or the provider is not the one asked for; those reported are
        finished.
        """

    def close(self) -> None:
        """Give everything back."""


class Here:
    """This process, with an engine of its own."""

    def __init__(self, engine: Engine, settings: Run) -> None:
        self._engine = engine
        self._budget = Budget.of(settings)
        self.choice = engine.choice

    @classmethod
    def opened(cls, folder: Path, settings: Run) -> "Here":
        """Raises PipelineError when the settings ask for what cannot be had."""
        return cls(open_engine(folder, settings), settings)

    def run(self, part: Part, wanted: Sequence[int], hooks: Hooks) -> None:
        """See Runner."""
        run_items(self._engine, part, wanted, self._budget, hooks)
        self._engine.require_provider()

    def close(self) -> None:
        """Nothing to give back."""


class ResumedRun:
    """One variant's run: what a journal has is taken from there, and the rest goes to a runner."""

    def __init__(
        self, folder: Path, settings: Run, runner: Runner, journal: Journal | None = None, weights: str = ""
    ) -> None:
        """`journal` is None for a run that nobody will take up again; `weights` is the folder's digest."""
        self.folder = folder
        self.settings = settings
        self.runner = runner
        self.resumed = 0
        self._journal = journal
        self._weights = weights

    def results(
        self,
        part: Part,
        say: Callable[[str], None],
        advance: Callable[[int], None],
        take_up: Callable[[int], None] | None = None,
    ) -> list[Result]:
        """Results of all items of a part, in their order; of equal items the first is run.

        `advance` is told of what is run now, `take_up` of what the journal had (without it, `advance` is).
        Raises PipelineError as the runner does; what is finished by then is in the journal.
        """
        journal = self._journal
        key = part_key(part, self._weights, self.runner.choice, self.settings) if journal else ""
        done = {item: result_of(part, value) for item, value in (journal.finished(key) if journal else {}).items()}
        self.resumed += len(done)
        (take_up or advance)(
            sum(len(result.tokens) if isinstance(result, Generated) else 1 for result in done.values())
        )

        def finished(item: int, result: Result) -> None:
            done[item] = result
            if journal:
                journal.note(key, item, list(result))

        first = first_alike(part)
        wanted = [item for item in dict.fromkeys(first) if item not in done]
        if wanted:
            self.runner.run(part, wanted, Hooks(advance, finished, say))
        return [done[item] for item in first]
