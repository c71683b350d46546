"""The typed sections of `params.yaml`, one a stage: unknown keys are refused, and the code holds no default."""

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.rows import Kind, Label
from safety_tax.core.workspace import PARAMS_FILE

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Share = Annotated[float, Field(ge=0, le=1)]
# The bounds keep out slips of the finger and what libraries behind a setting cannot take; no sane value is near them.
MOST = 2**31 - 1
Count = Annotated[int, Field(gt=0, le=MOST)]
CountOrNone = Annotated[int, Field(ge=0, le=MOST)]
Batch = Annotated[int, Field(gt=0, le=65_536)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""NumPy takes no other."""
Bytes = Annotated[int, Field(ge=1, le=2**50)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Price = Annotated[float, Field(ge=1e-6, le=1e6)]
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")]


def _inside(path: str) -> str:
    """A path that stays in its folder on every system; raises ValueError otherwise."""
    odd = not path or path.startswith("/") or ".." in path.split("/") or any(character in path for character in "\\:\0")
    if odd:
        raise ValueError(f"expected a plain path inside its source, found {path!r}")
    return path


def _no_repeats(values: list[Any]) -> list[Any]:
    """The list; raises ValueError when an entry comes twice."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{value!r} twice in a list; name it once")
    return values


Inside = Annotated[str, AfterValidator(_inside)]
OneOfEach = AfterValidator(_no_repeats)
Entry = TypeVar("Entry")


class Section(BaseModel):
    """A frozen mapping of `params.yaml`; an unknown key is an error, NaN and Infinity are."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def entry_of(section: Mapping[str, Entry], what: str, where: str, name: str) -> Entry:
    """The entry of that name; raises PipelineError with the near matches when there is none."""
    if name not in section:
        raise PipelineError(
            f"Expected a {what} of `{where}` in {PARAMS_FILE}, found {name!r}; {did_you_mean(name, section)}"
        )
    return section[name]


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
    files: Annotated[list[Inside], Field(min_length=1), OneOfEach]
    """Paths inside the repository: only these are downloaded."""


class FolderSource(Section):
    """A folder on this machine, in the Hub's layout (a model) or with the project's own rows (a dataset)."""

    kind: Literal["folder"]
    path: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]


class GeneratedSource(Section):
    """Items that a seeded generator writes on this machine, the same on every one."""

    kind: Literal["generated"]
    seed: Seed
    count: Count
    """Items, the same first ones for a bigger count."""


Source = Annotated[WheelSource | HubSource | FolderSource, Field(discriminator="kind")]
DatasetSource = Annotated[WheelSource | HubDatasetSource | FolderSource | GeneratedSource, Field(discriminator="kind")]


class Model(Section):
    """One entry of the catalogue."""

    source: Source
    dtype: Literal["float32", "float16"]
    """Of the merged weights and the ONNX graph."""
    chat_template: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    """`own`, or the name of a file in `data/chat_templates/` for a model that has none."""
    benchmarks: str
    """The one of `benchmark_sets` that the model is measured on."""
    stop: list[Annotated[str, Field(min_length=1, max_length=100)]]
    """Strings that end an answer, beside the tokens by which the model ends its turn; they are not part of it."""
    utility_format: Literal["letter", "continuation"]
    shots: Annotated[int, Field(ge=0, le=5)]
    """Solved dev questions of the subject before each question in the format `letter`."""
    problem_format: Literal["chat", "worked_examples"]
    """`chat`: the problem in the chat template, with a request to reason; `worked_examples`: after solved ones."""
    lora_targets: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), OneOfEach]
    """Names of linear layers, whole or the end of them."""


def _day(value: Any) -> Any:
    """ISO 8601. Not YAML's own date, which DVC's tables and JSON do not hold."""
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        shown = f"{value}, without quotes" if isinstance(value, datetime.date) else repr(value)[:40]
        raise ValueError(f'{shown}; write a date in quotes, year-month-day: "2024-07-26"')
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        raise ValueError(f'{value!r}, which is no day; write a date as "2024-07-26"') from None


class Prompting(Section):
    """What every prompt is made with."""

    date: Annotated[datetime.date, BeforeValidator(_day)]
    """The day that a chat template is told when it asks for one."""


class SampleSizes(Section):
    """How many items of each kind; `other_format` choice items are also scored in the other format.

    A mean over the choice items of a format needs two of them for its interval.
    """

    harmful: Count | Literal["all"]
    jailbreak: CountOrNone | Literal["all"]
    benign: Count | Literal["all"]
    problem: Count | Literal["all"]
    instruction: Count | Literal["all"]
    choice: Annotated[int, Field(ge=2, le=MOST)] | Literal["all"]
    other_format: Annotated[int, Field(ge=2, le=MOST)] | Literal[0, "all"]
    choice_characters: Count | Literal["all"] = "all"
    """Choice items whose question and options have more characters together are left out."""


class Table(Section):
    """A table whose rows are items: which columns hold what."""

    text: str
    """Column of the prompt, the question or the problem."""
    group: str
    """Column of the category or subject, by which items are sampled and intervals stratified."""
    where: dict[str, Annotated[list[str | int | bool], Field(min_length=1)]] = {}
    """By column, the values of the rows that are kept."""
    files: Annotated[list[Inside], Field(min_length=1)] | None = None
    """Paths in the source, `*` allowed; for `hub_dataset` its own `files` when left out."""
    choices: str | Annotated[list[str], Field(min_length=2)] | None = None
    """Of questions: the column that holds the list of options, or a column for each option."""
    gold: str | None = None
    """Of questions: column of the right option's place, counted from 0, or of its letter."""
    answer: str | None = None
    """Of problems: column of the right number."""


class Dataset(Section):
    """One dataset: which kind of items it gives, and where the bytes come from.

    `table` says how to read it; without one, a file of its name in `safety_tax/datasets/` does.
    """

    kind: Kind
    source: DatasetSource
    table: Table | None = None

    @model_validator(mode="after")
    def _has_columns(self) -> "Dataset":
        if self.table is None:
            return self
        if self.kind == "instruction":
            raise ValueError("a table cannot describe instructions, whose checks are code; write a reader")
        wanted = {"choice": ("choices", "gold"), "problem": ("answer",)}.get(self.kind, ())
        for name in wanted:
            if getattr(self.table, name) is None:
                raise ValueError(f"a table of {self.kind} items needs the key {name!r}; add it")
        if self.table.files is None and not isinstance(self.source, HubDatasetSource):
            raise ValueError("the table's key 'files' is missing, and its source names none; add it")
        return self


class TuneShare(Section):
    """Share of the items of each kind kept for tuning; the rest is for evaluation."""

    harmful: Share
    benign: Share
    choice: Share


class FetchData(Section):
    """Stage `fetch_data`."""

    seed: Seed
    tune_share: TuneShare
    leakage_words: Annotated[int, Field(ge=3, le=1000)]
    boilerplate_documents: Count
    jailbreak_characters: Count
    datasets: dict[str, Dataset]


class Donor(Section):
    """Tuning rows of one donor, by kind: refused, answered helpfully, answered correctly."""

    harmful: CountOrNone
    benign: CountOrNone
    choice: CountOrNone
    epochs: Annotated[float, Field(gt=0, le=1000)]

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
    may_differ: list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]] = []
    """Keys of config.json in which a full checkpoint may be other than the base."""

    @field_validator("may_differ")
    @classmethod
    def _tensors_stay_alike(cls, keys: list[str]) -> list[str]:
        if fixed := {"model_type", "tie_word_embeddings"} & set(keys):
            raise ValueError(f"may_differ has {min(fixed)!r}, which decides what the tensors are")
        return keys

    def source_for(self, model: str) -> HubSource | FolderSource:
        """Where the donor of one model is. Raises PipelineError when the entry does not say."""
        if not isinstance(self.source, dict):
            return self.source
        return entry_of(self.source, "model", "source of the donor", model)


def _tuned_or_given(value: Any) -> str:
    return "given" if isinstance(value, GivenDonor) or (isinstance(value, dict) and "source" in value) else "tuned"


AnyDonor = Annotated[
    Annotated[Donor, Tag("tuned")] | Annotated[GivenDonor, Tag("given")], Discriminator(_tuned_or_given)
]
DONOR_TAGS = ("tuned", "given", "one", "by_model")  # pydantic's names of the cases above, in no file


class Tune(Section):
    """Stage `tune`."""

    seed: Seed
    rank: Batch
    alpha: Batch
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    batch_size: Batch
    accumulation: Batch
    max_tokens: Count
    held_out: Annotated[float, Field(gt=0, lt=1)]
    precision: Literal["bf16", "float32", "auto"]
    base_weights: Literal["auto", "float32", "bfloat16"]
    gradient_checkpointing: bool
    save_steps: Count


class Merge(Section):
    """Stage `merge`."""

    max_shard_bytes: Bytes


class Curvature(Section):
    """Stage `curvature`."""

    forms: Annotated[list[Literal["kfac", "diagonal"]], OneOfEach]
    harmful: Count
    benign: Count
    max_tokens: Count
    epsilon: Positive


class Export(Section):
    """Stages `export_base` and `export`."""

    opset: Annotated[int, Field(ge=14, le=20)]
    """What torch's tracer writes and ONNX Runtime reads."""
    parity_prompts: Batch
    parity_tolerance: Positive
    parity_tolerance_float16: Positive
    grouped_query: bool

    def tolerance(self, dtype: str) -> float:
        """Of a model exported in that type, in nats."""
        return self.parity_tolerance_float16 if dtype == "float16" else self.parity_tolerance


class NewTokens(Section):
    """How many tokens an answer may have, by the kind of its item: every kind of `rows.GENERATED`."""

    harmful: Count
    jailbreak: Count
    benign: Count
    problem: Count
    instruction: Count

    def of(self, kind: Kind) -> int:
        """The limit of one kind."""
        limit: int = getattr(self, kind)
        return limit


class Infer(Section):
    """Stages `baseline` and `infer`: what decides their results."""

    max_new_tokens: NewTokens
    temperature: Annotated[float, Field(ge=0, le=100)]
    sampling_seed: Seed
    truncate: Literal["error", "left"]


class Run(Section):
    """Where models are run, by `baseline`, `infer` and judges that are models, and how much at once."""

    provider: Literal["auto", "cuda", "cpu"]
    attention: Literal["auto", "grouped_query", "plain"]
    generation_tokens: Count
    rows_per_batch: Batch
    pass_tokens: Annotated[int, Field(gt=0, le=4096)]
    """The exported graph has room for no more: `ROOM` in `safety_tax/onnx/grouped_query.py`."""
    scoring_tokens: Count
    processes: Literal["auto"] | Annotated[int, Field(gt=0, le=4096)]
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
    labels: Annotated[dict[str, Label], Field(min_length=2)]
    """Every class of the checkpoint, by its own name, to a label."""
    window_tokens: Count
    overlap_tokens: CountOrNone

    @model_validator(mode="after")
    def _windows_advance(self) -> "ClassifierJudge":
        if self.overlap_tokens >= self.window_tokens:
            raise ValueError("overlap_tokens must be smaller than window_tokens")
        return self


class GuardJudge(Section):
    """Stage `judge`, by a generative guard model of `judge_models`."""

    name: Literal["guard"]
    model: str
    template: Literal["wildguard", "llama_guard_3", "qwen3guard"]
    max_new_tokens: Count


AnyJudge = Annotated[RulesJudge | ClassifierJudge | GuardJudge, Field(discriminator="name")]


class Metrics(Section):
    """Stage `metrics`."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    margin: Annotated[float, Field(ge=0, lt=1)]
    price: dict[str, Price]
    """By currency: the points of it that one safety point is worth."""

    @field_validator("price")
    @classmethod
    def _a_price_for_each_currency(cls, price: dict[str, float]) -> dict[str, float]:
        for name in price:
            if name not in CURRENCIES:
                raise ValueError(f"unknown currency {name!r}; {did_you_mean(name, CURRENCIES)}")
        for name in CURRENCIES:
            if name not in price:
                raise ValueError(f"no price for the currency {name!r}; add it")
        return price
