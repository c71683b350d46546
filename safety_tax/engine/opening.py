"""Which engine runs a model here, and why."""

from pathlib import Path

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.engine.devices import visible_devices
from safety_tax.engine.gate import require_parity
from safety_tax.engine.gqa.rows import Rows
from safety_tax.engine.gqa.rows_session import ROWS_GRAPH
from safety_tax.engine.gqa.session import GROUPED_GRAPH
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.protocol import Choice, Engine
from safety_tax.engine.session import CPU, CUDA, choose_provider, cuda_problem
from safety_tax.settings.stages import Run

ENGINES: dict[str, type[Engine]] = {"plain": Plain, "tree": Tree, "rows": Rows}


def engine_of(choice: Choice) -> type[Engine]:
    """The engine of a choice, for plans and traits: nothing is loaded."""
    return ENGINES[choice.engine]


def choose(folder: Path, run: Run) -> Choice:
    """What `run.provider`, `run.attention` and `run.schedule` ask for, and what `folder` has.

    Raises PipelineError when they ask for what cannot be had.
    """
    provider = choose_provider(run.provider)
    if run.attention == "plain":
        return Choice(provider, "plain")
    by_rows = provider == CUDA or run.schedule == "rows"
    graph = ROWS_GRAPH if by_rows else GROUPED_GRAPH
    if (folder / graph).exists():
        return Choice(provider, "rows" if by_rows else "tree")
    if run.attention == "grouped_query" or run.schedule == "rows":
        raise PipelineError(
            f"Expected {graph} in {folder}, as run.attention and run.schedule ask for on {provider}, found none; set "
            "run.attention to auto and run.schedule to auto in params.yaml, or export.grouped_query to true, and dtype "
            "float16 or bfloat16 for a GPU."
        )
    return Choice(provider, "plain")


def open_engine(folder: Path, run: Run) -> Engine:
    """The engine that `choose` names, loaded; on a GPU it has passed its gate.

    Raises PipelineError when it cannot be had, or says there what PyTorch does not.
    """
    choice = choose(folder, run)
    engine = engine_of(choice)(folder, choice.provider)
    difference = require_parity(engine) if choice.provider == CUDA else None
    if difference is not None:
        say(f"  {folder.name} on this GPU differs from PyTorch by {difference:.2g} nats at most")
    return engine


def devices_for(choice: Choice) -> list[str]:
    """The devices that a run may spread over; none on the CPU."""
    return visible_devices() if choice.provider == CUDA else []


def remarks(choice: Choice, run: Run) -> list[str]:
    """What a person should know about a choice that `auto` made."""
    told = []
    if choice.provider == CPU and run.provider == "auto" and (problem := cuda_problem()):
        told.append(f"on the CPU, because {problem}")
    if run.attention == "auto" and choice.engine == "plain":
        kinds = " (a GPU's wants dtype float16 or bfloat16)" if choice.provider == CUDA else ""
        told.append(f"plain attention, because the export wrote no other graph{kinds}")
    return told
