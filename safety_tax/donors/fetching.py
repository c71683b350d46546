"""A donor that was tuned elsewhere: a LoRA adapter as PEFT saves it, or a full checkpoint, from the Hub or a folder."""

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, require_finite
from safety_tax.donors.adapter import ADAPTER_CONFIG
from safety_tax.donors.checks import require_same_vocabulary
from safety_tax.donors.full_checkpoint import allow
from safety_tax.donors.opening import open_donor
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

    Raises PipelineError when it cannot be had, holds no safetensors or weights that are not finite, or does not fit
    the model in `base`.
    """
    where = f"{source.repository}@{source.commit[:8]}" if isinstance(source, HubSource) else source.path
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        found = fetch(source, Path(scratch))
        adapter = (found / ADAPTER_CONFIG).exists()
        settings = (ADAPTER_CONFIG, *SETTINGS[1:]) if adapter else SETTINGS
        weights = sorted(found.glob("adapter_model*.safetensors" if adapter else "model*.safetensors"))
        if weights and not adapter:
            weights = weight_files(found)
        if not weights:
            pickled = sorted(file.name for kind in ("*.bin", "*.pt", "*.pth") for file in found.glob(kind))
            raise PipelineError(
                f"Expected a donor with safetensors weights in {where}, found {pickled[0] if pickled else 'none'}; "
                "save it as safetensors: pickled weights run code when they are read."
            )
        for file in (*weights, *(found / name for name in settings if (found / name).exists())):
            put(file, folder / file.name, source)
    if may_differ:
        allow(folder, may_differ)
    try:
        if not adapter and (folder / CONFIG).exists():
            # torch and Transformers are needed for this kind of donor alone.
            from safety_tax.model_files.gate import settle_donor

            settle_donor(folder, name)
        donor = open_donor(folder, Checkpoint(base, "model*.safetensors"))
        require_same_vocabulary(base, folder)
        checkpoint = Checkpoint(folder)
        for tensor in checkpoint.names():
            require_finite(checkpoint.read(tensor), tensor, folder)
    except PipelineError as error:
        # It speaks of the folder under way, which nobody finds afterwards.
        raise PipelineError(str(error).replace(str(folder), where).replace(folder.name, name)) from None
    return len(donor.names())
