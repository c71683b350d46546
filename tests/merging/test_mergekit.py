"""mergekit's configurations: the language, the methods on values worked out by hand, and merges of tiny models."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import real_params
from safetensors.numpy import load_file, save_file

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.merging.bench import Bench
from safety_tax.merging.mergekit.arithmetic import METHODS
from safety_tax.merging.mergekit.operands import Operands
from safety_tax.merging.mergekit.plan import plan
from safety_tax.merging.mergekit.reading import read_config
from safety_tax.merging.mergekit.settings import Choice, evaluate
from safety_tax.merging.methods.mergekit import Mergekit
from safety_tax.merging.opening import open_merge
from safety_tax.params import validated
from safety_tax.settings.sources import FolderSource

A, B, W0 = ([[1.0, -2.0, 3.0, 0.0]], [[3.0, 2.0, -1.0, 4.0]], [[1.0, 0.0, 1.0, 0.0]])
# Task vectors: a [0, -2, 2, 0], b [2, 2, -2, 4].


def merged(method: str, tensors: list[list[list[float]]], base: int | None = 0, **parameters: Any) -> list[Any]:
    """One tensor by a method; the parameters of each model as a list, in the order of those beside the base."""
    kind = METHODS[method]
    shared = {key: parameters.get(key, parameter.default) for key, parameter in kind.shared.items()}
    others = [place for place in range(len(tensors)) if place != base]
    own: list[dict[str, Any]] = [{} for _ in tensors]
    for key, parameter in kind.own.items():
        values = parameters.get(key, [parameter.default] * len(others))
        for place, value in zip(others, values, strict=True):
            own[place][key] = value
    arrays = [np.array(tensor, np.float32) for tensor in tensors]
    result: list[Any] = kind.merge(Operands("w", arrays, base, shared, own, 0)).tolist()
    return result


def test_linear_is_the_weighted_mean_of_whole_weights() -> None:
    assert merged("linear", [A, B], None, weight=[1, 3]) == [[2.5, 1, 0, 3]]
    # 1 · a + 3 · b, not divided
    assert merged("linear", [A, B], None, weight=[1, 3], normalize=False) == [[10, 4, 0, 12]]


def test_task_arithmetic_divides_only_where_it_is_told() -> None:
    # w0 + 0.5 · (1·[0, -2, 2, 0] + 3·[2, 2, -2, 4]) = w0 + [3, 2, -2, 6]
    assert merged("task_arithmetic", [W0, A, B], weight=[1, 3], **{"lambda": 0.5}) == [[4, 2, -1, 6]]
    # divided by 4: w0 + [1.5, 1, -1, 3]
    assert merged("task_arithmetic", [W0, A, B], weight=[1, 3], normalize=True) == [[2.5, 1, 0, 3]]
    # It takes a density and thins nothing, even at 0.
    assert merged("task_arithmetic", [W0, A, B], weight=[1, 1], density=[0, 0.5]) == [[3, 0, 1, 4]]


def test_ties_averages_those_that_agree_with_the_weighted_sign() -> None:
    # sums of [0, -2, 2, 0] and [2, 2, -2, 4]: 2, 0, 0, 4; zero counts as plus
    assert merged("ties", [W0, A, B], weight=[1, 1]) == [[3, 2, 3, 4]]
    # a negative weight turns a vector round: [0, 2, -2, 0] and [2, 2, -2, 4] agree
    assert merged("ties", [W0, A, B], weight=[-1, 1], normalize=False) == [[3, 4, -3, 4]]


def test_what_is_left_keeps_its_l1_norm_where_rescale_says_so() -> None:
    one = [[5.0, 1.0, 2.0, -2.0]]
    # of [1, 2, -2, 5] the largest two stay, 7 of 10: times 10 / 7
    found = merged("ties", [[[0.0] * 4], one], weight=[1], density=[0.5], rescale=True)
    np.testing.assert_allclose(found, [[50 / 7, 0, 0, -20 / 7]], rtol=1e-6)
    # the largest goes (int(.25 · 4) = 1), then the smallest: 2 and -2 stay
    found = merged("breadcrumbs", [[[0.0] * 4], one], weight=[1], density=[0.5], gamma=[0.25])
    assert found == [[0, 0, 2, -2]]


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della_linear", "della"])
def test_random_choices_keep_the_l1_norm_and_the_share_that_was_asked_for(method: str) -> None:
    rows = np.abs(np.random.default_rng(0).normal(size=(400, 500))).tolist()
    zeros = np.zeros((400, 500)).tolist()
    found = np.array(merged(method, [zeros, rows], weight=[1.0], density=[0.5]))
    # 200,000 draws: four standard deviations of the share are 4 · sqrt(.25 / 200000) = .0045
    assert abs(np.count_nonzero(found) / found.size - 0.5) < 0.0045
    np.testing.assert_allclose(np.abs(found).sum(), np.abs(rows).sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("random", "plain"), [("dare_ties", "ties"), ("della", "ties"), ("della_linear", "task_arithmetic")]
)
def test_at_full_density_nothing_is_drawn(random: str, plain: str) -> None:
    assert merged(random, [W0, A, B], weight=[1, 2], normalize=True) == merged(
        plain, [W0, A, B], weight=[1, 2], normalize=True
    )


def test_slerp_goes_from_the_base_along_whole_weights() -> None:
    halfway = merged("slerp", [[[1.0, 0.0]], [[0.0, 1.0]]], t=0.5)
    np.testing.assert_allclose(halfway, [[0.5**0.5, 0.5**0.5]], rtol=1e-6)
    assert merged("slerp", [[[1.0, 1.0]], [[3.0, 3.0]]], t=0.25) == [[1.5, 1.5]]  # parallel: straight
    np.testing.assert_allclose(merged("slerp", [[[0.0, 1.0]], [[1.0, 0.0]]], base=1, t=0.0), [[1, 0]], atol=1e-7)


def test_nuslerp_takes_task_vectors_whole_or_by_row() -> None:
    base, one, two = [[1.0, 1.0], [1.0, 1.0]], [[2.0, 1.0], [1.0, 2.0]], [[1.0, 2.0], [1.0, 3.0]]
    # δ [[1, 0], [0, 1]] and [[0, 1], [0, 2]]: rows at a right angle, and parallel
    by_row = merged("nuslerp", [base, one, two], weight=[1, 1], nuslerp_flatten=False)
    np.testing.assert_allclose(by_row, [[1 + 0.5**0.5, 1 + 0.5**0.5], [1, 2.5]], rtol=1e-6)
    # flat: cos θ = 2 / (sqrt 2 · sqrt 5)
    theta = np.arccos(2 / 10**0.5)
    share = np.sin(theta / 2) / np.sin(theta)
    whole = merged("nuslerp", [base, one, two], weight=[1, 1])
    np.testing.assert_allclose(whole, [[1 + share, 1 + share], [1, 1 + 3 * share]], rtol=1e-6)


def test_model_stock_goes_as_far_as_the_models_agree() -> None:
    base = [[1.0, 1.0]]
    # δ [2, 0] and [2, 2]: cos θ = 4 / (2 · sqrt 8) = .7071, t = 2 cos / (1 + cos) = .8284
    t = 2 * 0.5**0.5 / (1 + 0.5**0.5)
    found = merged("model_stock", [base, [[3.0, 1.0]], [[3.0, 3.0]]])
    np.testing.assert_allclose(found, [[1 + t * 2, 1 + t * 1]], rtol=1e-6)
    assert merged("model_stock", [base, [[3.0, 1.0]], [[1.0, 3.0]]]) == base  # a right angle: nothing in common
    by_row = merged("model_stock", [base * 2, [[3.0, 1.0]] * 2, [[3.0, 1.0], [1.0, 3.0]]], filter_wise=True)
    np.testing.assert_allclose(by_row, [[3, 1], [1, 1]], rtol=1e-6)


def test_sce_selects_weighs_and_erases() -> None:
    # squares of a: 0, 4, 4, 0 (mean 2), of b: 4, 4, 4, 16 (mean 7); elected by plain sums: plus everywhere
    found = merged("sce", [W0, A, B])
    np.testing.assert_allclose(found, [[3, 2, 3, 4]], rtol=1e-6)
    # variances 1, 4, 4, 4: int(.75 · 4) of them stay
    found = merged("sce", [W0, A, B], select_topk=0.75)
    np.testing.assert_allclose(found, [[1, 2, 3, 4]], rtol=1e-6)


def test_passthrough_takes_one_model_and_may_scale_it() -> None:
    assert merged("passthrough", [A], None) == A
    assert merged("passthrough", [A], None, scale=[0.5]) == [[0.5, -1, 1.5, 0]]


def test_a_gradient_is_a_line_from_point_to_point() -> None:
    setting = (Choice((0.0, 0.5, 0.3), True),)
    assert [evaluate(setting, "w", t, float) for t in (0, 0.25, 0.5, 1)] == [0, 0.25, 0.5, 0.3]
    assert [evaluate((Choice((True, False), True),), "w", t, bool) for t in (0, 0.9, 1)] == [True, True, False]
    by_name = (Choice((1.0,), False, "mlp"), Choice((0.5,), False, "*"))
    assert [evaluate(by_name, name, 0, float) for name in ("layers.0.mlp.up", "norm")] == [1, 0.5]
    assert evaluate((Choice((1.0,), False, "mlp"),), "norm", 0, float) is None


def test_true_and_false_are_said_in_every_way_that_mergekit_takes() -> None:
    # those of pydantic, by which mergekit reads them
    for true, false in ((True, False), (1, 0), (1.0, 0.0), ("1", "0"), ("t", "F"), ("Y", "n"), ("on", "off")):
        assert evaluate((Choice((true,), False),), "w", 0, bool) is True
        assert evaluate((Choice((false,), False),), "w", 0, bool) is False
    with pytest.raises(ValueError, match=r"2 is neither true nor false"):
        evaluate((Choice((2,), False),), "w", 0, bool)


NAMES = ["lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"] + [
    f"model.layers.{layer}.{part}.weight" for layer in range(4) for part in ("mlp.up_proj", "self_attn.q_proj")
]


def test_parameters_come_from_the_source_then_the_slice_then_the_whole() -> None:
    config = read_config(
        {
            "merge_method": "task_arithmetic",
            "base_model": "b",
            "slices": [
                {
                    "sources": [
                        {"model": "b", "layer_range": [0, 3]},
                        {
                            "model": "x",
                            "layer_range": [1, 4],
                            "parameters": {"weight": [{"filter": "mlp", "value": [0, 1]}]},
                        },
                    ],
                    "parameters": {"weight": 7},
                },
                {"sources": [{"model": m, "layer_range": [0, 1]} for m in ("b", "x")]},
            ],
            "parameters": {"weight": 9, "lambda": [{"value": 2}]},
        }
    )
    steps = plan(config, NAMES)
    of = {name: steps[name].terms[1] for name in NAMES}
    up = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(4)]
    # a gradient over the three layers of the slice; another slice of one layer
    assert [of[name].own["weight"] for name in up] == [0, 0.5, 1, 9]
    assert [of[name].tensor for name in up] == [f"model.layers.{layer}.mlp.up_proj.weight" for layer in (1, 2, 3, 0)]
    assert of["model.layers.0.self_attn.q_proj.weight"].own["weight"] == 7
    # embeddings go with the first slice, what comes after the layers with the last one
    assert [of[name].own["weight"] for name in NAMES[:3]] == [9, 7, 9]
    assert all(step.base == 0 and step.shared["lambda"] == 2 for step in steps.values())


def test_layers_of_gpt_2_have_their_own_names_and_positions_go_with_the_first_slice() -> None:
    names = ["transformer.ln_f.weight", "transformer.wpe.weight", "transformer.wte.weight"]
    names += [f"transformer.h.{layer}.mlp.c_fc.weight" for layer in range(2)]
    slices = [{"sources": [{"model": m, "layer_range": [n, n + 1]}]} for m, n in (("a", 1), ("b", 0))]
    steps = plan(read_config({"merge_method": "passthrough", "slices": slices}), names)
    terms = {name: step.terms[0] for name, step in steps.items()}
    assert {name: term.model for name, term in terms.items()} == dict(zip(names, "baaab", strict=True))
    assert [terms[name].tensor for name in names[3:]] == [names[4], names[3]]


SLERP: dict[str, Any] = {
    "merge_method": "slerp",
    "base_model": "b",
    "models": [{"model": "b"}, {"model": "x"}],
    "parameters": {"t": [{"filter": "self_attn", "value": [0, 1]}, {"value": 0.5}]},
    "dtype": "bfloat16",
}
SOURCES = [{"model": "b", "layer_range": [0, 2]}, {"model": "x", "layer_range": [0, 2]}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"merge_metod": "slerp"}, "unknown key 'merge_metod'; did you mean 'merge_method'?"),
        ({"merge_method": "slerpp"}, "unknown merge_method 'slerpp'; did you mean 'slerp'?"),
        ({"merge_method": "karcher"}, "'karcher' is not supported; run `mergekit-yaml` yourself .* `method: given`"),
        ({"modules": {}}, "`modules` is not supported; run `mergekit-yaml`"),
        ({"chat_template": "auto"}, "`chat_template` is not supported; take it out: every variant is asked with"),
        ({"tokenizer": {"source": "base"}, "tokenizer_source": "base"}, "both `tokenizer` and `tokenizer_source`"),
        ({"parameters": {"tt": 0.5}}, "unknown key parameters.'tt'"),
        ({"parameters": {"t": [{"filter": "self_atn", "value": 1}, {"value": 0}]}}, "filter 'self_atn' of t is in no"),
        ({"parameters": {"t": [{"pattern": "mlp", "value": 1}]}}, "unknown key parameters.t.0.'pattern'"),
        ({"merge_method": ["slerp"]}, r"unknown merge_method \['slerp'\]; did you mean 'slerp'"),
        ({"parameters": {"t": "far"}}, "parameter t: 'far' is no number"),
        ({"parameters": {"t": float("nan")}}, "parameter t: nan is no number"),
        ({"parameters": {"t": [0, "inf"]}}, "parameter t: 'inf' is no number"),
        ({"parameters": {"t": []}}, "parameters.t is '\\[\\]'; write a value"),
        ({"parameters": {}}, "no t for lm_head.weight; add it under `parameters`"),
        ({"base_model": None}, "slerp needs `base_model`"),
        ({"models": [{"model": "x"}, {"model": "y"}]}, "models has 2 models beside the base, and slerp merges 1"),
        ({"models": [{"model": "b"}, {"model": "x"}, {"model": "x"}]}, "names a model twice"),
        ({"models": None}, "either `models` or `slices`"),
        ({"dtype": "int8"}, "dtype is 'int8'; write one of float32"),
        ({"tokenizer_source": "union"}, "'union' is not supported, only `base` is; write `base` where .*, or run"),
        ({"tokenizer": {"source": "base", "tokens": {"x": {}}}}, "changes the vocabulary"),
        ({"models": None, "slices": [{"sources": SOURCES}]}, "a model of 2 layers, and the base has 4"),
        ({"models": None, "slices": [{"sources": SOURCES}] * 3}, "a model of 6 layers, and the base has 4"),
        (
            {"models": None, "slices": [{"sources": [SOURCES[0], {"model": "x", "layer_range": [3, 5]}]}]},
            "layers up to 5 of 'x', which has 4",
        ),
        (
            {"models": None, "slices": [{"sources": [SOURCES[0], {"model": "x", "layer_range": [0, 1]}]}]},
            "different numbers of layers",
        ),
        ({"models": None, "slices": [{"sources": [{"model": "x", "layer_range": 4}]}]}, "layer_range is 4; write"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(change: dict[str, Any], said: str) -> None:
    content = {key: value for key, value in (SLERP | change).items() if value is not None}
    with pytest.raises(ValueError, match=said):
        plan(read_config(content), NAMES)


def test_parameters_of_other_methods_are_left_unread_and_told() -> None:
    config = read_config(SLERP | {"parameters": {"t": 0.5, "int8_mask": True, "normalize": True}})
    assert config.unread == ("int8_mask", "normalize")


def test_tokenizer_source_of_the_base_is_taken() -> None:
    for change in ({"tokenizer_source": "base"}, {"tokenizer_source": "b"}, {"tokenizer": {"source": "base"}}):
        assert read_config(SLERP | change).models() == ["b", "x"]


def test_a_reference_may_be_a_mapping_a_type_torchs_and_a_configuration_have_a_name() -> None:
    model = {"model": {"path": "owner/x", "revision": "main"}, "lora": {"path": "owner/y"}}
    change = {"models": [{"model": model}, {"model": "b"}], "dtype": "torch.bfloat16", "name": "mine"}
    config = read_config(SLERP | change)
    assert config.models() == ["b", "owner/x@main+owner/y"]
    assert config.dtype == "bfloat16"


def other(base: Path, folder: Path, seed: int) -> Path:
    """A full checkpoint of the base's shapes whose weights are a little off."""
    shutil.copytree(base, folder)
    draw = np.random.default_rng(seed)
    tensors = load_file(base / "model.safetensors")
    moved = {k: (v + 0.02 * draw.normal(size=v.shape)).astype(np.float32) for k, v in tensors.items()}
    save_file(moved, folder / "model.safetensors", {"format": "pt"})
    return folder


def recipe_of(config: Any, **keys: Any) -> Mergekit:
    return Mergekit.model_validate({"method": "mergekit", "config": config, **keys})


def test_a_configuration_merges_folders_and_the_base(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_models["tiny_mistral"]
    one = other(folder, tmp_path / "one", 1)
    recipe = recipe_of(
        {
            "merge_method": "task_arithmetic",
            "base_model": "owner/base",
            "models": [{"model": str(one), "parameters": {"weight": [{"filter": "mlp", "value": 0.5}, {"value": 0}]}}],
            "dtype": "float16",
        },
        names={"owner/base": "base"},
    )
    base = Checkpoint(folder)
    sources = recipe.sources("m", FolderSource(kind="folder", path=str(folder)))
    assert list(sources) == [str(one)]
    bench = Bench("m", "mine", base, tmp_path, tmp_path, tmp_path, sources, tmp_path / "scratch")
    opened = open_merge(recipe, bench)
    assert (one / "model.safetensors").resolve() in opened.inputs
    moved = Checkpoint(one)
    for name in base.names():
        found, _ = opened.merge.tensor(name)
        rounded = [of.read(name).astype(np.float16).astype(np.float32) for of in (base, moved)]
        wanted = rounded[0] + (0.5 if "mlp" in name else 0) * (rounded[1] - rounded[0])
        assert np.array_equal(found, wanted.astype(np.float16).astype(np.float32)), name


def mine(config: Any, **keys: Any) -> dict[str, Any]:
    params = real_params()
    params["recipes"]["mine"] = {"method": "mergekit", "config": config, **keys}
    return params


LINEAR: dict[str, Any] = {"merge_method": "linear", "models": [{"model": "own/x", "parameters": {"weight": 1}}]}


def test_the_names_in_it_stand_for_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/merges").mkdir(parents=True)
    (tmp_path / "data/merges/mine.yml").write_text(yaml.safe_dump(LINEAR), encoding="utf-8")
    for config in (LINEAR, "mine.yml"):
        with pytest.raises(PipelineError, match=r"names 'own/x', without the commit .* write own/x@"):
            validated(mine(config))
        with pytest.raises(PipelineError, match=r"unknown donor of recipe 'mine' 'safty'; did you mean 'safety'\?"):
            validated(mine(config, names={"own/x": "safty"}))
    recipe = validated(mine(LINEAR, names={"own/x": "safety"})).recipe("mine")
    assert recipe.reads() == ["safety"]
    assert recipe.held() == 1
    pinned = json.loads(json.dumps(LINEAR).replace("own/x", f"own/x@{'c' * 40}"))
    sources = validated(mine(pinned)).recipe("mine").sources("m", FolderSource(kind="folder", path="b"))
    assert [source.model_dump() for source in sources.values()] == [
        {"kind": "hub", "repository": "own/x", "commit": "c" * 40}
    ]
    folder = json.loads(json.dumps(LINEAR).replace("own/x", "../own/x"))  # it may be on another machine
    sources = validated(mine(folder)).recipe("mine").sources("m", FolderSource(kind="folder", path="b"))
    assert [source.model_dump() for source in sources.values()] == [{"kind": "folder", "path": "../own/x"}]
    (tmp_path / "data/merges/two.yml").write_text("name: a\n---\nname: b\n", encoding="utf-8")
    for config, keys, said in (
        ("none.yml", {}, r"data/merges/none.yml; did you mean 'mine.yml' or 'two.yml'\?"),
        ("../mine.yml", {}, "or the name of a file in data/merges"),
        ("merge_method: linear\nmodels: []\n", {}, "config is the text 'merge_method: .*; write mergekit's keys below"),
        ("two.yml", {}, "data/merges/two.yml holds several configurations; give each a file of its own"),
        (LINEAR, {"names": {"own/y": "base"}}, "names has 'own/y', which config does not name: own/x"),
        (LINEAR | {"merge_method": "linea"}, {}, "recipes.mine: config: unknown merge_method 'linea'; did you mean"),
        (LINEAR | {"models": [{"model": "there"}]}, {}, "names 'there', which is no folder here"),
    ):
        with pytest.raises(PipelineError, match=said):
            validated(mine(config, **keys))


def test_the_repository_of_the_catalogue_is_the_base() -> None:
    params = mine(LINEAR | {"models": [{"model": "mistralai/Mistral-7B-v0.1", "parameters": {"weight": 1}}]})
    params["models"] = ["mistral_7b"]
    source = validated(params).model("mistral_7b").source
    assert validated(params).recipe("mine").sources("mistral_7b", source) == {}


def test_an_adapter_over_the_base_is_the_adapter_and_over_another_model_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base, at = FolderSource(kind="folder", path="models/base"), f"own/y@{'c' * 40}"

    def sources(model: str, **names: Any) -> dict[str, Any]:
        config = LINEAR | {"models": [{"model": model, "parameters": {"weight": 1}}]}
        found = recipe_of(config, names=names).sources("m", base).items()
        return {name: dict(source.model_dump(exclude={"kind"})) for name, source in found}

    assert sources("./models/base+../lora") == {"./models/base+../lora": {"path": "../lora"}}
    pinned = {"repository": "own/y", "commit": "c" * 40}
    assert sources(f"own/x+{at}", **{"own/x": "base"}) == {f"own/x+{at}": pinned}
    assert sources("own/x+own/y", **{"own/x": "base", "own/y": "safety"}) == {}
    assert sources("own/x+own/y", **{"own/x+own/y": "safety"}) == {}
    (tmp_path / "c++").mkdir()
    assert sources("./c++") == {"./c++": {"path": "./c++"}}
    for names in ({}, {"own/y": "safety"}):
        with pytest.raises(ValueError, match=r"'own/x' is not the base; write `names: \{own/x: base\}` if it is, or"):
            sources("own/x+own/y", **names)


def test_an_edited_file_is_another_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/merges").mkdir(parents=True)
    settings = []
    for weight in (1, 2):
        changed = json.loads(json.dumps(LINEAR).replace('"weight": 1', f'"weight": {weight}'))
        (tmp_path / "data/merges/mine.yml").write_text(yaml.safe_dump(changed), encoding="utf-8")
        settings.append(recipe_of("mine.yml", names={"own/x": "base"}).settings())
    assert settings[0] != settings[1]
