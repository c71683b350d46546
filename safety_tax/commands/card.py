"""A merged model, ready to be published, with its card for the Hugging Face Hub.  `safety-tax card MODEL RECIPE`

Writes a folder: the merged weights and tokenizer, `README.md` with what the merge gained and what that cost, and the
picture. It loads with Transformers' `from_pretrained`; `hf upload NAME FOLDER` publishes it. The folder stands beside
DVC's outputs: a file written into `models/merged/` would make DVC merge again.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

from safety_tax.checkup.progress import stage_states
from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.core.files import folder_written_atomically
from safety_tax.core.rows import VERDICT, read_rows
from safety_tax.core.workspace import DETAIL, MERGED, REPORTS, VERDICTS
from safety_tax.model_files.tokenizer import INPUTS, load_tokenizer
from safety_tax.params import Params, load_params
from safety_tax.results.card import PICTURE, Ingredients, card_of
from safety_tax.results.tables import told_date
from safety_tax.results.variant import read_results
from safety_tax.settings.sources import FolderSource

CARDS = REPORTS / "cards"
CARD, ABOUT = "README.md", "merge.json"
DOTS = 200
"""Pixels an inch: twice what a page shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model")
    parser.add_argument("recipe")
    parser.add_argument("--licence", metavar="ID", help="the Hub's abbreviation; that of `published` in params.yaml")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="where to write (reports/cards/MODEL/RECIPE)")


def run(arguments: argparse.Namespace) -> None:
    """The command. Raises PipelineError where the merge or its results are not there, or not of each other."""
    everything = load_params()
    model, recipe = arguments.model, arguments.recipe
    params = everything.of(model)
    everything.recipe_for(model, recipe)
    licence = arguments.licence or licence_of(model, params)
    into = arguments.into or CARDS / model / recipe
    require_own(into)
    merged = MERGED / model / recipe
    if not (merged / ABOUT).is_file():
        raise PipelineError(f"Expected a merged model in {merged}, found none; {how_to_have()}.")
    require_present(model, recipe)
    require_plain_tokenizer(merged)
    results = read_results(DETAIL / f"{model}.json")
    date = told_date(read_rows(VERDICTS / model / f"{recipe}.jsonl", VERDICT))
    about = json.loads((merged / ABOUT).read_bytes())
    card = card_of(Ingredients(results, recipe, params, licence, date, about))
    with folder_written_atomically(into) as folder:
        for file in sorted(merged.iterdir()):
            bring(file, folder / file.name)
        (folder / CARD).write_text(str(card), encoding="utf-8", newline="\n")
        draw(model, folder / PICTURE)
    size = sum(file.stat().st_size for file in into.iterdir())
    say(f"card: {into}, {size / 1e6:,.1f} MB, licence {licence}; `hf upload NAME {into}` publishes it")


def licence_of(model: str, params: Params) -> str:
    """Of params.yaml, or of the card in the folder that the base came from. Raises PipelineError where none says."""
    published = params.published.get(model)
    if published and published.licence:
        return published.licence
    source = params.model(model).source
    if isinstance(source, FolderSource):
        card = Path(source.path).expanduser() / CARD
        if card.is_file():
            from huggingface_hub import ModelCard

            found = ModelCard.load(card, ignore_metadata_errors=True).data.license
            if isinstance(found, str) and found:
                return found
    raise PipelineError(
        f"Expected the licence of {model!r} under `published` in params.yaml, or in the card of its base, found none; "
        "add it there, or name it by --licence."
    )


def require_own(folder: Path) -> None:
    """Raises PipelineError where there is something that this command did not write: it would be replaced."""
    if folder.exists() and not (folder.is_dir() and ((folder / ABOUT).is_file() or not any(folder.iterdir()))):
        raise PipelineError(f"Expected a new folder or an earlier card in {folder}, found another thing; name another.")


def require_present(model: str, recipe: str) -> None:
    """Raises PipelineError unless the numbers are those of this merge, by what dvc.lock says."""
    done = {of.name for of in stage_states() if of.state == "done"}
    behind = [name for name in (f"merge@{model}-{recipe}", f"metrics@{model}") if name not in done]
    if behind:
        raise PipelineError(
            f"Expected results of the merge as it is, found {' and '.join(behind)} behind its inputs; run `dvc repro`."
        )


def require_plain_tokenizer(merged: Path) -> None:
    """Raises PipelineError where `generate(**tokenizer(...))` would fail, as of a base fetched by an older version."""
    given = load_tokenizer(merged, str(merged)).model_input_names
    if not set(given) <= set(INPUTS):
        raise PipelineError(
            f"Expected a tokenizer in {merged} that gives {' and '.join(INPUTS)}, found {', '.join(given)}; run "
            "`dvc repro`, which fetches the base anew."
        )


def bring(file: Path, target: Path) -> None:
    """Weights are linked, as they are large and nobody edits them; all else is copied, and may be edited."""
    if file.suffix == ".safetensors":
        try:
            os.link(file, target)
            return
        except OSError:
            pass  # another disk, or one without links
    shutil.copyfile(file, target)


def draw(model: str, path: Path) -> None:
    """The frontier of the model's recipes, as a picture that the Hub shows."""
    from safety_tax.results.figures import frontier
    from safety_tax.results.figures.canvas import styled
    from safety_tax.results.figures.run import Run

    with styled():
        figure = frontier.draw(Run(read_results(DETAIL / f"{model}.json"), {}))
        assert figure is not None  # there is a recipe
        figure.savefig(path, format="png", dpi=DOTS, metadata={"Software": None})
