"""params.yaml as a whole: what its parts look up in each other, and the sentence where a name is not there."""

from pathlib import Path
from typing import Any

import pytest
from conftest import real_params
from pydantic import ValidationError

from safety_tax.core.errors import PipelineError
from safety_tax.params.whole import Params, require_known, require_reader

GIVEN = {"kind": "folder", "path": "given"}


def whole(**sections: Any) -> Params:
    """The project's own, with some sections changed."""
    params = real_params()
    for name, content in sections.items():
        params[name] = params[name] | content if isinstance(content, dict) else content
    return Params.model_validate(params)


def fault(**sections: Any) -> str:
    with pytest.raises(ValidationError) as raised:
        whole(**sections)
    return str(raised.value.errors()[0]["msg"])


def test_a_known_name_is_returned_and_an_unknown_one_gets_its_neighbours() -> None:
    assert require_known("model", "one", {"one": 1}) == "one"
    with pytest.raises(ValueError, match=r"unknown model 'ones'; did you mean 'one'\?"):
        require_known("model", "ones", ["one", "other"])


def test_a_dataset_without_a_table_has_a_reader(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("\ndef read(source):\n    ...\n", encoding="utf-8")
    (tmp_path / "help.py").write_text("# no reader\n", encoding="utf-8")
    require_reader("mine", tmp_path)
    for name in ("help", "other"):
        words = f"dataset '{name}' has no `table`, and safety_tax/.*/{name}.py has no function `read`; .*known: mine"
        with pytest.raises(ValueError, match=words):
            require_reader(name, tmp_path)


def test_entries_are_looked_up_by_name() -> None:
    params = whole()
    assert params.model("smollm2_135m") is params.catalog["smollm2_135m"]
    assert params.donor("safety") is params.donors["safety"]
    assert params.recipe("ties") is params.recipes["ties"]
    assert params.sample_sizes() is params.sizes[params.size]
    for look_up, words in (
        (params.model, r"Expected a model of `catalog` in params\.yaml, found 'tie'"),
        (params.donor, r"Expected a donor of `donors` in params\.yaml, found 'tie'"),
        (params.recipe, r"Expected a recipe of `recipes` in params\.yaml, found 'tie'; did you mean 'ties'"),
    ):
        with pytest.raises(PipelineError, match=words):
            look_up("tie")


def test_the_datasets_are_those_of_the_set_that_the_models_share() -> None:
    params = whole()
    chosen = params.benchmark_sets[params.catalog["smollm2_135m"].benchmarks]
    assert list(params.datasets()) == chosen
    assert all(of is params.fetch_data.datasets[name] for name, of in params.datasets().items())


def test_models_of_two_sets_are_not_measured_together() -> None:
    sets = {name: entry["benchmarks"] for name, entry in real_params()["catalog"].items()}
    other = next(name for name, of in sets.items() if of != sets["smollm2_135m"])
    said = fault(models=["smollm2_135m", other])
    assert "models that are measured together need one benchmark set, found " in said
    assert sets[other] in said and sets["smollm2_135m"] in said


def test_a_set_without_a_kind_that_every_run_needs_is_refused() -> None:
    said = fault(benchmark_sets={"default": ["mmlu"]})
    assert "benchmark_sets.default has no harmful items; add a dataset of that kind" in said


def test_a_model_of_its_own_is_there_for_every_model_that_is_measured() -> None:
    by_model = {"source": {"mistral_7b": GIVEN}}
    assert "donors.mine.source has no entry for the model 'smollm2_135m'; add one" in fault(donors={"mine": by_model})
    unknown = {"source": {"smollm2_135m": GIVEN, "mistral": GIVEN}}
    assert "unknown model of donors.mine.source 'mistral'; did you mean 'mistral_7b'" in fault(donors={"mine": unknown})
    assert whole(donors={"mine": {"source": {"smollm2_135m": GIVEN}}}).donor("mine") is not None


def test_what_may_differ_is_told_of_donors_that_a_recipe_reads() -> None:
    mine = {"source": GIVEN, "may_differ": ["rope_theta"]}
    assert whole(donors={"mine": mine}).may_differ() == {}  # nothing reads it
    recipe = {"method": "task_arithmetic", "donors": {"mine": 1.0}}
    assert whole(donors={"mine": mine}, recipes={"own": recipe}).may_differ() == {"donor `mine`": ["rope_theta"]}


def test_a_judge_and_its_checkpoint_belong_together() -> None:
    guard = {"name": "guard", "model": "mine", "template": "qwen3guard", "max_new_tokens": 8}
    for judge, said in (("guard", None), ("classifier", "judge 'guard' names 'mine', which is a classifier")):
        params = real_params() | {"judge": guard}
        params["judge_models"] = {"mine": {"judge": judge, "source": GIVEN, "dtype": "float32"}}
        if said is None:
            assert Params.model_validate(params).judge.checkpoint == "mine"
        else:
            with pytest.raises(ValidationError, match=said):
                Params.model_validate(params)
    with pytest.raises(ValidationError, match=r"unknown judge model 'mine'; known: none\."):
        Params.model_validate(real_params() | {"judge": guard, "judge_models": {}})
