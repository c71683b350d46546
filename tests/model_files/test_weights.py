"""A model's weight files: which they are, and their copies without some tensors, with other names, in another type."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import INDEX
from safety_tax.model_files.weights import rewrite, store_as, weight_files, write_missing_index

SHARDS = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
TENSORS = {name: np.arange(4, dtype=np.float32) + place for place, name in enumerate("abcd")}


def save(file: Path, names: str) -> None:
    save_file({name: TENSORS[name] for name in names}, file, metadata={"format": "pt"})


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Two shards with their index."""
    save(tmp_path / SHARDS[0], "ab")
    save(tmp_path / SHARDS[1], "cd")
    write_missing_index(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, np.ndarray]:
    return {name: of for file in folder.glob("*.safetensors") for name, of in load_file(file).items()}


def names(files: list[Path]) -> list[str]:
    return [file.name for file in files]


def test_one_file_comes_before_an_index_and_an_index_before_what_lies_there(sharded: Path) -> None:
    assert names(weight_files(sharded)) == [*SHARDS, INDEX]
    save(sharded / "model-00003-of-00003.safetensors", "a")  # of another checkpoint
    assert names(weight_files(sharded)) == [*SHARDS, INDEX]
    save(sharded / "model.safetensors", "abcd")
    assert names(weight_files(sharded)) == ["model.safetensors"]


def test_shards_without_an_index_are_taken_when_all_are_there(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    assert names(weight_files(sharded)) == SHARDS
    (sharded / SHARDS[0]).unlink()
    with pytest.raises(PipelineError, match="found no number 1 of 2; fetch the model again"):
        weight_files(sharded)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (None, "found none; correct its source in params.yaml"),
        ("pytorch_model.bin", "found pickled weights in .*pytorch_model.bin; convert them: they run code"),
        ("consolidated.safetensors", "found consolidated.safetensors, which Transformers does not load"),
        ("notes.txt", "found none"),
    ],
)
def test_what_is_there_instead_of_weights_is_named(file: str | None, words: str, tmp_path: Path) -> None:
    if file:
        (tmp_path / file).touch()
    with pytest.raises(PipelineError, match=words):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("{", "Expected a `weight_map`"),
        ('{"weight_map": []}', "Expected a `weight_map`"),
        ('{"weight_map": {"a": "absent.safetensors"}}', "Expected the file 'absent.safetensors', which"),
        ('{"weight_map": {"a": "../up.safetensors"}}', "Expected the file '../up.safetensors', which"),
    ],
)
def test_an_index_that_leads_nowhere_is_refused(index: str, words: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(index, encoding="utf-8")
    save(tmp_path.parent / "up.safetensors", "a")
    with pytest.raises(PipelineError, match=words):
        weight_files(tmp_path)


def test_an_index_is_written_where_shards_came_without_one(sharded: Path, tmp_path: Path) -> None:
    found = json.loads((sharded / INDEX).read_text(encoding="utf-8"))
    assert found["weight_map"] == {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1], "d": SHARDS[1]}
    (sharded / INDEX).write_text("mine", encoding="utf-8")
    write_missing_index(sharded)
    assert (sharded / INDEX).read_text(encoding="utf-8") == "mine"


def test_tensors_go_and_are_renamed_and_the_others_keep_their_bytes(sharded: Path) -> None:
    before = (sharded / SHARDS[1]).read_bytes()
    rewrite(sharded, ["a"], {"b": "model.b"})
    found = content(sharded)
    assert found.keys() == {"model.b", "c", "d"}
    assert np.array_equal(found["model.b"], TENSORS["b"])
    assert (sharded / SHARDS[1]).read_bytes() == before
    index = json.loads((sharded / INDEX).read_text(encoding="utf-8"))
    assert index["weight_map"] == {"model.b": SHARDS[0], "c": SHARDS[1], "d": SHARDS[1]}


def test_a_file_without_a_tensor_left_is_gone_and_its_linked_original_stays(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "model").mkdir()
    for name, held in zip(SHARDS, ("ab", "cd"), strict=True):
        save(tmp_path / "store" / name, held)
        (tmp_path / "model" / name).symlink_to(tmp_path / "store" / name)
    rewrite(tmp_path / "model", ["a", "b", "c"], {})
    assert content(tmp_path / "model").keys() == {"d"}
    assert content(tmp_path / "store").keys() == set("abcd")


def test_nothing_to_do_touches_no_file(sharded: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in sharded.iterdir()}
    rewrite(sharded, [], {})
    assert before == {file: file.stat().st_mtime_ns for file in sharded.iterdir()}


def test_every_tensor_is_stored_in_one_type(sharded: Path) -> None:
    half: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    assert not store_as(sharded, np.dtype(np.float32), "m")  # they are
    assert store_as(sharded, half, "m")
    assert names(sorted(sharded.iterdir())) == ["model.safetensors"]
    found = content(sharded)
    assert {of.dtype for of in found.values()} == {half}
    assert all(np.array_equal(found[name].astype(np.float32), TENSORS[name]) for name in TENSORS)


def test_a_number_that_the_type_cannot_hold_leaves_everything_as_it_was(tmp_path: Path) -> None:
    save_file({"a": np.array([1, 65520], np.float32)}, tmp_path / "model.safetensors")  # rounds to infinity
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(PipelineError) as raised:
        store_as(tmp_path, np.dtype(np.float16), "m")
    assert str(raised.value) == (
        "Expected weights that float16 can hold in 'm', found larger ones in a; set its dtype to float32 in "
        "params.yaml."
    )
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"model.safetensors": before}
