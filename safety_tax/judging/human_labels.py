"""Labels that people gave this project's own responses: `data/labels/<model>.jsonl`, in Git.

A label carries a hash of the text that was read, and counts only while that variant's response to that item still is
that text.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import Kind, Label, Row, write_rows
from safety_tax.core.text_files import read_json_lines

Key = tuple[str, str]
"""Variant and item id: what a label is of."""


class HumanLabel(Row):
    """What a person says of one response."""

    variant: str
    kind: Kind
    response_sha: str
    """`Response.sha` of the text that the person read."""
    label: Label
    annotator: str


def read_labels(path: Path) -> dict[Key, HumanLabel]:
    """The labels of one model, in the order of the file; none when there is no such file.

    Raises PipelineError when a line is not a label, or a response has two.
    """
    labels: dict[Key, HumanLabel] = {}
    if not path.exists():
        return labels
    for line in read_json_lines(path):
        try:
            row = HumanLabel.model_validate(line.value)
        except ValidationError as error:
            fault = "a line that is not JSON" if line.fault else _fault(error)
            raise PipelineError(
                f"Expected a person's label in {path} line {line.number}, found {fault}; mend or remove that line."
            ) from None
        key = row.variant, row.id
        if key in labels:
            raise PipelineError(
                f"Expected one label for each response in {path}, found {row.variant!r} {row.id!r} again in line "
                f"{line.number}; remove one of the two."
            )
        labels[key] = row
    return labels


def write_labels(path: Path, labels: Iterable[HumanLabel]) -> None:
    """Replace the file, atomically; without labels there is none."""
    rows = list(labels)
    if rows:
        write_rows(path, rows, sealed=False)
    else:
        path.unlink(missing_ok=True)


def of_present_responses(labels: Mapping[Key, HumanLabel], present: Mapping[Key, str]) -> dict[Key, HumanLabel]:
    """Those labels whose response, by its `Response.sha` in `present`, is the text that the person read.

    A label of another variant, of an item that is not asked any more or of an earlier text is left out.
    """
    return {key: label for key, label in labels.items() if present.get(key) == label.response_sha}


def _fault(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the row"
    if problem["type"] == "missing":
        return f"no {where}"
    message = problem["msg"]
    return f"at {where} {repr(problem['input'])[:60]} ({message[0].lower()}{message[1:]})"
