"""Which of the files in a folder are a model's: what Transformers would load, and nothing that lies beside it."""

import shutil
from pathlib import Path

from safety_tax.core.text_files import drop_mark
from safety_tax.model_files.weights import weight_files
from safety_tax.sources.published import SETTINGS, TOKENIZER


def model_files(folder: Path) -> list[Path]:
    """Weights, settings and tokenizer. Raises PipelineError when there are no weights that Transformers would load."""
    beside = [folder / name for name in (*SETTINGS, *TOKENIZER)]
    return [*(file for file in beside if file.is_file()), *weight_files(folder)]


def link_model(source: Path, folder: Path) -> None:
    """Give `folder` copies of the small files, which may be rewritten there, and links to the weights."""
    for file in model_files(source):
        if file.suffix == ".safetensors":
            (folder / file.name).symlink_to(file.resolve())
        else:
            shutil.copyfile(file, folder / file.name)
            drop_mark(folder / file.name, file)
