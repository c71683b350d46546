"""What a Git revision's results say to choose, in words, and where its picture is: from what Git itself holds."""

from safety_tax.core.errors import PipelineError
from safety_tax.core.workspace import DETAIL, FIGURES
from safety_tax.results.comparison.revisions import Revision, committed_bytes
from safety_tax.results.variant import ModelResults, parsed_results
from safety_tax.results.words import verdict

PICTURE = "frontier.svg"


def results_of(model: str, side: Revision) -> ModelResults | None:
    """The committed results of a model; None where there are none that this version can read."""
    content = committed_bytes(side.commit, DETAIL / f"{model}.json")
    try:
        return None if content is None else parsed_results(content, str(DETAIL), "")
    except PipelineError:
        return None  # another version wrote them


def lead(model: str, before: Revision, after: Revision, pictures: str | None) -> list[str]:
    """Markdown that says what to choose after the change, and whether that is new; with the picture, where it is had.

    `pictures` is the address under which the files of `after` can be had. Empty where Git has no results.
    """
    now, then = results_of(model, after), results_of(model, before)
    if now is None:
        return []
    said = f"> **{verdict(now)}**"
    if then is not None and then.recommended != now.recommended:
        choice = f"`{then.recommended}` was the choice" if then.recommended else "the base was to be kept"
        said += f" In `{before.name}`, {choice}."
    lines = [said, ""]
    picture = FIGURES / model / PICTURE
    if pictures and committed_bytes(after.commit, picture) is not None:
        words = f"What each recipe of {model} gained in safety, and what it lost"
        lines += [f"![{words}]({pictures.rstrip('/')}/{picture.as_posix()})", ""]
    return lines
