"""What `fetch_model` and `tune` would say about the files of models and donors that are on this disk already."""

from pathlib import Path
from tempfile import TemporaryDirectory

from safety_tax.checkup.machine import Finding
from safety_tax.core.errors import PipelineError

ADAPTER = "adapter_config.json"


def check_files(name: str, folder: Path, template: str | None) -> list[Finding]:
    """A finding where the gate of fetch_model refuses the folder. Values of weights are left out: they take long.

    `template` is the catalogue's `chat_template`; None for a donor, of which a full checkpoint alone is looked at.
    """
    from safety_tax.model_files.bringing import check_tokenizer, give_template
    from safety_tax.model_files.config import translate
    from safety_tax.model_files.gate import examine
    from safety_tax.model_files.gathering import link_model

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
    from safety_tax.model_files.config import read_object, translated
    from safety_tax.model_files.families import inner_text, require_family

    try:
        config = read_object(file)
        config = inner_text(config) or config
        require_family(config, name)
        translated(config, f"config.json of {name!r}")
    except PipelineError as error:
        return [Finding(f"files of {name}", "refused", str(file), str(error))]
    return []
