"""Cells of the pipeline that nobody asked for.

DVC crosses every model with every recipe and donor, and one of these may be for some models only. A stage whose cell is
not asked leaves a note in place of its output. The stages after it go by what they find, and leave one, too.
"""

from pathlib import Path

from safety_tax.core.clock import clock
from safety_tax.core.console import say
from safety_tax.core.files import folder_written_atomically, written_atomically

NOTE = "not_asked.json"
CONTENT = '{"not_asked": "params.yaml has this recipe for other models"}\n'


def is_empty(folder: Path) -> bool:
    """Whether the stage that wrote the folder left an empty cell."""
    return (folder / NOTE).exists()


def leave_empty(what: str, output: Path) -> None:
    """A note in place of `output`, a folder or a file of JSON lines; `what` is the stage and its cell, for a person."""
    if output.suffix:
        with written_atomically(output) as partial:
            partial.write_text(CONTENT, encoding="utf-8")
    else:
        with folder_written_atomically(output) as folder:
            (folder / NOTE).write_text(CONTENT, encoding="utf-8")
    _tell(what)


def leave_no_donor(what: str, output: Path) -> None:
    """The same for a donor: a folder without a file. DVC does not see it in the folder of all donors of the model, so
    that one more donor of another model makes no merge run again.
    """
    with folder_written_atomically(output):
        pass
    _tell(what)


def _tell(what: str) -> None:
    clock.did_nothing()
    say(f"{what}, not asked: params.yaml has it for other models")
