"""A model from elsewhere: a LoRA adapter as PEFT saves it, or a full checkpoint, from the Hub or a folder.

A donor's files are brought into its folder. What a recipe names itself is linked, for as long as the merge takes.
"""

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, require_finite
from safety_tax.core.text_files import drop_mark
from safety_tax.donors.adapter import ADAPTER_CONFIG
from safety_tax.donors.checks import require_same_vocabulary
from safety_tax.donors.full_checkpoint import allow
from safety_tax.donors.opening import Donor, open_donor
from safety_tax.model_files.weights import weight_files
from safety_tax.settings.sources import FolderSource, HubSource
from safety_tax.sources import fetch, put

CONFIG = "config.json"
SETTINGS = (CONFIG, "tokenizer.json", "tokenizer_config.json")


def bring_donor(
    source: HubSource | FolderSource, name: str, base: Path, folder: Path, may_differ: Collection[str] = ()
) -> int:
    """Write the donor's files into `folder`; returns how many of the base's tensors it changes.

    `may_differ` are the settings in which a full checkpoint may be other than the base.

    Raises PipelineError when it cannot be had, holds no safetensors or weights that are not finite, does not fit the
    model in `base`, or does not differ from it.
    """
    where = shown(source)
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        for file in _files(fetch(source, Path(scratch)), where):
            put(file, folder / file.name, source)
    with _told(folder, {str(folder): where, folder.name: name}):
        donor = _fitting(folder, name, Checkpoint(base, "model*.safetensors"), may_differ)
        checkpoint = Checkpoint(folder)
        for tensor in checkpoint.names():
            require_finite(checkpoint.read(tensor), tensor, folder)
        if not any(donor.delta(tensor).any() for tensor in donor.names()):
            raise PipelineError(
                f"Expected donor {name!r} to differ from the base, found the base's own weights in {folder}: a copy of "
                "it, or an adapter that was saved before it learned anything (lora_B of zeros); correct its source."
            )
    return len(donor.names())


def open_source(
    source: HubSource | FolderSource, name: str, base: Checkpoint, folder: Path, may_differ: Collection[str] = ()
) -> Donor:
    """A model that the recipe `name` reads, with the gates of a donor; `folder` is made, with links to its weights.

    Raises PipelineError as `bring_donor` does, but for weights that are not finite.
    """
    where = shown(source)
    folder.mkdir(parents=True)
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        for file in _files(fetch(source, Path(scratch)), where):
            if file.suffix == ".safetensors":
                (folder / file.name).symlink_to(file.resolve())
            else:
                shutil.copy2(file, folder / file.name)  # it may be rewritten
                drop_mark(folder / file.name, file)
    words = {
        str(folder): where,
        f" {folder.name}/": f" {where}/",
        f"donor {folder.name!r}": f"the model of recipe {name!r}",
    }
    with _told(folder, words | {f"donors.{folder.name}": f"recipes.{name}"}):
        return _fitting(folder, name, base, may_differ)


def weights_of(folder: Path) -> list[Path]:
    """What decides the tensors of a model that `open_source` opened: the files themselves, not the links to them."""
    return [file.resolve() for file in sorted((*folder.glob("*.safetensors"), *folder.glob(ADAPTER_CONFIG)))]


def shown(source: HubSource | FolderSource) -> str:
    """A source, for a person."""
    return f"{source.repository}@{source.commit[:8]}" if isinstance(source, HubSource) else source.path


def _files(found: Path, where: str) -> list[Path]:
    """Weights, settings and tokenizer of the model in a folder. PipelineError: it holds no safetensors."""
    whole, part = (sorted(found.glob(pattern)) for pattern in ("model*.safetensors", "adapter_model*.safetensors"))
    # Settings of an adapter may lie beside the model that it was merged into.
    adapter = (found / ADAPTER_CONFIG).exists() and bool(part or not whole)
    settings = (ADAPTER_CONFIG, *SETTINGS[1:]) if adapter else SETTINGS
    weights = part if adapter else whole
    if adapter and whole:
        say(f"  {where} holds an adapter and a whole model: the adapter is taken, as Transformers takes it")
    if weights and not adapter:
        weights = weight_files(found)
    if not weights:
        raise PipelineError(f"Expected a model with safetensors weights in {where}, found {_in_their_place(found)}.")
    return [*weights, *(found / name for name in settings if (found / name).exists())]


def _in_their_place(found: Path) -> str:
    """What a folder without weights that can be read holds, and what to do."""
    if deeper := sorted(file.parent.name for file in found.glob("*/*model*.safetensors")):
        return f"none, but some in its folder {deeper[-1]}; name that folder (of a Hub repository, a copy of it)"
    if packed := sorted(file.name for file in found.glob("*.gguf")):
        return f"{packed[0]}; load it by Transformers' `from_pretrained(…, gguf_file=…)`, and save it as safetensors"
    if others := sorted(file.name for file in found.glob("*.safetensors")):
        return (
            f"{others[0]}, as another program names them (MLX: adapters.safetensors); convert it to what PEFT or "
            "Transformers saves (adapter_model.safetensors, model.safetensors)"
        )
    if pickled := sorted(file.name for kind in ("*.bin", "*.pt", "*.pth") for file in found.glob(kind)):
        return f"{pickled[0]}; save it as safetensors: pickled weights run code when they are read"
    return "none; name the folder that holds them"


def _fitting(folder: Path, name: str, base: Checkpoint, may_differ: Collection[str]) -> Donor:
    """The model in `folder`, its settings translated. Raises PipelineError when it does not fit the base."""
    if may_differ:
        allow(folder, may_differ)
    if not (folder / ADAPTER_CONFIG).exists() and (folder / CONFIG).exists():
        # torch and Transformers are needed for this kind of donor alone.
        from safety_tax.model_files.gate import settle_donor

        settle_donor(folder, name)
    donor = open_donor(folder, base)
    require_same_vocabulary(base.path, folder)
    return donor


@contextmanager
def _told(folder: Path, words: Mapping[str, str]) -> Iterator[None]:
    """A fault speaks of the folder under way, which nobody finds afterwards: of what a person knows instead."""
    try:
        yield
    except PipelineError as error:
        said = str(error)
        for word, known in words.items():
            said = said.replace(word, known)
        raise PipelineError(said) from None
