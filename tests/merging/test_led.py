"""LED-Merging: importance of a tiny model's weights, and the election on values worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import real_params
from families import FAMILIES
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from safety_tax.core.arrays import Float32
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.curvature import write_one
from safety_tax.donors.importance import locate, quantiles
from safety_tax.donors.moments import snip
from safety_tax.donors.opening import open_donor
from safety_tax.donors.tuning_rows import TuningRow
from safety_tax.merging.importance import Importance
from safety_tax.merging.methods.led import Led
from safety_tax.merging.updates import Target, Update
from safety_tax.params import validated

QUERY = "model.layers.1.self_attn.q_proj.weight"
ROWS = [TuningRow([5, 9, 300 + n, 41], [77, 20 + n, 2]) for n in range(3)]


def scores(folder: Path, **by_donor: list[list[float]]) -> Importance:
    """Importance of one tensor, `w`, by donor."""
    for donor, values in by_donor.items():
        (folder / donor).mkdir()
        write_one(folder / donor, "w", {"w": np.array(values, np.float32)})
    return Importance(folder, by_donor)


def merged(importance: Importance, name: str = "w", **keys: Any) -> Float32:
    recipe = Led.model_validate({"method": "led", "donors": {"a": 1.0, "b": 2.0}, **keys})
    deltas = {"a": np.array([[1, 2, 3, 4]], np.float32), "b": np.array([[10, 20, 30, 40]], np.float32)}
    updates = [Update("a", 0, 1.0, deltas["a"]), Update("b", 1, 2.0, deltas["b"])]
    return recipe.merge(updates, Target(name, 3.0, None, deltas, importance))


def test_an_entry_that_two_donors_elect_is_left_to_the_base(tmp_path: Path) -> None:
    found = scores(tmp_path, a=[[0.25, 0.5, 0.75, 1.0]], b=[[1.0, 0.5, 0.25, 0.75]])
    # the upper half: of a the last two, of b the first and the last
    assert merged(found, rates={"a": 0.5, "b": 0.5}).tolist() == [[20, 0, 3, 0]]
    # a's upper quarter is its last entry, which b elects, too
    assert merged(found, rates={"a": 0.25, "b": 0.5}, scale=0.5).tolist() == [[10, 0, 0, 0]]
    assert merged(found, rates={"a": 1.0, "b": 1.0}).tolist() == [[0, 0, 0, 0]]
    assert merged(found, "norm", rates={"a": 1.0, "b": 0.1}).tolist() == [[0, 0, 0, 0]]  # it was not located


def test_at_full_rate_a_lone_donor_is_added_whole(tmp_path: Path) -> None:
    recipe = Led(method="led", donors={"a": 1.0}, rates={"a": 1.0}, scale=0.5)
    delta = np.array([[1, 2, 3, 4]], np.float32)
    target = Target("w", 1.0, None, {"a": delta}, scores(tmp_path, a=[[0.25, 0.5, 0.75, 1.0]]))
    assert recipe.merge([Update("a", 0, 1.0, delta)], target).tolist() == [[0.5, 1, 1.5, 2]]


def test_the_control_elects_as_many_anywhere(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    delta = draw.normal(size=(20, 30)).astype(np.float32)
    found = scores(tmp_path, a=quantiles(delta**2).tolist())
    target = Target("w", 1.0, None, {"a": delta}, found)
    kept = []
    for keys in ({}, {"located": "shuffled"}, {"located": "shuffled", "seed": 1}):
        recipe = Led.model_validate({"method": "led", "donors": {"a": 1.0}, "rates": {"a": 0.3}, **keys})
        kept.append(recipe.merge([Update("a", 0, 1.0, delta)], target) != 0)
    assert [int(mask.sum()) for mask in kept] == [180] * 3
    assert not np.array_equal(kept[0], kept[1]) and not np.array_equal(kept[1], kept[2])


def test_quantiles_go_by_rank_and_place() -> None:
    assert quantiles(np.array([[4, 1], [9, 1]], np.float32)).tolist() == [[0.75, 0.25], [1.0, 0.5]]


def plain_snip(network: Any, rows: list[TuningRow], name: str) -> Float32:
    """Mean over rows of |W · gradient|, with the loss that Transformers computes from labels."""
    network.requires_grad_(True)
    total = torch.zeros_like(network.get_parameter(name))
    for row in rows:
        network.zero_grad()
        ids = torch.tensor([row.prompt + row.response])
        labels = torch.tensor([[-100] * len(row.prompt) + row.response])
        (network(input_ids=ids, labels=labels).loss * len(row.response)).backward()
        weight = network.get_parameter(name)
        total += (weight.detach() * weight.grad).abs()
    network.zero_grad()
    found: Float32 = (total / len(rows)).numpy()
    return found


def test_an_expert_that_no_row_reaches_has_no_importance() -> None:
    network = FAMILIES["qwen3_moe"].network()
    found = snip(network, ROWS, lambda: None)
    experts = [name for name in found if ".experts." in name]
    assert len(experts) == 2 * 4 * 3
    assert all(found[name].any() for name in found.keys() - set(experts))
    # Rows that do not reach it count as zeros in the mean.
    alone = [snip(network, [row], lambda: None) for row in ROWS]
    assert not all(of[name].any() for of in alone for name in experts)
    for name in found:
        np.testing.assert_allclose(found[name], sum(of[name] for of in alone) / len(ROWS), rtol=1e-4, atol=1e-9)
    with pytest.raises(PipelineError, match=r"weights stored as \[out, in\], found none in the family 'gpt2'"):
        snip(FAMILIES["gpt2"].network(), ROWS, lambda: None)


def test_importance_is_the_lower_one_of_base_and_donor(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_models["tiny_llama"]
    torch.manual_seed(1)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    tuned.save_pretrained(tmp_path / "safety")
    network = AutoModelForCausalLM.from_pretrained(base)
    of_base = plain_snip(network, ROWS, QUERY)
    np.testing.assert_allclose(snip(network, ROWS, lambda: None)[QUERY], of_base, rtol=1e-3, atol=1e-7)
    checkpoint = Checkpoint(base)
    assert locate(base, open_donor(tmp_path / "safety", checkpoint), ROWS, tmp_path / "scores") == 2 * 7
    found = Checkpoint(tmp_path / "scores")
    of_donor = plain_snip(tuned.merge_and_unload(), ROWS, QUERY)
    wanted = np.minimum(quantiles(of_base), quantiles(of_donor))
    # Neighbours in rank may change places by rounding.
    assert np.max(np.abs(found.read(QUERY) - wanted)) < 0.01
    assert np.mean(np.abs(quantiles(of_base) - quantiles(of_donor))) > 0.02  # the two do differ


def test_a_donor_that_is_not_located_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"importance of donor 'b' in .*; add it to importance.donors"):
        Importance(tmp_path, ["b"])
    params = real_params()
    recipe = {"method": "led", "donors": {"safety": 1.0, "utility": 1.0}, "rates": {"safety": 0.1, "utility": 0.5}}
    params["recipes"]["led"] = recipe
    with pytest.raises(PipelineError, match=r"needs the importance of 'safety'; add it to importance\.donors"):
        validated(params)
    params["importance"]["donors"] = {"safety": "harmful", "utility": "choice"}
    validated(params)
    for change, said in (
        ({"rates": {"safety": 0.1}}, "rates has safety; give one for each of safety, utility"),
        ({"rates": {"safety": 0.0, "utility": 1}}, "recipes.led.rates.safety"),
    ):
        params["recipes"]["led"] = recipe | change
        with pytest.raises(PipelineError, match=said):
            validated(params)
    params["recipes"]["led"] = recipe
    params["importance"]["donors"]["utilty"] = "choice"
    with pytest.raises(PipelineError, match=r"unknown donor of importance\.donors 'utilty'; did you mean 'utility'"):
        validated(params)
