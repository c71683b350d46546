"""The next token, in the graph itself: the most likely, or one drawn by a uniform number, and log-probabilities."""

import numpy as np
from onnx import TensorProto

from safety_tax.engine.gqa.rows_session import BEST, CHOSEN, COLDNESS, LOGPROBS, TARGETS, UNIFORMS
from safety_tax.onnx.rows_pieces import Pieces

FLOAT = TensorProto.FLOAT


def choose(pieces: Pieces, logits: str, vocabulary: int) -> None:
    """`best`, `logprobs`, and as the last node the chosen token, from float32 logits [n, vocabulary]."""
    add, constant = pieces.add, pieces.constant
    last = constant("last_axis", np.array([1], np.int64))
    logprobs = add("LogSoftmax", [logits], "all_logprobs", axis=-1)
    add("GatherElements", [logprobs, TARGETS], LOGPROBS, axis=1)
    likeliest = add("ArgMax", [logits], "likeliest", axis=1, keepdims=1)
    add("Squeeze", [add("GatherElements", [logprobs, likeliest], "best_of_each", axis=1), last], BEST)
    # The inverse of the distribution function in two steps, groups of tokens and the tokens of one: CUDA's CumSum walks
    # along its axis with a single thread.
    size = int(np.ceil(np.sqrt(vocabulary)))
    groups = -(-vocabulary // size)
    weights = add("Softmax", [add("Mul", [logits, COLDNESS], "cold_logits")], "weights", axis=-1)
    padding = constant("padding", np.array([0, 0, 0, groups * size - vocabulary], np.int64))
    padded = add("Pad", [weights, padding], "padded_weights")
    shape = constant("in_groups", np.array([0, groups, size], np.int64))
    in_groups = add("Reshape", [padded, shape], "weights_in_groups")
    sums = add("ReduceSum", [in_groups, constant("group_axis", np.array([2], np.int64))], "group_sums", keepdims=0)
    axis = constant("cumulative_axis", np.array(1, np.int64))
    ends = add("CumSum", [sums, axis], "group_ends")
    total = add("Gather", [ends, constant("last_group", np.array([groups - 1], np.int64))], "total", axis=1)
    uniforms = add("Unsqueeze", [UNIFORMS, last], "uniforms_of_rows")
    sought = _below(pieces, add("Mul", [uniforms, total], "sought_anywhere"), total, "sought")
    group = _count_until(pieces, ends, sought, groups, "group")
    end = add("GatherElements", [ends, group], "group_end", axis=1)
    start = add("Sub", [end, add("GatherElements", [sums, group], "group_sum", axis=1)], "group_start")
    of_group = add("GatherND", [in_groups, group], "weights_of_group", batch_dims=1)
    within = add("CumSum", [of_group, axis], "token_ends")
    # Two sums of a group differ in their last bits: without the bounds a token of no probability could be drawn there.
    rest = add(
        "Max", [add("Sub", [sought, start], "rest"), constant("nothing", np.array(0, np.float32))], "rest_within"
    )
    whole = add("Gather", [within, constant("last_token_of_group", np.array([size - 1], np.int64))], "whole", axis=1)
    place = _count_until(pieces, within, _below(pieces, rest, whole, "sought_within"), size, "place")
    offset = add("Mul", [group, constant("group_size", np.array(size, np.int64))], "group_offset")
    summed = add("Add", [offset, place], "drawn_anywhere")
    drawn = add("Min", [summed, constant("last_token", np.array(vocabulary - 1, np.int64))], "drawn")
    is_drawn = add("Greater", [COLDNESS, constant("nothing", np.array(0, np.float32))], "is_drawn")
    add("Squeeze", [add("Where", [is_drawn, drawn, likeliest], "chosen_of_each"), last], CHOSEN)


def _below(pieces: Pieces, sought: str, end: str, name: str) -> str:
    """`sought`, or the largest number below `end` where it is not below it; both float32 [n, 1]."""
    just_below = pieces.constant("just_below", np.array(1 - 2**-23, np.float32))
    return pieces.add("Min", [sought, pieces.add("Mul", [end, just_below], f"{name}_most")], name)


def _count_until(pieces: Pieces, ends: str, sought: str, most: int, name: str) -> str:
    """int64 [n, 1]: how many of `ends` [n, m] lie at or before `sought` [n, 1], at most `most` − 1."""
    before = pieces.add("LessOrEqual", [ends, sought], f"{name}_before")
    numbers = pieces.add("Cast", [before], f"{name}_ones", to=FLOAT)
    axis = pieces.constant("last_axis", np.array([1], np.int64))
    count = pieces.add("ReduceSum", [numbers, axis], f"{name}_count", keepdims=1)
    whole = pieces.add("Cast", [count], f"{name}_whole", to=TensorProto.INT64)
    return pieces.add("Min", [whole, pieces.constant(f"{name}_most", np.array(most - 1, np.int64))], name)
