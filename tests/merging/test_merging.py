"""Merge methods on values worked out by hand, and the gates of a merge."""

import json
import shutil
from pathlib import Path
from threading import Lock
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from conftest import stored_as
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from safety_tax.core.arrays import BLOCK
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.core.tensor_header import header_bytes
from safety_tax.donors.checks import describe, require_same_vocabulary, require_unchanged
from safety_tax.donors.opening import Adapter, open_donor
from safety_tax.merging.ahead import in_order
from safety_tax.merging.measure import require_a_merge, unlike
from safety_tax.merging.merge import Ingredients, merge, require_layers
from safety_tax.merging.methods.breadcrumbs import Breadcrumbs
from safety_tax.merging.methods.dare_linear import DareLinear
from safety_tax.merging.methods.dare_ties import DareTies
from safety_tax.merging.methods.della import Della
from safety_tax.merging.methods.linear import Linear
from safety_tax.merging.methods.slerp import Slerp
from safety_tax.merging.methods.task_arithmetic import TaskArithmetic
from safety_tax.merging.methods.ties import Ties
from safety_tax.merging.ranks import ranked
from safety_tax.merging.recipe import weight_at
from safety_tax.merging.resume import WorkFolder
from safety_tax.merging.thinned import drop, largest
from safety_tax.merging.updates import Target, Update

DONORS = {"a": 1.0, "b": 1.0}
W = Target("w", 2.0)


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def updates(*deltas: np.ndarray, weights: tuple[float, ...] = (1.0, 1.0)) -> list[Update]:
    return [Update("ab"[place], place, weights[place], delta) for place, delta in enumerate(deltas)]


def test_linear_is_the_weighted_mean_also_where_a_donor_is_absent() -> None:
    recipe = Linear(method="linear", donors={"a": 1.0, "b": 3.0})
    # (1·4 + 3·8) / 4 = 7; b alone: 3·8 / 4 = 6
    assert recipe.merge(updates(row(4), row(8), weights=(1, 3)), Target("w", 4.0)).tolist() == [[7]]
    assert recipe.merge([Update("b", 1, 3.0, row(8))], Target("w", 4.0)).tolist() == [[6]]


def test_slerp_keeps_to_the_circle_and_is_straight_for_parallel_vectors() -> None:
    recipe = Slerp(method="slerp", donors=DONORS, t=0.5)
    # halfway between two unit vectors at a right angle: sin 45° of each
    middle = recipe.merge(updates(row(1, 0), row(0, 1)), W)
    np.testing.assert_allclose(middle, row(0.5**0.5, 0.5**0.5), rtol=1e-6)
    assert recipe.merge(updates(row(1, 1), row(3, 3)), W).tolist() == [[2, 2]]
    # a donor that is not there is zeros: straight
    assert recipe.merge([Update("b", 1, 1.0, row(4, 2))], W).tolist() == [[2, 1]]


def test_the_order_of_donors_means_nothing() -> None:
    """DVC compares mappings without their order, so another order must not be another merge."""
    listed = [Slerp(method="slerp", donors=dict(order), t=0.3) for order in (DONORS.items(), [*DONORS.items()][::-1])]
    assert [list(recipe.donors) for recipe in listed] == [sorted(DONORS)] * 2


def test_task_arithmetic_is_the_scaled_weighted_sum() -> None:
    recipe = TaskArithmetic(method="task_arithmetic", donors=DONORS, scale=0.5)
    # 0.5 · (1·[2, -4] + 3·[1, 1]) = [2.5, -0.5]
    merged = recipe.merge(updates(row(2, -4), row(1, 1), weights=(1, 3)), W)
    assert merged.tolist() == [[2.5, -0.5]]


def test_trim_keeps_the_largest_by_magnitude() -> None:
    # int(0.5 · 5) = 2 entries stay: -9 and 4.
    assert largest(row(1, -9, 3, 4, 0), 0.5).tolist() == [False, True, False, True, False]
    assert largest(row(2, 2, 2, 2), 0.5).sum() == 2
    assert largest(row(1, 2), 1.0) is None


def test_ties_elects_signs_and_averages_those_that_agree() -> None:
    recipe = Ties(method="ties", donors=DONORS)
    # signs of the sums 3, -2, 0, 5: plus, minus, plus (zero counts as plus), plus
    # entry 1: both agree, (1+2)/2; entry 2: only -3; entry 3: only 2; entry 4: only 5 (zero agrees with nothing)
    pair = updates(row(1, -3, 2, 5), row(2, 1, -2, 0))
    assert recipe.merge(pair, W).tolist() == [[1.5, -3, 2, 5]]
    assert recipe.model_copy(update={"normalize": False}).merge(pair, W).tolist() == [[3, -3, 2, 5]]


def test_ties_divides_by_the_weights_that_agree() -> None:
    recipe = Ties(method="ties", donors=DONORS, density=1.0, scale=2.0)
    # (3·1 + 1·5) / (3 + 1) = 2, times 2; where nothing is, nothing comes
    assert recipe.merge(updates(row(1, 0), row(5, 0), weights=(3, 1)), W).tolist() == [[4, 0]]


def test_dare_drops_the_share_it_says_and_keeps_the_mean() -> None:
    update = Update("a", 0, 1.0, np.ones((400, 500), np.float32))
    dropped = drop(update, 0.25, seed=1, name="w").part(slice(0, 200_000))
    assert set(np.unique(dropped)) == {0.0, 4.0}
    # 200,000 draws: four standard deviations of the mean are 4 · sqrt(0.25·0.75/200000)/0.25 = 0.0155
    assert abs(float(dropped.mean()) - 1.0) < 0.0155


def test_dare_depends_on_seed_donor_and_tensor_name_only() -> None:
    def kept(place: int, seed: int, name: str) -> np.ndarray:
        return drop(Update("a", place, 1.0, np.ones((20, 20), np.float32)), 0.5, seed, name).kept

    assert np.array_equal(kept(0, 1, "w"), kept(0, 1, "w"))
    for other in (kept(0, 2, "w"), kept(1, 1, "w"), kept(0, 1, "v")):
        assert not np.array_equal(kept(0, 1, "w"), other)


def test_dare_at_full_density_drops_nothing() -> None:
    pair = updates(row(1, -3, 2), row(2, 1, -2), weights=(1, 2))
    elected = DareTies(method="dare_ties", donors=DONORS).merge(pair, W)
    assert np.array_equal(elected, Ties(method="ties", donors=DONORS).merge(pair, W))
    summed = DareLinear(method="dare_linear", donors=DONORS).merge(pair, W)
    assert summed.tolist() == [[5, -1, -2]]


def test_breadcrumbs_leaves_out_outliers_and_small_entries() -> None:
    recipe = Breadcrumbs(method="breadcrumbs", donors=DONORS, density=0.5, gamma=0.1)
    # of ten entries the largest goes (-10), and the four smallest (1 to 4)
    values = row(1, 2, 3, 4, 5, 6, 7, 8, 9, -10)
    assert recipe.merge([Update("a", 0, 1.0, values)], W).tolist() == [[0, 0, 0, 0, 5, 6, 7, 8, 9, 0]]
    whole = recipe.model_copy(update={"density": 1.0})
    assert np.array_equal(whole.merge([Update("a", 0, 1.0, values)], W), values)
    # int(.09 · 10) entries are none, as mergekit counts them
    nothing = recipe.model_copy(update={"density": 0.09})
    assert not nothing.merge([Update("a", 0, 1.0, values)], W).any()


def test_della_keeps_large_entries_more_often_and_the_mean() -> None:
    values = np.tile(row(1, 2, 3, 4, 5), (20_000, 1))
    recipe = Della(method="della", donors=DONORS, density=0.5, epsilon=0.2, seed=3)
    merged = recipe.merge([Update("a", 0, 1.0, values)], W)
    shares = np.count_nonzero(merged, axis=0) / len(values)
    # p = .3, .4, .5, .6, .7; four standard deviations are at most 4 · sqrt(.25/20000) = .0141
    np.testing.assert_allclose(shares, [0.3, 0.4, 0.5, 0.6, 0.7], atol=0.0142)
    # of the mean: at most 4 · 5 · sqrt(.7/.3/20000) = .216
    np.testing.assert_allclose(merged.mean(axis=0), [1, 2, 3, 4, 5], atol=0.216)


def test_weights_go_by_layer() -> None:
    weight = {"0-5": 1.0, "6": 0.25, "8-": 0.5}
    assert [weight_at(weight, layer) for layer in (0, 5, 6, 7, 8, 90, None)] == [1, 1, 0.25, 0, 0.5, 0.5, 0]
    assert weight_at(weight | {"rest": 0.1}, None) == 0.1
    assert weight_at(0.3, None) == 0.3


def test_a_layer_range_outside_of_the_base_is_refused(tiny_models: dict[str, Path]) -> None:
    base = Checkpoint(tiny_models["tiny_llama"])
    require_layers(TaskArithmetic(method="task_arithmetic", donors={"a": {"0-1": 1.0}}), base)
    for text in ("2-", "0-2", "7"):
        with pytest.raises(PipelineError, match=f"layers '{text}' .* found layers 0 to 1"):
            require_layers(TaskArithmetic(method="task_arithmetic", donors={"a": {text: 1.0}}), base)


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


def run_merge(adapter: Path, base_folder: Path, folder: Path, scale: float = 1.0) -> dict[str, Any]:
    base = Checkpoint(base_folder)
    recipe = TaskArithmetic(method="task_arithmetic", donors={"donor": 1.0}, scale=scale)
    ingredients = Ingredients(base, [Adapter(adapter, base)], recipe)
    return merge(ingredients, WorkFolder(folder, "key"))


def test_a_merge_is_read_by_transformers_as_peft_would_have_it(
    adapter: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    moved = run_merge(adapter, tiny_models["tiny_llama"], tmp_path / "merged")
    tensors = load_file(tmp_path / "merged/model/model.safetensors")
    base = Checkpoint(tiny_models["tiny_llama"])
    donor = Adapter(adapter, base)
    name = donor.names()[0]
    np.testing.assert_array_equal(tensors[name], base.read(name) + donor.delta(name))
    squares = sum(float(np.vdot(donor.delta(n), donor.delta(n))) for n in donor.names())
    assert moved["change_norm"] == pytest.approx(squares**0.5)
    assert moved["cosine_to_donor"] == {"donor": pytest.approx(1.0)}


def test_a_recipe_that_changes_nothing_is_refused(adapter: Path, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="equal to it"):
        run_merge(adapter, tiny_models["tiny_llama"], tmp_path / "merged", scale=0.0)


def test_a_donor_of_another_architecture_is_refused(
    adapter: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copyfile(tiny_models["tiny_llama"] / "config.json", tmp_path / "config.json")
    save_file({"model.layers.0.self_attn.q_proj.weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(PipelineError, match="another architecture"):
        Adapter(adapter, Checkpoint(tmp_path))


def test_a_donor_of_another_shape_is_refused(adapter: Path, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    shutil.copyfile(tiny_models["tiny_llama"] / "config.json", tmp_path / "config.json")
    tensors = load_file(tiny_models["tiny_llama"] / "model.safetensors")
    small = {name: tensor[:32, ...] for name, tensor in tensors.items()}
    save_file(small, tmp_path / "model.safetensors")
    with pytest.raises(PipelineError, match="have the shape"):
        Adapter(adapter, Checkpoint(tmp_path))


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


@pytest.mark.parametrize("rslora", [False, True])
def test_ranks_alphas_and_whole_modules_are_what_peft_merges(
    rslora: bool, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    torch.manual_seed(4)
    base_folder = tiny_models["tiny_mistral"]
    network = AutoModelForCausalLM.from_pretrained(base_folder)
    lora = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "down_proj", "layers.1.mlp.up_proj"],
        rank_pattern={"down_proj": 2, "layers.1.self_attn.q_proj": 7},
        alpha_pattern={"layers.0.mlp.down_proj": 3},
        modules_to_save=["lm_head"],
        use_rslora=rslora,
        init_lora_weights=False,
    )
    tuned = get_peft_model(network, lora)
    with torch.no_grad():
        tuned.base_model.model.lm_head.modules_to_save["default"].weight.mul_(1.5)
    tuned.save_pretrained(tmp_path / "donor")
    base = Checkpoint(base_folder)
    donor = open_donor(tmp_path / "donor", base)
    expected = tuned.merge_and_unload().state_dict()
    assert len(donor.names()) == 2 + 2 + 1 + 1
    for name in donor.names():
        ours = np.asarray(base.read(name)) + donor.delta(name)
        np.testing.assert_allclose(ours, expected[name].numpy(), atol=2e-6)


@pytest.fixture
def full(tiny_models: dict[str, Path], tmp_path: Path) -> Path:
    """A full checkpoint of tiny_mistral, every tensor of it moved by one."""
    folder = tmp_path / "full"
    shutil.copytree(tiny_models["tiny_mistral"], folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def test_a_full_checkpoint_is_its_difference_to_the_base(full: Path, tiny_models: dict[str, Path]) -> None:
    base = Checkpoint(tiny_models["tiny_mistral"])
    donor = open_donor(full, base)
    assert donor.names() == base.names()
    np.testing.assert_allclose(donor.delta("model.norm.weight"), 1, atol=1e-6)


def test_full_checkpoints_that_do_not_fit_are_refused(full: Path, tiny_models: dict[str, Path]) -> None:
    with pytest.raises(PipelineError, match="model_type 'llama', found 'mistral'"):
        open_donor(full, Checkpoint(tiny_models["tiny_llama"]))
    tokens = json.loads((full / "tokenizer.json").read_text(encoding="utf-8"))
    tokens["model"]["vocab"]["a"], tokens["model"]["vocab"]["b"] = 1000, 1001
    (full / "tokenizer.json").write_text(json.dumps(tokens), encoding="utf-8")
    with pytest.raises(PipelineError, match="vocabulary, found token 'a'"):
        require_same_vocabulary(tiny_models["tiny_mistral"], full)
    base = Checkpoint(tiny_models["tiny_mistral"])
    tensors = load_file(full / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, full / "model.safetensors")
    with pytest.raises(PipelineError, match=r"found no model\.norm\.weight"):
        open_donor(full, base)
    (full / "model.safetensors").rename(full / "pytorch_model.bin")
    with pytest.raises(PipelineError, match=r"pickled pytorch_model\.bin.*save the donor as safetensors"):
        open_donor(full, base)
    (full / "config.json").unlink()
    with pytest.raises(PipelineError, match="found neither"):
        open_donor(full, base)


def test_a_killed_merge_goes_on_after_its_last_whole_shard(
    adapter: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    base_folder = stored_as(tiny_models["tiny_llama"], tmp_path / "base", "float32", 50_000)
    straight = run_merge(adapter, base_folder, tmp_path / "straight")
    file = adapter / "adapter_model.safetensors"
    content = file.read_bytes()
    tensors = load_file(file)
    last = sorted(tensors)[-1]
    tensors[last] = np.full_like(tensors[last], np.nan)  # stops the run in a late shard
    save_file(tensors, file)
    with pytest.raises(PipelineError, match="NaN"):
        run_merge(adapter, base_folder, tmp_path / "work")
    file.write_bytes(content)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "work/model").iterdir()}
    assert len(done) > 2
    assert not [path for path in done if path.name.endswith(".partial")]
    assert run_merge(adapter, base_folder, tmp_path / "work") == straight
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    for path in (tmp_path / "straight/model").iterdir():
        assert path.read_bytes() == (tmp_path / "work/model" / path.name).read_bytes()
    # Under another key nothing is taken over.
    assert not list(WorkFolder(tmp_path / "work", "other").model.iterdir())


def test_sharding_does_not_change_a_random_merge(adapter: Path, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    recipe = DareLinear(method="dare_linear", donors={"donor": 1.0}, density=0.5)
    folders = tiny_models["tiny_llama"], stored_as(tiny_models["tiny_llama"], tmp_path / "shards", "float32", 1)
    for number, folder in enumerate(folders):
        base = Checkpoint(folder)
        merge(Ingredients(base, [Adapter(adapter, base)], recipe), WorkFolder(tmp_path / f"work{number}", "key"))
    one, many = (Checkpoint(tmp_path / f"work{number}/model") for number in range(2))
    assert one.names() == many.names() == base.names()
    assert len(many.files) == len(many.names())
    assert all(np.array_equal(one.read(name), many.read(name)) for name in base.names())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_merge_has_the_headers_of_its_base_to_the_byte(
    dtype: str, adapter: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    shards = stored_as(tiny_models["tiny_llama"], tmp_path / "base", dtype, 100_000)
    odd = sorted(shards.glob("*.safetensors"))[0]
    content, size = odd.read_bytes(), int.from_bytes(odd.read_bytes()[:8], "little")
    header = content[8 : 8 + size].replace(b'"format":"pt"', b'"format":"pt","by":"someone"') + b" " * 5
    odd.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    run_merge(adapter, shards, tmp_path / "work")
    merged = tmp_path / "work/model"
    assert {file.name for file in merged.iterdir()} == {file.name for file in shards.glob("*.safetensors")}
    for file in shards.glob("*.safetensors"):
        assert header_bytes(merged / file.name) == header_bytes(file)
        assert (merged / file.name).stat().st_size == file.stat().st_size
    assert {tensor.dtype for tensor in load_file(merged / odd.name).values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("name", ["distinct", "equals", "zeros"])
def test_ranks_are_those_of_a_stable_sort(name: str) -> None:
    draw = np.random.default_rng(5)
    size = 2 * BLOCK + 77
    values = {
        "distinct": draw.permutation(size).astype(np.float32) - 1000,
        "equals": draw.integers(-3, 4, size).astype(np.float32),
        "zeros": np.zeros(size, np.float32),
    }[name]
    order = np.argsort(np.abs(values), kind="stable")
    for first, stop in ((0, 1), (size - 5, size), (size // 3, size // 2), (7, size - 7), (0, size)):
        expected = np.zeros(size, np.bool_)
        expected[order[first:stop]] = True
        assert np.array_equal(ranked(values.reshape(1, -1), first, stop), expected), (first, stop)


def test_tensors_come_in_order_and_never_too_many_at_once() -> None:
    sizes = {"a": 9, "b": 2, "c": 2, "d": 3, "e": 40, "f": 1}
    lock, held, most = Lock(), dict[str, int](), list[int]()

    def work(name: str) -> str:
        with lock:
            held[name] = sizes[name]
            most.append(sum(held.values()))
        sleep(0.01 * (name in "ad"))
        return name

    found = []
    for name in in_order(work, sizes, 10, 4):
        found.append(name)
        with lock:
            del held[name]
    assert found == list(sizes)
    assert max(most) == 40  # `e`, which is larger than allowed, alone
    assert sorted(most)[-2] <= 10


def test_an_error_comes_in_its_tensors_place() -> None:
    def work(name: str) -> str:
        if name == "b":
            raise PipelineError("b is bad")
        return name

    results = in_order(work, dict.fromkeys("abc", 1), 10, 2)
    assert next(results) == "a"
    with pytest.raises(PipelineError, match="b is bad"):
        next(results)


def test_the_number_of_processors_does_not_change_a_merge(
    full: Path, tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Checkpoint(tiny_models["tiny_mistral"])
    recipe = Ties(method="ties", donors={"full": 1.0, "other": 0.5}, density=0.3)
    shutil.copytree(full, tmp_path / "other")
    tensors = load_file(full / "model.safetensors")
    draw = np.random.default_rng(2)
    noisy = {name: tensor * draw.random(tensor.shape, np.float32) for name, tensor in tensors.items()}
    save_file(noisy, tmp_path / "other/model.safetensors")
    donors = [open_donor(folder, base) for folder in (full, tmp_path / "other")]
    results = []
    for cores in (1, 4):
        monkeypatch.setattr("safety_tax.merging.merge.usable_cores", lambda cores=cores: cores)
        work = WorkFolder(tmp_path / f"work{cores}", "key")
        moved = merge(Ingredients(base, donors, recipe), work)
        results.append((moved, (work.model / "model.safetensors").read_bytes()))
    assert results[0] == results[1]


def test_a_weight_of_a_layer_range_moves_those_layers_alone(
    full: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    base = Checkpoint(tiny_models["tiny_mistral"])
    recipe = TaskArithmetic(method="task_arithmetic", donors={"full": {"1-": 0.5}})
    work = WorkFolder(tmp_path / "work", "key")
    merge(Ingredients(base, [open_donor(full, base)], recipe), work)
    merged = Checkpoint(work.model)
    for name in base.names():
        moved = 0.5 if ".layers.1." in name else 0.0  # every tensor of the donor is the base's plus one
        np.testing.assert_allclose(merged.read(name) - base.read(name), moved, atol=1e-6)


def test_a_merge_says_how_far_it_went_and_whether_its_donors_agree(
    full: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    base = Checkpoint(tiny_models["tiny_mistral"])
    shutil.copytree(full, tmp_path / "half")
    tensors = load_file(full / "model.safetensors")
    # Against the first donor's +1 everywhere: -1 in the embeddings, +1 in the rest.
    other = {name: tensor - 2 * ("embed" in name) for name, tensor in tensors.items()}
    save_file(other, tmp_path / "half/model.safetensors")
    donors = [open_donor(folder, base) for folder in (full, tmp_path / "half")]
    recipe = TaskArithmetic(method="task_arithmetic", donors={"full": 1.0, "half": 0.5})
    work = WorkFolder(tmp_path / "work", "key")
    moved = merge(Ingredients(base, donors, recipe), work)
    total = sum(base.size(name) for name in base.names())
    embedded = base.size("model.embed_tokens.weight")
    rest = total - embedded
    length = (0.25 * embedded + 2.25 * rest) ** 0.5  # 1 - 0.5 in the embeddings, 1 + 0.5 in the rest
    assert moved["change_norm"] == pytest.approx(length, rel=1e-5)
    assert moved["donor_norm"] == {name: pytest.approx(total**0.5, rel=1e-5) for name in ("full", "half")}
    assert moved["sign_agreement"] == {"full, half": pytest.approx(rest / total)}
    cosines = ((0.5 * embedded + 1.5 * rest), (-0.5 * embedded + 1.5 * rest))
    expected = {
        n: pytest.approx(c / length / total**0.5, rel=1e-4) for n, c in zip(("full", "half"), cosines, strict=True)
    }
    assert moved["cosine_to_donor"] == expected
    assert moved["entries_moved"] == 1.0


def test_what_a_merge_must_keep_is_compared(full: Path, tiny_models: dict[str, Path]) -> None:
    base = tiny_models["tiny_mistral"]
    before = describe(base)
    assert before.keys() == {
        "tensors",
        "shapes_hash",
        "vocabulary",
        "tied_embeddings",
        "dtype",
        "tokenizer_hash",
        "chat_template_hash",
    }
    require_unchanged(before, describe(full), "merged")  # other values, the same kind of model
    for key in before.keys() - {"dtype"}:
        with pytest.raises(PipelineError, match=f"keep the base's {key}"):
            require_unchanged(before, before | {key: "other"}, "merged")


def test_a_result_that_rounds_to_a_donor_is_equal_to_it() -> None:
    base, delta = np.full((2, 3), 100, np.float16), np.ones((2, 3), np.float32)
    deltas = {"first": delta, "second": 2 * delta}
    change = delta + np.float32(0.001)  # 101.001 is 101 in float16
    for dtype, differing in ((np.float16, 0), (np.float32, 6)):
        sums = unlike(base, change, deltas, ["first", "second"], np.dtype(dtype))
        assert (sums["unlike first"], sums["unlike second"]) == (differing, 6)
        sums["moved"] = 6
        if not differing:
            with pytest.raises(PipelineError, match="equal to donor 'first' alone"):
                require_a_merge(sums, ["first", "second"], "ties", Ties.remedy)
    # A merge that leaves a tensor alone is unlike a donor that does not.
    left = unlike(base, None, {"first": delta}, ["first", "second"], np.dtype(np.float32))
    assert (left["unlike first"], left["unlike second"]) == (6, 0)
