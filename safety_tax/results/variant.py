"""The results of one model, typed: what is in `metrics/detail/<model>.json`, and what every reader of it gets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.errors import PipelineError
from safety_tax.results.estimate import ESTIMATE_ENDS, Effect, Estimate, Record
from safety_tax.results.statistics.tax import TaxStatus

Standing = Literal["measurable", "at_chance", "at_floor"]
Flat = dict[str, float | int | str]


class TaxResult(Record):
    """Points of a currency lost for each point of safety gained.

    `low` and `high` are Fieller's limits, there with a gain; `value` is absent where its sign is not known, too.
    """

    status: TaxStatus
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def estimate(self) -> Estimate | None:
        """The tax with its limits, where it is printed."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return Estimate(value=self.value, low=self.low, high=self.high, n=0)


class Paid(Record):
    """What a recipe paid in one currency: the paired loss, the tax, and what the run could have seen.

    `resolves` is the smallest loss found with 80 % power. `items_needed` is for a new run to have that power where the
    true loss is the one seen here; absent when none was. `items_to_settle` is absent when there is nothing to settle.
    """

    loss: Effect
    tax: TaxResult
    resolves: float | None = None
    items_needed: int | None = None
    items_to_settle: int | None = None


class CurrencyResult(Record):
    """One currency of one variant. `standing` and `chance` are the base's: can a loss show at all?"""

    value: Estimate
    standing: Standing
    chance: float
    """Share that guessing gets right; 0 for an answer in free text."""
    paid: Paid | None = None
    """None for the base."""
    by_group: dict[str, Estimate]


class Tested(Record):
    """Exact McNemar test against the base, and its p-value after Holm's correction over the recipes."""

    p: float
    p_holm: float


class NetBenefitPoint(Record):
    """Net benefit where every price is `scale` times that of params.yaml, and the probability that it is positive."""

    scale: float
    value: float
    low: float
    high: float
    probability: float


class NetBenefit(Record):
    """Safety gained less every loss divided by its price, in points of safety (fractions)."""

    estimate: Estimate
    p_holm: float
    """Two-sided, Holm-corrected over the recipes of the model."""
    left_out: dict[str, Standing]
    """Currencies in which the base has nothing to lose, and why."""
    by_scale: list[NetBenefitPoint]


class VariantResult(Record):
    """Every number of one variant, in fractions. Effects are against the base; the base has none."""

    name: str
    rates: dict[str, Estimate]
    """By the keys of `measures`; one that no item was asked is absent."""
    effects: dict[str, Effect]
    currencies: dict[str, CurrencyResult]
    tests: dict[str, Tested]
    safety_by_group: dict[str, Estimate]
    net_benefit: NetBenefit | None = None
    dominated_by: tuple[str, ...] = ()
    """Variants surely better in safety or a currency, and on the whole, and without a sign of being worse in any."""
    safety_corrected: Estimate | None = None
    """Safety without the judge's errors (Rogan and Gladen), where people's labels carry it."""
    report_tax: float | None = None
    report_tax_abs: float | None = None

    @property
    def gain(self) -> Effect:
        """Safety gained; for a recipe."""
        return self.effects["safety_gain"]

    @property
    def paid(self) -> dict[str, Paid]:
        """What a recipe paid, by currency; of those alone in which the base has something to lose."""
        found = {name: result.paid for name, result in self.currencies.items() if result.standing == "measurable"}
        return {name: paid for name, paid in found.items() if paid is not None}

    def flat(self) -> Flat:
        """Every number under one key: `safety`, `safety_lo`, `safety_hi`, …, as JSON that people compare has them."""
        numbers: Flat = {}
        for key, rate in self.rates.items():
            numbers |= rate.flat(key) | {f"{key}_n": rate.n}
        for key, effect in self.effects.items():
            numbers |= effect.flat(key)
        for name, result in self.currencies.items():
            currency = CURRENCIES[name]
            if result.paid is None:
                continue
            numbers |= result.paid.loss.flat(currency.loss)
            tax = result.paid.tax
            ends = {currency.tax + end: getattr(tax, field) for end, field in ESTIMATE_ENDS.items()}
            numbers |= {key: value for key, value in ends.items() if value is not None}
            numbers[currency.status] = tax.status
        if self.net_benefit is not None:
            numbers |= self.net_benefit.estimate.flat("net_benefit")
        if self.net_benefit is not None:
            numbers["choice"] = f"dominated by {', '.join(self.dominated_by)}" if self.dominated_by else "stands"
        return numbers


class Family(Record):
    """Recipes that differ in their dial alone, by its rising value, compared at matched safety."""

    members: list[str]
    hypervolume: dict[str, float]
    """By currency: the area beyond the base's safety and guessing."""
    matched_loss: dict[str, float]
    """By currency: the loss where the family has half of its donor's safety gain; absent where it never has."""
    matched_donor: str | None = None


class JudgeResult(Record):
    """How the judge agrees with people's labels of the same answers, pooled over the variants."""

    error: Estimate
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    kappa: float | None = None
    confusion: dict[str, dict[str, int]]
    sensitivity: float | None = None
    sensitivity_n: int
    specificity: float | None = None
    specificity_n: int


class ModelResults(Record):
    """Every number of one model. `variants` has `base` first, and then the recipes as params.yaml has them."""

    model: str
    size: str
    judge: str
    items: str = ""
    """Digest of the items asked: models and commits with the same one can be compared. Empty in older results."""
    tells_harm: bool
    """Whether the judge tells harm from harmlessness; if not, jailbreak resistance is a lower bound."""
    confidence: float
    margin: float
    price: dict[str, float]
    variants: dict[str, VariantResult]
    recommended: str | None = None
    """The recipe to choose, where one is surely better than the base at these prices."""
    families: tuple[Family, ...] = ()
    judge_agreement: JudgeResult | None = None

    @property
    def base(self) -> VariantResult:
        """The unmerged model."""
        return self.variants["base"]

    @property
    def recipes(self) -> dict[str, VariantResult]:
        """The variants without the base."""
        return {name: of for name, of in self.variants.items() if name != "base"}

    @property
    def currencies(self) -> list[str]:
        """Those that were measured, in their order."""
        return list(self.base.currencies)

    def of_currency(self, name: str) -> Iterator[tuple[VariantResult, CurrencyResult]]:
        """Each variant with its result in one currency."""
        for variant in self.variants.values():
            yield variant, variant.currencies[name]


def read_results(path: Path) -> ModelResults:
    """The results of one model. Raises PipelineError when the file is not what the metrics stage writes."""
    try:
        return parsed_results(path.read_bytes(), str(path), "run `dvc repro`")
    except OSError as error:
        raise PipelineError(
            f"Expected the results of a model in {path}, found {error.strerror}; run `dvc repro`, or `git checkout` it."
        ) from None


def parsed_results(content: bytes, where: str, mend: str) -> ModelResults:
    """The results of one model. Raises PipelineError when they are not what the metrics stage writes.

    `where` and `mend` are for its sentence: what the content is of, and what to do.
    """
    try:
        return ModelResults.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        part = ".".join(map(str, problem["loc"])) or "the file"
        raise PipelineError(
            f"Expected the results of a model in {where}, found a fault in {part}: {problem['msg']}; {mend}."
        ) from None
