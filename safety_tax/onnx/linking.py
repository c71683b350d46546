"""A recipe's variant: the base's graphs beside links to the merged weights.

It imports neither NumPy nor the settings: what it does takes milliseconds, and those would take ten times as long.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.core.files import link_or_copy
from safety_tax.engine.weight_files import RECORD, describe, read_record

# What inference needs beside graph and weights.
COMPANIONS = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "chat_template*")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


def link_variant(weights: Path, base_onnx: Path, folder: Path) -> None:
    """Write one variant into `folder`: the base's graphs, links to `weights`, copies of their companions.

    Raises PipelineError when there are no graphs, or the variant's config.json or the layout of its weights is another.
    """
    graphs = sorted(base_onnx.glob("*.onnx"))
    if not graphs:
        raise PipelineError(f"Expected the base's graph in {base_onnx}, found none; {how_to_have()}.")
    require_base_layout(weights, base_onnx)
    ours, theirs = (_read_config(path / "config.json") for path in (weights, base_onnx))
    if differing := sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)):
        raise PipelineError(
            f"Expected {weights / 'config.json'} to be the base's, whose graph serves every variant, found another "
            f"{differing[0]!r}; merge again."
        )
    link_weights(weights, folder)
    for file in (base_onnx / RECORD, *graphs):
        link_or_copy(file, folder / file.name)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise PipelineError(
            f"Expected the settings of a model in {path}, found what cannot be read ({error}); run `dvc repro`."
        ) from None


def link_weights(weights: Path, folder: Path) -> None:
    """Let `folder` have the weight files as links, and copies of their companions."""
    for pattern in COMPANIONS:
        for file in weights.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    for pattern in WEIGHTS:
        for file in weights.glob(pattern):
            link_or_copy(file, folder / file.name)


def require_base_layout(weights: Path, base_onnx: Path) -> None:
    """Raises PipelineError when the weight files differ from the base's in anything but the tensors' numbers."""
    expected = read_record(base_onnx)
    found = {file.name: describe(file) for file in weights.glob("*.safetensors")}
    if found == expected:
        return
    # NumPy, only to tell what the fault is.
    from safety_tax.core.tensor_files import Checkpoint

    ours, theirs = (Checkpoint(folder) for folder in (weights, base_onnx))
    for name in sorted({*ours.names(), *theirs.names()}):
        kinds = [(c.shape(name), str(c.dtype(name))) if name in c else "none" for c in (theirs, ours)]
        if kinds[0] != kinds[1]:
            raise PipelineError(
                f"Expected the base's tensors in {weights}, {name} as {kinds[0]}, found {kinds[1]}; merge again."
            )
    name = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))[0]
    raise PipelineError(
        f"Expected every tensor of {weights} at its place in the base's files, found {name} to differ; merge again."
    )
