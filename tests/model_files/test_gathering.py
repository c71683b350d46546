"""Of what lies in a folder, a model's are the files that Transformers would load."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.gathering import link_model, model_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, and what people leave beside one."""
    folder = tmp_path / "source"
    folder.mkdir()
    save_file({"a": np.ones(2, np.float32)}, folder / "model.safetensors")
    save_file({"a": np.ones(2, np.float32)}, folder / "consolidated.safetensors")
    for name in ("config.json", "tokenizer.json", "README.md", "modeling_own.py", "training_args.bin"):
        (folder / name).write_text("{}", encoding="utf-8")
    (folder / "generation_config.json").mkdir()  # no file
    return folder


def test_settings_tokenizer_and_weights_are_the_models_and_nothing_beside_them(folder: Path) -> None:
    assert [file.name for file in model_files(folder)] == ["config.json", "tokenizer.json", "model.safetensors"]


def test_without_weights_that_are_loaded_it_is_no_model(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(PipelineError, match=r"found consolidated\.safetensors, which Transformers does not load"):
        model_files(folder)


def test_weights_are_linked_and_what_may_be_rewritten_is_copied(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    link_model(folder, copy)
    assert sorted(file.name for file in copy.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (copy / "model.safetensors").is_symlink()
    assert (copy / "model.safetensors").resolve() == (folder / "model.safetensors").resolve()
    (copy / "config.json").write_text("changed", encoding="utf-8")
    assert (folder / "config.json").read_text(encoding="utf-8") == "{}"
