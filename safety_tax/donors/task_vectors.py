"""What a stored tensor is to the base: its difference, a copy of it, or of another shape."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from safety_tax.core.arrays import Float32, blocks
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, Tensor, require_finite
from safety_tax.donors.tensor_names import is_embedding, is_head
from safety_tax.donors.vocabulary import read_vocabulary

HALF = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def difference(stored: Tensor, base: Tensor, name: str, where: Path) -> Float32:
    """W_donor − W_base in float32; zeros in rows that the donor lacks. Raises PipelineError on NaN or infinity."""
    delta = np.zeros(base.size, np.float32)
    ours, theirs = stored.reshape(-1), base.reshape(-1)
    for block in blocks(min(stored.size, base.size)):  # rows that only one of the two has come last
        delta[block] = np.subtract(ours[block], theirs[block], dtype=np.float32)
    require_finite(delta, name, where)
    return delta.reshape(base.shape)


def with_rows(delta: Float32, rows: int) -> Float32:
    """The first so many rows; zeros for those that it lacks."""
    if len(delta) >= rows:
        return delta[:rows]
    return np.concatenate([delta, np.zeros((rows - len(delta), *delta.shape[1:]), np.float32)])


def is_copy(stored: Tensor, base: Tensor) -> bool:
    """Whether `stored` is the base's tensor, in the rows that both have, but for the rounding to another type.

    A base may have been read in float16 or bfloat16, whatever the type in which its copy was saved.
    """
    if stored.shape[1:] != base.shape[1:]:
        return False
    ours, theirs = stored.reshape(-1), base.reshape(-1)
    kinds = [stored.dtype, *(kind for kind in HALF if kind.itemsize < stored.dtype.itemsize)]
    with np.errstate(over="ignore"):
        return any(_rounds_to(theirs, ours, kind) for kind in kinds) or (
            stored.dtype != base.dtype and _rounds_to(ours, theirs, base.dtype)
        )


def _rounds_to(one: Tensor, other: Tensor, kind: np.dtype[Any]) -> bool:
    """Whether `other` is `one` as `kind` stores it, as far as both go."""
    return all(
        np.array_equal(one[block].astype(kind).astype(np.float32), other[block].astype(np.float32))
        for block in blocks(min(one.size, other.size))
    )


def require_fit(folder: Path, name: str, shape: tuple[int, ...], base: Checkpoint) -> None:
    """A tensor of the donor in `folder` must have the base's shape; embeddings and head may differ in spare rows.

    Raises PipelineError otherwise.
    """
    donor = folder.name
    if name not in base:
        raise PipelineError(
            f"Expected donor {donor!r} to fit the base, found its target {name}, which {base.path} lacks; "
            "the donor is of another architecture: tune it on this base."
        )
    expected = base.shape(name)
    rows_alone = (is_embedding(name) or is_head(name)) and len(shape) and shape[1:] == expected[1:]
    if shape == expected or (rows_alone and _require_spare(folder, name, shape[0], base)):
        return
    raise PipelineError(
        f"Expected donor {donor!r} to have the shape {expected} of the base at {name}, found "
        f"{shape}; the donor is of another architecture or vocabulary: tune it on this base."
    )


def _require_spare(folder: Path, name: str, rows: int, base: Checkpoint) -> bool:
    """Whether tokenizers are there to tell which rows are of tokens; PipelineError: the donor lacks one of the base's.

    Tokens beyond the base's rows are `require_same_vocabulary`'s.
    """
    ours, theirs = (read_vocabulary(place / "tokenizer.json") for place in (base.path, folder))
    if ours is None or theirs is None:
        return False
    lacking = sorted((place, token) for token, place in ours.items() if rows <= place < base.shape(name)[0])
    if lacking:
        raise PipelineError(
            f"Expected donor {folder.name!r} to have a row of {name} for each of the base's tokens, found {rows:,} "
            f"rows, without that of {lacking[0][1]!r} ({lacking[0][0]:,}); tune it on this base."
        )
    return True
