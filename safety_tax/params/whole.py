"""`params.yaml` as a whole: every name in it that another part of it uses must exist."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.rows import KINDS, OPTIONAL
from safety_tax.core.workspace import PARAMS_FILE
from safety_tax.judging.judges import AnyJudge
from safety_tax.merging.methods import AnyRecipe
from safety_tax.merging.methods.given import Given
from safety_tax.settings.catalog import Model, Prompting, Published
from safety_tax.settings.data import Dataset, FetchData, SampleSizes
from safety_tax.settings.donors import AnyDonor, Curvature, Donor, GivenDonor, Importance, SourceByModel, Tune
from safety_tax.settings.section import ForModels, OneOfEach, Section, entry_of
from safety_tax.settings.stages import Export, Infer, JudgeModel, Metrics, Run

LIBRARY = Path(__file__).parents[1]
# Beside the files and folders of the models.
METRICS_NAMES = ("benchmarks", "detail", "figures", "models", "plots", "sweeps")
NAME = r"[a-z0-9][a-z0-9_]*"


class Params(Section):
    """The whole of `params.yaml`."""

    models: Annotated[list[str], Field(min_length=1), OneOfEach]
    size: str
    sizes: dict[str, SampleSizes]
    catalog: dict[str, Model]
    published: dict[str, Published] = Field(default_factory=dict)
    """Of models that may or may not be in the catalogue: it is there to be looked up."""
    benchmark_sets: dict[str, Annotated[list[str], Field(min_length=1), OneOfEach]]
    prompting: Prompting
    fetch_data: FetchData
    tune: Tune
    donors: dict[str, AnyDonor]
    recipes: dict[str, AnyRecipe]
    curvature: Curvature
    importance: Importance
    export: Export
    infer: Infer
    run: Run
    judge_models: dict[str, JudgeModel]
    judge: AnyJudge
    metrics: Metrics

    @model_validator(mode="after")
    def _names_agree(self) -> "Params":
        for model in self.models:
            require_known("model", model, self.catalog)
        require_known("size", self.size, self.sizes)
        for name, declared in self.fetch_data.datasets.items():
            if declared.table is None:
                require_reader(name, LIBRARY / "datasets")
        for set_name, datasets in self.benchmark_sets.items():
            for dataset in datasets:
                require_known(f"dataset of benchmark_sets.{set_name}", dataset, self.fetch_data.datasets)
            held = {self.fetch_data.datasets[dataset].kind for dataset in datasets}
            if missing := [kind for kind in KINDS if kind not in held and kind not in OPTIONAL]:
                raise ValueError(f"benchmark_sets.{set_name} has no {missing[0]} items; add a dataset of that kind")
        for name, model_entry in self.catalog.items():
            require_known(f"benchmark set of catalog.{name}", model_entry.benchmarks, self.benchmark_sets)
        if len(asked := {self.catalog[model].benchmarks for model in self.models}) > 1:
            raise ValueError(
                f"models that are measured together need one benchmark set, found {', '.join(sorted(asked))}; "
                "list them in two runs, or give their catalog entries the same `benchmarks`"
            )
        self._require_named_models()
        for donor_name, entry in self.donors.items():
            if isinstance(entry, GivenDonor):
                self._require_models(f"donors.{donor_name}", entry, entry.source)
        for recipe_name, recipe in self.recipes.items():
            if isinstance(recipe, Given):
                self._require_models(f"recipes.{recipe_name}", recipe, recipe.source)
            for model in filter(recipe.is_for, self.models):
                try:
                    recipe.sources(model, self.catalog[model].source)
                except ValueError as error:
                    raise ValueError(f"recipe {recipe_name!r}: {error}") from None
            for donor in recipe.reads():
                require_known(f"donor of recipe {recipe_name!r}", donor, self.donors)
                self._require_for_its_models(recipe_name, f"donors.{donor}", self.donors[donor])
            form = recipe.curvature_form()
            if form and form not in self.curvature.forms:
                raise ValueError(f"recipe {recipe_name!r} needs curvature; add {form} to curvature.forms")
            if form:
                self._require_for_its_models(recipe_name, "curvature", self.curvature)
            for donor in recipe.located_donors():
                if donor not in self.importance.donors:
                    raise ValueError(
                        f"recipe {recipe_name!r} needs the importance of {donor!r}; add it to importance.donors with "
                        "the kind of rows of its task"
                    )
                self._require_for_its_models(recipe_name, "importance", self.importance)
        for donor in self.importance.donors:
            require_known("donor of importance.donors", donor, self.donors)
        if checkpoint := self.judge.checkpoint:
            require_known("judge model", checkpoint, self.judge_models)
            made_for = self.judge_models[checkpoint].judge
            if made_for != self.judge.name:
                raise ValueError(f"judge {self.judge.name!r} names {checkpoint!r}, which is a {made_for}")
        for section in ("catalog", "donors", "recipes", "judge_models", "sizes", "benchmark_sets"):
            for name in getattr(self, section):
                # A dot would break DVC's `params:` look-up; a slash would leave the folder; a command line is made
                # of these, and a shell reads it.
                if not re.fullmatch(NAME, name) or name == "base":
                    raise ValueError(
                        f"{section} has the name {name!r}; use small letters, digits and underscores, and not 'base'"
                    )
        for name in self.catalog:
            if name in METRICS_NAMES:
                raise ValueError(f"catalog has the name {name!r}, which metrics/ needs for itself; choose another")
        return self

    def _require_named_models(self) -> None:
        """Every `models` names models of the catalogue; raises ValueError otherwise."""
        sections: dict[str, ForModels] = {"curvature": self.curvature, "importance": self.importance}
        sections |= {f"donors.{name}": donor for name, donor in self.donors.items()}
        sections |= {f"recipes.{name}": recipe for name, recipe in self.recipes.items()}
        for where, of in sections.items():
            for model in of.models or ():
                require_known(f"model of {where}.models", model, self.catalog)

    def _require_for_its_models(self, recipe: str, where: str, needed: ForModels) -> None:
        """What a recipe reads is for each of its models, or of those measured; raises ValueError otherwise."""
        for model in self.recipes[recipe].models or self.models:
            if not needed.is_for(model):
                raise ValueError(
                    f"recipe {recipe!r} is for the model {model!r}, and {where} is for {', '.join(needed.models or ())}"
                    f" only; add {model} to {where}.models, or give recipes.{recipe} `models` without it"
                )

    def _require_models(self, where: str, of: ForModels, source: SourceByModel) -> None:
        """A source that is given by model has one for each that is measured; raises ValueError otherwise."""
        if isinstance(source, dict):
            for model in source:
                require_known(f"model of {where}.source", model, self.catalog)
            for model in filter(of.is_for, self.models):
                if model not in source:
                    raise ValueError(f"{where}.source has no entry for the model {model!r}; add one")

    def model(self, name: str) -> Model:
        """A catalogue entry; raises PipelineError for an unknown name."""
        return entry_of(self.catalog, "model", "catalog", name)

    def of(self, model: str) -> "Params":
        """The params of one model alone: the recipes and donors that are for it, its limits and budgets in their place.

        Raises PipelineError for an unknown model.
        """
        entry = self.model(model)
        donors = {name: donor for name, donor in self.donors.items() if donor.is_for(model)}
        curvature, importance, infer = self.curvature, self.importance, self.infer
        forms = curvature.forms if curvature.is_for(model) else []
        located = {
            name: kind for name, kind in importance.donors.items() if name in donors and importance.is_for(model)
        }
        limits = infer.max_new_tokens.model_copy(update=entry.max_new_tokens.given())
        changed = {
            "models": [model],
            "donors": donors,
            "recipes": {name: recipe for name, recipe in self.recipes.items() if recipe.is_for(model)},
            "curvature": curvature.model_copy(update={"forms": forms}),
            "importance": importance.model_copy(update={"donors": located}),
            "infer": infer.model_copy(update={"max_new_tokens": limits}),
            "run": self.run.model_copy(update=entry.run.model_dump(exclude_none=True)),
        }
        return self.model_copy(update=changed)

    def datasets(self) -> dict[str, Dataset]:
        """The datasets of the benchmark set that the chosen models share, in its order."""
        chosen = self.benchmark_sets[self.catalog[self.models[0]].benchmarks]
        return {name: self.fetch_data.datasets[name] for name in chosen}

    def donor(self, name: str) -> Donor | GivenDonor:
        """A donor; raises PipelineError for an unknown name."""
        return entry_of(self.donors, "donor", "donors", name)

    def may_differ(self) -> dict[str, list[str]]:
        """Of each donor or recipe: the keys of config.json in which a model of its own may be other than the base."""
        read = dict.fromkeys(donor for recipe in self.recipes.values() for donor in recipe.reads())
        donors = {f"donor `{name}`": self.donor(name) for name in read}
        given = {f"recipe `{name}`": recipe for name, recipe in self.recipes.items()}
        return {what: keys for what, of in {**donors, **given}.items() if (keys := getattr(of, "may_differ", None))}

    def recipe(self, name: str) -> AnyRecipe:
        """A recipe; raises PipelineError for an unknown name."""
        return entry_of(self.recipes, "recipe", "recipes", name)

    def recipe_for(self, model: str, name: str) -> AnyRecipe:
        """A recipe that is for the model; raises PipelineError for one that is not, and for an unknown name."""
        recipe = self.recipe(name)
        if not recipe.is_for(model):
            raise PipelineError(
                f"Expected a recipe for {model}, found {name!r}, which {PARAMS_FILE} has for "
                f"{', '.join(recipe.models or ())}; {did_you_mean(name, self.of(model).recipes)}"
            )
        return recipe

    def sample_sizes(self) -> SampleSizes:
        """Item counts of the chosen size."""
        return self.sizes[self.size]


def require_known(what: str, name: str, known: Any) -> str:
    """Return `name` when `known` has it; raise ValueError with the near matches otherwise."""
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; {did_you_mean(name, known)}")
    return name


def require_reader(name: str, folder: Path) -> None:
    """Raises ValueError where no file in `folder` reads the dataset, which has no table."""
    known = {file.stem for file in folder.glob("*.py") if "\ndef read(" in file.read_text(encoding="utf-8")}
    if name not in known:
        raise ValueError(
            f"dataset {name!r} has no `table`, and safety_tax/{folder.name}/{name}.py has no function `read`; add one "
            f"of them, or correct the name; {did_you_mean(name, known)}"
        )
