"""A fault in params.yaml stops the first stage, with a sentence that says where and what."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from conftest import ROOT, real_params

from safety_tax.core.errors import PipelineError
from safety_tax.merging.methods import RECIPE_TYPES
from safety_tax.params import load_params, validated
from safety_tax.results.conditions import how_asked
from safety_tax.results.families import families


def write(folder: Path, params: Any) -> None:
    (folder / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def test_the_projects_own_params_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_params().models == ["smollm2_135m"]


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(params: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        section = params
        for parent in parents:
            section = section[parent]
        if value is None:
            del section[last]
        else:
            section[last] = value

    return apply


def rename(path: str, name: str) -> Callable[[dict[str, Any]], None]:
    def apply(params: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        section = params
        for parent in parents:
            section = section[parent]
        section[name] = section.pop(last)

    return apply


RECIPE = {"method": "ties", "donors": {"safety": 1.0}, "density": 0.5, "scale": 1.0}
SST = {"method": "sst", "donors": {"safety": 1.0}, "safety": ["safety"], "curvature": "kfac", "k": 0.3}
FAULTS = [
    (rename("infer.max_new_tokens", "max_new_token"), ["infer.max_new_token", "did you mean 'max_new_tokens'"]),
    (change("infer.max_new_tokens", None), ["infer.max_new_tokens", "add it"]),
    (change("infer.max_new_tokens", 48), ["infer.max_new_tokens", "harmful, jailbreak, benign", "found 48"]),
    (change("infer.max_new_tokens.problem", 0), ["infer.max_new_tokens.problem", "greater than 0", "found 0"]),
    (change("run.provider", "gpu"), ["run.provider", "'cuda'", "found 'gpu'"]),
    (change("extra", 1), ["found extra", "remove it"]),
    (change("models", ["smollm2_135"]), ["unknown model 'smollm2_135'", "did you mean 'smollm2_135m'"]),
    (change("models", []), ["models", "at least 1 item"]),
    (change("catalog.mistral_7b.benchmarks", "reprot"), ["unknown benchmark set of catalog.mistral_7b", "'report'"]),
    (change("benchmark_sets.report", ["beavertail"]), ["unknown dataset of benchmark_sets.report", "'beavertails'"]),
    (change("catalog.mistral_7b.shots", 6), ["catalog.mistral_7b.shots", "less than or equal to 5"]),
    (change("size", "quik"), ["unknown size 'quik'", "did you mean 'quick'"]),
    (change("judge.name", "rule"), ["name at judge", "'rule'", "did you mean 'rules'"]),
    (change("recipes.ties.method", "tis"), ["recipes.ties", "'tis'", "did you mean 'ties'"]),
    (change("recipes.ties.density", 1.5), ["recipes.ties", "density", "found 1.5"]),
    (change("recipes.ties.density", 0), ["recipes.ties", "density", "found 0"]),
    (change("recipes.ties.donors", {"safty": 1.0}), ["recipe 'ties'", "'safty'", "did you mean 'safety'"]),
    (change("recipes.ties.donors", {}), ["recipes.ties", "at least one donor"]),
    (change("recipes.ties.donors", {"safety": -1.0}), ["recipes.ties", "above 0"]),
    (rename("recipes.ties.density", "densty"), ["recipes.ties", "densty", "did you mean 'density'"]),
    (change("recipes.ties.donors", {"safety": {"5-2": 1.0}}), ["ends before it begins", "'2-5'"]),
    (change("recipes.ties.donors", {"safety": {"early": 1.0}}), ["unknown layer range 'early'"]),
    (change("recipes.ties.donors", {"safety": {"0-5": 1.0, "3-": 1.0}}), ["layer ranges overlap"]),
    (change("recipes.ties", SST | {"k": 0}), ["recipes.ties", "k", "found 0"]),
    (change("recipes.ties", SST | {"safety": ["utility"]}), ["safety names 'utility'"]),
    (change("recipes.ties", SST), ["needs curvature", "add kfac to curvature.forms"]),
    (change("recipes.ties.models", ["mistral_7"]), ["unknown model of recipes.ties.models", "'mistral_7b'"]),
    (change("recipes.ties.models", []), ["recipes.ties.models", "at least 1 item"]),
    (change("recipes.ties.models", ["smollm2_135m"] * 2), ["'smollm2_135m' twice in a list", "name it once"]),
    (change("recipes.ties.modles", ["smollm2_135m"]), ["recipes.ties.modles", "did you mean 'models'"]),
    (change("donors.utility.models", ["mistral"]), ["unknown model of donors.utility.models", "'mistral_7b'"]),
    (change("donors.utility.model", ["mistral_7b"]), ["donors.utility.model;", "did you mean 'models'"]),
    (
        change("donors.utility.models", ["mistral_7b", "llama31_8b"]),
        [
            "recipe 'ties' is for the model 'smollm2_135m'",
            "donors.utility is for mistral_7b, llama31_8b only",
            "without",
        ],
    ),
    (change("catalog.mistral_7b.max_new_tokens", None), ["catalog.mistral_7b.max_new_tokens", "add it"]),
    (change("catalog.mistral_7b.max_new_tokens", {"problm": 9}), ["max_new_tokens.problm;", "did you mean 'problem'"]),
    (change("catalog.mistral_7b.max_new_tokens", {"problem": 0}), ["max_new_tokens.problem", "greater than 0"]),
    (change("catalog.mistral_7b.run", {"generation_token": 9}), ["did you mean 'generation_tokens'"]),
    (change("catalog.mistral_7b.run", {"pass_tokens": 9999}), ["catalog.mistral_7b.run.pass_tokens", "found 9999"]),
    (change("recipes", {"v1.2": RECIPE}), ["recipes has the name 'v1.2'", "underscores"]),
    (change("recipes", {"base": RECIPE}), ["recipes has the name 'base'"]),
    (rename("catalog.qwen25_14b", "plots"), ["catalog has the name 'plots', which metrics/ needs for itself"]),
    (change("sizes.quick.choice", 0), ["sizes.quick.choice", "found 0"]),
    (change("recipes", {"../up": RECIPE}), ["recipes has the name '../up'"]),
    (change("donors.safety", {"harmful": 0, "benign": 0, "choice": 0, "epochs": 1}), ["at least two tuning rows"]),
    (change("fetch_data.datasets.mmlu.source.sha256", "abc"), ["sha256", "found 'abc'"]),
    (change("fetch_data.datasets.mmlu.source.kind", "url"), ["kind", "'url'"]),
    (change("catalog.mistral_7b.source.commit", "main"), ["at catalog.mistral_7b.source.commit in", "the 40 digits"]),
    (change("catalog.mistral_7b.source.repository", "https://a/b"), ["source.repository in", "owner/name; found"]),
    (change("catalog.mistral_7b.source", "../mine"), ["mistral_7b.source", "as {kind: folder, path: ", "'../mine'"]),
    (change("recipes.mine", {"method": "given", "source": "../mine"}), ["mine.source in", "as {kind: folder, path: "]),
    (
        change("recipes.mine", {"method": "given", "source": {"m": {"kind": "hub", "repository": "a/b"}}}),
        ["the key recipes.mine.source.m.commit in"],
    ),
    (
        change("recipes.mine", {"method": "mergekit", "config": {}, "names": {"x": {"kind": "hub", "commit": "main"}}}),
        ["the key recipes.mine.names.x.repository in"],
    ),
    (change("recipes.ties", {"donors": {"safety": 1.0}}), ["the key recipes.ties.method in", "found none; add it"]),
    (change("catalog.mistral_7b.source", {"path": "x"}), ["the key catalog.mistral_7b.source.kind in"]),
    (change("recipes.ties", "ties"), ["at recipes.ties in", "keys with values; found 'ties'"]),
    (change("recipes.ties.donors", ["safety"]), ["recipes.ties.donors in", "keys with values; found ['safety']"]),
    (rename("fetch_data.datasets.mmlu", "mmlu_pro"), ["dataset 'mmlu_pro' has no `table`", "did you mean 'mmlu'"]),
    (change("metrics.price", 0.25), ["metrics.price", "found 0.25"]),
    (change("metrics.price.knowledge", 0), ["metrics.price.knowledge", "greater than", "found 0"]),
    (rename("metrics.price.reasoning", "reasonning"), ["unknown currency 'reasonning'", "did you mean 'reasoning'"]),
    (change("metrics.price", {"knowledge": 1.0}), ["no price for the currency 'helpfulness'", "add it"]),
    *(
        (change(path, value), [path, f"found {value!r}"])
        for path, value in (
            ("tune.seed", -1),
            ("tune.seed", 2**32),
            ("tune.rank", 0),
            ("tune.rank", True),
            ("tune.batch_size", 10**30),
            ("tune.learning_rate", float("nan")),
            ("tune.held_out", float("inf")),
            ("infer.sampling_seed", -1),
            ("infer.temperature", float("inf")),
            ("run.processes", 10**9),
            ("fetch_data.seed", -1),
            ("fetch_data.tune_share.harmful", float("nan")),
            ("donors.safety.epochs", True),
            ("export.opset", 99),
            ("metrics.price.knowledge", 1e-300),
        )
    ),
    (change("models", ["smollm2_135m", "smollm2_135m"]), ["'smollm2_135m' twice in a list", "name it once"]),
    (change("models", [True]), ["models.0", "found True", "`on`, `yes` and `true`", "in quotes"]),
    (change("recipes", {True: RECIPE}), ["found True at recipes", "`on`, `yes` and `true`", "in quotes"]),
    (change("recipes", {False: RECIPE}), ["found False at recipes", "`off`, `no` and `false`", "in quotes"]),
    (change("recipes", {1.0: RECIPE}), ["found 1.0 at recipes", "reads it as a float", "in quotes"]),
    (change("prompting.date", datetime.date(2024, 7, 26)), ["prompting.date", "without quotes", "a date in quotes"]),
    (change("prompting.date", "26 July 2024"), ["prompting.date", "'26 July 2024'", "year-month-day"]),
    (change("prompting.date", "2024-02-30"), ["prompting.date", "which is no day"]),
    (change("metrics.confidence", 95), ["metrics.confidence", "less than 1", "found 95"]),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_a_fault_is_one_sentence(
    fault: Callable[[dict[str, Any]], None], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = real_params()
    fault(params)
    write(tmp_path, params)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError) as caught:
        load_params()
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert "params.yaml" in message


def of_two_models() -> dict[str, Any]:
    """Params of two models, of which each has a donor and a recipe of its own beside those of both."""
    params = real_params()
    params["models"] = ["llama31_8b", "qwen3_8b"]
    params["donors"]["helpful"] = params["donors"]["utility"] | {"models": ["qwen3_8b"]}
    params["recipes"] |= {
        "both": {"method": "linear", "donors": {"safety": 1.0, "helpful": 1.0}, "models": ["qwen3_8b"]},
        "curved": SST | {"models": ["llama31_8b"]},
    }
    params["curvature"] |= {"forms": ["kfac"], "models": ["llama31_8b"]}
    params["importance"]["donors"] = {"safety": "harmful", "helpful": "benign"}
    return params


def test_a_model_has_the_recipes_and_donors_that_are_for_it() -> None:
    params = validated(of_two_models())
    llama, qwen = params.of("llama31_8b"), params.of("qwen3_8b")
    shared = ["safety_donor", "safety_half", "ties"]
    assert (list(llama.recipes), list(qwen.recipes)) == ([*shared, "curved"], [*shared, "both"])
    assert (list(llama.donors), list(qwen.donors)) == (["safety", "utility"], ["safety", "utility", "helpful"])
    assert (llama.curvature.forms, qwen.curvature.forms) == (["kfac"], [])
    assert (list(llama.importance.donors), list(qwen.importance.donors)) == (["safety"], ["safety", "helpful"])
    assert params.recipe_for("qwen3_8b", "both") is params.recipe("both")
    with pytest.raises(
        PipelineError, match=r"a recipe for llama31_8b, found 'both', which .* has for qwen3_8b; known: "
    ):
        params.recipe_for("llama31_8b", "both")
    with pytest.raises(PipelineError, match="a model of `catalog`"):
        params.of("llama")


def test_what_a_recipe_reads_is_for_each_of_its_models() -> None:
    for section, of in (("curvature", "llama31_8b"), ("donors", "qwen3_8b")):
        content = of_two_models()
        recipe = "curved" if section == "curvature" else "both"
        del content["recipes"][recipe]["models"]
        with pytest.raises(PipelineError, match=rf"recipe '{recipe}' is for the model .*{section}.* is for {of} only"):
            validated(content)


def test_a_recipe_that_is_for_none_of_the_models_leaves_the_base_alone() -> None:
    params = validated(real_params() | {"recipes": {"theirs": RECIPE | {"models": ["mistral_7b"]}}})
    assert params.of("smollm2_135m").recipes == {}


def test_for_whom_a_recipe_is_does_not_change_what_it_makes() -> None:
    content = real_params()
    content["recipes"]["ties_too"] = content["recipes"]["ties"] | {"models": ["smollm2_135m"]}
    content["recipes"]["half"] = content["recipes"]["ties_too"] | {"scale": 0.5}
    params = validated(content)
    assert params.recipe("ties").settings() == params.recipe("ties_too").settings()
    assert families({name: params.recipe(name) for name in ("ties", "half")}) == [["half", "ties"]]


def test_a_model_has_its_own_limits_and_budgets_in_place_of_the_shared_ones() -> None:
    content = real_params()
    shared = content["infer"]["max_new_tokens"]
    content["catalog"]["llama31_8b"] |= {
        "max_new_tokens": {"problem": 4000},
        "run": {"generation_tokens": 8192, "processes": 2},
    }
    params = validated(content)
    llama, mistral = params.of("llama31_8b"), params.of("mistral_7b")
    assert llama.infer.max_new_tokens.model_dump() == shared | {"problem": 4000}
    assert mistral.infer == params.infer and mistral.run == params.run
    assert llama.run == params.run.model_copy(update={"generation_tokens": 8192, "processes": 2})
    assert "4,000 (problem)" in how_asked(llama.model("llama31_8b"))
    assert "tokens" not in how_asked(mistral.model("mistral_7b"))


def test_another_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"project's root, found no params\.yaml"):
        load_params()


def test_broken_yaml_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {})
    (tmp_path / "params.yaml").write_text("size: [quick\nmodels: 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="line 2"):
        load_params()


def test_a_merge_method_is_found_by_its_file() -> None:
    methods = {file.stem for file in (ROOT / "safety_tax/merging/methods").glob("[!_]*.py")}
    assert methods == set(RECIPE_TYPES)
    for method, recipe in RECIPE_TYPES.items():
        assert recipe.model_fields["method"].annotation == Literal[method]  # type: ignore[valid-type]
