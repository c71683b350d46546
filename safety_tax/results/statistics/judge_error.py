"""What a judge that errs does to a rate, and how well it agrees with people."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from safety_tax.core.errors import PipelineError
from safety_tax.results.statistics.intervals import Interval, critical_value

REFUSALS = frozenset({"refuse", "partial"})


@dataclass(frozen=True)
class Agreement:
    """A judge against people. The four scores are of the binary question "refusal?"; None where undefined."""

    precision: float | None
    recall: float | None
    f1: float | None
    kappa: float | None
    confusion: dict[str, dict[str, int]]
    """Number of items by people's label, then by the judge's; every label seen has a row and a column."""
    n: int


def rogan_gladen(
    observed: float,
    n: int,
    sensitivity: float,
    specificity: float,
    n_sens: int,
    n_spec: int,
    confidence: float = 0.95,
) -> Interval:
    """The true share behind one of `n` responses observed through a judge that errs, clipped to [0, 1].

    (p + Sp − 1) / (Se + Sp − 1) (Rogan and Gladen 1978), with the limits of Lang and Reiczigel (2014): the delta
    method after z²/2 successes and as many failures were added to the observed sample, as Agresti and Coull (1998) do,
    and one of each to both validation samples, shifted by a term for the skewness.

    `sensitivity` is the share of the `n_sens` true positives that the judge calls positive, `specificity` the share
    of the `n_spec` true negatives that it calls negative. Limits that meet at 0 or 1 are no certainty: the observed
    share is then out of reach of a judge with these errors, which were not those it made on these responses.

    Raises PipelineError when a share is outside [0, 1], a sample is empty, or the judge does no better than chance.
    """
    if not (0 <= sensitivity <= 1 and 0 <= specificity <= 1 and n_sens >= 1 and n_spec >= 1):
        raise PipelineError(
            "Expected a sensitivity and a specificity in [0, 1], each from at least one labelled response, found "
            f"{sensitivity} of {n_sens} and {specificity} of {n_spec}; label more responses."
        )
    z = critical_value(confidence)
    se, sp = (n_sens * sensitivity + 1) / (n_sens + 2), (n_spec * specificity + 1) / (n_spec + 2)
    # With samples of unequal size the adjusted pair can fall below chance where the raw one does not.
    if min(sensitivity + specificity, se + sp) <= 1:
        raise PipelineError(
            f"Expected a judge better than chance, found sensitivity {sensitivity} of {n_sens} and specificity "
            f"{specificity} of {n_spec}; use another judge, or label more responses."
        )
    share = (n * observed + z**2 / 2) / (n + z**2)
    centre = (share + sp - 1) / (se + sp - 1)
    se_variance, sp_variance = se * (1 - se) / (n_sens + 2), sp * (1 - sp) / (n_spec + 2)
    share_variance = share * (1 - share) / (n + z**2)
    shift = 2 * z**2 * (centre * se_variance - (1 - centre) * sp_variance)
    variance = share_variance + centre**2 * se_variance + (1 - centre) ** 2 * sp_variance
    half = z * math.sqrt(variance) / (se + sp - 1)
    estimate = (observed + specificity - 1) / (sensitivity + specificity - 1)
    return Interval(*(min(max(value, 0.0), 1.0) for value in (estimate, centre + shift - half, centre + shift + half)))


def agreement(truth: Sequence[str], predicted: Sequence[str], positive: Collection[str] = REFUSALS) -> Agreement:
    """Precision, recall, F1 and kappa (Cohen 1960) of "is the label in `positive`?", and the full confusion matrix.

    Raises PipelineError on no labels or on sequences of unequal length.
    """
    n = len(truth)
    if not n or len(predicted) != n:
        raise PipelineError(
            f"Expected one judged label for each label by people, and at least one, found {len(predicted)} for {n}; "
            "join the two by response id."
        )
    pairs = Counter(zip(truth, predicted, strict=True))
    labels = sorted({*truth, *predicted})
    cells = Counter((person in positive, judge in positive) for person, judge in pairs.elements())
    hits, misses, alarms, rest = cells[True, True], cells[True, False], cells[False, True], cells[False, False]
    expected = ((hits + misses) * (hits + alarms) + (alarms + rest) * (misses + rest)) / n**2
    return Agreement(
        precision=hits / (hits + alarms) if hits + alarms else None,
        recall=hits / (hits + misses) if hits + misses else None,
        f1=2 * hits / (2 * hits + alarms + misses) if hits + alarms + misses else None,
        kappa=((hits + rest) / n - expected) / (1 - expected) if expected < 1 else None,
        confusion={person: {judge: pairs[person, judge] for judge in labels} for person in labels},
        n=n,
    )
