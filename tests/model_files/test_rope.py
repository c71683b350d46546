"""A rotation's settings, in whatever keys a file has them: the pinned version's keys, worked out by hand."""

import copy
import math
from typing import Any

import pytest

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.rope import with_older_names, with_pinned_rope

LONG = {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
WINDOWS = {"layer_types": ["full_attention", "sliding_attention"]}
ONE = {"rope_type": "default", "rope_theta": 5e5}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, {}),
        ({"rope_scaling": None}, {"rope_scaling": None}),
        ({"rope_scaling": {}}, {}),
        ({"rope_theta": None}, {}),
        ({"rope_parameters": ONE}, {"rope_theta": 5e5}),
        ({"rope_parameters": {"rope_theta": 5e5}, "rope_scaling": None}, {"rope_theta": 5e5}),
        ({"rope_parameters": ONE, "rope_theta": 5e5}, {"rope_theta": 5e5}),  # said twice, and the same
        ({"rope_parameters": {**ONE, "partial_rotary_factor": 0.5}}, {"rope_theta": 5e5, "partial_rotary_factor": 0.5}),
        ({"rope_scaling": ONE}, {"rope_theta": 5e5}),  # the newer settings under the older name
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0, "attention_factor": None}},
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        ),
        (
            {
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
            },
            {"rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        ),
        ({**WINDOWS, "rope_parameters": dict.fromkeys(WINDOWS["layer_types"], ONE)}, {**WINDOWS, "rope_theta": 5e5}),
        # A kind that no layer is of does not count.
        (
            {
                "layer_types": ["full_attention"],
                "rope_parameters": {"full_attention": ONE, "sliding_attention": {"rope_theta": 1e4}},
            },
            {"layer_types": ["full_attention"], "rope_theta": 5e5},
        ),
    ],
)
def test_the_same_rotation_in_the_pinned_keys(written: dict[str, Any], read: dict[str, Any]) -> None:
    given = copy.deepcopy(written)
    assert with_pinned_rope(written, "m") == read
    assert written == given  # what was given stays as it was


def test_longrope_goes_by_its_first_name_too() -> None:
    old = {**LONG, "type": "su"}
    del old["rope_type"]
    read = with_pinned_rope({"rope_scaling": old, "original_max_position_embeddings": 8}, "m")
    assert read == {"rope_scaling": LONG, "original_max_position_embeddings": 8}


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(4.0, math.sqrt(1 + math.log(4) / math.log(512))), (1.0, 1.0), (0.5, 1.0)],
)
def test_longropes_factor_becomes_the_scale_of_attention(factor: float, expected: float) -> None:
    found = with_pinned_rope({"rope_scaling": {**LONG, "factor": factor, "original_max_position_embeddings": 512}}, "m")
    assert found["original_max_position_embeddings"] == 512
    assert found["rope_scaling"] == {**LONG, "attention_factor": pytest.approx(expected)}


def test_a_scale_that_longrope_states_is_kept() -> None:
    stated = {**LONG, "factor": 4.0, "attention_factor": 1.25}
    found = with_pinned_rope({"rope_scaling": stated, "original_max_position_embeddings": 512}, "m")
    assert found["rope_scaling"] == {**LONG, "attention_factor": 1.25}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rope_scaling": [1]}, r"settings by name as rope_scaling in m, found '\[1\]'"),
        ({"rope_parameters": "linear"}, "settings by name as rope_parameters in m"),
        ({"rope_scaling": {"factor": 2.0}}, "Expected a rotation of the kind default, linear, .*, found 'None'"),
        ({"rope_scaling": {"rope_type": "mrope", "factor": 2.0}}, "found 'mrope'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 1}}, "'linear' in m, found 'beta_fast'"),
        ({"rope_theta": 1e4, "rope_parameters": ONE}, "Expected rope_theta in m to say what rope_parameters says"),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_parameters": ONE},
            "Expected rope_scaling in m to say what rope_parameters says",
        ),
        ({**WINDOWS, "rope_parameters": {"full_attention": ONE}}, "one for each of full_attention, sliding_attention"),
        (
            {"rope_scaling": {**LONG, "original_max_position_embeddings": 8}, "original_max_position_embeddings": 9},
            "original_max_position_embeddings in m to say what the rotation's settings says",
        ),
        ({"rope_scaling": LONG, "original_max_position_embeddings": 1}, "a size as original_max_position_embeddings"),
        (
            {"rope_scaling": {**LONG, "factor": "4"}, "original_max_position_embeddings": 512},
            "Expected a number as factor in m, found '4'",
        ),
    ],
)
def test_what_is_said_twice_or_not_known_is_one_sentence(config: dict[str, Any], words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        with_pinned_rope(config, "m")


def test_a_class_that_computes_the_scale_itself_is_not_told_it_again() -> None:
    lengths = {"max_position_embeddings": 2048, "original_max_position_embeddings": 512}
    computed = math.sqrt(1 + math.log(4) / math.log(512))
    older = {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
    for scale in (computed, None):
        assert with_older_names({"rope_scaling": {**LONG, "attention_factor": scale}, **lengths}) == older
    other = with_older_names({"rope_scaling": {**LONG, "attention_factor": 1.25}, **lengths})
    assert other == {**older, "attention_factor": 1.25}  # the class refuses it, in words of its own
