"""Merge methods on values worked out by hand, and the gates of a merge."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from stages.lib.errors import PipelineError
from stages.lib.merging import dare_ties, task_arithmetic, ties
from stages.lib.merging.dare_ties import drop
from stages.lib.merging.task_vectors import Adapter
from stages.lib.merging.ties import trim
from stages.lib.params import DareTies, TaskArithmetic, Ties
from stages.lib.tensor_files import Checkpoint
from stages.merge import merge

DONORS = {"a": 1.0, "b": 1.0}


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_task_arithmetic_is_the_scaled_weighted_sum() -> None:
    recipe = TaskArithmetic(method="task_arithmetic", donors=DONORS, scale=0.5)
    # 0.5 · (1·[2, -4] + 3·[1, 1]) = [2.5, -0.5]
    assert task_arithmetic.merge([row(2, -4), row(1, 1)], [1.0, 3.0], recipe, "w").tolist() == [[2.5, -0.5]]


def test_trim_keeps_the_largest_by_magnitude() -> None:
    # int(0.5 · 5) = 2 entries stay: -9 and 4.
    assert trim(row(1, -9, 3, 4, 0), 0.5).tolist() == [[0, -9, 0, 4, 0]]
    assert trim(row(1, 2), 1.0).tolist() == [[1, 2]]


def test_ties_elects_signs_and_averages_those_that_agree() -> None:
    recipe = Ties(method="ties", donors=DONORS, density=1.0, scale=1.0)
    # signs of the sums 3, -2, 0, 5: plus, minus, plus (zero counts as plus), plus
    # entry 1: both agree, (1+2)/2; entry 2: only -3; entry 3: only 2; entry 4: only 5 (zero agrees with nothing)
    assert ties.merge([row(1, -3, 2, 5), row(2, 1, -2, 0)], [1.0, 1.0], recipe, "w").tolist() == [[1.5, -3, 2, 5]]


def test_ties_divides_by_the_weights_that_agree() -> None:
    recipe = Ties(method="ties", donors=DONORS, density=1.0, scale=2.0)
    # (3·1 + 1·5) / (3 + 1) = 2, times 2; where nothing is, nothing comes
    assert ties.merge([row(1, 0), row(5, 0)], [3.0, 1.0], recipe, "w").tolist() == [[4, 0]]


def test_dare_drops_the_share_it_says_and_keeps_the_mean() -> None:
    delta = np.ones((400, 500), np.float32)
    dropped = drop(delta, 0.25, seed=1, place=0, name="w")
    assert set(np.unique(dropped)) == {0.0, 4.0}
    # 200,000 draws: four standard deviations of the mean are 4 · sqrt(0.25·0.75/200000)/0.25 = 0.0155
    assert abs(float(dropped.mean()) - 1.0) < 0.0155


def test_dare_depends_on_seed_donor_and_tensor_name_only() -> None:
    delta = np.ones((20, 20), np.float32)
    first = drop(delta, 0.5, 1, 0, "w")
    assert np.array_equal(first, drop(delta, 0.5, 1, 0, "w"))
    for other in (drop(delta, 0.5, 2, 0, "w"), drop(delta, 0.5, 1, 1, "w"), drop(delta, 0.5, 1, 0, "v")):
        assert not np.array_equal(first, other)


def test_dare_ties_at_full_density_is_ties() -> None:
    deltas, weights = [row(1, -3, 2), row(2, 1, -2)], [1.0, 2.0]
    whole = dare_ties.merge(
        deltas, weights, DareTies(method="dare_ties", donors=DONORS, density=1, scale=1, seed=0), "w"
    )
    assert np.array_equal(
        whole, ties.merge(deltas, weights, Ties(method="ties", donors=DONORS, density=1, scale=1), "w")
    )


@pytest.fixture
def adapter(tmp_path: Path, tiny_models: dict[str, Path]) -> Path:
    """A LoRA adapter of tiny_llama with random weights, saved by PEFT."""
    torch.manual_seed(3)
    network = AutoModelForCausalLM.from_pretrained(tiny_models["tiny_llama"])
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(network, lora).save_pretrained(tmp_path / "donor")
    return tmp_path / "donor"


def test_an_adapters_task_vector_is_what_peft_merges(adapter: Path, tiny_models: dict[str, Path]) -> None:
    base_folder = tiny_models["tiny_llama"]
    base = Checkpoint(base_folder)
    donor = Adapter(adapter, base)
    network = AutoModelForCausalLM.from_pretrained(base_folder)
    network.load_adapter(str(adapter))
    from peft import PeftModel

    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_folder), adapter).merge_and_unload()
    expected = merged.state_dict()
    assert len(donor.names()) == 4
    for name in donor.names():
        ours = np.asarray(base.read(name)) + donor.delta(name)
        np.testing.assert_allclose(ours, expected[name].numpy(), atol=1e-6)


def run_merge(adapter: Path, base_folder: Path, folder: Path, scale: float = 1.0) -> dict[str, float]:
    base = Checkpoint(base_folder)
    recipe = TaskArithmetic(method="task_arithmetic", donors={"donor": 1.0}, scale=scale)
    folder.mkdir()
    return merge(base, [Adapter(adapter, base)], recipe, np.dtype("float32"), folder)


def test_a_merge_is_read_by_transformers_as_peft_would_have_it(
    adapter: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    moved = run_merge(adapter, tiny_models["tiny_llama"], tmp_path / "merged")
    tensors = load_file(tmp_path / "merged/model.safetensors")
    base = Checkpoint(tiny_models["tiny_llama"])
    donor = Adapter(adapter, base)
    name = donor.names()[0]
    np.testing.assert_array_equal(tensors[name], base.read(name) + donor.delta(name))
    squares = sum(float(np.vdot(donor.delta(n), donor.delta(n))) for n in donor.names())
    assert moved["change_norm"] == pytest.approx(squares**0.5)


def test_a_recipe_that_changes_nothing_is_refused(adapter: Path, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="equal to it"):
        run_merge(adapter, tiny_models["tiny_llama"], tmp_path / "merged", scale=0.0)


def test_a_donor_of_another_architecture_is_refused(adapter: Path, tmp_path: Path) -> None:
    save_file({"model.layers.0.self_attn.q_proj.weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(PipelineError, match="another architecture"):
        Adapter(adapter, Checkpoint(tmp_path / "model.safetensors"))


def test_a_donor_of_another_shape_is_refused(adapter: Path, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    tensors = load_file(tiny_models["tiny_llama"] / "model.safetensors")
    small = {name: tensor[:32, ...] for name, tensor in tensors.items()}
    save_file(small, tmp_path / "model.safetensors")
    with pytest.raises(PipelineError, match="have the shape"):
        Adapter(adapter, Checkpoint(tmp_path / "model.safetensors"))


def test_a_donor_that_is_no_plain_lora_is_refused(adapter: Path, tiny_models: dict[str, Path]) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}), encoding="utf-8")
    with pytest.raises(PipelineError, match="plain LoRA"):
        Adapter(adapter, Checkpoint(tiny_models["tiny_llama"]))


def test_non_finite_donor_weights_are_refused(adapter: Path, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors[sorted(tensors)[0]][0, 0] = np.nan
    save_file(tensors, file)
    with pytest.raises(PipelineError, match="NaN or infinity"):
        run_merge(adapter, tiny_models["tiny_llama"], tmp_path / "merged")
