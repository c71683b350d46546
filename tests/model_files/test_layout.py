"""Which tensor of a file is which of the network: under other names, twice, tied, or read by nobody."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from transformers import PreTrainedModel

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.model_files.layout import layout_of, text_tensors
from safety_tax.model_files.network import empty_network

SIZES = {"vocab_size": 6, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2}
EMBEDDINGS, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
ANGLES = "model.layers.0.self_attn.rotary_emb.inv_freq"


def network(tied: bool) -> PreTrainedModel:
    return empty_network({"model_type": "llama", "tie_word_embeddings": tied, **SIZES}, "m")


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Checkpoint]:
    """A checkpoint of a network's tensors under the names that `named` gives them, and more of them."""

    def save(of: PreTrainedModel, named: Callable[[str], str] = str, **more: np.ndarray) -> Checkpoint:
        draw = np.random.default_rng(0)
        tensors = {
            named(name): draw.standard_normal(tuple(value.shape), np.float32) for name, value in of.named_parameters()
        }
        copies = {
            name.replace("__", "."): tensors[named(EMBEDDINGS)] + value if name == "lm_head__weight" else value
            for name, value in more.items()
        }
        save_file(tensors | copies, tmp_path / "model.safetensors")
        return Checkpoint(tmp_path)

    return save


def test_a_file_as_the_network_names_it_is_read_whole(saved: Callable[..., Checkpoint]) -> None:
    of = network(tied=False)
    checkpoint = saved(of)
    found = layout_of(checkpoint, of, sees=False, where="m")
    assert found == ([], {})
    assert found.shapes(checkpoint) == {name: tuple(value.shape) for name, value in of.named_parameters()}


def test_the_network_without_its_head_is_renamed(saved: Callable[..., Checkpoint]) -> None:
    of = network(tied=True)
    checkpoint = saved(of, lambda name: name.removeprefix("model."))
    found = layout_of(checkpoint, of, sees=False, where="m")
    assert found.renamed["norm.weight"] == NORM and len(found.renamed) == len(checkpoint.names())
    assert found.shapes(checkpoint)[NORM] == (4,)


def test_tables_that_are_computed_are_not_read(saved: Callable[..., Checkpoint]) -> None:
    of = network(tied=False)
    checkpoint = saved(of, **{ANGLES: np.ones(1, np.float32), "model.rotary_emb.inv_freq": np.ones(1, np.float32)})
    found = layout_of(checkpoint, of, sees=False, where="m")
    assert sorted(found.unread) == [ANGLES, "model.rotary_emb.inv_freq"] and found.renamed == {}
    assert ANGLES not in found.shapes(checkpoint)


def test_a_copy_of_tied_embeddings_is_not_read_and_another_tensor_in_its_place_is_refused(
    saved: Callable[..., Checkpoint],
) -> None:
    of = network(tied=True)
    copy = saved(of, lm_head__weight=np.zeros((6, 4), np.float32))
    assert layout_of(copy, of, sees=False, where="m").unread == [HEAD]
    other = np.zeros((6, 4), np.float32)
    other[5, 3] = 1e-3
    with pytest.raises(PipelineError) as raised:
        layout_of(saved(of, lm_head__weight=other), of, sees=False, where="m")
    assert str(raised.value) == (
        f"Expected {HEAD} of 'm' to equal {EMBEDDINGS}, since config.json ties the two, found another tensor, which "
        "Transformers would not read; set tie_word_embeddings to false in config.json if the model was trained with a "
        f"head of its own, else remove {HEAD}."
    )


def test_a_head_alone_stands_for_the_embeddings_that_it_is_tied_to(saved: Callable[..., Checkpoint]) -> None:
    of = network(tied=True)
    checkpoint = saved(of, lambda name: HEAD if name == EMBEDDINGS else name)
    found = layout_of(checkpoint, of, sees=False, where="m")
    assert found.unread == [] and HEAD in found.shapes(checkpoint)


def test_one_tensor_under_two_names_is_refused(saved: Callable[..., Checkpoint]) -> None:
    of = network(tied=False)
    checkpoint = saved(of, **{"norm.weight": np.ones(4, np.float32)})
    with pytest.raises(PipelineError, match=rf"found {NORM} as {NORM} and as norm\.weight; save the model again"):
        layout_of(checkpoint, of, sees=False, where="m")


@pytest.mark.parametrize("outer", ["language_model.", "model.language_model."])
def test_of_a_model_that_sees_the_text_is_read_and_the_eyes_are_not(
    outer: str, saved: Callable[..., Checkpoint]
) -> None:
    of = network(tied=True)
    eyes = {f"{place}.weight": np.ones(2, np.float32) for place in ("vision_tower.a", "model.multi_modal_projector.b")}
    checkpoint = saved(of, lambda name: outer + name.removeprefix("model."), **eyes)
    found = layout_of(checkpoint, of, sees=True, where="m")
    assert sorted(found.unread) == sorted(eyes)
    assert found.shapes(checkpoint) == {name: tuple(value.shape) for name, value in of.named_parameters()}
    assert not set(text_tensors(checkpoint, sees=True)) & set(eyes)
    assert set(text_tensors(checkpoint, sees=False)) >= set(eyes)


def test_what_no_network_has_keeps_its_name(saved: Callable[..., Checkpoint]) -> None:
    """And is refused when shapes are compared."""
    of = network(tied=False)
    checkpoint = saved(of, **{"strange.weight": np.ones(2, np.float32)})
    found = layout_of(checkpoint, of, sees=False, where="m")
    assert found == ([], {}) and found.shapes(checkpoint)["strange.weight"] == (2,)
