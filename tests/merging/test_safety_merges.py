"""Merges made for safety, on values worked out by hand: SafeMERGE, Safe LoRA, RESTA, and their controls."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import real_params
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from safety_tax.core.arrays import Float32
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.merging.alignment import project
from safety_tax.merging.bench import Bench
from safety_tax.merging.merge import merge
from safety_tax.merging.methods import RECIPE_TYPES
from safety_tax.merging.methods.resta import Resta
from safety_tax.merging.methods.task_arithmetic import TaskArithmetic
from safety_tax.merging.opening import open_merge
from safety_tax.merging.recipe import DonorRecipe
from safety_tax.merging.resume import WorkFolder
from safety_tax.merging.updates import Target, Update
from safety_tax.params import validated

LAYER, NORM = "model.layers.0.mlp.up_proj.weight", "model.norm.weight"
DONORS = {"donors": {"s": 1.0, "u": 1.0}, "safety": ["s"]}


def matrix(*rows: tuple[float, ...]) -> Float32:
    return np.array(rows, np.float32)


# The safety update moves the first output alone: V = e₁ (2, 0)ᵀ, ‖V‖ = 2, C = e₁ e₁ᵀ · 4 / 2.
V = matrix((2, 0), (0, 0))
IN, OUT = matrix((3, 1), (0, 0)), matrix((0, 0), (1, 4))
# Three quarters of its square inside: cos = sqrt(3) / 2.
MIXED = matrix((3**0.5, 0), (0, 1))


def made(method: str, update: Float32, name: str = LAYER, safety: Float32 = V, **keys: Any) -> tuple[Float32, Target]:
    """What is added to one tensor by a safety donor `s` and another one `u`, and the target with its notes."""
    recipe = RECIPE_TYPES[method].model_validate({"method": method, **DONORS, **keys})
    assert isinstance(recipe, DonorRecipe)
    target = Target(name, 2.0, None, {"s": safety, "u": update})
    updates = [Update("s", 0, 1.0, safety), Update("u", 1, 1.0, update)]
    return recipe.merge(updates, target), target


def test_the_papers_projection_is_scaled_by_what_alignment_changed() -> None:
    assert project(V, MIXED, "approximate").tolist() == (2 * matrix((3**0.5, 0), (0, 0))).tolist()
    np.testing.assert_allclose(project(V, MIXED, "orthogonal"), matrix((3**0.5, 0), (0, 0)), atol=1e-6)
    draw = np.random.default_rng(0).normal(size=(2, 6, 9)).astype(np.float32)
    for vector, delta in ((draw[0], draw[1]), (draw[0].T, draw[1].T)):  # the two ways to compute it
        wanted = vector.astype(np.float64) @ vector.T @ delta / np.linalg.norm(vector)
        np.testing.assert_allclose(project(vector, delta, "approximate"), wanted, rtol=1e-4, atol=1e-4)
    # Of rank 2: the part in the span of V's columns, by least squares.
    low = (draw[0][:, :2] @ draw[1][:2]).astype(np.float32)
    wanted = low @ np.linalg.lstsq(low, draw[1], rcond=1e-4)[0]
    np.testing.assert_allclose(project(low, draw[1], "orthogonal"), wanted, rtol=1e-3, atol=1e-3)


def test_safe_lora_projects_what_left_the_subspace_and_keeps_the_rest() -> None:
    inside, _ = made("safe_lora", IN, threshold=0.9)
    assert inside.tolist() == (V + IN).tolist()
    outside, target = made("safe_lora", OUT, threshold=0.9)
    assert outside.tolist() == V.tolist()  # nothing of it lies inside
    assert target.notes == {"judged layers": 1, "changed layers": 1}
    # cos = .866: below .9, above .8
    left, _ = made("safe_lora", MIXED, threshold=0.9, alpha=0.5)
    np.testing.assert_allclose(left, 0.5 * V + 2 * matrix((3**0.5, 0), (0, 0)), rtol=1e-6)
    left, _ = made("safe_lora", MIXED, threshold=0.9, projection="orthogonal", alpha=0.5)
    np.testing.assert_allclose(left, 0.5 * V + matrix((3**0.5, 0), (0, 0)), atol=1e-6)
    kept, target = made("safe_lora", MIXED, threshold=0.8)
    assert kept.tolist() == (V + MIXED).tolist()
    assert target.notes == {"judged layers": 1, "changed layers": 0}


def test_safe_merge_mixes_a_layer_that_left_the_subspace() -> None:
    mixed, _ = made("safe_merge", OUT, threshold=0.35, share=0.25)
    assert mixed.tolist() == (0.75 * OUT + 0.25 * V).tolist()
    kept, _ = made("safe_merge", IN, threshold=0.35, share=0.25)
    assert kept.tolist() == IN.tolist()


@pytest.mark.parametrize("update", [IN, OUT, MIXED])
def test_thresholds_of_0_and_1_are_the_plain_merges(update: Float32) -> None:
    plain = TaskArithmetic(method="task_arithmetic", donors={"s": 1.0, "u": 1.0})
    pair = [Update("s", 0, 1.0, V), Update("u", 1, 1.0, update)]
    assert np.array_equal(made("safe_lora", update, threshold=0)[0], plain.merge(pair, Target(LAYER, 2.0)))
    assert np.array_equal(made("safe_merge", update, threshold=0, share=0.5)[0], update)
    linear = RECIPE_TYPES["linear"].model_validate({"method": "linear", "donors": {"s": 1.0, "u": 1.0}})
    assert isinstance(linear, DonorRecipe)
    everywhere = made("safe_merge", update, threshold=1, share=0.5)[0]
    assert np.array_equal(everywhere, linear.merge(pair, Target(LAYER, 2.0)))
    projected = made("safe_lora", update, threshold=1, alpha=0, projection="orthogonal")[0]
    np.testing.assert_allclose(projected, update * matrix((1, 1), (0, 0)), atol=1e-6)


def test_only_the_linear_layers_are_judged() -> None:
    norm = matrix((1, 2))[0]
    for name, update, safety in ((NORM, norm, norm), ("model.embed_tokens.weight", OUT, V)):
        found, target = made("safe_lora", update, name, safety, threshold=1)
        assert found.tolist() == (safety + update).tolist() and not target.notes
        found, target = made("safe_merge", update, name, safety, threshold=1, share=0.5)
        assert found.tolist() == update.tolist() and not target.notes
    # Where alignment changed nothing there is no subspace to leave.
    assert made("safe_lora", OUT, safety=np.zeros_like(V), threshold=1)[0].tolist() == OUT.tolist()


def test_the_shuffled_subspace_is_as_large_and_elsewhere() -> None:
    draw = np.random.default_rng(1).normal(size=(3, 40, 30)).astype(np.float32)
    vector = (draw[0][:, :3] @ draw[1][:3]).astype(np.float32)
    inside = (vector @ draw[2][:30, :30]).astype(np.float32)
    keys: dict[str, Any] = {"safety": vector, "threshold": 0.5, "projection": "orthogonal", "alpha": 0}
    kept, target = made("safe_lora", inside, **keys)
    assert np.array_equal(kept, inside) and target.notes["changed layers"] == 0
    shuffled, target = made("safe_lora", inside, subspace="shuffled", **keys)
    assert target.notes["changed layers"] == 1
    assert np.linalg.matrix_rank(shuffled, tol=1e-3) == 3
    other, _ = made("safe_lora", inside, subspace="shuffled", seed=1, **keys)
    assert not np.array_equal(shuffled, other)


def test_random_layers_takes_its_share_of_the_layers() -> None:
    names = [f"model.layers.{n}.mlp.up_proj.weight" for n in range(400)]
    taken = []
    for name in names:
        found, target = made("random_layers", OUT, name, k=0.3, share=0.25)
        assert found.tolist() in (OUT.tolist(), (0.75 * OUT + 0.25 * V).tolist())
        assert target.notes["judged layers"] == 1
        taken.append(target.notes["changed layers"])
    # four standard deviations: 4 · sqrt(.21 / 400) = .092
    assert abs(np.mean(taken) - 0.3) < 0.092
    assert all(made("random_layers", OUT, name, k=1, share=0.5)[1].notes["changed layers"] for name in names[:20])
    assert made("random_layers", OUT, NORM, k=1, share=0.5)[0].tolist() == OUT.tolist()


def test_resta_adds_the_safety_vector_to_the_dropped_updates() -> None:
    added, _ = made("resta", OUT, alpha=0.5)
    assert added.tolist() == (OUT + 0.5 * V).tolist()
    ones = np.ones((400, 500), np.float32)
    found, _ = made("resta", ones, safety=np.zeros_like(ones), density=0.25, seed=1)
    assert set(np.unique(found)) == {0.0, 4.0}
    assert abs(float(np.mean(found)) - 1) < 0.0155  # four standard deviations, as in DARE's own test
    found, _ = made("resta", np.zeros_like(ones), safety=ones, safety_density=0.5, alpha=3)
    assert set(np.unique(found)) == {0.0, 6.0}


def test_the_pair_may_be_two_donors_that_are_not_merged() -> None:
    recipe = Resta(method="resta", donors={"u": 1.0}, aligned="chat", unaligned="raw", alpha=2)
    assert recipe.reads() == ["chat", "raw", "u"]
    target = Target(LAYER, 1.0, None, {"u": OUT, "chat": 3 * V, "raw": V})
    assert recipe.merge([Update("u", 0, 1.0, OUT)], target).tolist() == (OUT + 4 * V).tolist()
    # Where no donor is merged, the vector is added all the same.
    assert recipe.changes([], target)
    assert recipe.merge([], target).tolist() == (4 * V).tolist()
    # The base is the aligned one: V = 0 − δ(raw).
    base = Resta(method="resta", donors={"u": 1.0}, unaligned="raw")
    assert base.merge([Update("u", 0, 1.0, OUT)], target).tolist() == (OUT - V).tolist()
    assert not base.changes([], Target(LAYER, 1.0))
    # A safety donor beside the pair would be left out, with its weight.
    with pytest.raises(ValueError, match="say two things of V, and only one is added; remove one"):
        Resta(method="resta", donors={"s": 1.0, "u": 1.0}, safety=["s"], aligned="chat")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"safety": []}, "what is safe is not said; name `safety` donors, or `aligned` or `unaligned`"),
        ({"safety": ["s"]}, "safety names 's', which is none of its donors: safety, utility"),
        ({"safety": ["safety", "utility"]}, "all its donors are `safety` donors; add one"),
        ({"threshold": 1.5}, "recipes.mine.threshold"),
        ({"aligned": "chat"}, "unknown donor of recipe 'mine' 'chat'"),
        ({"projection": "exact"}, "recipes.mine.projection"),
        ({"theshold": 1}, "recipes.mine.theshold; did you mean 'threshold'"),
    ],
)
def test_a_faulty_recipe_is_one_sentence(change: dict[str, Any], said: str) -> None:
    params = real_params()
    recipe = {"method": "safe_lora", "donors": {"safety": 1.0, "utility": 1.0}, "safety": ["safety"], "threshold": 0.5}
    params["recipes"]["mine"] = recipe
    validated(params)
    params["recipes"]["mine"] = recipe | change
    with pytest.raises(PipelineError, match=said):
        validated(params)


def test_every_safety_merge_of_real_adapters_says_how_many_layers_it_changed(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    base = Checkpoint(tiny_models["tiny_llama"])
    for seed, name in enumerate(("s", "u")):
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_pretrained(tiny_models["tiny_llama"])
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        get_peft_model(network, lora).save_pretrained(tmp_path / name)
    bench = Bench("m", "mine", base, tmp_path, tmp_path, tmp_path, {}, tmp_path / "scratch")
    cases: list[tuple[str, dict[str, Any], float | None]] = [
        ("safe_merge", {"threshold": 1, "share": 0.2}, 1),
        ("safe_lora", {"threshold": 1}, 1),
        ("safe_lora", {"threshold": 1, "projection": "orthogonal"}, 1),
        ("random_layers", {"k": 1, "share": 0.2}, 1),
        ("resta", {"density": 0.5}, None),
    ]
    results = set()
    for method, keys, changed in cases:
        recipe = RECIPE_TYPES[method].model_validate({"method": method, **DONORS, **keys})
        work = WorkFolder(tmp_path / f"{method}{len(results)}", "key")
        told = merge(open_merge(recipe, bench).merge, work)
        assert told.get("layers_changed") == changed
        results.add((work.model / "model.safetensors").read_bytes())
        assert json.dumps(told)
    assert len(results) == 4  # at k = 1 the control takes every layer, as a threshold of 1 does
