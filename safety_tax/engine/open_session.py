"""Which graph runs on which provider."""

from pathlib import Path
from typing import NamedTuple

from safety_tax.core.errors import PipelineError
from safety_tax.engine.grouped_session import GROUPED_GRAPH, GroupedSession
from safety_tax.engine.session import CPU, ModelSession, choose_provider
from safety_tax.settings.stages import Run

Session = ModelSession | GroupedSession


class Choice(NamedTuple):
    """What a session runs on, and whether its graph is the one with grouped-query attention."""

    provider: str
    grouped: bool

    def attention(self) -> str:
        """The graph's name for a person."""
        return "grouped-query" if self.grouped else "plain"


def choose(folder: Path, settings: Run) -> Choice:
    """The graph that `run.provider` and `run.attention` ask for.

    Raises PipelineError when they ask for what cannot be had.
    """
    provider = choose_provider(settings.provider)
    exported = (folder / GROUPED_GRAPH).exists()
    if settings.attention == "grouped_query" and not (provider == CPU and exported):
        found = f"no such file in {folder}" if provider == CPU else provider
        raise PipelineError(
            f"Expected {GROUPED_GRAPH} on the CPU, as run.attention asks for, found {found}; set run.attention to "
            "auto in params.yaml, or export.grouped_query to true and run.provider to cpu."
        )
    return Choice(provider, settings.attention != "plain" and provider == CPU and exported)


def open_session(folder: Path, settings: Run) -> Session:
    """A session of the graph that `choose` names. Raises PipelineError when they ask for what cannot be had."""
    provider, grouped = choose(folder, settings)
    return GroupedSession(folder) if grouped else ModelSession(folder, provider)
