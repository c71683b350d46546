"""`sst`, `alignguard` and their controls, on a tiny model's own curvature."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from safety_tax.core.arrays import Float32
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.curvature import write_diagonal, write_kfac
from safety_tax.donors.moments import diagonal_fisher, require_curved, stream_moments
from safety_tax.donors.tuning_rows import TuningRow
from safety_tax.merging.curvature import Curvature
from safety_tax.merging.methods.alignguard import Alignguard
from safety_tax.merging.methods.random_mask import RandomMask
from safety_tax.merging.methods.random_subspace import RandomSubspace
from safety_tax.merging.methods.sst import Sst
from safety_tax.merging.methods.task_arithmetic import TaskArithmetic
from safety_tax.merging.recipe import Recipe, SafetyRecipe
from safety_tax.merging.updates import Target, Update

Q, K, DOWN = (f"model.layers.1.{name}.weight" for name in ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"))
COMMON = {"donors": {"s": 1.0, "u": 1.0}, "safety": ["s"], "alpha": 0.5}
EPSILON = 1e-3


def rows_of(seed: int, low: int, high: int) -> list[TuningRow]:
    """Rows of random tokens; two kinds that use other tokens have other moments."""
    draw = np.random.default_rng(seed)
    return [TuningRow(draw.integers(low, high, 20 + n).tolist(), draw.integers(3, 600, 6).tolist()) for n in range(8)]


ROWS = {"harmful": rows_of(1, 3, 300), "benign": rows_of(2, 200, 600)}


@pytest.fixture(scope="module")
def model(tiny_models: dict[str, Path]):  # type: ignore[no-untyped-def]
    return AutoModelForCausalLM.from_pretrained(tiny_models["tiny_llama"]).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("curvature")
    inputs = write_kfac(model, ROWS, EPSILON, folder / "kfac")
    write_diagonal(model, ROWS, EPSILON, folder / "diagonal")
    write_json(folder / "curvature.json", {"inputs": inputs})
    return folder


def second_moment(model, rows: list[TuningRow], module: str) -> np.ndarray:  # type: ignore[no-untyped-def]
    """E[x xᵀ] of one module's inputs by the plain way: whole forward passes with a hook."""
    seen: list[torch.Tensor] = []
    handle = model.get_submodule(module).register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    with torch.no_grad():
        for row in rows:
            model(input_ids=torch.tensor([row.prompt]))
    handle.remove()
    tokens = torch.cat(seen).double().numpy()
    return tokens.T @ tokens / len(tokens)


def test_streamed_moments_are_those_of_whole_forward_passes(model) -> None:  # type: ignore[no-untyped-def]
    calls: list[None] = []
    prompts = [[row.prompt for row in ROWS[kind]] for kind in ("harmful", "benign")]
    found = {moments.names[0]: moments for moments in stream_moments(model, *prompts, lambda: calls.append(None))}
    assert len(calls) == 2 * 16  # every row passes every layer once
    assert found[Q].names == [Q, K, Q.replace("q_proj", "v_proj")]  # they share an input
    for name in (Q, DOWN):
        for kind in ("harmful", "benign"):
            expected = second_moment(model, ROWS[kind], name.removesuffix(".weight"))
            np.testing.assert_allclose(getattr(found[name], kind), expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_layers_that_look_back_differently_have_the_moments_of_whole_passes() -> None:
    sizes = {"vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 4, "max_window_layers": 1}
    torch.manual_seed(2)
    mixed = Qwen2ForCausalLM(Qwen2Config(**sizes, use_sliding_window=True, attn_implementation="eager")).eval()
    assert mixed.config.layer_types == ["full_attention", "sliding_attention"]
    prompts = [[row.prompt for row in ROWS[kind]] for kind in ("harmful", "benign")]
    for moments in stream_moments(mixed, *prompts, lambda: None):
        for kind in ("harmful", "benign"):
            expected = second_moment(mixed, ROWS[kind], moments.names[0].removesuffix(".weight"))
            np.testing.assert_allclose(getattr(moments, kind), expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_a_family_with_other_names_has_the_moments_of_whole_passes() -> None:
    neox = FAMILIES["gpt_neox"].network()
    prompts = [[row.prompt for row in ROWS[kind]] for kind in ("harmful", "benign")]
    names = []
    for moments in stream_moments(neox, *prompts, lambda: None):
        names += moments.names
        for kind in ("harmful", "benign"):
            expected = second_moment(neox, ROWS[kind], moments.names[0].removesuffix(".weight"))
            np.testing.assert_allclose(getattr(moments, kind), expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert len(names) == 2 * 4 and names[0].startswith("gpt_neox.layers.0.")
    assert sorted(diagonal_fisher(neox, ROWS["harmful"][:2], lambda: None)) == sorted(names)


@pytest.mark.parametrize(("kind", "words"), [("mixtral", "experts"), ("gpt2", r"weights stored as \[in, out\]")])
def test_weights_that_have_no_such_moments_are_refused(kind: str, words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        require_curved(FAMILIES[kind].network())


def test_directions_are_the_generalised_eigenvectors(model, folder: Path) -> None:  # type: ignore[no-untyped-def]
    harmful, benign = (second_moment(model, ROWS[kind], DOWN.removesuffix(".weight")) for kind in ROWS)
    metric = benign + EPSILON * np.mean(np.diag(benign)) * np.eye(len(benign))
    duals, directions = Curvature(folder, "kfac").subspace(DOWN, 1.0)
    np.testing.assert_allclose(duals @ directions.T, np.eye(len(metric)), atol=1e-3)
    quotients = np.einsum("ki,ij,kj->k", directions, harmful, directions) / np.einsum(
        "ki,ij,kj->k", directions, metric, directions
    )
    assert np.all(np.diff(quotients) <= 1e-3 * quotients[0])  # falling
    # The first is the best of any direction.
    random = np.random.default_rng(0).standard_normal((500, len(metric)))
    others = np.einsum("ki,ij,kj->k", random, harmful, random) / np.einsum("ki,ij,kj->k", random, metric, random)
    assert quotients[0] > others.max()


def test_the_fisher_is_of_each_row_alone_and_of_response_tokens(model) -> None:  # type: ignore[no-untyped-def]
    rows = ROWS["harmful"][:3]
    found = diagonal_fisher(model, rows, lambda: None)[DOWN]
    squares = []
    for row in rows:
        model.zero_grad()
        ids = torch.tensor([row.prompt + row.response])
        labels = ids.clone()
        labels[0, : len(row.prompt)] = -100
        (model(input_ids=ids, labels=labels).loss * len(row.response)).backward()
        squares.append(model.get_parameter(DOWN).grad.square().numpy().copy())
    model.zero_grad()
    np.testing.assert_allclose(found, np.mean(squares, axis=0), rtol=1e-3, atol=1e-6 * np.max(squares))


def updates(folder: Path, name: str) -> list[Update]:
    shape = Checkpoint(folder / "diagonal").shape(f"{name}.ratio")
    draw = np.random.default_rng(5)
    return [Update(d, p, 1.0, draw.standard_normal(shape, dtype=np.float32)) for p, d in enumerate(("s", "u"))]


def run(folder: Path, recipe: Recipe, name: str = DOWN) -> Float32:
    form = "kfac" if getattr(recipe, "curvature", "diagonal") == "kfac" else "diagonal"
    target = Target(name, 2.0, Curvature(folder, form))
    result: Float32 = recipe.merge(updates(folder, name), target)
    return result


def recipes(k: float) -> list[SafetyRecipe]:
    return [
        Sst(method="sst", curvature="kfac", k=k, **COMMON),
        Sst(method="sst", curvature="diagonal", k=k, **COMMON),
        RandomMask(method="random_mask", k=k, seed=1, **COMMON),
        RandomSubspace(method="random_subspace", k=k, seed=1, **COMMON),
    ]


def test_k_of_one_and_no_damping_are_plain_addition_bit_for_bit(folder: Path) -> None:
    plain = TaskArithmetic(method="task_arithmetic", donors=COMMON["donors"])
    weighed = [u._replace(weight=0.5 if u.donor == "s" else 1.0) for u in updates(folder, DOWN)]
    expected = plain.merge(weighed, Target(DOWN, 1.5))
    for recipe in [*recipes(1.0), Alignguard(method="alignguard", damping=0, **COMMON)]:
        assert run(folder, recipe).tobytes() == expected.tobytes(), recipe


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("name", [DOWN, K])
def test_a_larger_k_keeps_more(folder: Path, place: int, name: str) -> None:
    safety, other = (update.delta for update in updates(folder, name))
    metric = np.eye(safety.shape[1])
    if place == 0:
        duals, _ = Curvature(folder, "kfac").subspace(name, 1.0)
        metric = duals.T.astype(np.float64) @ duals  # M V Vᵀ M = M
    sizes, results = [], []
    for k in (0.02, 0.1, 0.3, 0.6, 0.99, 1.0):
        projected = (run(folder, recipes(k)[place], name) - other).astype(np.float64) / 0.5
        results.append(projected)
        sizes.append(np.einsum("ri,ij,rj->", projected, metric, projected))
    assert all(small < large * (1 + 1e-4) for small, large in pairwise(sizes))
    assert sizes[0] < 0.5 * sizes[-1]
    assert all(not np.allclose(one, two) for one, two in pairwise(results))


def test_kfac_spares_benign_inputs_more_than_a_random_subspace(model, folder: Path) -> None:  # type: ignore[no-untyped-def]
    other = updates(folder, DOWN)[1].delta
    harmful, benign = (second_moment(model, ROWS[kind], DOWN.removesuffix(".weight")) for kind in ROWS)

    def selectivity(recipe: SafetyRecipe) -> float:
        part = (run(folder, recipe) - other).astype(np.float64)
        return float(np.trace(part @ harmful @ part.T) / np.trace(part @ benign @ part.T))

    kfac, _, _, random = recipes(0.1)
    assert selectivity(kfac) > 2 * selectivity(random)


def test_the_mask_keeps_the_largest_ratios(folder: Path) -> None:
    safety, other = (update.delta for update in updates(folder, DOWN))
    part = run(folder, recipes(0.25)[1]) - other
    ratio = Curvature(folder, "diagonal").ratio(DOWN)
    kept = ratio >= np.sort(ratio.ravel())[-int(0.25 * ratio.size)]
    np.testing.assert_allclose(part, np.where(kept, safety / 2, 0), atol=1e-6)


def test_alignguard_damps_where_the_fisher_is_high(folder: Path) -> None:
    safety, other = (update.delta for update in updates(folder, DOWN))
    part = run(folder, Alignguard(method="alignguard", damping=2.0, **COMMON)) - other
    fisher = Curvature(folder, "diagonal").fisher(DOWN)
    np.testing.assert_allclose(part, safety / 2 / (1 + 2 * fisher / fisher.mean()), atol=1e-5)


def test_every_safety_donor_is_projected_and_the_others_are_added_whole(folder: Path) -> None:
    common: dict[str, Any] = {"donors": {"s": 1.0, "u": 1.0}, "curvature": "kfac", "k": 0.3}
    both = run(folder, Sst(method="sst", safety=["s", "u"], **common))
    (safety, other), parts = (update.delta for update in updates(folder, DOWN)), []
    for name, whole in (("s", other), ("u", safety)):
        parts.append(run(folder, Sst(method="sst", safety=[name], **common)) - whole)
    np.testing.assert_allclose(both, parts[0] + parts[1], atol=1e-5)
    assert not np.allclose(both, safety + other, atol=1e-2)


def test_curvature_that_was_not_collected_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"add kfac to curvature\.forms"):
        Curvature(tmp_path, "kfac")
