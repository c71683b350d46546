"""What `fetch_model` and `tune` would say about the files of models and donors that are on this disk already."""

from pathlib import Path
from tempfile import TemporaryDirectory

from stages.lib.checkup.machine import Finding
from stages.lib.errors import PipelineError

ADAPTER = "adapter_config.json"


def check_files(name: str, folder: Path, template: str | None) -> list[Finding]:
    """A finding where the gate of fetch_model refuses the folder. Values of weights are left out: they take long.

    `template` is the catalogue's `chat_template`; None for a donor, of which a full checkpoint alone is looked at.
    """
    from stages.fetch_model import check_tokenizer, give_template
    from stages.lib.model_files.config import translate
    from stages.lib.model_files.gate import examine
    from stages.lib.model_files.gathering import link_model

    if (folder / ADAPTER).exists() and template is None:
        return []
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        copy = Path(scratch)
        try:
            link_model(folder, copy)
            if template is None:
                translate(copy / "config.json", name)
            else:
                give_template(template, copy)
                examine(copy, name)
                check_tokenizer(copy, name)
        except PipelineError as error:
            return [Finding(f"files of {name}", "refused", str(folder), str(error).replace(str(copy), str(folder)))]
    return []


def check_config(name: str, file: Path) -> list[Finding]:
    """The same of a config.json alone, which is all of a model on the Hub that is at hand."""
    from stages.lib.model_files.config import read_object, translated

    try:
        translated(read_object(file), f"config.json of {name!r}")
    except PipelineError as error:
        return [Finding(f"files of {name}", "refused", str(file), str(error))]
    return []
