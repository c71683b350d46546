"""Paired bootstraps: of the tax, a second opinion on the closed forms; of the loss at matched safety, the only one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from safety_tax.results.statistics.frontier import matched_loss
from safety_tax.results.statistics.intervals import Interval, critical_value
from safety_tax.results.statistics.paired import Floats, Groups, collapsed


@dataclass(frozen=True)
class BootstrapTax:
    """Percentile intervals; `ratio` is None unless the gain's interval lies above zero."""

    gain: Interval
    loss: Interval
    ratio: Interval | None


def bootstrap_tax(
    gains: npt.ArrayLike,
    gain_groups: Groups,
    losses: npt.ArrayLike,
    loss_groups: Groups,
    *,
    confidence: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
) -> BootstrapTax:
    """Resample items with replacement within their strata and take percentiles (Efron and Tibshirani 1993, chapter 13).

    `gains` are per-item safety differences, variant − base; `losses` per-item utility differences, base − variant.
    Resamples without a gain have no ratio and are left out of the ratio's percentiles. The variance of a stratum of
    n_g items comes out (n_g − 1)/n_g too small, as in every bootstrap. `scipy.stats.bootstrap` does not stratify.
    """
    critical_value(confidence)
    generator = np.random.default_rng(seed)
    gain_values, loss_values = np.asarray(gains, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    gain_means = _resampled_means(gain_values, gain_groups, resamples, generator)
    loss_means = _resampled_means(loss_values, loss_groups, resamples, generator)
    gain = _percentiles(float(gain_values.mean()), gain_means, confidence)
    loss = _percentiles(float(loss_values.mean()), loss_means, confidence)
    if gain.lower <= 0:
        return BootstrapTax(gain, loss, None)
    with_gain = gain_means > 0
    ratios = loss_means[with_gain] / gain_means[with_gain]
    return BootstrapTax(gain, loss, _percentiles(loss.estimate / gain.estimate, ratios, confidence))


def bootstrap_matched_losses(
    dials: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    donor_gains: npt.ArrayLike,
    gain_groups: Groups,
    loss_groups: Groups,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Floats:
    """Losses at matched safety (see `matched_loss`) of resampled items, [resamples, dials]; NaN where not reached.

    A dial is (gains [points, harmful items], losses [points, choice items]): per-item differences in the order of its
    settings. All dials, and the donor whose gain is the yardstick [harmful items], share each resample, so that two
    columns may be subtracted. Resampling is as in `bootstrap_tax`.
    """
    generator = np.random.default_rng(seed)
    gain_counts = _resampled_counts(gain_groups, resamples, generator)
    loss_counts = _resampled_counts(loss_groups, resamples, generator)
    donor = gain_counts @ np.asarray(donor_gains, dtype=np.float64) / len(gain_groups)
    found = np.full((resamples, len(dials)), np.nan)
    for column, (gains, losses) in enumerate(dials):
        gain_means = gain_counts @ np.asarray(gains, dtype=np.float64).T / len(gain_groups)
        loss_means = loss_counts @ np.asarray(losses, dtype=np.float64).T / len(loss_groups)
        for row in range(resamples):
            points = list(zip(gain_means[row].tolist(), loss_means[row].tolist(), strict=True))
            loss = matched_loss(points, donor_gain=float(donor[row]))
            found[row, column] = np.nan if loss is None else loss
    return found


def _resampled_counts(groups: Groups, resamples: int, generator: np.random.Generator) -> Floats:
    """How often each item is drawn in each stratified resample, [resamples, items]."""
    strata = collapsed(groups)
    counts = np.zeros((resamples, strata.size))
    for stratum in range(int(strata.max()) + 1):
        members = np.flatnonzero(strata == stratum)
        shares = np.full(members.size, 1 / members.size)
        counts[:, members] = generator.multinomial(members.size, shares, size=resamples)
    return counts


def _resampled_means(values: Floats, groups: Groups, resamples: int, generator: np.random.Generator) -> Floats:
    """Means of `resamples` stratified resamples. How often each value of a stratum is drawn is multinomial."""
    strata = collapsed(groups)
    totals = np.zeros(resamples)
    for stratum in range(int(strata.max()) + 1):
        distinct, counts = np.unique(values[strata == stratum], return_counts=True)
        size = int(counts.sum())
        totals += generator.multinomial(size, counts / size, size=resamples) @ distinct
    return totals / values.size


def _percentiles(estimate: float, values: Floats, confidence: float) -> Interval:
    lower, upper = np.quantile(values, (0.5 - confidence / 2, 0.5 + confidence / 2))
    return Interval(estimate, float(lower), float(upper))
