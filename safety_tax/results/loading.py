"""A project's results, verdicts, answers and figures, for a notebook.

Each is of the workspace or, with `revision`, of a commit, branch or tag; nothing is checked out. Results and figures
are in Git. Verdicts and answers are in DVC: those of a revision come from its cache or remote. `project` is the
project's folder. Without it, the nearest one from the current folder upwards is taken: a notebook may lie in a folder.
"""

from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.rows import GENERATED, PROMPT, Response, Row
from safety_tax.core.workspace import BENCHMARKS, DETAIL, FIGURES, PARAMS_FILE, RESPONSES
from safety_tax.results.comparison.revisions import (
    Revision,
    commit_of,
    committed_bytes,
    committed_stems,
    read_revision,
    read_verdicts,
    rows_of,
)
from safety_tax.results.variant import parsed_results

__all__ = ["Drawing", "PipelineError", "figure", "load_answers", "load_results", "load_verdicts"]


@dataclass(frozen=True)
class Drawing:
    """A figure as SVG; a notebook shows it where it is the last value of a cell."""

    name: str
    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


def load_results(model: str, revision: str | None = None, *, project: Path | None = None) -> pd.DataFrame:
    """One row a variant, `base` first, one column a number: `safety`, `safety_gain_lo`, `helpfulness_tax`, ….

    Fractions, as in `metrics/<model>.json`; a number that a variant does not have is missing. Raises PipelineError
    when the model has no results there, or another version of this project wrote them.
    """
    with _inside(project):
        content, where = _committed(DETAIL, model, ".json", revision, "the results of a model")
        mend = "run `dvc repro`" if revision is None else "read them with the version of this project that wrote them"
        results = parsed_results(content, where, mend)
    rows = {name: variant.flat() for name, variant in results.variants.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def load_verdicts(
    model: str, variant: str, revision: str | None = None, *, project: Path | None = None
) -> pd.DataFrame:
    """What the judge made of one variant: one row an item, by its `id`.

    Columns are `kind`, `benchmark`, `group`, and what the judge says of the kinds that were asked: `label` and `rule`
    of an answer, `letter_correct` of a question, …. Raises PipelineError when there are none.
    """
    with _inside(project):
        side = _measured(model, variant, revision)
        found = read_verdicts(side, [(model, variant)])
    if not found:
        raise _absent("verdicts", model, variant, side)
    return _frame(found[model, variant])


def load_answers(model: str, variant: str, revision: str | None = None, *, project: Path | None = None) -> pd.DataFrame:
    """What one variant wrote: one row a prompt, by its `id`, with the prompt that it answers.

    Columns are `kind`, `benchmark`, `group`, `prompt`, `answer`, `finish_reason` and `tokens`. The prompts are
    harmful ones, too. Raises PipelineError when there are none.
    """
    with _inside(project):
        side = _measured(model, variant, revision)
        answers = rows_of(side, {"": RESPONSES / model / variant / "responses.jsonl"}, Response)
        asked = rows_of(side, {kind: BENCHMARKS / f"{kind}.jsonl" for kind in GENERATED}, PROMPT, may_be_empty=True)
    if not answers:
        raise _absent("answers", model, variant, side)
    prompts = _frame(prompt for of_kind in asked.values() for prompt in of_kind).rename(columns={"text": "prompt"})
    written = _frame(answers[""]).rename(columns={"text": "answer"})
    found = prompts[["kind", "benchmark", "group", "prompt"]].join(written, how="inner")
    if len(found) < len(written):
        raise PipelineError(
            f"Expected the prompts of all {len(written):,} answers of {variant} of {model} in {BENCHMARKS} of "
            f"{side.name}, found {len(found):,}; run `dvc repro`, or `dvc checkout`."
        )
    return found


def figure(model: str, name: str, revision: str | None = None, *, project: Path | None = None) -> Drawing:
    """A figure of `metrics/figures/<model>/`, such as `frontier`. Raises PipelineError when there is none."""
    with _inside(project):
        content, _ = _committed(FIGURES / model, name, ".svg", revision, "a figure")
    return Drawing(name, content.decode("utf-8"))


@contextmanager
def _inside(project: Path | None) -> Iterator[None]:
    """Run in the project's folder. Raises PipelineError when there is none."""
    with chdir(project if project is not None else _nearest_project()):
        yield


def _nearest_project() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PARAMS_FILE).is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise PipelineError(
        f"Expected a project in {here} or a folder above it, found no {PARAMS_FILE} beside a dvc.yaml; name its folder "
        "as `project`."
    )


def _committed(folder: Path, name: str, ending: str, revision: str | None, what: str) -> tuple[bytes, str]:
    """Content of a file that Git tracks, and what to call it. Raises PipelineError when there is no such file."""
    commit = None if revision is None else commit_of(revision)
    file = folder / f"{name}{ending}"
    where = str(file) if revision is None else f"{file} of {revision}"
    content = committed_bytes(commit, file)
    if content is None:
        raise PipelineError(
            f"Expected {what} in {where}, found no such file; {did_you_mean(name, committed_stems(commit, folder))}"
        )
    return content, where


def _measured(model: str, variant: str, revision: str | None) -> Revision:
    """The revision, which has that variant of that model in its params.yaml. Raises PipelineError otherwise."""
    side = read_revision(revision)
    models = dict.fromkeys(of for of, _ in side.keys)
    if model not in models:
        raise PipelineError(f"Expected a model of {side.name}, found {model!r}; {did_you_mean(model, models)}")
    variants = [name for of, name in side.keys if of == model]
    if variant not in variants:
        raise PipelineError(f"Expected a variant of {side.name}, found {variant!r}; {did_you_mean(variant, variants)}")
    return side


def _absent(what: str, model: str, variant: str, side: Revision) -> PipelineError:
    mend = "run `dvc repro`, or `dvc pull`" if side.commit is None else "run `dvc repro` there and commit its dvc.lock"
    return PipelineError(f"Expected the {what} of {variant} of {model} in {side.name}, found none; {mend}.")


def _frame(rows: Iterable[Row]) -> pd.DataFrame:
    """One row each, by `id`; a column that no row has a value in is left out."""
    frame = pd.DataFrame([row.model_dump(exclude_none=True) for row in rows]).set_index("id")
    return frame.convert_dtypes()
