"""A model source -> `models/base/<model>/`: safetensors, config, tokenizer.  `python -m stages.fetch_model MODEL`"""

import argparse
import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.lib.console import run_stage, say
from stages.lib.errors import PipelineError, did_you_mean
from stages.lib.files import folder_written_atomically
from stages.lib.params import Model, load_params
from stages.lib.sources import fetch
from stages.lib.tensor_files import Checkpoint, require_finite

TEMPLATES = Path("data/chat_templates")
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")


def bring(model: Model, folder: Path) -> None:
    """Write the model's files into `folder`, converting a GGUF file on the way."""
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        found = fetch(model.source, Path(scratch))
        if found.suffix == ".gguf":
            # torch and Transformers are needed for this kind of source alone.
            import torch

            from stages.lib.sources.gguf_model import convert

            convert(found, folder, getattr(torch, model.dtype))
            return
        for file in sorted(found.iterdir()):
            if file.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt"):
                raise PipelineError(
                    f"Expected safetensors only, found pickled weights in {file}; convert them and remove the file."
                )
            if file.is_file() and file.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt"):
                _link_or_copy(file.resolve(), folder / file.name)


def give_template(name: str, folder: Path) -> None:
    """Give the model the chat template `data/chat_templates/<name>.jinja`; `own` leaves the model's.

    Raises PipelineError when there is no such template.
    """
    if name != "own":
        file = TEMPLATES / f"{name}.jinja"
        if not file.exists():
            known = [path.stem for path in TEMPLATES.glob("*.jinja")]
            raise PipelineError(
                f"Expected a chat template in {file}, found none; {did_you_mean(name, ['own', *known])}"
            )
        (folder / "chat_template.jinja").unlink(missing_ok=True)  # it may be a link into a cache
        shutil.copyfile(file, folder / "chat_template.jinja")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def check(folder: Path) -> int:
    """The gate: a known architecture and finite weights. Returns the number of parameters.

    Raises PipelineError otherwise.
    """
    if not (folder / "config.json").exists():
        raise PipelineError(
            f"Expected a config.json among the files of {folder.name!r}, found none; correct its source."
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in ARCHITECTURES:
        raise PipelineError(
            f"Expected a model of {', '.join(ARCHITECTURES)}, found {architecture} in {folder.name!r}; "
            f"{did_you_mean(architecture, ARCHITECTURES)}"
        )
    head_size = config["hidden_size"] // config["num_attention_heads"]
    if (config.get("head_dim") or head_size) != head_size:
        raise PipelineError(
            f"Expected head_dim = hidden_size / num_attention_heads = {head_size} in {folder.name!r}, found "
            f"{config['head_dim']}; Optimum's graph fails to generate with it, so choose another model."
        )
    checkpoint = Checkpoint(folder)
    for name in checkpoint.names():
        require_finite(checkpoint.read(name), name, folder)
    return sum(checkpoint.size(name) for name in checkpoint.names())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    name = parser.parse_args().model
    params = load_params()
    say(f"fetch_model: {name}")
    with folder_written_atomically(Path("models/base") / name) as folder:
        bring(params.model(name), folder)
        give_template(params.model(name).chat_template, folder)
        parameters = check(folder)
    say(f"fetch_model: {name}, {parameters:,} parameters")


if __name__ == "__main__":
    run_stage(main)
