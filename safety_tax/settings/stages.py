"""The sections of the stages from `export` to `metrics`."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    field_validator,
)

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.errors import did_you_mean
from safety_tax.core.rows import Kind
from safety_tax.settings.section import Batch, Count, Positive, Price, Section, Seed
from safety_tax.settings.sources import Source


class Export(Section):
    """Stages `export_base` and `export`."""

    opset: Annotated[int, Field(ge=14, le=20)]
    """What torch's tracer writes and ONNX Runtime reads."""
    parity_prompts: Batch
    parity_tolerance: Positive
    parity_tolerance_float16: Positive
    parity_tolerance_bfloat16: Positive = 1.0
    grouped_query: bool

    def tolerance(self, dtype: str) -> float:
        """Of a model exported in that type, on the CPU, in nats: bfloat16 weights are multiplied in float32 there."""
        return self.parity_tolerance_float16 if dtype == "float16" else self.parity_tolerance

    def tolerance_on_gpu(self, dtype: str) -> float:
        """The same on a GPU, which multiplies in the type itself."""
        return self.parity_tolerance_bfloat16 if dtype == "bfloat16" else self.tolerance(dtype)


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


class OwnNewTokens(Section):
    """What one model has in place of some of `NewTokens`."""

    harmful: Count | None = None
    jailbreak: Count | None = None
    benign: Count | None = None
    problem: Count | None = None
    instruction: Count | None = None

    def given(self) -> dict[str, int]:
        """The kinds that the model has a limit of its own for."""
        return self.model_dump(exclude_none=True)


class Infer(Section):
    """Stages `baseline` and `infer`: what decides their results."""

    max_new_tokens: NewTokens
    temperature: Annotated[float, Field(ge=0, le=100)]
    sampling_seed: Seed
    truncate: Literal["error", "left"]


PassTokens = Annotated[int, Field(gt=0, le=4096)]
"""The exported graph has room for no more: `ROOM` in `safety_tax/onnx/grouped_query.py`."""
Processes = Literal["auto"] | Annotated[int, Field(gt=0, le=4096)]


class Run(Section):
    """Where models are run, by `baseline`, `infer` and judges that are models, and how much at once."""

    provider: Literal["auto", "cuda", "cpu"]
    attention: Literal["auto", "grouped_query", "plain"]
    schedule: Literal["auto", "rows"] = "auto"
    """`rows` runs a GPU's schedule on the CPU, too: a test's setting."""
    generation_tokens: Count
    rows_per_batch: Batch
    pass_tokens: PassTokens
    scoring_tokens: Count
    processes: Processes
    cluster: Literal["none", "auto"] | Annotated[str, Field(pattern=r"^ray://[A-Za-z0-9.\-\[\]:]+$")]


class OwnRun(Section):
    """What one model has in place of some of `Run`: how much at once, which decides no result."""

    generation_tokens: Count | None = None
    rows_per_batch: Batch | None = None
    pass_tokens: PassTokens | None = None
    scoring_tokens: Count | None = None
    processes: Processes | None = None


class JudgeModel(Section):
    """Stage `judge_model`: one checkpoint that a judge runs on."""

    judge: Literal["classifier", "guard"]
    source: Source
    dtype: Literal["float32", "float16"]
    """Of the ONNX graph."""


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
