"""What a stored tensor is to the base's: its difference, a copy but for rounding, or one that does not fit."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from safety_tax.core.arrays import BLOCK
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.task_vectors import difference, is_copy, require_fit, with_rows

WHERE = Path("donor")
EMBEDDINGS, LAYER = "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"


def rows(*values: float, dtype: Any = np.float32) -> Any:
    return np.array(values, np.float64).reshape(-1, 1).astype(dtype)


def test_a_difference_is_taken_in_float32_whatever_is_stored() -> None:
    # Both are exact in float16, and their difference is not.
    found = difference(rows(2048, dtype=np.float16), rows(-0.5, dtype=np.float16), "w", WHERE)
    assert found.dtype == np.float32 and found.tolist() == [[2048.5]]
    stored = rows(1.5, 3, dtype=ml_dtypes.bfloat16)
    assert difference(stored, rows(1, 1), "w", WHERE).tolist() == [[0.5], [2]]
    assert difference(rows(1.5, dtype=np.float64), rows(1), "w", WHERE).tolist() == [[0.5]]


def test_rows_that_one_side_lacks_change_nothing() -> None:
    assert difference(rows(2, 3), rows(1, 1, 1), "w", WHERE).tolist() == [[1], [2], [0]]
    assert difference(rows(2, 3, 4), rows(1, 1), "w", WHERE).tolist() == [[1], [2]]


def test_a_tensor_of_several_blocks_is_one_difference() -> None:
    draw = np.random.default_rng(0).standard_normal((2, BLOCK + 5, 1), np.float32)
    assert np.array_equal(difference(draw[0], draw[1], "w", WHERE), draw[0] - draw[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named(value: float) -> None:
    with pytest.raises(PipelineError, match="found NaN or infinity in w of donor"):
        difference(rows(1, value), rows(1, 1), "w", WHERE)


def test_rows_are_cut_or_filled_with_nothing() -> None:
    delta = np.array([[1, 2], [3, 4]], np.float32)
    assert with_rows(delta, 1).tolist() == [[1, 2]]
    assert with_rows(delta, 2).tolist() == [[1, 2], [3, 4]]
    assert with_rows(delta, 3).tolist() == [[1, 2], [3, 4], [0, 0]]


THIRD = np.float32(1 / 3)


@pytest.mark.parametrize(
    ("stored", "base", "copy"),
    [
        (rows(THIRD), rows(THIRD), True),
        (rows(THIRD, dtype=np.float16), rows(THIRD), True),  # the base's, rounded when it was saved
        (rows(THIRD, dtype=ml_dtypes.bfloat16), rows(THIRD), True),
        (rows(THIRD), rows(THIRD, dtype=ml_dtypes.bfloat16), True),  # the base itself is stored rounded
        # The base was read in bfloat16 and its copy saved in float32.
        (rows(np.float32(THIRD.astype(ml_dtypes.bfloat16))), rows(THIRD), True),
        (rows(np.nextafter(THIRD, np.float32(1))), rows(THIRD), False),
        (rows(THIRD, 2), rows(THIRD), True),  # a row more
        (rows(THIRD), rows(THIRD, 2), True),
        (np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32), False),
        (rows(7e4, dtype=np.float32), rows(8e4), False),  # both are infinity in float16
    ],
)
def test_a_copy_is_the_bases_tensor_but_for_rounding(stored: Any, base: Any, copy: bool) -> None:
    assert is_copy(stored, base) is copy


@pytest.fixture
def base(tmp_path: Path) -> Checkpoint:
    """A base of four tokens."""
    folder = tmp_path / "base"
    folder.mkdir()
    shapes = {EMBEDDINGS: (4, 2), LAYER: (3, 2)}
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, folder / "model.safetensors")
    return Checkpoint(folder)


def tokenizer(folder: Path, tokens: int) -> None:
    """A vocabulary of so many tokens: t0, t1, …"""
    folder.mkdir(exist_ok=True)
    content = {"model": {"vocab": {f"t{n}": n for n in range(tokens)}}}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_tensor_of_the_bases_shape_fits(base: Checkpoint, tmp_path: Path) -> None:
    require_fit(tmp_path / "safety", LAYER, (3, 2), base)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("model.other.weight", (3, 2), "Expected donor 'safety' to fit the base, found its target model.other.weight"),
        (LAYER, (4, 2), rf"Expected donor 'safety' to have the shape \(3, 2\) of the base at {LAYER}, found \(4, 2\)"),
        (EMBEDDINGS, (4, 3), r"found \(4, 3\); the donor is of another architecture or vocabulary"),
        (EMBEDDINGS, (5, 2), r"found \(5, 2\)"),  # without tokenizers nobody knows which rows are spare
        (EMBEDDINGS, (), r"found \(\)"),
    ],
)
def test_another_shape_is_refused_with_both(
    name: str, shape: tuple[int, ...], words: str, base: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match=words):
        require_fit(tmp_path / "safety", name, shape, base)


def test_rows_without_a_token_may_differ_and_a_token_without_a_row_is_named(base: Checkpoint, tmp_path: Path) -> None:
    donor = tmp_path / "safety"
    tokenizer(base.path, 3)  # the fourth row is spare
    tokenizer(donor, 3)
    for count in (3, 4, 7):
        require_fit(donor, EMBEDDINGS, (count, 2), base)
    with pytest.raises(PipelineError) as raised:
        require_fit(donor, EMBEDDINGS, (2, 2), base)
    assert str(raised.value) == (
        f"Expected donor 'safety' to have a row of {EMBEDDINGS} for each of the base's tokens, found 2 rows, without "
        "that of 't2' (2); tune it on this base."
    )
